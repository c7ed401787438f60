"""targets.csv: joined by the end of a path or by key; what is wrong with it is said with its line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts.labels.targets import read_targets
from reprise.config.errors import ManifestError
from tests.limits import at_most

KEYS = ["aa", "bb", "cc"]
PATHS = ["data/cats/1.jpg", "data/dogs/1.jpg", "data/dogs/2.jpg"]


def read(tmp_path: Path, text: str):
    file = tmp_path / "targets.csv"
    file.write_text(text, encoding="utf-8")
    return read_targets(KEYS, PATHS, file)


def test_rows_are_joined_by_the_end_of_the_path(tmp_path: Path) -> None:
    found = read(tmp_path, "image,smiling,age\n2.jpg,1,3.5\ncats/1.jpg,0,\ngone/9.jpg,1,1\n")
    assert found.values["smiling"][[0, 2]].tolist() == [0.0, 1.0]
    assert np.isnan(found.values["smiling"][1])
    assert found.values["age"][2] == 3.5
    assert np.isnan(found.values["age"][[0, 1]]).all()
    assert (found.attributes, found.quantities, found.unmatched) == (["smiling"], ["age"], 1)


def test_a_row_is_for_all_pages_of_a_stack_or_for_one(tmp_path: Path) -> None:
    keys, paths, pages = list("abcdef"), ["d/s.tif"] * 3 + ["d/t.tif"] * 2 + ["d/u.png"], [1, 2, 3, 1, 4, None]
    file = tmp_path / "targets.csv"
    file.write_text("image,age\ns.tif,5\nd\\t.tif (page 4),7\nu.png,8\nt.tif (page 2),9\n")
    found = read_targets(keys, paths, file, pages)
    np.testing.assert_array_equal(found.values["age"], [5, 5, 5, np.nan, 7, 8])
    assert (found.unmatched, found.examples) == (1, ("t.tif (page 2)",))
    file.write_text("image,age\ns.tif (page 2),5\ns.tif,7\n")
    with pytest.raises(ManifestError, match=r"line 3: an image must be named once.*already named in line 2"):
        read_targets(keys, paths, file, pages)


def test_images_in_one_archive_are_told_apart_by_key_only(tmp_path: Path) -> None:
    file = tmp_path / "targets.csv"
    file.write_text("image,age\nimages.tar,5\n")
    with pytest.raises(ManifestError, match=r"images\.tar \(the end of several paths\).*use a column `key`"):
        read_targets(["a", "b"], ["data/ingest/images.tar"] * 2, file)


def test_rows_are_joined_by_key(tmp_path: Path) -> None:
    found = read(tmp_path, "\ufeffkey,age\nbb,-1e3\n")
    assert found.values["age"][1] == -1000.0


def test_accents_are_one_however_they_are_written(tmp_path: Path) -> None:
    """A Mac writes them as two signs; where both forms are files, each is found by its own."""
    file = tmp_path / "targets.csv"
    file.write_text("image,age\nb/caf\u00e9.jpg,1\ncafe\u0301s.jpg,2\nd/n\u0303.jpg,3\n", encoding="utf-8")
    paths = ["b/cafe\u0301.jpg", "c/caf\u00e9s.jpg", "d/n\u0303.jpg", "d/\u00f1.jpg"]
    assert read_targets(["k", "l", "m", "n"], paths, file).values["age"][:3].tolist() == [1.0, 2.0, 3.0]
    file.write_text("image,age\n\u00e9.jpg,1\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="the end of several paths"):
        read_targets(["k", "l"], ["b/e\u0301.jpg", "c/\u00e9.jpg", "d/e\u0301.jpg"][::2], file)


def test_no_file_and_no_rows_are_no_targets(tmp_path: Path) -> None:
    assert read_targets(KEYS, PATHS, tmp_path / "none.csv").values == {}
    assert read(tmp_path, "image\n").values == read(tmp_path, "").values == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,age\n1.jpg,1\n", "first column must be"),
        ("image,Age\n2.jpg,1\n", "needs its own name"),
        ("image,age,age\n2.jpg,1,2\n", "needs its own name"),
        ("image,age\n2.jpg,1,2\n", "line 2 must have 2 fields"),
        ("image,age\n2.jpg,old\n", "line 2, column age: a target must be a finite number"),
        ("image,age\n2.jpg,inf\n", "a target must be a finite number"),
        ("image,age\n1.jpg,1\n", "the end of several paths"),
        ("image,age\n2.jpg,1\ndogs/2.jpg,2\n", "already named in line 2"),
        ("image,age\ngone.jpg,1\n", "no row names an image"),
        ('image,age\n2.jpg,"1\n', "not CSV"),
        (f"image,{'a' * 2_000_000}\n2.jpg,1\n", "not CSV.*a row of more than 1048576 characters"),
        (f"image,age\n2.jpg,{'1' * 200_000}\n", "not CSV.*field larger than field limit"),
        ("image,age\n2.jpg," + ",".join('"1\n"' for _ in range(300_000)), "not CSV.*a row of more than 1048576"),
        ("image," + ",".join(f"t{i}" for i in range(1001)) + "\n2.jpg,1\n", "there can be 1000 targets"),
    ],
    ids=lambda text: repr(text[:40]),
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "written",
    [
        "./cats/a.jpg",  # find
        "cats\\a.jpg",  # Windows
        ".\\cats\\a.jpg",
        "cats//a.jpg",
        "cats/./a.jpg",
        " cats/a.jpg ",
        "/there/data/cats/a.jpg",  # the absolute path of a file that the manifest names relatively
        "C:\\Users\\me\\data\\cats\\a.jpg",
        "data/cats/a.jpg",
    ],
)
def test_names_are_found_however_tools_write_them(tmp_path: Path, written: str) -> None:
    file = tmp_path / "targets.csv"
    file.write_text(f"image,age\n{written},1\ndogs/a.jpg,2\n", encoding="utf-8")
    found = read_targets(["k", "l"], ["data/cats/a.jpg", "data/dogs/a.jpg"], file)
    assert found.values["age"].tolist() == [1.0, 2.0]
    assert found.unmatched == 0


def test_a_name_as_it_is_written_comes_before_any_other_reading(tmp_path: Path) -> None:
    file = tmp_path / "targets.csv"
    file.write_text("image,age\na\\b.jpg,1\na/b.jpg,2\n", encoding="utf-8")
    assert read_targets(["k", "l"], ["d/a/b.jpg", "d/a\\b.jpg"], file).values["age"].tolist() == [2.0, 1.0]


def test_accents_and_backslashes_may_come_together(tmp_path: Path) -> None:
    file = tmp_path / "targets.csv"
    file.write_text("image,age\ncaf\u00e9\\1.jpg,1\n", encoding="utf-8")
    assert read_targets(["k"], ["d/cafe\u0301/1.jpg"], file).values["age"].tolist() == [1.0]


def test_rows_that_name_nothing_are_counted_with_examples(tmp_path: Path) -> None:
    found = read(tmp_path, "image,age\n2.jpg,1\nx/2.jpg,1\n/elsewhere/cats/1.jpg,2\nzz.jpg,3\nyy.jpg,4\nxx.jpg,5\n")
    assert found.unmatched == 5
    assert found.examples == ("x/2.jpg", "/elsewhere/cats/1.jpg", "zz.jpg")


def test_two_ways_to_write_one_image_are_two_rows_for_it(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="already named in line 2"):
        read(tmp_path, "image,age\ndogs/2.jpg,1\n.\\dogs\\2.jpg,1\n")


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["fifo", "folder"])
def test_what_is_no_file_is_a_sentence_and_not_a_wait(tmp_path: Path, make) -> None:
    make(tmp_path / "targets.csv")
    with pytest.raises(ManifestError, match="not CSV"):
        read_targets(KEYS, PATHS, tmp_path / "targets.csv")


def test_rows_of_no_image_take_no_memory(tmp_path: Path) -> None:
    """A file of any length is read row by row."""
    file = tmp_path / "targets.csv"
    file.write_text("image,age\n2.jpg,1\n" + f"{'x' * 1000},1\n" * 50_000, encoding="utf-8")
    with at_most(megabytes=40, seconds=20):
        found = read_targets(KEYS, PATHS, file)
    assert (found.unmatched, len(found.examples)) == (50_000, 3)
