"""How stores on other machines are asked, and how much of them is kept here."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from reprise.config.params import StrictModel, meaning
from reprise.config.texts.addresses import problem_of
from reprise.config.texts.text_forms import wrong_value


def _web_address(value: str) -> str:
    problem = problem_of(value)
    if problem is None and not value.startswith(("http://", "https://")):
        problem = ("a server that speaks S3 has an address that begins with http:// or https://", "")
    if problem is not None:
        raise wrong_value(*problem)
    return value


def _prefix(value: str) -> str:
    problem = problem_of(value)
    if problem is None and "?" in value:
        problem = ("the address of a prefix has no query", "")
    if problem is not None:
        raise wrong_value(*problem)
    return value


class StoreParams(StrictModel):
    """How stores are asked."""

    endpoint: Annotated[
        Annotated[str, Field(max_length=4096), AfterValidator(_web_address)] | None,
        meaning("The server at this address speaks S3; null asks Amazon, or what AWS_ENDPOINT_URL names."),
    ] = None
    anonymous: Annotated[bool, meaning("A public bucket is read without credentials.")] = False
    threads: Annotated[int, Field(ge=1, le=256), meaning("So many objects are fetched at once.", "threads")] = 16
    attempts: Annotated[
        int, Field(ge=1, le=20), meaning("A request that fails for the moment is made so many times.", "attempts")
    ] = 5
    timeout: Annotated[float, Field(gt=0, le=3600), meaning("A server may stay silent for this long.", "seconds")] = (
        30.0
    )


class FarParams(StoreParams):
    """How this machine reads shards of a store (`shard.store`). No result depends on it: it runs no stage again."""

    max_bytes: Annotated[
        int,
        Field(ge=1 << 20, le=1 << 50),
        meaning(
            "Tars that were fetched take at most this much of the disk, in .reprise/far; those that were used longest "
            "ago make room.",
            "bytes",
        ),
    ] = 16 << 30
    read_from: Annotated[
        Annotated[str, Field(max_length=4096), AfterValidator(_prefix)] | None,
        meaning(
            "Tars are read below this address, which holds the same files as shard.store; a web server is one that "
            "can be read and not written. null reads where they were written."
        ),
    ] = None
