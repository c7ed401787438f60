"""The source `mosaic`: flags, boxes and masks fit the pictures, digits of the test are seen in it alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.layout import INGEST
from reprise.artifacts.manifest import read_manifest
from reprise.media.image.decode import decode
from stages.ingest.__main__ import main as ingest
from stages.ingest.drawn.shapes import SHAPES
from stages.ingest.scan import scan
from stages.ingest.sources import mosaic as module
from stages.ingest.sources.mosaic import Mosaic


def mosaic(**options: Any) -> Mosaic:
    return Mosaic(Path(), Mosaic.Params(**options))


def test_a_picture_is_a_function_of_seed_and_number() -> None:
    few, many = (list(mosaic(images=n).candidates()) for n in (20, 30))
    assert [c.reference for c in many[:20]] == [c.reference for c in few]
    assert next(iter(mosaic(images=20, seed=1).candidates())).reference != few[0].reference
    digests = {mosaic(images=20, **options).extent().digest for options in ({}, {"seed": 1}, {"grid": 3})}
    assert len(digests) == 3


@pytest.mark.parametrize("options", [{}, {"things": "digits", "grid": 3, "most": 7, "size": 50}])
def test_flags_masks_and_boxes_say_the_same(options: dict[str, Any]) -> None:
    source = mosaic(images=60, **options)
    digits = module._digits() if options else None
    classes, cells = source.classes(), source.options.grid
    numbers = []
    for i, candidate in enumerate(source.candidates()):
        facts, mask = candidate.facts, candidate.facts["mask"]
        _, _, labels, _ = source.picture(i, digits, digits is not None and i % 5 == 4)
        assert {c for c in classes if facts[f"has_{c}"]} == set(labels)
        assert facts["kinds"] == len(set(labels))
        assert candidate.label in labels
        assert set(np.unique(mask)) == set(range(len(labels) + 1))
        for number, (x0, y0, x1, y1) in enumerate(facts["boxes"], start=1):
            assert (mask[y0:y1, x0:x1] == number).sum() == (mask == number).sum() > 0
            edge = source.options.size / cells
            assert int(x0 // edge) == int((x1 - 1) // edge)  # of one cell
        pixels = decode(candidate.reference, "x", 3).astype(float)  # type: ignore[arg-type]
        inner, outer = pixels[mask == 1].mean(axis=0), pixels[mask == 0].mean(axis=0)
        assert np.abs(inner - outer).max() > 10
        numbers.append(len(labels))
    assert (min(numbers), max(numbers)) == (source.options.least, source.options.most)


def test_the_digits_of_test_pictures_are_in_no_other_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fifth digit is dark enough for a mask and the others are not, so the mask tells which were drawn."""
    digits = [(np.full((8, 8), 0.9 if k % 5 == 4 else 0.2), "0") for k in range(50)]
    monkeypatch.setattr(module, "_digits", lambda: digits)
    monkeypatch.setattr(module, "box", lambda mask: (0, 0, 1, 1))
    found = {(c.split, bool(c.facts["mask"].any())) for c in mosaic(images=40, things="digits").candidates()}
    assert found == {("train", False), ("test", True)}


def test_more_things_than_cells_are_refused() -> None:
    for wrong in ({"most": 5}, {"least": 3, "most": 2}, {"grid": 3, "most": 10}):
        with pytest.raises(ValidationError):
            Mosaic.Params(**wrong)
    assert Mosaic.Params(grid=3, most=9).most == 9


@pytest.mark.parametrize("things", ["shapes", "digits"])
def test_flags_reach_probes_and_where_they_are_given_methods(
    things: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"images": 60, "size": 24, "things": things, "given": ["flags"]}
    Path("params.yaml").write_text(json.dumps({"source": {"name": "mosaic", "options": options}}))
    scan()
    ingest([])
    facts, manifest = read_facts(INGEST), read_manifest()
    given = {fact.name for fact in facts.declared if fact.use == "given"}
    assert given == {f"has_{c}" for c in (SHAPES if things == "shapes" else "0123456789")}
    assert all(set(np.unique(facts.columns[name])) <= {0.0, 1.0} for name in given)
    splits = manifest["split"].to_pylist()
    assert {"train", "val", "test"} <= set(splits)
    if things == "digits":
        assert splits.count("test") == 12
