"""The source imagenet: both official layouts in small, names and truth from tables, and what does not belong."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from reprise.artifacts.manifest import read_manifest
from reprise.config.errors import ParameterError, SourceError
from reprise.config.params import parse
from reprise.storage import listing
from stages.ingest.ingest import ingest
from stages.ingest.known.synsets import names_of_synsets
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, LeftOut, Refused
from stages.ingest.sources.imagenet import Imagenet

TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
TENCH, CRANE, OTHER_CRANE = "n01440764", "n02012849", "n03126707"
MAPPING = f"{TENCH} tench, Tinca tinca\n{CRANE} crane\n{OTHER_CRANE} crane\n"


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def train(root: Path, count: int = 2) -> Path:
    for c, synset in enumerate((TENCH, CRANE, OTHER_CRANE)):
        (root / "train" / synset).mkdir(parents=True)
        for i in range(count):
            (root / "train" / synset / f"{synset}_{i}.JPEG").write_bytes(jpeg(10 * c + i))
    (root / "LOC_synset_mapping.txt").write_text(MAPPING)
    return root


def flat_val(root: Path, count: int = 3) -> Path:
    (root / "val").mkdir()
    for i in range(1, count + 1):
        (root / f"val/ILSVRC2012_val_{i:08d}.JPEG").write_bytes(jpeg(100 + i))
    return root


def kit(root: Path, truth: str) -> None:
    """A development kit: leaves first, as the official one numbers them, and a class that has others below it."""
    data = root / "ILSVRC2012_devkit_t12/data"
    data.mkdir(parents=True)
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [
        (1, OTHER_CRANE, "crane", "lifts", 0),
        (2, TENCH, "tench, Tinca tinca", "fish", 0),
        (3, CRANE, "crane", "bird", 0),
    ]
    savemat(data / "meta.mat", {"synsets": np.array([*rows, (4, "n00000001", "thing", "all", 3)], dtype=kind)})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)


def source(root: Path, **options: Any) -> Imagenet:
    return Imagenet(root, parse(Imagenet.Params, options, "options"))


def found(imagenet: Imagenet) -> list[tuple[str, str | None, str | None]]:
    return [(Path(c.name).name, c.split, c.label) for c in imagenet.candidates() if isinstance(c, Candidate)]


def test_the_validation_set_is_the_test_split_and_the_kit_says_what_its_images_are(tmp_path: Path) -> None:
    kit(flat_val(train(tmp_path)), "2\n1\n3\n")
    imagenet = source(tmp_path)
    rows = found(imagenet)
    assert rows[:2] == [(f"{TENCH}_0.JPEG", "train", "tench"), (f"{TENCH}_1.JPEG", "train", "tench")]
    assert [row[1:] for row in rows[6:]] == [
        ("test", "tench"),
        ("test", f"crane ({OTHER_CRANE})"),
        ("test", f"crane ({CRANE})"),  # two classes are called crane
    ]
    assert (
        "The official validation set (3 images) is the split test, and val is taken from train."
        in imagenet.understood()
    )
    assert "Classes are called as LOC_synset_mapping.txt says." in imagenet.understood()


def test_kaggles_layout_gives_the_same(tmp_path: Path) -> None:
    inside = tmp_path / "ILSVRC/Data/CLS-LOC"
    inside.mkdir(parents=True)
    flat_val(train(inside))
    (inside / "LOC_synset_mapping.txt").rename(tmp_path / "LOC_synset_mapping.txt")
    rows = [f"ILSVRC2012_val_{i:08d},{s} 1 2 3 4 {s} 5 6 7 8" for i, s in enumerate((TENCH, OTHER_CRANE, CRANE), 1)]
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows[::-1]]))
    assert [row[1:] for row in found(source(tmp_path))[6:]] == [
        ("test", "tench"),
        ("test", f"crane ({OTHER_CRANE})"),
        ("test", f"crane ({CRANE})"),
    ]


def test_a_val_of_folders_needs_no_table_and_synsets_can_be_the_labels(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / "LOC_synset_mapping.txt").unlink()
    (tmp_path / "val" / CRANE).mkdir(parents=True)
    (tmp_path / "val" / CRANE / "a.JPEG").write_bytes(jpeg(99))
    assert found(source(tmp_path, labels="synset", validation="val"))[-1] == ("a.JPEG", "val", CRANE)
    with pytest.raises(SourceError, match="no file says how the classes are called.*meta.mat.*labels to synset"):
        found(source(tmp_path))


def test_names_come_from_the_kit_where_there_is_no_other_table(tmp_path: Path) -> None:
    kit(train(tmp_path), "")
    (tmp_path / "LOC_synset_mapping.txt").unlink()
    assert {row[2] for row in found(source(tmp_path))} == {"tench", f"crane ({CRANE})", f"crane ({OTHER_CRANE})"}


def test_some_classes(tmp_path: Path) -> None:
    kit(flat_val(train(tmp_path)), "2\n1\n3\n")
    imagenet = source(tmp_path, classes=[CRANE, TENCH])
    rows = found(imagenet)
    assert [row[2] for row in rows] == ["tench", "tench", *[f"crane ({CRANE})"] * 2, "tench", f"crane ({CRANE})"]
    assert "2 of 3 classes are taken (source.options.classes)." in imagenet.understood()
    assert "1 validation images are of classes that are not taken." in imagenet.understood()
    with pytest.raises(SourceError, match="no n99999999"):
        found(source(tmp_path, classes=["n99999999"]))
    with pytest.raises(ParameterError, match="eight digits"):
        source(tmp_path, classes=["tench"])


def test_what_does_not_belong_is_refused_one_by_one(tmp_path: Path) -> None:
    kit(flat_val(train(tmp_path)), "2\n1\n")  # a line too few
    (tmp_path / "train/more").mkdir()
    (tmp_path / "train/readme.txt").write_text("x")
    (tmp_path / "train/.DS_Store").write_text("x")
    (tmp_path / "train" / TENCH / "deep").mkdir()
    (tmp_path / "train" / TENCH / "deep/x.JPEG").write_bytes(jpeg(50))
    (tmp_path / "train" / TENCH / "link.JPEG").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "train" / TENCH / "pipe.JPEG")
    (tmp_path / "train/n99999990").write_text("x")
    (tmp_path / "train/n99999991").symlink_to(tmp_path / "nowhere")
    (tmp_path / "train/n99999992").symlink_to("n99999992")
    (tmp_path / "val/odd.JPEG").write_bytes(jpeg(51))
    (tmp_path / "test").mkdir()
    rows = list(source(tmp_path).candidates())
    assert {(Path(row.name).name, row.reason) for row in rows if isinstance(row, Refused)} == {
        ("more", "outside_classes"),
        ("readme.txt", "outside_classes"),
        ("n99999990", "outside_classes"),
        ("n99999991", "outside_classes"),
        ("n99999992", "outside_classes"),
        ("x.JPEG", "outside_classes"),
        ("link.JPEG", "outside_root"),
        ("pipe.JPEG", "not_a_file"),
        ("ILSVRC2012_val_00000003.JPEG", "unknown_label"),
        ("odd.JPEG", "unknown_label"),
    }
    assert [(Path(r.name).name, r.reason) for r in rows if isinstance(r, LeftOut)] == [
        (".DS_Store", "hidden"),
        ("test", "unlabelled_test"),
    ]
    assert sum(isinstance(row, Candidate) for row in rows) == 8


def test_they_are_taken_in_and_val_never_trains(tmp_path: Path) -> None:
    root, output = flat_val(train(tmp_path / "in", 4)), tmp_path / "out"
    kit(root, "2\n1\n3\n")
    (root / "train" / TENCH / f"{TENCH}_9.JPEG").write_bytes(jpeg(101))  # a copy of a validation image
    (root / "train" / TENCH / f"{TENCH}_8.JPEG").write_bytes(jpeg(0)[:300])
    output.mkdir()
    card = ingest(source(root), SourceParams(name="imagenet"), output, 0, published=output)
    assert card["counts"]["test"] == 3
    assert card["refused"] == {"duplicate_across_splits": 1, "truncated": 1}
    assert card["class_counts"]["tench"] == 5


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def packed(root: Path, **changes: bytes) -> Path:
    """The same images as `train` and `flat_val` write, in the official archives."""
    root.mkdir()
    classes = {
        f"{synset}.tar": tar_of({f"{synset}_{i}.JPEG": jpeg(10 * c + i) for i in range(2)})
        for c, synset in enumerate((TENCH, CRANE, OTHER_CRANE))
    }
    (root / "ILSVRC2012_img_train.tar").write_bytes(tar_of(classes | {f"{n}.tar": d for n, d in changes.items()}))
    val = {f"ILSVRC2012_val_{i:08d}.JPEG": jpeg(100 + i) for i in (1, 2, 3)}
    (root / "ILSVRC2012_img_val.tar").write_bytes(tar_of(val))
    (root / "LOC_synset_mapping.txt").write_text(MAPPING)
    kit(root, "2\n1\n3\n")
    return root


def test_the_official_archives_give_the_same_in_place(tmp_path: Path) -> None:
    manifests = []
    kit(flat_val(train(tmp_path / "folders")), "2\n1\n3\n")
    for root in (tmp_path / "folders", packed(tmp_path / "tars")):
        output = tmp_path / f"out of {root.name}"
        output.mkdir()
        ingest(source(root), SourceParams(name="imagenet"), output, 0, published=output)
        rows = read_manifest(output / "manifest.parquet").to_pylist()
        for row in rows:
            with open(row["path"], "rb") as file:  # nothing is copied, not even from a tar in a tar
                file.seek(row["offset"])
                assert hashlib.sha256(file.read(row["bytes"])).hexdigest() == row["sha256"]
            assert Path(row["path"]).is_relative_to(root)
        manifests.append([{k: v for k, v in row.items() if k not in ("path", "offset")} for row in rows])
    assert manifests[0] == manifests[1]
    some = source(tmp_path / "tars", classes=[TENCH])
    assert len(found(some)) == 3
    assert some.extent().files == 5


def test_a_damaged_class_costs_only_itself_and_odd_members_are_refused(tmp_path: Path) -> None:
    good = tar_of({"a.JPEG": jpeg(0), "../b.JPEG": jpeg(1), "deep/c.JPEG": jpeg(2), ".hidden": b""})
    root = packed(tmp_path / "in", n00000001=good, n00000002=good[:700], readme=b"x", n00000003=b"no tar at all" * 99)
    rows = list(source(root, labels="synset").candidates())
    assert sum(isinstance(row, Candidate) for row in rows) == 6 + 1 + 3
    assert {(Path(row.name).name, row.reason) for row in rows if isinstance(row, Refused)} == {
        ("readme.tar", "outside_classes"),
        ("b.JPEG", "unsafe_name"),
        ("c.JPEG", "outside_classes"),
        ("n00000002.tar", "damaged_archive"),
        ("n00000003.tar", "damaged_archive"),
    }
    (root / "ILSVRC2012_img_train.tar").write_bytes((root / "ILSVRC2012_img_train.tar").read_bytes()[:2000])
    with pytest.raises(SourceError, match="ILSVRC2012_img_train.tar"):
        found(source(root))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("LOC_synset_mapping.txt", "tench\n", "line 1: 'tench'"),
        ("LOC_synset_mapping.txt", MAPPING + MAPPING, "line 4"),
        ("LOC_synset_mapping.txt", f"{TENCH} tench\n", f"no line for {CRANE}"),
        ("LOC_synset_mapping.txt", f"{TENCH} a\x1b[2J\n", "no name"),
        ("LOC_synset_mapping.txt", f"{TENCH} {'a' * 300}\n", "no name"),
        ("LOC_val_solution.csv", "a,b\n1,2\n", "ImageId and PredictionString"),
        ("LOC_val_solution.csv", f"ImageId,PredictionString\nx,{TENCH} 1\nx,{CRANE} 1\n", "two classes for 'x'"),
        (
            TRUTH,
            "2\n9\n",
            "'9', which is the number of no class",
        ),
        (TRUTH, "2\nx\n", "'x'"),
        ("ILSVRC2012_devkit_t12/data/meta.mat", "MATLAB 5.0 MAT-file" + "x" * 200, "meta.mat"),
    ],
)
def test_a_table_that_is_not_what_it_says_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    kit(flat_val(train(tmp_path)), "2\n1\n3\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=message) as caught:
        found(source(tmp_path))
    assert Path(name).name in caught.value.where


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="neither a folder train nor.*image-net.org"):
        found(source(tmp_path))
    flat_val(train(tmp_path))
    with pytest.raises(SourceError, match="val has no folders of synsets.*LOC_val_solution.csv"):
        found(source(tmp_path))
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/train").mkdir()
    with pytest.raises(SourceError, match="for each synset.*Found: none"):
        found(source(tmp_path / "flat", labels="synset"))


def test_the_digest_follows_images_and_tables_of_the_classes_that_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(listing, "_RACY_NS", -1)
    root = flat_val(train(tmp_path / "in"))
    kit(root, "2\n1\n3\n")
    whole, some = source(root).extent(), source(root, classes=[TENCH]).extent()
    assert (whole.files, some.files) == (9 + 3, 5 + 3)
    assert source(root).extent() == whole
    (root / "train" / CRANE / f"{CRANE}_0.JPEG").write_bytes(jpeg(77))
    assert source(root).extent().digest != whole.digest
    assert source(root, classes=[TENCH]).extent() == some
    (root / "LOC_synset_mapping.txt").write_text(MAPPING.replace("tench", "trout"))
    assert source(root, classes=[TENCH]).extent().digest != some.digest
    assert names_of_synsets(root / "LOC_synset_mapping.txt")[TENCH] == "trout"
