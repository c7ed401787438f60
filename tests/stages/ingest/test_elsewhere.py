"""Images from elsewhere: classes by name, copies of training images, hostile files, the range of the data set."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reprise.artifacts.layout import MANIFEST
from reprise.artifacts.manifest import read_manifest, read_notes, read_quarantine
from reprise.artifacts.shards import Shards
from reprise.config.errors import InputsChanged, SourceError
from reprise.config.shift_rows import ShiftRow
from reprise.media.image.decode import decode
from stages.ingest import shift_images as stage
from stages.ingest.__main__ import main as ingest
from stages.ingest.scan import SHIFTS_LOCK, scan_shifts

IMAGES = Path("data/shifts/site_b/images")
ROW = {"name": "site_b", "shift": "folder", "root": "site_b"}


def png(seed: int, side: int = 12, deep: bool = False, brightest: int = 4000) -> bytes:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, brightest if deep else 255, (side, side), dtype=np.uint16 if deep else np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def fill(root: str, images: dict[str, bytes]) -> None:
    for name, data in images.items():
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def configure(*rows: dict[str, object], **shard: int) -> None:
    tables = {"seeds": [0], "features": [], "mines": [], "runs": [{"name": "a", "method": "random", "labels": "none"}]}
    tables |= {"suites": [{"name": "quality"}], "shifts": list(rows)}
    source = {"name": "folder", "root": "main", "val_fraction": 0.1, "test_fraction": 0.3, "near_copies": "report"}
    Path("params.yaml").write_text(json.dumps({**tables, "source": source, "shard": shard}))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of cats and dogs, taken in."""
    monkeypatch.chdir(tmp_path)
    for module in ("stages.ingest.__main__", "stages.ingest.shift_images"):
        monkeypatch.setattr(f"{module}.workers", lambda: 0)  # in this process
    fill("main", {f"{('cat', 'dog')[i % 2]}/{i}.png": png(i) for i in range(20)})
    configure(ROW)
    ingest([])
    return tmp_path


def split_of(split: str) -> list[dict[str, object]]:
    return [row for row in read_manifest().to_pylist() if row["split"] == split]


def take_in(capsys: pytest.CaptureFixture[str]) -> str:
    stage.main(["--name", "site_b"])
    return capsys.readouterr().out


def test_classes_are_matched_by_name_and_the_rest_is_counted(project: Path, capsys) -> None:
    trained, scored = Path(str(split_of("train")[0]["path"])), Path(str(split_of("test")[0]["path"]))
    fill("site_b", {f"cat/{i}.png": png(100 + i, 16) for i in range(5)})
    fill("site_b", {"zebra/a.png": png(200), "zebra/b.png": png(201), "cat/again.png": png(100, 16)})
    fill("site_b", {"cat/trained.png": trained.read_bytes(), "cat/scored.png": scored.read_bytes()})
    said = take_in(capsys)
    manifest = read_manifest(IMAGES / MANIFEST.name).to_pylist()
    assert len(manifest) == 6
    assert {row["label"] for row in manifest} == {"cat"}
    assert {row["split"] for row in manifest} == {"test"}
    refused = {
        Path(row["path"]).name: row["reason"] for row in read_quarantine(IMAGES / "quarantine.parquet").to_pylist()
    }
    assert refused == {
        "a.png": "unknown_class",
        "b.png": "unknown_class",
        "again.png": "duplicate",
        "trained.png": "copy_of_training_image",
    }
    card = json.loads((IMAGES / "shift.json").read_text())
    assert (card["kind"], card["found"], card["kept"]) == ("source", 10, 6)
    assert card["refused"] == {"unknown_class": 2, "copy_of_training_image": 1, "duplicate": 1}
    for sentence in (
        "6 images are scored, of 1 of the 2 classes",
        "No image here is of the classes dog",
        "2 images were left out because the data set has no such class: 'zebra'",
        "1 images were left out because the data set holds the same pixels",
        "1 files were refused: duplicate 1",
        "1 images are also in the split test",
    ):
        assert sentence in said
        assert any(sentence in note for note in card["notes"])
    shards = Shards.open(IMAGES)
    shards.verify()
    for row, key in enumerate(shards.keys):
        source = next(r for r in manifest if r["key"] == key)
        assert shards.read(row) == Path(source["path"]).read_bytes()


def test_the_same_folder_gives_the_same_bytes(project: Path) -> None:
    fill("site_b", {f"dog/{i}.png": png(100 + i, 40) for i in range(4)})
    configure(ROW, max_side=16)
    found = []
    for _ in range(2):
        stage.main(["--name", "site_b", "--shift", "folder"])
        found.append({p.name: p.read_bytes() for p in IMAGES.iterdir()})
    assert found[0] == found[1]
    assert set(Shards.open(IMAGES).widths) == {16}  # stored as the data set's would be


