"""The source `multiview`: cameras and objects as the table says, hostile rows one by one, and objects in one split."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.transform import Rotation

from reprise.artifacts.facts.sides import Sides
from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.layout import INGEST
from reprise.artifacts.manifest import read_manifest
from reprise.config.errors import SourceError
from reprise.measures.geometry.quaternions import matrices
from reprise.media.image.sides import decode_side
from stages.ingest.__main__ import main as ingest
from stages.ingest.scan import scan
from stages.ingest.source import Candidate, Refused
from stages.ingest.sources.multiview import Multiview, pinhole, quaternion_of
from stages.ingest.tables.cells import BadCell
from stages.shard.__main__ import main as shard
from tests.stages.ingest import hostile

K = [500.0, 0, 32, 0, 510, 24, 0, 0, 1]
HEADER = "image,object_id,class,view_id,R,t,K"


def rotation(seed: int) -> np.ndarray:
    return Rotation.random(rng=np.random.default_rng(seed)).as_matrix()


def line(name: str, thing: str, kind: str, view: Any, r: Any = None, t: Any = (0, 1, 2), k: Any = K) -> str:
    numbers = rotation(sum(map(ord, f"{thing} {view}"))).ravel().tolist() if r is None else r
    written = [json.dumps(list(value)).replace('"', "") if value != "" else "" for value in (numbers, t, k)]
    return ",".join([name, thing, kind, str(view), *(f'"{value}"' if value else "" for value in written)])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with twelve photographs, 00.png to 11.png."""
    folder = tmp_path / "home"
    folder.mkdir()
    for seed in range(12):
        (folder / f"{seed:02d}.png").write_bytes(hostile.encoded(hostile.photo(seed), "PNG"))
    return folder


def source(root: Path, *lines: str, **options: Any) -> Multiview:
    root.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return Multiview(root, Multiview.Params.model_validate(options))


def read(found: Multiview) -> tuple[dict[str, Candidate], dict[str, Refused]]:
    items = list(found.candidates())
    kept = {os.path.basename(item.name): item for item in items if isinstance(item, Candidate)}
    return kept, {item.name: item for item in items if isinstance(item, Refused)}


def test_object_class_view_and_camera_are_as_the_table_says(home: Path) -> None:
    r = rotation(3)
    kept, refused = read(
        source(
            home / "v.csv",
            line("00.png", "mug7", "mug", 4, r.ravel().tolist()),
            line("01.png", "mug7", "mug", 5, Rotation.from_matrix(r).as_quat(scalar_first=True).tolist(), k=K[:1] * 4),
            line("02.png", "mug7", "mug", 6, "", "", ""),
        )
    )
    assert refused == {}
    first, second, bare = (kept[f"0{i}.png"] for i in range(3))
    assert (first.group, first.label, first.split) == ("mug7", "mug", None)
    assert (first.facts["object"], first.facts["view"], first.facts["translation"]) == ("mug7", 4, [0, 1, 2])
    assert first.facts["intrinsics"] == [500, 510, 32, 24]
    pose = np.array(first.facts["pose"])
    np.testing.assert_allclose(matrices(pose), r, atol=1e-8)
    assert pose[0] >= 0
    assert pose.tolist() == [first.facts[f"pose_{part}"] for part in "wxyz"]
    np.testing.assert_allclose(second.facts["pose"], pose, atol=1e-8)
    assert set(bare.facts) == {"object", "view"}  # what is not known is left out


def test_a_camera_may_be_stated_the_other_way_round(home: Path) -> None:
    r = rotation(5)
    row = line("00.png", "mug7", "mug", 4, r.ravel().tolist())
    kept, _ = read(source(home / "v.csv", row, turns="camera_to_world"))
    np.testing.assert_allclose(matrices(np.array(kept["00.png"].facts["pose"])), r.T, atol=1e-8)


MIRROR = [1, 0, 0, 0, 1, 0, 0, 0, -1]
SKEW = [1, 0.1, 0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("row", "reason", "message"),
    [
        (line("00.png", "a", "mug", 1, SKEW), "bad_value", "rows of R are orthonormal.*up to 0.1"),
        (line("00.png", "a", "mug", 1, [2 * x for x in rotation(0).ravel()]), "bad_value", "up to 3 from 0 and 1"),
        (line("00.png", "a", "mug", 1, MIRROR), "bad_value", "found a mirror"),
        (line("00.png", "a", "mug", 1, [0] * 9), "bad_value", "orthonormal"),
        (line("00.png", "a", "mug", 1, [1.0] * 5), "bad_value", "R has nine numbers, or four.*found 5"),
        (line("00.png", "a", "mug", 1, [1.0, 1, 0, 0]), "bad_value", "a quaternion has length 1; found 1.41421"),
        (line("00.png", "a", "mug", 1, [float("nan")] + [0.0] * 8), "bad_value", "'R'"),
        (line("00.png", "a", "mug", 1, [float("inf")] + [0.0] * 8), "bad_value", "'R'"),
        (line("00.png", "a", "mug", 1, t=[0, 1]), "bad_value", "t has three numbers; found 2"),
        (line("00.png", "a", "mug", 1, k=[0, 1, 2, 3]), "bad_value", "focal lengths are positive; found 0 and 1"),
        (line("00.png", "a", "mug", 1, k=[1.0] * 9), "bad_value", "0 below its diagonal"),
        (line("00.png", "a", "mug", 1, k=[1.0] * 3), "bad_value", "K has nine numbers, or four"),
        (line("00.png", "a", "mug", "left"), "bad_value", "'view_id'"),
        (line("00.png", "", "mug", 1), "empty_cell", "'object_id' names no object"),
        (line("lost.png", "a", "mug", 1), "missing_file", "no such file"),
        (line("../../x.png", "a", "mug", 1), "missing_file|outside_root", ""),
    ],
)
def test_a_hostile_row_is_refused_by_itself(home: Path, row: str, reason: str, message: str) -> None:
    import re

    kept, refused = read(source(home / "v.csv", row, line("01.png", "b", "mug", 1)))
    assert list(kept) == ["01.png"]
    ((found),) = refused.values()
    assert re.fullmatch(reason, found.reason), found
    assert re.search(message, found.detail), found


