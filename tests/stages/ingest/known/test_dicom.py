"""The source dicom: values, patients as groups, what is refused, and that nobody is named anywhere."""

from __future__ import annotations

import importlib.util
import io
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from reprise.artifacts.manifest import read_manifest
from reprise.config.errors import ImageRefused, ParameterError, SourceError
from reprise.config.params import parse
from reprise.media.image.decode import decode
from reprise.media.image.image import Image as ImageModality
from reprise.media.image.readers.tiff.pages import TiffFile
from reprise.media.modality import Limits
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, LeftOut, Refused
from stages.ingest.source_state import refuse_changes, times_of
from stages.ingest.sources.dicom import Dicom
from stages.shard.params import ShardParams
from stages.shard.write import write_shards
from tests.stages.ingest.known.dicom_files import BORN, IDENTITY, NAME, dicom, picture


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def source(root: Path, **options: Any) -> Dicom:
    return Dicom(root, parse(Dicom.Params, options, "options"))


def listed(root: Path, **options: Any) -> list[Any]:
    return list(source(root, **options).candidates())


def one(root: Path, **options: Any) -> Any:
    (row,) = listed(root, **options)
    return row


def values_of(candidate: Candidate) -> tuple[np.ndarray, Any]:
    """The values of a frame, and what the product's own reader found about them."""
    assert not isinstance(candidate.reference, str | bytes)
    raster = TiffFile(candidate.reference.read(10**8)).read(0)
    return raster.values[:, :, 0] if raster.values.ndim == 3 and raster.values.shape[2] == 1 else raster.values, raster


def test_stored_numbers_become_the_values_of_the_modality(tmp_path: Path) -> None:
    stored = picture(0)
    dicom(tmp_path / "in/a.dcm", stored, BitsStored=12, HighBit=11, RescaleSlope=1, RescaleIntercept=-1024)
    values, _ = values_of(one(tmp_path / "in"))
    assert (values.dtype, np.array_equal(values, stored.astype(np.int32) - 1024)) == (np.int16, True)
    values, _ = values_of(one(tmp_path / "in", rescale=False))
    assert (values.dtype, np.array_equal(values, stored)) == (np.uint16, True)
    dicom(tmp_path / "in/a.dcm", stored, RescaleSlope=0.5, RescaleIntercept=1)
    values, _ = values_of(one(tmp_path / "in"))
    assert (values.dtype, np.array_equal(values, stored * np.float32(0.5) + 1)) == (np.float32, True)


def test_bits_that_are_not_used_do_not_count(tmp_path: Path) -> None:
    stored = picture(0)
    dicom(tmp_path / "in/a.dcm", stored | np.uint16(0x8000), BitsStored=12, HighBit=11)
    assert np.array_equal(values_of(one(tmp_path / "in"))[0], stored)
    signed = picture(1, np.int16, 100) - np.int16(50)
    dicom(tmp_path / "in/a.dcm", signed & np.int16(0x0FFF), BitsStored=12, HighBit=11)
    assert np.array_equal(values_of(one(tmp_path / "in"))[0], signed)


def test_monochrome1_is_inverted_and_padding_does_not_count(tmp_path: Path) -> None:
    stored = picture(0)
    dicom(tmp_path / "in/a.dcm", stored, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=0)
    (sample,) = ImageModality().inspect(one(tmp_path / "in").reference.read(10**7), "x", Limits(10**6, 4))
    assert "inverted" in sample.changes
    _, raster = values_of(one(tmp_path / "in"))
    assert (raster.inverted, raster.missing, np.array_equal(values_of(one(tmp_path / "in"))[0], stored)) == (
        True,
        0,
        True,
    )
    dicom(tmp_path / "in/a.dcm", picture(0, np.uint8, 256), PhotometricInterpretation="MONOCHROME1")
    pixels = decode(one(tmp_path / "in").reference.read(10**7), "x", 1)[:, :, 0]
    assert np.array_equal(pixels, 255 - picture(0, np.uint8, 256))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (None, lambda x: ((x - 99.5) / 49 + 0.5) * 255),
        ("LINEAR_EXACT", lambda x: ((x - 100) / 50 + 0.5) * 255),
        ("SIGMOID", lambda x: 255 / (1 + np.exp(-4 * (x - 100) / 50))),
    ],
)
def test_a_window_is_the_standards_formula(tmp_path: Path, function: str | None, expected: Any) -> None:
    stored = np.arange(256, dtype=np.uint16).reshape(16, 16)
    more = {} if function is None else {"VOILUTFunction": function}
    dicom(tmp_path / "in/a.dcm", stored, WindowCenter=[100, 7], WindowWidth=[50, 9], **more)
    values, _ = values_of(one(tmp_path / "in", window="file"))
    assert np.array_equal(values, np.floor(np.clip(expected(stored.astype(float)), 0, 255) + 0.5).astype(np.uint8))
    if function is None:
        given, _ = values_of(one(tmp_path / "in", window="given", window_given=[100, 50]))
        assert np.array_equal(given, values)


