"""Warnings of values that concern shards in a store."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from reprise.config.params import read_yaml
from stages.check.rules.far import far_warnings, package_warnings
from stages.shard.params import ShardParams


@pytest.fixture
def raw(repository: Path) -> dict[str, Any]:
    return read_yaml(repository / "params.yaml")


def test_the_default_parameters_warn_of_nothing(raw: dict[str, Any]) -> None:
    assert [*far_warnings(raw), *package_warnings(raw)] == []


def test_a_cache_that_is_too_small_for_windows_or_shards_is_named(raw: dict[str, Any]) -> None:
    raw["shard"]["store"] = "file:///tmp/store"
    assert list(far_warnings(raw)) == []
    raw["cache"]["far"] = {"max_bytes": 1 << 26}
    raw["train"]["window_bytes"] = 1 << 26
    found = {problem.path: problem for problem in far_warnings(raw)}
    assert found.keys() == {"train.window_bytes", "cache.far.max_bytes"}
    assert str(1 << 25) in found["train.window_bytes"].hint


def test_an_address_that_nothing_is_read_from_is_named(raw: dict[str, Any]) -> None:
    raw["cache"]["far"] = {"read_from": "https://host/shards"}
    assert [problem.path for problem in far_warnings(raw)] == ["cache.far.read_from"]


def test_a_missing_package_is_named_before_anything_runs(raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    raw["shard"]["store"] = "s3://bucket/x"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (problem,) = package_warnings(raw)
    assert "reprise[s3]" in problem.hint


@pytest.mark.parametrize(
    ("store", "rule"),
    [
        ("https://host/shards", "can be read and not written"),
        ("s3://user:secret@bucket/x", "user or a password"),
        ("s3://bucket/x?versionId=3", "has no query"),
        ("data/elsewhere", "protocol"),
        ("ftp://host/x", "protocol"),
    ],
)
def test_addresses_that_cannot_be_a_store_are_refused(store: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        ShardParams(store=store)
