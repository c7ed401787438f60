"""Parameters of sharding: the block `shard` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from reprise.config.params import meaning
from reprise.config.shared_sections import StoredParams
from reprise.config.texts.addresses import parse_address, problem_of
from reprise.config.texts.text_forms import wrong_value

SECTION = "shard"


def _writable_prefix(value: str) -> str:
    problem = problem_of(value)
    if problem is None and "?" in value:
        problem = ("the address of a prefix has no query", "")
    if problem is None and parse_address(value).protocol in ("http", "https"):
        way = " Name the folder or bucket behind it, and set cache.far.read_from to the web server."
        problem = ("a web server can be read and not written", way)
    if problem is not None:
        raise wrong_value(*problem)
    return value


class ShardParams(StoredParams):
    """How images are packed."""

    max_shard_bytes: Annotated[
        int,
        Field(ge=1 << 20, le=1 << 32),
        meaning("A tar file is at most this large, unless it holds a single image.", "bytes"),
    ] = 64 << 20
    store: Annotated[
        Annotated[str, Field(max_length=4096), AfterValidator(_writable_prefix)] | None,
        meaning(
            "Tars are sent below this address (s3://bucket/prefix, gs://bucket/prefix, file:///folder), and this "
            "machine keeps the index and what cache.far allows; null keeps all tars in data/shards."
        ),
    ] = None