def test_colours_and_compressed_pixels(tmp_path: Path) -> None:
    colours = picture(0, np.uint8, 256, (16, 16, 3))
    dicom(tmp_path / "rgb/a.dcm", colours)
    assert np.array_equal(values_of(one(tmp_path / "rgb"))[0], colours)
    buffer = io.BytesIO()
    Image.fromarray(picture(1, np.uint8, 256, (16, 16))).save(buffer, "JPEG2000", irreversible=False, no_jp2=True)
    grey = picture(1, np.uint8, 256, (16, 16))
    dicom(tmp_path / "j2k/a.dcm", grey, syntax=JPEG2000Lossless, PixelData=encapsulate([buffer.getvalue()]))
    assert np.array_equal(values_of(one(tmp_path / "j2k"))[0], grey)


def test_the_images_of_a_patient_are_a_group_that_nobody_can_read(tmp_path: Path) -> None:
    key, root = tmp_path / "key", tmp_path / "in"
    key.write_bytes(b"k" * 16)
    for i in range(3):
        dicom(root / f"{i}.dcm", picture(i), patient=("A", "A", "B")[i])
    groups = [row.group for row in sorted(listed(root), key=lambda row: row.group)]
    assert len(set(groups)) == 2
    assert all(group.startswith("patient ") for group in groups)
    keyed = source(root, key_file=str(key))
    assert {row.group for row in keyed.candidates()}.isdisjoint(groups)
    assert "with the key" in keyed.understood()[0]
    dicom(root / "0.dcm", picture(0), patient="a ", IssuerOfPatientID="stated in this file only")
    assert {row.group for row in listed(root)} == set(groups)  # no patient may come into two splits


def test_without_a_patient_there_is_no_group_to_stay_in(tmp_path: Path) -> None:
    root = tmp_path / "in"
    dicom(root / "a.dcm", picture(0), patient=None)
    dicom(root / "b.dcm", picture(1), patient="  ")
    assert [row.reason for row in listed(root)] == ["no_patient", "no_patient"]
    assert [row.group[:6] for row in listed(root, without_patient="study")] == ["study ", "study "]


def test_frames(tmp_path: Path) -> None:
    stored = picture(0, shape=(3, 20, 24))
    dicom(tmp_path / "in/a.dcm", stored)
    assert one(tmp_path / "in").reason == "several_frames"
    assert np.array_equal(values_of(one(tmp_path / "in", frames="middle"))[0], stored[1])
    rows = listed(tmp_path / "in", frames="all")
    assert [np.array_equal(values_of(row)[0], frame) for row, frame in zip(rows, stored, strict=True)] == [True] * 3
    assert [row.name.partition(" ")[2] for row in rows] == ["(frame 1)", "(frame 2)", "(frame 3)"]


def test_folders_of_splits_have_the_names_that_they_have_elsewhere(tmp_path: Path) -> None:
    for number, name in enumerate(("Training", "valid", "holdout", "unlabelled")):
        dicom(tmp_path / f"in/{name}/a.dcm", picture(number), PatientID=str(number))
    rows = listed(tmp_path / "in", folders=["split"])
    assert sorted(getattr(row, "split", None) or row.reason for row in rows) == [
        "outside_splits",
        "test",
        "train",
        "val",
    ]


def test_a_number_of_frames_that_the_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    dicom(tmp_path / "in/a.dcm", picture(0), NumberOfFrames=999_999_999)
    for frames in ("all", "middle", "first"):
        assert one(tmp_path / "in", frames=frames).reason == "truncated"


