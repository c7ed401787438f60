"""Values of params.yaml that concern shards in a store. All of them are warnings: a stage that cannot go on says so."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from reprise.config.errors import RepriseError
from reprise.config.params import Problem
from reprise.config.shared_sections import cache_params
from reprise.config.texts.addresses import parse_address

_PACKAGES = {"s3": ("s3fs", "'reprise[s3]'"), "gs": ("gcsfs", "gcsfs")}


def far_warnings(raw: dict[str, Any]) -> Iterator[Problem]:
    """Find values with which tars of a store would be fetched again and again, or nothing lies in a store.

    Args:
        raw: the content of params.yaml.
    """
    try:
        far = cache_params(raw).far
        shard: Any = _shard_params(raw)
    except (ValidationError, RepriseError):  # named as problems elsewhere
        return
    train = raw.get("train")
    window = train.get("window_bytes") if isinstance(train, dict) else None
    if shard.store is None:
        if far.read_from is not None:
            rule = "no shard lies in a store, so nothing is read from this address"
            yield Problem("cache.far.read_from", rule, far.read_from, " Set shard.store, or remove it.")
        return
    if isinstance(window, int) and 2 * window > far.max_bytes:
        yield Problem(
            "train.window_bytes",
            "the next window is fetched while one is trained on, and there is no room for both",
            f"{window}, with cache.far.max_bytes {far.max_bytes}",
            f" Set it to at most {far.max_bytes // 2}, or raise cache.far.max_bytes.",
        )
    if 2 * shard.max_shard_bytes > far.max_bytes:
        yield Problem(
            "cache.far.max_bytes",
            "there is no room for two shards",
            f"{far.max_bytes}, with shard.max_shard_bytes {shard.max_shard_bytes}",
            f" Set it to at least {2 * shard.max_shard_bytes}.",
        )


def package_warnings(raw: dict[str, Any]) -> Iterator[Problem]:
    """Find a store whose package is missing on this machine.

    Args:
        raw: the content of params.yaml.
    """
    try:
        shard: Any = _shard_params(raw)
    except ValidationError:
        return
    if shard.store is None:
        return
    module, package = _PACKAGES.get(parse_address(shard.store).protocol, ("json", ""))
    if importlib.util.find_spec(module) is None:
        rule = "the package that reaches this store is not installed"
        yield Problem("shard.store", rule, shard.store, f" Install it: `pip install {package}`.")


def _shard_params(raw: dict[str, Any]) -> Any:
    return importlib.import_module("stages.shard.params").ShardParams.model_validate(raw.get("shard"))
