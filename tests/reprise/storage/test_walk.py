"""The listing of a folder: what systems leave in it, and links to where the user says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reprise.config.errors import SourceError
from reprise.storage.listing import digest_folder
from reprise.storage.walk import list_entries


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(path).encode())


def link(path: Path, target: Path, relative: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent) if relative else target)


def listed(root: Path, *link_roots: Path) -> dict[str, str | None]:
    return {entry.text: entry.reason for entry in list_entries(root, link_roots)}


def test_what_systems_and_programs_leave_is_left_out_by_name(tmp_path: Path) -> None:
    hidden = ["._a.jpg", ".DS_Store", "cat/.directory", "cat/.picasa.ini"]
    system = ["Thumbs.db", "cat/thumbs.DB", "ehthumbs.db", "desktop.ini", "Desktop.ini", "Icon\r", "Picasa.ini"]
    folders = [
        "__MACOSX",
        "@eaDir",
        "cat/@eaDir",
        "$RECYCLE.BIN",
        "System Volume Information",
        "lost+found",
        "#recycle",
    ]
    kept = ["a.jpg", "cat/b.jpg", "lost/found.jpg", "icon.png", "thumbs/1.jpg", "desktop.ini.jpg"]
    touch(*(tmp_path / name for name in (*hidden, *system, *kept)))
    touch(*(tmp_path / folder / "inside.jpg" for folder in (*folders, ".git")))
    assert listed(tmp_path) == (
        dict.fromkeys((*hidden, ".git"), "hidden")
        | dict.fromkeys((*system, *folders), "system_file")
        | dict.fromkeys(kept)
    )


def test_a_file_with_the_name_of_a_systems_folder_is_a_file(tmp_path: Path) -> None:
    touch(tmp_path / "__MACOSX", tmp_path / "lost+found")
    assert listed(tmp_path) == {"__MACOSX": None, "lost+found": None}


def test_links_to_files_are_followed_into_named_folders_only(tmp_path: Path) -> None:
    store, other, root = tmp_path / "store", tmp_path / "storeroom", tmp_path / "root"
    touch(store / "blobs/1", other / "2")
    link(root / "cat/1.jpg", store / "blobs/1", relative=True)
    link(root / "cat/2.jpg", other / "2")
    link(root / "cat/3.jpg", store / "missing")
    assert listed(root) == {"cat/1.jpg": "outside_root", "cat/2.jpg": "outside_root", "cat/3.jpg": "broken_link"}
    assert listed(root, store) == {"cat/1.jpg": None, "cat/2.jpg": "outside_root", "cat/3.jpg": "broken_link"}
    assert listed(root, store, other)["cat/2.jpg"] is None
    detail = next(entry.detail for entry in list_entries(root))
    assert "link" in detail
    assert "source.options.link_roots" in detail
    assert str(store / "blobs/1") in detail


def test_the_content_behind_a_link_counts(tmp_path: Path) -> None:
    store, root = tmp_path / "store", tmp_path / "root"
    touch(store / "1")
    link(root / "1.jpg", store / "1")
    first = digest_folder(root, tmp_path / "cache", link_roots=[store])
    (store / "1").write_bytes(b"other")
    assert digest_folder(root, tmp_path / "cache", link_roots=[store]) != first


def test_a_linked_folder_is_listed_once_whatever_links_there_are(tmp_path: Path) -> None:
    store, root = tmp_path / "store", tmp_path / "root"
    touch(store / "cats/1.jpg", store / "cats/young/2.jpg", store / "dogs/3.jpg", root / "own/4.jpg")
    link(store / "cats/young/back", store / "cats")  # a loop inside the store
    link(root / "b", store / "cats")
    link(root / "c", store / "cats/young")
    link(root / "d", store / "dogs")
    link(root / "e", root / "own")
    link(root / "f", root)
    assert listed(root, store) == {
        "b/1.jpg": None,
        "b/young/2.jpg": None,
        "b/young/back": "link_to_folder",
        "c": "link_to_folder",
        "d/3.jpg": None,
        "e": "link_to_folder",
        "f": "link_to_folder",
        "own/4.jpg": None,
    }
    assert listed(root)["d"] == "outside_root"


def test_links_that_multiply_folders_are_listed_in_linear_time(tmp_path: Path) -> None:
    """Twenty folders with two links each to the next one hold a million paths."""
    store, root = tmp_path / "store", tmp_path / "root"
    for level in range(20):
        link(store / f"{level}/a", store / str(level + 1))
        link(store / f"{level}/b", store / str(level + 1))
    touch(store / "20/picture.jpg")
    link(root / "first", store / "0")
    found = listed(root, store)
    assert len(found) == 21
    assert [name for name, reason in found.items() if reason is None] == ["first" + "/a" * 20 + "/picture.jpg"]


def test_a_store_around_the_root_and_a_store_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    root = tmp_path / "data/images"
    touch(root / "1.jpg", tmp_path / "data/more/2.jpg")
    link(root / "up", tmp_path / "data")
    assert listed(root, Path("~/data")) == {"1.jpg": None, "up/images": "link_to_folder", "up/more/2.jpg": None}


@pytest.mark.parametrize("name", ["missing", "file", "~nobody-of-this-name/x"])
def test_a_link_root_that_is_no_folder_is_named(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "file", tmp_path / "root/1.jpg")
    with pytest.raises(SourceError, match=r"source\.options\.link_roots"):
        list_entries(tmp_path / "root", [name if name.startswith("~") else tmp_path / name])