def test_enhanced_files_rescale_each_frame_as_they_say(tmp_path: Path) -> None:
    def group(**elements: Any) -> Dataset:
        inner, outer = Dataset(), Dataset()
        for name, value in elements.items():
            setattr(inner, name, value)
        outer.PixelValueTransformationSequence = [inner]
        return outer

    stored = picture(0, most=1000, shape=(2, 20, 24))
    shared, own = group(RescaleSlope=2, RescaleIntercept=0), group(RescaleSlope=3, RescaleIntercept=7)
    enhanced = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": [Dataset(), own]}
    dicom(tmp_path / "in/a.dcm", stored, BitsStored=12, HighBit=11, **enhanced)
    first, second = (values_of(row)[0] for row in listed(tmp_path / "in", frames="all"))
    assert np.array_equal(first, stored[0] * 2)
    assert np.array_equal(second, stored[1] * 3 + 7)


def test_folders_and_codes(tmp_path: Path) -> None:
    dicom(tmp_path / "in/train/sick/x/a.dcm", picture(0))
    dicom(tmp_path / "in/test/well/b.dcm", picture(1), patient="B", BodyPartExamined="left foot of Zebedee")
    dicom(tmp_path / "in/other/well/c.dcm", picture(2), patient="C")
    dicom(tmp_path / "in/d.dcm", picture(3), patient="D")
    rows = listed(tmp_path / "in", folders=["split", "class"], label="folder", facts=["body_part", "view_position"])
    assert {(r.split, r.label, tuple(r.facts.items())) for r in rows if isinstance(r, Candidate)} == {
        ("train", "sick", (("body_part", "CHEST"), ("view_position", "PA"))),
        ("test", "well", (("view_position", "PA"),)),  # what is no code may say who a patient is
    }
    assert sorted(row.reason for row in rows if isinstance(row, Refused)) == ["outside_classes", "outside_splits"]
    assert {row.label for row in listed(tmp_path / "in", label="modality")} == {"CR"}


HOSTILE = {
    "no_magic.dcm": "not_dicom",
    "empty.dcm": "not_dicom",
    "header.dcm": "truncated",
    "deflated.dcm": "unsupported_compression",
    "jpegls.dcm": "unsupported_compression",
    "burned.dcm": "burned_in",
    "pipe.dcm": "not_a_file",
    "link.dcm": "outside_root",
}


def hostile(root: Path) -> None:
    good = dicom(root / "good.dcm", picture(0)).read_bytes()
    (root / "no_magic.dcm").write_bytes(good[132:])
    (root / "empty.dcm").write_bytes(b"")
    (root / "header.dcm").write_bytes(good[:200])
    body = zlib.compressobj(wbits=-15)
    deflated = body.compress(bytes(10**6)) + body.flush()
    uid = b"1.2.840.10008.1.2.1.99"
    meta = b"\x02\0\x10\0UI" + len(uid).to_bytes(2, "little") + uid
    group = b"\x02\0\0\0UL\x04\0" + len(meta).to_bytes(4, "little")
    (root / "deflated.dcm").write_bytes(bytes(128) + b"DICM" + group + meta + deflated)
    dicom(root / "jpegls.dcm", picture(1), syntax=JPEGLSLossless, PixelData=encapsulate([b"\xff\xd8" * 20]))
    dicom(root / "burned.dcm", picture(2), BurnedInAnnotation="YES")
    os.mkfifo(root / "pipe.dcm")
    (root / "link.dcm").symlink_to("/etc/passwd")
    (root / "notes.txt").write_text("x")
    dicom(root / "report.dcm", picture(3), Rows=None, Columns=None)


def test_hostile_files_are_refused_one_by_one(tmp_path: Path) -> None:
    hostile(tmp_path / "in")
    rows = listed(tmp_path / "in")
    assert sorted(row.reason for row in rows if isinstance(row, Refused)) == sorted(HOSTILE.values())
    assert sorted(row.reason for row in rows if isinstance(row, LeftOut)) == ["no_pixels", "other_file"]
    assert sum(isinstance(row, Candidate) for row in rows) == 1
    assert any("JPEG-LS Lossless" in row.detail for row in rows if isinstance(row, Refused))
    kept = source(tmp_path / "in", burned_in="keep")
    list(kept.candidates())
    assert "1 files say that text about the patient is burned in, and are kept all the same." in kept.notes()


