"""Every modality is a folder that does all tasks, and the manifest has its columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import reprise.media
from reprise.artifacts.manifest import MANIFEST_SCHEMA
from reprise.media.lookup import IMAGE, NAMES, modality
from reprise.media.modality import Limits
from tests.stages.ingest.hostile import JPEG

COMMON = {"key", "path", "offset", "bytes", "split", "label", "sha256", "group"}


def test_folders_and_names_agree() -> None:
    folders = {path.name for root in reprise.media.__path__ for path in Path(root).iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} == set(NAMES)
    assert [modality(name).name for name in NAMES] == list(NAMES)
    with pytest.raises(ValueError, match="no modality 'smell'; there is image"):
        modality("smell")


def test_the_manifest_has_the_common_columns_and_those_of_the_modalities() -> None:
    columns = {column: kind for name in NAMES for column, kind in modality(name).columns.items()}
    assert set(MANIFEST_SCHEMA.names) == COMMON | set(columns)
    for column, kind in columns.items():
        assert MANIFEST_SCHEMA.field(column).type == pa.type_for_alias(kind)


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
