"""Whether images that have come differ: none, alike, darker, of other classes, few; and never by the test split."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from reprise.artifacts import layout
from reprise.artifacts.manifest import MANIFEST_SCHEMA, read_manifest, write_manifest
from reprise.config.drift import DriftParams
from reprise.config.errors import ShardError
from stages.embed.outside.drift import compare, main
from stages.shard.params import ShardParams
from stages.shard.write import write_shards
from tests.reprise.backbones.test_forms import run_of

PARAMS = DriftParams(fewest=20)


def take_in(pictures: list[np.ndarray], labels: list[str], first: int = 0, groups: list[str] | None = None) -> pa.Table:
    """Write pictures as files, and return their rows; each fourth one is of the test split."""
    rows = []
    Path("images").mkdir(exist_ok=True)
    for number, (pixels, label) in enumerate(zip(pictures, labels, strict=True), start=first):
        path = Path("images") / f"{number}.png"
        Image.fromarray(pixels).save(path)
        data = path.read_bytes()
        sha = hashlib.sha256(data).hexdigest()
        rows.append(
            {
                "key": sha[:24], "path": str(path), "offset": 0, "bytes": len(data), "label": label, "channels": 3,
                "split": ("train", "train", "val", "test")[number % 4], "width": pixels.shape[1], "format": "PNG",
                "height": pixels.shape[0], "plain": True, "pixels": sha, "sha256": sha,
                "group": groups[number - first] if groups else None,
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows, MANIFEST_SCHEMA)


def whole(*tables: pa.Table) -> pa.Table:
    """Write manifest and shards of all images, as the stages would."""
    write_manifest(layout.MANIFEST, pa.concat_tables(tables).sort_by("key"))
    write_shards(read_manifest(), ShardParams(max_shard_bytes=1 << 20, max_side=64), Path(layout.SHARDS), 1)
    return read_manifest()


def pictures(count: int, seed: int, factor: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shades = rng.uniform(60, 200, size=(count, 1, 1, 3)) + rng.normal(0, 15, size=(count, 20, 20, 3))
    return list(np.clip(shades * factor, 0, 255).astype(np.uint8))


def names(count: int, seed: int, share: float = 0.5) -> list[str]:
    return [("a", "b")[int(x < share)] for x in np.random.default_rng(seed).random(count)]


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pa.Table:
    monkeypatch.chdir(tmp_path)
    Path(layout.SHARDS).mkdir(parents=True)
    layout.run("simclr", 0).parent.mkdir(parents=True)
    run_of(layout.run("simclr", 0), "resnet_tiny", 16)
    return take_in(pictures(160, 0), names(160, 1))


def drifted(found: dict) -> list[str]:
    return [finding["name"] for finding in found["findings"] if finding["drifted"]]


def test_new_images_like_the_others_are_no_drift(before: pa.Table) -> None:
    now = whole(before, take_in(pictures(100, 2), names(100, 3), 160))
    found = compare(before, now, PARAMS, layout.run("simclr", 0))
    assert (found["new"], found["kept"], found["gone"], found["relabelled"]) == (100, 160, 0, 0)
    expected = ["class shares", "area", "aspect", "brightness", "contrast", "colour", "embeddings"]
    assert [f["name"] for f in found["findings"]] == [*expected, "embeddings, classified"]
    assert drifted(found) == []
    assert found == compare(before, now, PARAMS, layout.run("simclr", 0))


def test_darker_images_of_another_class_and_form_are_drift(before: pa.Table) -> None:
    dark = [np.ascontiguousarray(x[:12]) for x in pictures(100, 2, 0.4)]
    found = compare(before, whole(before, take_in(dark, names(100, 3, 0.9), 160)), PARAMS, layout.run("simclr", 0))
    told = drifted(found)
    assert {"class shares", "area", "aspect", "brightness", "embeddings", "embeddings, classified"} <= set(told)
    small = PARAMS.model_copy(update={"light": 1.0, "discrepancy": 2.0})
    less = compare(before, read_manifest(), small, layout.run("simclr", 0))
    assert {"brightness", "embeddings"} & set(drifted(less)) == set()  # as small as that does not count


def test_what_is_disjoint_is_found_at_the_strictest_level(before: pa.Table) -> None:
    strict = PARAMS.model_copy(update={"level": 0.001})
    now = whole(before, take_in(pictures(100, 2), ["c"] * 100, 160))
    assert drifted(compare(before, now, strict)) == ["class shares"]


def test_images_of_one_group_count_as_one(before: pa.Table) -> None:
    """One patient's hundred darker images are one unit: with it alone nothing can be told."""
    dark = take_in(pictures(100, 2, 0.4), names(100, 3), 160, ["patient"] * 100)
    assert drifted(compare(before, whole(before, dark), PARAMS)) == []


