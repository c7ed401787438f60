"""Pages, bands and range from the folder to the manifest, and a note for everything that was changed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from reprise.artifacts.manifest import read_manifest, read_notes
from reprise.artifacts.shards import Shards
from reprise.config.errors import ParameterError, SourceError
from reprise.config.params import parse
from reprise.media.image.decode import decode
from stages.ingest.account.notes import summary
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder
from stages.shard.params import ShardParams
from stages.shard.write import write_shards
from tests.reprise.media import tiff_files as t
from tests.stages.ingest import hostile


def take(root: Path, **params: object) -> dict[str, object]:
    """Ingest `root` in this process into `out` beside it."""
    output = root.parent / "out"
    output.mkdir()
    return ingest(Folder(root, Folder.Params()), SourceParams(name="folder", root=str(root), **params), output, 0)


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """Two stacks of 13 pages of 12 bits in 16, each page of its own level; the second stack is brighter."""
    root = tmp_path / "images"
    (root / "cell").mkdir(parents=True)
    for number, top in enumerate((900, 3000)):
        pages = [np.full((8, 9), top - 10 * page, np.uint16) for page in range(13)]
        pages[0][0, 0] = 0
        (root / "cell" / f"{number}.tif").write_bytes(t.tiff([t.deflated(page) for page in pages]))
    return root


@pytest.mark.parametrize(("pages", "number"), [("first", 1), ("middle", 7)])
def test_one_page_of_a_stack_is_taken_and_noted(stacks: Path, pages: str, number: int) -> None:
    card = take(stacks, pages=pages)
    assert (card["found"], card["kept"]) == (2, 2)
    rows = read_manifest(stacks.parent / "out/manifest.parquet").to_pylist()
    assert [row["page"] for row in rows] == [number] * 2
    assert [row["group"] for row in rows] == [None] * 2
    notes = read_notes(stacks.parent / "out/notes.parquet").to_pylist()
    details = {note["detail"] for note in notes if note["note"] == "page"}
    assert details == {f"page {number} of 13 was taken"}


def test_all_pages_are_images_of_one_group(stacks: Path) -> None:
    card = take(stacks, pages="all", val_fraction=0.0, test_fraction=0.2)
    out = stacks.parent / "out"
    assert (card["found"], card["kept"], card["quarantined"]) == (26, 26, 0)
    rows = read_manifest(out / "manifest.parquet").to_pylist()
    assert len({row["key"] for row in rows}) == 26
    by_group = Counter((row["group"], row["split"]) for row in rows)
    assert sorted(by_group.values()) == [13, 13]  # a stack lies in one split
    assert sorted(row["page"] for row in rows) == sorted([*range(1, 14)] * 2)
    (out / "shards").mkdir()
    write_shards(read_manifest(out / "manifest.parquet"), ShardParams(), out / "shards", 1)
    shards = Shards.open(out / "shards")
    trained = next(row for row in rows if row["split"] == "train")
    white = 4095 if (trained["high"] == 4095) else 1023
    for place, key in enumerate(shards.keys):
        row = next(row for row in rows if row["key"] == key)
        level = (900 if row["path"].endswith("0.tif") else 3000) - 10 * (row["page"] - 1)
        shade = min(255, int(level / white * 255 + 0.5))
        assert decode(shards.read(place), key, 1, plain=True)[-1, -1, 0] == shade


def test_equal_pages_are_copies_and_have_a_name_each(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    levels = (10, 20, 10)
    pages = [np.arange(72, dtype=np.uint8).reshape(8, 9) + level for level in levels]
    (root / "a.tif").write_bytes(t.tiff([t.deflated(page) for page in pages]))
    card = take(root, pages="all")
    assert (card["found"], card["kept"], card["quarantined"]) == (3, 2, 1)
    refused = pq.read_table(tmp_path / "out/quarantine.parquet").to_pylist()
    assert refused[0]["path"].endswith("a.tif (page 3)")
    assert refused[0]["reason"] == "duplicate"


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_frames_of_animations_are_pages(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "images"
    root.mkdir()
    (root / "a").write_bytes(hostile.animated(kind))
    assert take(root, pages="all")["kept"] == 3


def test_a_stack_with_a_damaged_page_is_refused_whole(stacks: Path) -> None:
    good = [np.arange(72, dtype=np.uint8).reshape(8, 9) + n for n in (0, 50)]
    tags, strips = t.deflated(good[1])
    strips[5] = strips[5][:-3]
    (stacks / "cell/bad.tif").write_bytes(t.tiff([t.deflated(good[0]), (tags, strips)]))
    card = take(stacks, pages="all")
    assert (card["found"], card["quarantined"]) == (27, 1)
    refused = pq.read_table(stacks.parent / "out/quarantine.parquet").to_pylist()
    assert (refused[0]["reason"], refused[0]["path"].endswith("bad.tif")) == ("truncated", True)


def test_every_change_is_a_row_and_a_line(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    files = {
        "turned.png": hostile.rotated(6),
        "alpha.png": hostile.FILES["alpha.png"][0],
        "cmyk.jpg": hostile.FILES["cmyk.jpg"][0],
        "white.tif": t.simple(np.array([[0, 9]] * 4, np.uint16).repeat(3, axis=1), {t.PHOTOMETRIC: 0}),
        "moving.gif": hostile.animated("GIF"),
        "plain.png": hostile.PNG,
    }
    for name, data in files.items():
        (root / name).write_bytes(data)
    card = take(root, test_fraction=0.0, val_fraction=0.0)
    notes = read_notes(tmp_path / "out/notes.parquet")
    found = {(Path(row["path"]).name, row["note"]) for row in notes.to_pylist()}
    assert found == {
        ("turned.png", "turned"),
        ("alpha.png", "transparency"),
        ("cmyk.jpg", "converted"),
        ("white.tif", "inverted"),
        ("white.tif", "range"),
        ("moving.gif", "page"),
    }
    lines = summary(notes)
    assert 'Changed on the way in (range): 1 image, all "uint16: the values 0 to 15 become 0 to 255".' in lines
    assert card["changed"] == lines


def test_bands_that_some_images_lack_are_refused_by_name(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 256, (8, 9, 5), dtype=np.uint8)
        (root / f"{number}.tif").write_bytes(t.simple(values, {t.PHOTOMETRIC: 1}))
    (root / "rgb.png").write_bytes(hostile.PNG)
    card = take(root, bands=[5, 1, 2, 4])
    assert (card["kept"], card["quarantined"]) == (3, 1)
    assert read_manifest(tmp_path / "out/manifest.parquet")["channels"].to_pylist() == [4] * 3
    refused = pq.read_table(tmp_path / "out/quarantine.parquet").to_pylist()
    assert refused[0]["reason"] == "missing_bands"
    assert "3 bands, and 5,1,2,4 are wanted" in refused[0]["detail"]


def test_a_range_that_nobody_declares_stops_with_a_sentence(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for number in range(3):
        (root / f"{number}.tif").write_bytes(t.simple(np.random.default_rng(number).normal(0, 1, (8, 9))))
    with pytest.raises(SourceError, match=r"source\.range.*Set source\.range"):
        take(root, range="declared")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"range": "given"}, "range_given belongs to"),
        ({"range_given": [0.0, 1.0]}, "range_given belongs to"),
        ({"range": "given", "range_given": [5.0, 5.0]}, "the first number of range_given is the lower one"),
        ({"range_percentiles": [99.0, 1.0]}, "the first number of range_percentiles"),
        ({"bands": []}, "bands"),
        ({"bands": [0]}, "bands"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        parse(SourceParams, {"name": "folder", **values}, "source")
