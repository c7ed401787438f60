"""Text files beside images: their captions, and those of which nobody knows what they mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.manifest import read_left_out, read_manifest, read_quarantine
from reprise.media.image.encode import uncompressed_png
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight pictures in two classes; captions of several, and text files that cannot be used."""
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for name in ("a", "b", "c", "d"):
            (tmp_path / label / f"{name}.png").write_bytes(
                uncompressed_png(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
            )
    texts = {
        "cat/a.txt": b"A cat.\nAsleep.\n",
        "cat/b.png.txt": b"Eine Katze, schlafend",
        "cat/c.txt": b"bad \xff bytes",
        "cat/d.txt": b"one of two",
        "cat/d.png.txt": b"the other",
        "dog/a.TXT": b"\xef\xbb\xbfA dog.\r\n",
        "dog/b.txt": b"turned \xe2\x80\xae round",
        "dog/notes.txt": b"no image is called notes",
    }
    for name, data in texts.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def taken_in(root: Path, out: Path, **options: str) -> dict[str, object]:
    out.mkdir()
    source = Folder(root, Folder.Params.model_validate(options))
    return ingest(source, SourceParams(name="folder", root=str(root)), out, 0, published=out)


def test_captions_become_a_fact_and_what_cannot_be_used_is_refused(root: Path, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path_factory.mktemp("work") / "out"
    card = taken_in(root, out, captions="txt")
    facts = read_facts(out)
    names = {
        row["key"]: str(Path(row["path"]).relative_to(root))
        for row in read_manifest(out / "manifest.parquet").to_pylist()
    }
    said = {names[key]: texts for key, texts in zip(facts.keys, facts.captions["caption"], strict=True) if texts}
    assert said == {
        "cat/a.png": ("A cat.", "Asleep."),
        "cat/b.png": ("Eine Katze, schlafend",),
        "dog/a.png": ("A dog.",),
    }
    refused = {
        str(Path(r["path"]).relative_to(root)): r for r in read_quarantine(out / "quarantine.parquet").to_pylist()
    }
    assert {name: row["reason"] for name, row in refused.items()} == {
        "cat/c.txt": "bad_caption",
        "cat/d.txt": "ambiguous_caption",
        "cat/d.png.txt": "ambiguous_caption",
        "dog/b.txt": "bad_caption",
    }
    assert "U+202E" in refused["dog/b.txt"]["detail"] and "cat/d.png.txt" in refused["cat/d.txt"]["detail"]
    (left,) = read_left_out(out / "left_out.parquet").to_pylist()
    assert left["path"].endswith("dog/notes.txt") and card["kept"] == 8
    assert "Captions: 3 of 8 images have a text file beside them with 4 captions." in card["understood"]  # type: ignore[operator]


def test_one_name_of_two_pictures_is_ambiguous(root: Path) -> None:
    (root / "cat/a.bmp").write_bytes((root / "dog/d.png").read_bytes())
    source = Folder(root, Folder.Params(captions="txt"))
    found = {Path(item.name).name: item for item in source.candidates() if "cat/a" in item.name}
    assert found["a.txt"].reason == "ambiguous_caption" and "a.jpg.txt" in found["a.txt"].detail  # type: ignore[union-attr]


def test_without_the_option_text_files_are_left_out(root: Path, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path_factory.mktemp("work") / "out"
    card = taken_in(root, out)
    assert card["left_out"] == {"other_file": 8} and not (out / "facts.json").exists() and "facts" not in card
