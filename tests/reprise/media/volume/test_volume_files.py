"""Volumes from untrusted bytes: every format, every refusal, and what is kept of a file."""

from __future__ import annotations

import gzip
import io
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.config.errors import ImageRefused, MachineError
from reprise.media.lookup import VOLUME, modality
from reprise.media.modality import Choices, Limits
from reprise.media.volume.cube import resize
from reprise.media.volume.npy import written_npy

nibabel = pytest.importorskip("nibabel")
LIMITS = Limits(10**6, 4, modality=VOLUME)
VALUES = np.random.default_rng(0).integers(0, 4000, (5, 6, 7)).astype(np.uint16)


def npy(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, values, **options)
    return file.getvalue()


def nifti(values: np.ndarray, affine: np.ndarray | None = None, change: Any = None, kind: Any = None) -> bytes:
    image = (kind or nibabel.Nifti1Image)(values, np.eye(4) if affine is None else affine)
    if change:
        change(image.header)
    return bytes(image.to_bytes())


def inspected(data: bytes, limits: Limits = LIMITS) -> dict[str, Any]:
    (sample,) = modality(VOLUME).inspect(data, "x", limits)
    return {**sample.facts, "changes": dict(sample.changes)}


def with_header(text: str, version: int = 1, values: bytes = b"") -> bytes:
    header = text.encode("latin-1") + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + values


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["u1", "i1", ">u2", "<i2", "u4", "i8", "f2", "<f4", ">f8"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_type_order_and_version_gives_the_values(order: Any, kind: str, version: tuple[int, int]) -> None:
    values = np.asarray(VALUES % 100, kind, order=order)
    facts = inspected(npy(values, version=version))
    assert (facts["depth"], facts["height"], facts["width"], facts["channels"]) == (5, 6, 7, 1)
    assert facts["sample"] == (None if kind == "u1" else np.dtype(kind).newbyteorder("=").name)
    assert facts["pixels"] == inspected(npy(np.ascontiguousarray(values, np.dtype(kind).newbyteorder("="))))["pixels"]


def test_channels_are_the_fourth_axis_and_can_be_chosen() -> None:
    values = np.stack([VALUES, VALUES // 2, VALUES // 3], axis=3)
    assert inspected(npy(values))["channels"] == 3
    chosen = inspected(npy(values), Limits(10**6, 4, Choices(bands=(3, 1)), VOLUME))
    assert (chosen["channels"], chosen["bands"]) == (2, "3,1")
    with pytest.raises(ImageRefused, match="missing_bands"):
        inspected(npy(values), Limits(10**6, 4, Choices(bands=(4,)), VOLUME))


HOSTILE_NPY = {
    "empty": (b"", "empty"),
    "magic alone": (b"\x93NUMPY", "truncated"),
    "header cut off": (npy(VALUES)[:60], "truncated"),
    "values cut off": (npy(VALUES)[:-3], "truncated"),
    "more behind the values": (npy(VALUES) + b"more", "undecodable"),
    "objects": (npy(np.array([[[{}, {}]]], dtype=object), allow_pickle=True), "unsupported_depth"),
    "a structure": (npy(np.zeros((4, 4, 4), [("a", "u1"), ("b", "f4")])), "unsupported_depth"),
    "texts": (npy(np.full((4, 4, 4), "x")), "unsupported_depth"),
    "dates": (npy(np.zeros((4, 4, 4), "M8[s]")), "unsupported_depth"),
    "complex numbers": (npy(np.zeros((4, 4, 4), "c8")), "unsupported_depth"),
    "two axes": (npy(np.zeros((64, 64), "u1")), "other_dimensions"),
    "five axes": (npy(np.zeros((4, 4, 4, 1, 1), "u1")), "other_dimensions"),
    "65 channels": (npy(np.zeros((4, 4, 4, 65), "u1")), "other_dimensions"),
    "a side of nothing": (npy(np.zeros((4, 0, 4), "u1")), "too_small"),
    "a short side": (npy(np.zeros((3, 9, 9), "u1")), "too_small"),
    "a bomb": (
        with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (100000, 100000, 100000), }"),
        "too_many_pixels",
    ),
    "a negative side": (with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, 4, 4), }"), "undecodable"),
    "a side that is text": (with_header("{'descr': '|u1', 'fortran_order': False, 'shape': ('4',), }"), "undecodable"),
    "code in the header": (with_header("__import__('os').system('true')"), "undecodable"),
    "a nest of brackets": (with_header("(" * 3000), "undecodable"),
    "a long header": (with_header(" " * 5000, 2), "undecodable"),
    "a huge header": (b"\x93NUMPY\x02\x00" + b"\xff" * 4, "undecodable"),
    "an unknown version": (b"\x93NUMPY\x09\x00" + b"\0" * 99, "undecodable"),
    "no finite value": (npy(np.full((4, 4, 4), np.nan, "f4")), "no_values"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "not_a_volume"),
    "text": (b"hello", "not_a_volume"),
}


@pytest.mark.parametrize("name", HOSTILE_NPY)
def test_hostile_arrays_are_refused_before_memory_is_taken(name: str) -> None:
    data, reason = HOSTILE_NPY[name]
    tracemalloc.start()
    with pytest.raises(ImageRefused) as refused:
        inspected(data)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused.value.what == reason
    assert most < 2 << 20


def test_nan_and_infinity_are_noted_and_become_black_and_white() -> None:
    values = VALUES.astype("f4")
    values[0, 0, :2] = np.nan, np.inf
    media = modality(VOLUME)
    (sample,) = media.complete(media.inspect(npy(values), "x", LIMITS), [True], LIMITS.choices)
    assert set(sample.changes) == {"not_finite", "range"}
    stored = media.stored_form(npy(values), "x", sample.facts, 100)
    assert media.decode(stored.data, "x", 1)[0, 0, :2, 0].tolist() == [0, 255]


def test_odd_volumes_are_noted_and_taken_in() -> None:
    assert inspected(npy(np.full((4, 4, 4), 7, "u1")))["changes"].keys() == {"constant"}
    mostly = np.zeros((9, 4, 4), "u1")
    mostly[:2] = np.arange(16).reshape(4, 4)
    assert inspected(npy(mostly))["changes"]["empty_slices"].startswith("7 of its 9 slices")
    flat = inspected(nifti(VALUES, np.diag([1.0, 1.0, 5.0, 1.0])))
    assert (flat["spacing"], list(flat["changes"])) == ("5,1,1", ["anisotropic"])
    assert inspected(npy(VALUES))["spacing"] is None


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_every_orientation_gives_the_same_volume(packed: bool, kind: Any) -> None:
    straight = inspected(nifti(VALUES, np.diag([1.0, 1.5, 2.0, 1.0])))
    assert (straight["depth"], straight["height"], straight["width"]) == (7, 6, 5)
    assert straight["spacing"] == "2,1.5,1"
    flipped = nifti(VALUES[::-1, :, ::-1], np.diag([-1.0, 1.5, -2.0, 1.0]), kind=kind)
    turned = nifti(VALUES.transpose(2, 0, 1), np.array([[0, 1, 0, 0], [0, 0, 1.5, 0], [2, 0, 0, 0], [0, 0, 0, 1]]))
    for data in (flipped, turned):
        found = inspected(gzip.compress(data) if packed else data)
        assert found["format"] == ("NIFTI_GZ" if packed else "NIFTI")
        assert (found["pixels"], found["spacing"]) == (straight["pixels"], straight["spacing"])
        assert "turned" in found["changes"]


def test_scale_and_offset_are_applied_and_channels_read() -> None:
    media = modality(VOLUME)
    scaled = nifti(VALUES.astype("i2"), change=lambda header: header.set_slope_inter(0.5, -3.0))
    (sample,) = media.inspect(scaled, "x", LIMITS)
    assert "scaled" in sample.changes
    assert sample.observed.highest == pytest.approx(float(VALUES.max()) * 0.5 - 3.0)
    assert inspected(nifti(np.stack([VALUES] * 3, axis=3)))["channels"] == 3


@pytest.mark.parametrize(("kind", "place"), [(nibabel.Nifti1Image, "<3f"), (nibabel.Nifti2Image, "<3d")])
def test_a_spacing_of_zero_is_unknown(kind: Any, place: str) -> None:
    data = nifti(VALUES, np.diag([1.0, 1.5, 2.0, 1.0]), kind=kind)
    at = data.index(struct.pack(place, 1.0, 1.5, 2.0))
    assert inspected(data)["spacing"] == "2,1.5,1"
    assert inspected(changed(data, at, struct.pack(place, 0.0, 1.5, 2.0)))["spacing"] is None


def test_nothing_of_the_header_that_may_name_a_person_is_kept() -> None:
    def named(header: Any) -> None:
        header["descrip"], header["aux_file"], header["db_name"] = b"Jane Doe", b"Jane Doe", b"Jane Doe"

    data = nifti(VALUES, change=named)
    assert b"Jane Doe" in data
    media = modality(VOLUME)
    (sample,) = media.complete(media.inspect(data, "x", LIMITS), [True], LIMITS.choices)
    stored = media.stored_form(data, "x", sample.facts, 100)
    assert "Jane" not in repr(sample)
    assert b"Jane" not in stored.data


def changed(data: bytes, place: int, value: bytes) -> bytes:
    return data[:place] + value + data[place + len(value) :]


GOOD = nifti(VALUES)
HOSTILE_NIFTI = {
    "cut off": (GOOD[:-5], "truncated"),
    "cut off in the header": (GOOD[:347], "not_a_volume"),
    "gzip cut off": (gzip.compress(GOOD)[:-40], "truncated"),
    "gzip with a wrong checksum": (changed(gzip.compress(GOOD), len(gzip.compress(GOOD)) - 8, b"0000"), "undecodable"),
    "a gzip bomb": (gzip.compress(GOOD + bytes(50_000_000)), "undecodable"),
    "other data behind the values": (GOOD + b"x", "undecodable"),
    "other data behind gzip": (gzip.compress(GOOD) + b"x", "undecodable"),
    "a bomb in the header": (changed(GOOD, 40, struct.pack("<4h", 3, 32000, 32000, 32000)), "too_many_pixels"),
    "gzip of a bomb": (
        gzip.compress(changed(GOOD, 40, struct.pack("<4h", 3, 32000, 32000, 32000))), "too_many_pixels",
    ),
    "negative sides": (changed(GOOD, 42, struct.pack("<h", -5)), "undecodable"),
    "nine axes": (changed(GOOD, 40, struct.pack("<h", 9)), "undecodable"),
    "a film": (nifti(np.zeros((4, 4, 4, 100), "u1")), "other_dimensions"),
    "complex numbers": (nifti(np.zeros((4, 4, 4), "c8")), "unsupported_depth"),
    "an unknown type": (changed(GOOD, 70, struct.pack("<h", 99)), "unsupported_depth"),
    "values before the header": (changed(GOOD, 108, struct.pack("<f", 3.0)), "undecodable"),
    "values nowhere": (changed(GOOD, 108, struct.pack("<f", np.nan)), "undecodable"),
    "the header of a pair": (changed(GOOD, 344, b"ni1\0"), "undecodable"),
    "no magic": (changed(GOOD, 344, b"abcd"), "undecodable"),
    "gzip of something else": (gzip.compress(b"hello" * 300), "not_a_volume"),
    "no gzip after all": (b"\x1f\x8b" + b"\7" * 100, "not_a_volume"),
    "an orientation that is none": (
        changed(changed(GOOD, 252, struct.pack("<hh", 0, 1)), 280, struct.pack("<12f", *[np.nan] * 12)), "undecodable",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NIFTI)
def test_hostile_nifti_files_are_refused(name: str) -> None:
    data, reason = HOSTILE_NIFTI[name]
    with pytest.raises(ImageRefused) as refused:
        inspected(data)
    assert refused.value.what == reason, refused.value


def test_without_nibabel_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(MachineError, match=r"pip install 'reprise\[nifti\]'"):
        inspected(GOOD)
    assert inspected(npy(VALUES))["depth"] == 5


def test_the_stored_form_is_what_numpy_writes_and_scaled_down_to_the_longest_side(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 256, (6, 12, 8, 2), dtype=np.uint8)
    assert written_npy(values) == npy(values)
    media = modality(VOLUME)
    (sample,) = media.inspect(npy(values), "x", LIMITS)
    whole = media.stored_form(npy(values), "x", sample.facts, 12)
    assert (whole.extension, whole.depth, whole.height, whole.width) == ("npy", 6, 12, 8)
    assert np.array_equal(np.load(io.BytesIO(whole.data)), values)
    small = media.stored_form(npy(values), "x", sample.facts, 6)
    assert np.load(io.BytesIO(small.data)).shape == (3, 6, 4, 2)
    for side, stored in ((12, whole), (6, small)):
        assert len(stored.data) <= media.largest_stored_bytes(sample.facts, side)


def test_resizing_keeps_constants_and_is_the_mean_where_it_halves() -> None:
    flat = np.full((5, 7, 9, 1), 93, np.uint8)
    assert (resize(flat, 3, 4, 11) == 93).all()
    assert resize(flat, 5, 7, 9) is flat
    ramp = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    inner = resize(ramp * 20, 4, 4, 4)[1:3, 0, 0, 0].astype(float)  # borders have fewer neighbours
    assert inner == pytest.approx([50, 90], abs=0.51)


def test_the_thumbnail_shows_the_middle_slices_side_by_side() -> None:
    values = np.zeros((4, 6, 8, 1), np.uint8)
    values[2], values[:, 3], values[:, :, 4] = 50, 100, 200
    picture = modality(VOLUME).thumbnail(written_npy(values), "x", 96)
    assert picture.shape == (6, 8 + 1 + 8 + 1 + 6, 3)
    assert picture[0, 0].tolist() == [50] * 3
    assert picture[1, 9].tolist() == [100] * 3
    assert picture[1, 18].tolist() == [200] * 3
    assert max(modality(VOLUME).thumbnail(written_npy(values), "x", 12).shape[:2]) == 12


def test_channels_are_brought_to_those_that_networks_see() -> None:
    media = modality(VOLUME)
    grey = np.random.default_rng(2).integers(0, 256, (4, 4, 4, 1), dtype=np.uint8)
    assert np.array_equal(media.decode(written_npy(grey), "x", 3), np.repeat(grey, 3, axis=3))
    assert np.array_equal(media.decode(written_npy(np.repeat(grey, 3, axis=3)), "x", 1), grey)
    with pytest.raises(ImageRefused, match="other channels"):
        media.decode(written_npy(grey), "x", 2)