def test_an_object_with_two_classes_is_refused_whole_and_so_is_a_view_that_stands_twice(home: Path) -> None:
    found = source(
        home / "v.csv",
        line("00.png", "a", "mug", 1),
        line("01.png", "a", "cup", 2),
        line("02.png", "b", "mug", 1),
        line("03.png", "b", "mug", "1.0"),
        line("04.png", "b", "mug", 2),
        line("05.png", "c", "mug", 1),
        line("06.png", "c", "", 2),
        line("05.png", "c", "mug", 1),
    )
    kept, refused = read(found)
    assert sorted(kept) == ["04.png", "05.png", "06.png"]
    details = {os.path.basename(name): item.detail for name, item in refused.items() if item.reason == "rows_disagree"}
    assert sorted(details) == ["00.png", "01.png", "02.png", "03.png"]
    assert details["00.png"] == details["01.png"] == "the table gives object a several classes: cup, mug"
    assert details["02.png"] == "object b has view 1 2 times"
    assert [item.reason for item in refused.values()].count("duplicate_row") == 1
    assert any("names 3 objects" in sentence for sentence in found.understood())


def test_parquet_with_lists_and_other_columns_says_the_same(home: Path) -> None:
    r = rotation(1)
    rows = {"file": ["00.png"], "thing": [17], "rot": [r.ravel().tolist()], "mask": [None]}
    pq.write_table(pa.table({**rows, "mask": pa.array([None], pa.string())}), home / "v.parquet")
    options = {
        "image": "file", "object": "thing", "label": None, "view": None, "rotation": "rot", "translation": None,
        "intrinsics": None, "mask": "mask",
    }  # fmt: skip
    found = Multiview(home / "v.parquet", Multiview.Params.model_validate(options))
    assert [fact.name for fact in found.facts()] == ["object", "pose", "pose_w", "pose_x", "pose_y", "pose_z", "mask"]
    kept, refused = read(found)
    assert refused == {}
    assert kept["00.png"].group == "17"
    np.testing.assert_allclose(matrices(np.array(kept["00.png"].facts["pose"])), r, atol=1e-8)


def test_a_column_that_is_missing_is_named(home: Path) -> None:
    with pytest.raises(SourceError, match="Rotation"):
        read(source(home / "v.csv", line("00.png", "a", "mug", 1), rotation="Rotation"))


def test_rounded_numbers_of_a_text_file_are_still_a_rotation() -> None:
    r = np.round(rotation(2), 4)
    np.testing.assert_allclose(matrices(np.array(quaternion_of(r.ravel().tolist()))), r, atol=2e-4)
    assert np.linalg.norm(quaternion_of(r.ravel().tolist())) == pytest.approx(1, abs=1e-8)
    with pytest.raises(BadCell):
        quaternion_of(np.round(rotation(2), 1).ravel().tolist())
    assert pinhole([1.0, 2, 3, 4]) == [1, 2, 3, 4]


def test_views_go_through_ingest_and_shards_and_no_object_lies_in_two_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("home").mkdir()
    lines = [HEADER]
    for i in range(40):
        Path(f"home/{i:02d}.png").write_bytes(hostile.encoded(hostile.photo(i), "PNG"))
        lines.append(line(f"{i:02d}.png", f"thing {i // 4}", ("mug", "cup")[i // 4 % 2], i % 4))
    Path("home/v.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    Path("params.yaml").write_text(json.dumps({"source": {"name": "multiview", "root": "home/v.csv"}, "shard": {}}))
    scan()
    ingest([])
    shard([])
    manifest, facts, sides = read_manifest(), read_facts(INGEST), Sides()
    splits: dict[str, set[str]] = {}
    for name, split in zip(manifest["group"].to_pylist(), manifest["split"].to_pylist(), strict=True):
        splits.setdefault(name, set()).add(split)
    assert len(splits) == 10
    assert all(len(found) == 1 for found in splits.values())
    assert {f.name for f in facts.declared if f.use == "given"} == {"pose", "translation", "intrinsics", "view"}
    for i, key in enumerate(facts.keys.tolist()):
        pose = decode_side("pose", sides.read(key, "pose"), key)
        assert list(pose) == [facts.columns[f"pose_{part}"][i] for part in "wxyz"]
