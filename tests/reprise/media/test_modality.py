"""Every modality is a folder that does all tasks, and the manifest has its columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import reprise.media
from reprise.artifacts.manifest import FURTHER_SCHEMA, MANIFEST_SCHEMA, modality_of, read_manifest, write_manifest
from reprise.config.errors import ManifestError
from reprise.media.lookup import IMAGE, NAMES, READERS, modality
from reprise.media.modality import Limits
from tests.stages.ingest.hostile import JPEG

COMMON = {"key", "path", "offset", "bytes", "split", "label", "sha256", "group"}


def test_folders_and_names_agree() -> None:
    folders = {path.name for root in reprise.media.__path__ for path in Path(root).iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == {*NAMES, *READERS}
    assert [modality(name).name for name in NAMES] == list(NAMES)
    with pytest.raises(ValueError, match="no modality 'smell'; there is image"):
        modality("smell")


def test_the_manifest_has_the_common_columns_and_those_of_the_modalities() -> None:
    """A manifest of images has theirs alone, so that another modality changes no byte of it."""
    assert set(MANIFEST_SCHEMA.names) == COMMON | set(modality(IMAGE).columns)
    columns = {column: kind for name in NAMES for column, kind in modality(name).columns.items()}
    further = set(columns) - set(modality(IMAGE).columns)
    assert set(FURTHER_SCHEMA.names) == {"modality"} | further
    for column, kind in columns.items():
        schema = FURTHER_SCHEMA if column in further else MANIFEST_SCHEMA
        assert schema.field(column).type == pa.type_for_alias(kind)


def test_one_file_decides_which_code_a_modality_has() -> None:
    """No stage names the class of a modality, so another one is a folder and a branch in lookup.py."""
    root = Path(reprise.media.__path__[0]).parents[1]
    files = [path for folder in ("reprise", "stages", "pipeline") for path in (root / folder).rglob("*.py")]
    naming = [
        path.relative_to(root).as_posix()
        for path in files
        for name in NAMES
        if f"reprise.media.{name}.{name} import" in path.read_text(encoding="utf-8")
    ]
    assert naming == ["reprise/media/lookup.py"] * len(NAMES)


def test_a_data_set_has_one_modality(tmp_path: Path) -> None:
    row = dict.fromkeys(MANIFEST_SCHEMA.names) | {
        "path": "x",
        "offset": 0,
        "bytes": 1,
        "split": "train",
        "width": 4,
        "height": 4,
        "channels": 1,
        "format": "NPY",
        "plain": False,
        "pixels": "p",
        "sha256": "s",
        "depth": 4,
        "spacing": None,
    }
    schema = pa.schema([*MANIFEST_SCHEMA, *FURTHER_SCHEMA])

    def table(*kinds: str) -> pa.Table:
        rows = [row | {"key": f"{n}", "modality": kind} for n, kind in enumerate(kinds)]
        return pa.Table.from_pylist(rows, schema=schema)

    write_manifest(tmp_path / "one", table("volume", "volume"))
    assert modality_of(read_manifest(tmp_path / "one")) == "volume"
    assert modality_of(read_manifest(tmp_path / "one", ["key", "modality"])) == "volume"
    with pytest.raises(ManifestError, match="one modality"):
        write_manifest(tmp_path / "two", table("volume", "image"))
    write_manifest(tmp_path / "images", table("image").drop_columns(FURTHER_SCHEMA.names))
    assert read_manifest(tmp_path / "images").schema.names == MANIFEST_SCHEMA.names
    assert modality_of(read_manifest(tmp_path / "images")) == "image"


def test_an_image_passes_from_untrusted_bytes_to_a_thumbnail() -> None:
    media = modality(IMAGE)
    (found,) = media.inspect(JPEG, "x", Limits(10**6, 4))
    facts = found.facts
    assert list(facts) == list(media.columns)
    assert media.extension(facts) == "jpg"
    stored = media.stored_form(JPEG, "x", facts, 512)
    assert len(stored.data) <= media.largest_stored_bytes(facts | {"bytes": len(JPEG)}, 512)
    pixels = media.decode(stored.data, "x", 3)
    assert pixels.shape == (facts["height"], facts["width"], 3)
    assert media.resize_to_square(pixels, 8).shape == (8, 8, 3)
    assert max(media.thumbnail(stored.data, "x", 16).shape[:2]) == 16
    assert pixels.dtype == np.uint8
