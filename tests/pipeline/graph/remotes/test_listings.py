"""Listings of folders from a store that others can write to: what is read, and what is refused."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from pipeline.graph.remotes.listings import (
    LARGEST_LISTING,
    BadListing,
    Member,
    is_object_name,
    problem_of_name,
    read_listing,
)
from reprise.storage.content_hashes import md5_of_members

MD5 = hashlib.md5(b"").hexdigest()


def named(data: bytes) -> tuple[bytes, str]:
    """The bytes of an object under their right name."""
    return data, hashlib.md5(data).hexdigest() + ".dir"


def listing(*names: Any) -> tuple[bytes, str]:
    return named(json.dumps([{"md5": MD5, "relpath": name} for name in names]).encode())


def test_a_listing_of_dvc_is_read() -> None:
    members = read_listing(*listing("a.txt", "b/c d.txt", "b/é.json", "...", ".partial"))
    assert members[1] == Member("b/c d.txt", MD5)
    assert len(members) == 5


def test_our_name_of_a_folder_is_that_of_dvc() -> None:
    pytest.importorskip("dvc_data")
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    tree = Tree()
    for name in ("b/c", "a", "é"):
        tree.add(tuple(name.split("/")), None, HashInfo("md5", MD5))
    tree.digest()
    assert md5_of_members({"b/c": MD5, "é": MD5, "a": MD5}) == tree.oid


@pytest.mark.parametrize(
    "name",
    [
        "../../difflib.py",
        "/etc/passwd",
        "a/../../b",
        "a/./b",
        "./a",
        "a//b",
        "a/",
        "",
        ".",
        "..",
        "..\\b",
        "C:\\b",
        "C:b",
        "a\0b",
        "a\nb",
        "a\x1b[2Jb",
        "a\u202eb",
        ".g\u200cit/config",  # macOS leaves the invisible character out
        ".git/hooks/post-checkout",
        "deep/.GIT/config",
        ".git./config",
        "git~1/config",
        ".\uff47it/config",
        ".dvc/config",
        "sub/.gitattributes",
        "\ud800",
        "x" * 256,
        "é" * 128,
        "a/" * 2049 + "b",
        7,
        None,
        ["a"],
        {"a": 1},
        True,
    ],
)
def test_a_name_that_leaves_the_folder_or_deceives_is_refused(name: Any) -> None:
    assert problem_of_name(name)
    with pytest.raises(BadListing):
        read_listing(*listing("good", name))


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("a", "a"), "stands twice"),
        (("a", "b", "A"), "differ only in case"),
        (("caf\u00e9", "cafe\u0301"), "differ only in case or marks"),
        (("a", "a/b"), "both a file and a folder"),
        (("a/b/c", "A/B"), "both a file and a folder|differ only in case"),
        (("a/b", "A/c"), "differ only in case"),
    ],
)
def test_names_that_collide_are_refused(names: tuple[str, ...], why: str) -> None:
    for order in (names, names[::-1]):
        with pytest.raises(BadListing, match=why):
            read_listing(*listing(*order))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nothing",
        b"\xff\xfe",
        b"{}",
        b"[1]",
        b"[{}]",
        b'[{"relpath": "a"}]',
        b'[{"md5": "../../etc/passwd", "relpath": "a"}]',
        b'[{"md5": 7, "relpath": "a"}]',
        b'[{"md5": "' + MD5.encode() + b'.dir", "relpath": "a"}]',
        b'[{"md5": "' + MD5.upper().encode() + b'", "relpath": "a"}]',
        b'[{"md5": "' + MD5.encode() + b'", "relpath": "a", "remote": "s3://elsewhere"}]',
        b"[" * 100_000,
        b"[" + b"9" * 5000 + b"]",
    ],
    ids=range(14),
)
def test_malformed_listings_are_refused(data: bytes) -> None:
    with pytest.raises(BadListing):
        read_listing(*named(data))


def test_other_bytes_and_too_many_are_refused() -> None:
    data, name = listing("a")
    with pytest.raises(BadListing, match="its bytes have the MD5"):
        read_listing(data + b" ", name)
    with pytest.raises(BadListing, match="larger than"):
        read_listing(bytes(LARGEST_LISTING + 1), name)


def test_names_of_objects() -> None:
    assert is_object_name(MD5)
    assert is_object_name(f"{MD5}.dir")
    for wrong in (None, 3, "", "../" + MD5, MD5[:-1], f"{MD5}.dir.dir", f"{MD5}\n"):
        assert not is_object_name(wrong)