def test_hostile_files_pass_the_same_door_as_all_others(project: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(stage, "workers", lambda: 1)  # a decoding process, as outside of tests
    (tmp_path / "secret.png").write_bytes(png(1))
    fill("site_b", {"cat/good.png": png(100), "cat/empty.png": b"", "cat/cut.png": png(101)[:60]})
    fill("site_b", {"cat/notes.txt": b"hello", "cat/<b>bold.png": png(102)[:50], "cat/.DS_Store": b"x"})
    bomb = bytearray(png(103))
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    fill("site_b", {"cat/bomb.png": bytes(bomb)})
    os.symlink(tmp_path / "secret.png", "site_b/cat/link.png")
    os.mkfifo("site_b/cat/pipe.png")
    said = take_in(capsys)
    assert [Path(row["path"]).name for row in read_manifest(IMAGES / MANIFEST.name).to_pylist()] == ["good.png"]
    names = {Path(row["path"]).name for row in read_quarantine(IMAGES / "quarantine.parquet").to_pylist()}
    assert names == {"empty.png", "cut.png", "<b>bold.png", "bomb.png", "link.png", "pipe.png"}
    assert "6 files were refused" in said
    assert "notes.txt" not in names  # no image, and not named as one


def test_a_folder_of_other_things_is_refused(project: Path) -> None:
    fill("site_b", {"zebra/a.png": png(200), "lion/b.png": png(201)})
    with pytest.raises(SourceError, match="classes of these images are not those") as caught:
        stage.main(["--name", "site_b"])
    assert "lion, zebra; the data set has cat, dog" in caught.value.found.replace("'", "")
    fill("site_b", {"cat/only.png": Path(str(split_of("train")[0]["path"])).read_bytes()})
    with pytest.raises(SourceError, match="no image of the shift 'site_b' can be used") as caught:
        stage.main(["--name", "site_b"])
    assert "1 copy_of_training_image" in caught.value.found
    assert not IMAGES.exists()


def test_the_range_of_the_data_set_holds(project: Path) -> None:
    """A site whose images are darker must look darker."""
    fill("main", {f"cat/deep{i}.png": png(300 + i, deep=True) for i in range(6)})
    ingest([])
    (low, high), *others = {(r["low"], r["high"]) for r in read_manifest().to_pylist() if r["sample"] == "uint16"}
    assert not others
    fill("site_b", {f"cat/{i}.png": png(400 + i, deep=True, brightest=1000) for i in range(3)})
    stage.main(["--name", "site_b"])
    rows = read_manifest(IMAGES / MANIFEST.name).to_pylist()
    assert {(r["low"], r["high"]) for r in rows} == {(low, high)}
    shards = Shards.open(IMAGES)
    assert max(decode(shards.read(i), "", 1).max() for i in range(3)) < 80  # a quarter of the range
    assert "as in the data set" in read_notes(IMAGES / "notes.parquet").to_pylist()[0]["detail"]


def test_any_source_may_be_elsewhere_and_a_corruption_has_no_images(project: Path) -> None:
    configure({"name": "digits", "shift": "digits"}, {"name": "fog", "shift": "fog", "severity": 1})
    stage.main(["--name", "fog", "--shift", "fog", "--severity", "1"])
    assert json.loads(Path("data/shifts/fog/images/shift.json").read_text())["kind"] == "corruption"
    assert [p.name for p in Path("data/shifts/fog/images").iterdir()] == ["shift.json"]
    with pytest.raises(SourceError, match="0, 1, 2"):  # digits are neither cats nor dogs
        stage.main(["--name", "digits"])


def test_the_lock_describes_each_source_and_a_stale_one_stops_dvc(project: Path, monkeypatch) -> None:
    fill("site_b", {"cat/a.png": png(100), "cat/b.png": png(101)})
    assert scan_shifts()
    assert not scan_shifts()
    described = json.loads(SHIFTS_LOCK.read_text())
    assert described["site_b"].items() >= {"source": "folder", "root": "site_b", "files": 2}.items()
    monkeypatch.setenv("DVC_STAGE", "shift_images")
    stage.main(["--name", "site_b"])
    fill("site_b", {"cat/c.png": png(102)})
    with pytest.raises(InputsChanged, match="not the one that is described"):
        stage.main(["--name", "site_b"])
    configure({"name": "fog", "shift": "fog", "severity": 1})
    assert scan_shifts()
    assert json.loads(SHIFTS_LOCK.read_text()) == {}
    SHIFTS_LOCK.unlink()
    assert scan_shifts()  # DVC asks for the file, whatever the row is
    SHIFTS_LOCK.unlink()
    configure()
    assert not scan_shifts()
    assert not SHIFTS_LOCK.exists()


def test_rows_say_what_they_are() -> None:
    fog, site = ShiftRow(name="fog", shift="fog", severity=[2, 5]), ShiftRow(**ROW)
    assert (fog.is_source, site.is_source) == (False, True)
    assert [(one.name, one.severity) for one in (*fog.sets, *site.sets)] == [("fog2", 2), ("fog5", 5), ("site_b", None)]