def test_pixels_that_are_not_there_are_found_when_they_are_read(tmp_path: Path) -> None:
    root, output = tmp_path / "in", tmp_path / "out"
    output.mkdir()
    for i in range(3):
        dicom(root / f"{i}.dcm", picture(i), patient=f"P{i}")
    (root / "short.dcm").write_bytes(dicom(root / "x.dcm", picture(4)).read_bytes()[:-99])
    dicom(root / "bomb.dcm", picture(5), Rows=60_000, Columns=60_000)
    dicom(root / "rle.dcm", picture(6), syntax=RLELossless, PixelData=encapsulate([bytes(64) + b"\x81\0" * 99]))
    dicom(root / "window.dcm", picture(7))
    card = ingest(source(root, window="none"), SourceParams(name="dicom"), output, 0, published=output)
    assert (card["kept"], card["refused"]) == (5, {"undecodable": 2, "too_many_pixels": 1})
    assert read_manifest(output / "manifest.parquet")["group"].null_count == 0
    with pytest.raises(SourceError, match="missing_window"):
        ingest(source(root, window="file"), SourceParams(name="dicom"), output, 0, published=output)


def test_nobody_is_named_in_any_artifact_or_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root, output = tmp_path / "in", tmp_path / "out"
    hostile(root / NAME)
    for i in range(4):
        dicom(root / f"{NAME} {BORN}/{i}.dcm", picture(10 + i), PatientComments=f"{NAME}, {IDENTITY}", Rows=20)
    dicom(root / NAME / "odd.dcm", picture(20), patient="P2", StudyInstanceUID=f"{NAME}")
    (root / NAME / "vr.dcm").write_bytes((root / NAME / "good.dcm").read_bytes().replace(b"US\x02\0", b"DS\x02\0", 1))
    output.mkdir()
    dicoms = source(root, facts=["body_part", "modality"])
    said = [*ingest(dicoms, SourceParams(name="dicom"), output, 0, published=output)["understood"], *dicoms.notes()]
    before = times_of(dicoms)
    (root / NAME / "good.dcm").write_bytes(b"x")
    with pytest.raises(Exception, match="1 files, whose names are not shown") as caught:
        refuse_changes(dicoms, before)
    shards = tmp_path / "shards"
    shards.mkdir()
    manifest = read_manifest(output / "manifest.parquet")
    write_shards(manifest, ShardParams(max_shard_bytes=1 << 20, max_side=64), shards, 1)
    files = [p for top in (output, shards, tmp_path / ".reprise") for p in top.rglob("*") if p.is_file()]
    tables = [repr(pq.read_table(path).to_pydict()) for path in files if path.suffix == ".parquet"]  # else compressed
    printed = capfd.readouterr()
    texts = [*said, *tables, printed.out, printed.err, str(caught.value)]
    everything = b"".join(path.read_bytes() for path in files) + "\n".join(texts).encode()
    assert (len(tables) >= 6, manifest.num_rows) == (True, 6)
    secrets = [*NAME.split("^"), IDENTITY, BORN]
    assert [secret for secret in secrets if secret.casefold().encode() in everything.lower()] == []
    assert IDENTITY.encode() in (root / f"{NAME} {BORN}/0.dcm").read_bytes()


def test_the_digest_follows_contents_and_the_key(tmp_path: Path) -> None:
    root, key = tmp_path / "in", tmp_path / "key"
    dicom(root / "a.dcm", picture(0))
    first = source(root).extent()
    assert (first.files, source(root).extent()) == (1, first)
    key.write_bytes(b"k" * 20)
    assert source(root, key_file=str(key)).extent().digest != first.digest
    dicom(root / "a.dcm", picture(1))
    assert source(root).extent().digest != first.digest
    key.write_bytes(b"short")
    with pytest.raises(SourceError, match="at least 16 bytes"):
        source(root, key_file=str(key)).extent()


def test_a_file_that_changed_since_it_was_listed_is_refused(tmp_path: Path) -> None:
    dicom(tmp_path / "in/a.dcm", picture(0))
    row = one(tmp_path / "in")
    dicom(tmp_path / "in/a.dcm", picture(1))
    with pytest.raises(Exception, match="changed_while_reading"):
        row.reference.read(10**7)


@pytest.mark.parametrize(
    "options",
    [
        {"label": "folder"},
        {"folders": ["class"]},
        {"folders": ["split", "split"]},
        {"window": "given"},
        {"window_given": [1, 2]},
        {"window": "given", "window_given": [1, 0]},
        {"facts": ["patient"]},
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        source(tmp_path, **options)


def test_other_sources_say_which_source_reads_dicom(tmp_path: Path) -> None:
    data = dicom(tmp_path / "in/a.dcm", picture(0)).read_bytes()
    with pytest.raises(ImageRefused, match="a DICOM file, which the source `dicom` reads"):
        ImageModality().inspect(data, "a.dcm", Limits(10**6, 4))


def test_without_pydicom_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"pip install 'reprise\[dicom\]'"):
        listed(tmp_path)