def test_the_test_split_is_not_looked_at(before: pa.Table) -> None:
    new = take_in(pictures(100, 2), names(100, 3), 160)
    labels = ["c" if row["split"] == "test" else row["label"] for row in new.to_pylist()]
    other = new.set_column(new.column_names.index("label"), MANIFEST_SCHEMA.field("label"), [labels])
    one, two = (compare(before, whole(before, rows), PARAMS)["findings"] for rows in (new, other))
    assert one == two


def test_too_few_new_images_are_not_judged_and_what_went_is_counted(before: pa.Table) -> None:
    again = before.slice(10).to_pylist()
    again[0]["label"] = "another"
    now = whole(pa.Table.from_pylist(again, MANIFEST_SCHEMA), take_in(pictures(8, 2), names(8, 3), 160))
    found = compare(before, now, PARAMS)
    assert (found["new"], found["kept"], found["gone"], found["relabelled"]) == (8, 150, 10, 1)
    assert found["findings"] == []
    assert found["note"].startswith("only 6 new images are outside of the test split, and 20 are needed")
    same = compare(before, before, PARAMS)
    assert (same["new"], same["note"].split(" are ")[0]) == (0, "no new images")


def kept_aside() -> Path:
    """Set the shards aside, as a revision has them."""
    aside = Path(layout.SHARDS).rename("earlier")
    Path(layout.SHARDS).mkdir()
    return aside


def test_images_that_were_replaced_are_compared_with_those_that_are_gone(before: pa.Table) -> None:
    """Each file is darkened in place: no key is the same, and class shares and sizes are."""
    before = whole(before)
    earlier = kept_aside()
    now = whole(take_in(pictures(160, 0, 0.3), names(160, 1)))
    found = compare(before, now, PARAMS, layout.run("simclr", 0), earlier)
    assert (found["new"], found["kept"], found["gone"], found["replaced"]) == (160, 0, 160, True)
    assert {"brightness", "embeddings, classified"} <= set(drifted(found))
    assert not {"class shares", "area", "aspect"} & set(drifted(found))
    assert found["note"] == ""


def test_a_folder_that_was_swapped_for_one_like_it_is_no_drift(before: pa.Table) -> None:
    before = whole(before)
    earlier = kept_aside()
    few = before.filter(np.array(before["split"].to_pylist()) == "val").slice(0, 10)  # of the old ones, too few
    found = compare(before, whole(few, take_in(pictures(120, 2), names(120, 3), 1000)), PARAMS, None, earlier)
    assert (found["kept"], found["replaced"], found["note"]) == (10, True, "")
    assert len(found["findings"]) == 6
    assert drifted(found) == []


def test_without_the_earlier_shards_the_manifest_is_compared_and_the_rest_is_said(before: pa.Table) -> None:
    found = compare(before, whole(take_in(pictures(120, 0, 0.3), ["c"] * 120, 1000)), PARAMS, layout.run("simclr", 0))
    assert [f["name"] for f in found["findings"]] == ["class shares", "area", "aspect"]
    assert drifted(found) == ["class shares"]
    assert "light and embeddings were not compared" in found["note"]
    few = compare(before, whole(take_in(pictures(8, 0), names(8, 1), 2000)), PARAMS)
    assert few["replaced"] and few["findings"] == []
    assert few["note"].startswith("only 6 new images")


def test_images_that_went_away_were_not_replaced(before: pa.Table) -> None:
    found = compare(before, before.slice(0, 10), PARAMS)
    assert (found["new"], found["replaced"]) == (0, False)


def test_a_small_project_that_grows_has_not_been_replaced(before: pa.Table) -> None:
    small = before.slice(0, 20)
    found = compare(small, whole(take_in(pictures(100, 2), names(100, 3), 1000)), PARAMS)
    assert not found["replaced"]
    assert found["note"].startswith("no images that were there before are")


def test_the_command_reads_the_section_and_old_shards_are_refused(before: pa.Table) -> None:
    write_manifest("before.parquet", before.sort_by("key"))
    whole(before, take_in(pictures(100, 2), names(100, 3), 160))
    Path("params.yaml").write_text("drift: {fewest: 76}\n")
    main(["--before", "before.parquet", "--out", "drift.json"])
    assert json.loads(Path("drift.json").read_text())["note"].startswith("only 75 new images")
    Path("params.yaml").write_text("{}\n")
    write_manifest(
        layout.MANIFEST, pa.concat_tables([read_manifest(), take_in(pictures(1, 9), ["a"], 300)]).sort_by("key")
    )
    with pytest.raises(ShardError, match="do not hold the images"):
        main(["--before", "before.parquet", "--out", "drift.json"])
