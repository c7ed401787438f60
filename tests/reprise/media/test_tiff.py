"""TIFF: every kind of sample comes out as it was written, and no damage passes for a picture."""

from __future__ import annotations

import io
import lzma
import zlib

import numpy as np
import pytest
from PIL import Image

from reprise.config.errors import ImageRefused
from reprise.media.image.decode import decode
from reprise.media.image.inspect import inspect
from reprise.media.image.readers.files import open_file, read_page
from reprise.media.image.readers.raster import Raster
from reprise.media.image.readers.tiff.lzw import decode_lzw
from reprise.media.image.readers.tiff.write import write_tiff
from tests.reprise.media import tiff_files as t
from tests.stages.ingest.hostile import photo

LIMIT = 100_000


def read(data: bytes, page: int = 0) -> Raster:
    return read_page(open_file(data, "x.tif", LIMIT), page, "x.tif", data)


def refusal(data: bytes) -> str | None:
    try:
        read(data)
    except ImageRefused as refused:
        return refused.what
    return None


def values_of(kind: str, shape: tuple[int, ...] = (11, 13)) -> np.ndarray:
    rng = np.random.default_rng(5)
    if kind.startswith("f"):
        return rng.normal(0, 1000, shape).astype(kind)
    limits = np.iinfo(kind)
    return rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
def test_every_type_of_sample_in_both_byte_orders(kind: str, order: str) -> None:
    values = values_of(kind)
    found = read(t.simple(values, order=order)).values
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


@pytest.mark.parametrize("bits", [1, 2, 4, 10, 12, 14, 24])
def test_samples_that_share_bytes(bits: int) -> None:
    values = np.random.default_rng(bits).integers(0, 2**bits, (7, 9))
    values[0, :2] = 0, 2**bits - 1
    tags = t.page_tags(values.astype("u4")) | {t.BITS: bits, t.FORMAT: 1}
    raster = read(t.tiff([(tags, [t.packed_bits(values, bits)])]))
    if bits < 8:
        assert np.array_equal(raster.values, np.floor(values * 255 / (2**bits - 1) + 0.5))
    else:
        assert np.array_equal(raster.values, values)
        assert raster.declared == (0, 2**bits - 1)


@pytest.mark.parametrize("big", [False, True])
def test_planes_one_after_the_other_in_strips_of_uneven_height(big: bool) -> None:
    values = values_of("u2", (11, 13, 4))
    strips = [values[top : top + 4, :, band].tobytes() for band in range(4) for top in range(0, 11, 4)]
    tags = t.page_tags(values) | {t.PLANAR: 2, t.ROWS: 4}
    assert np.array_equal(read(t.tiff([(tags, strips)], big=big)).values, values)


def test_tiles_that_reach_beyond_the_edges() -> None:
    values = values_of("u2", (20, 37, 2))
    padded = np.pad(values, ((0, 12), (0, 11), (0, 0)))
    tiles = [padded[y : y + 16, x : x + 16].tobytes() for y in (0, 16) for x in (0, 16, 32)]
    tags = t.page_tags(values) | {t.TILE_WIDTH: 16, t.TILE_HEIGHT: 16}
    assert np.array_equal(read(t.tiff([(tags, tiles)])).values, values)


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "u4"])
def test_horizontal_differences(kind: str) -> None:
    values = values_of(kind, (6, 9, 3))
    unsigned = values.view(f"u{values.dtype.itemsize}")
    differences = unsigned.copy()
    differences[:, 1:] -= unsigned[:, :-1]
    tags = t.page_tags(values) | {t.PREDICTOR: 2}
    assert np.array_equal(read(t.tiff([(tags, [differences.tobytes()])])).values, values)


def test_differences_of_floating_point_numbers() -> None:
    """Predictor 3 (Adobe Photoshop TIFF technical note 3): bytes by significance, then as differences."""
    values = values_of("f4", (6, 9))
    rows = [np.frombuffer(row.astype(">f4").tobytes(), np.uint8).reshape(9, 4).T.reshape(-1) for row in values]
    packed = b"".join(np.diff(row, prepend=np.uint8(0)).astype(np.uint8).tobytes() for row in rows)
    tags = t.page_tags(values) | {t.PREDICTOR: 3}
    assert np.array_equal(read(t.tiff([(tags, [packed])])).values, values)


def packbits(data: bytes) -> bytes:
    """Runs of up to three equal bytes, and single ones."""
    out, at = b"", 0
    while at < len(data):
        run = 1
        while run < 3 and data[at + run : at + run + 1] == data[at : at + 1]:
            run += 1
        out += bytes([257 - run, data[at]]) if run > 1 else bytes([0, data[at]])
        at += run
    return out


COMPRESSED = {5: t.lzw, 8: zlib.compress, 32946: zlib.compress, 32773: packbits, 34925: lzma.compress}


@pytest.mark.parametrize("compression", COMPRESSED)
def test_what_is_compressed(compression: int) -> None:
    values = np.cumsum(values_of("u2", (30, 40)) % 7, axis=1, dtype="u2")
    tags = t.page_tags(values) | {t.COMPRESSION: compression, t.ROWS: 8}
    strips = [COMPRESSED[compression](values[top : top + 8].tobytes()) for top in range(0, 30, 8)]
    assert np.array_equal(read(t.tiff([(tags, strips)])).values, values)


@pytest.mark.parametrize("size", [0, 1, 2, 300, 5000, 30_000])
@pytest.mark.parametrize("different", [1, 3, 256])
def test_lzw_of_any_length_and_variety(size: int, different: int) -> None:
    data = np.random.default_rng(size).integers(0, different, size, dtype=np.uint8).tobytes()
    assert decode_lzw(t.lzw(data), size, size) == data


def test_damage_in_lzw_is_found() -> None:
    """A code that stands for as many other bytes leaves no trace; all other damage does."""
    values = np.cumsum(values_of("u2", (60, 60)) % 7, axis=1, dtype="u2")
    sound, rng = t.lzw(values.tobytes()), np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        stream = bytearray(sound)
        for at in rng.integers(10, len(sound) - 4, 4):
            stream[at] ^= 1 << int(rng.integers(8))
        tags = t.page_tags(values) | {t.COMPRESSION: 5}
        refused += refusal(t.tiff([(tags, [bytes(stream)])])) in ("undecodable", "truncated")
    assert refused >= 85  # Pillow, OpenCV and tifffile refuse about 25


@pytest.mark.parametrize("compression", [1, *COMPRESSED])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_a_strip_that_is_too_short_is_refused(compression: int, kept: float) -> None:
    values = np.cumsum(values_of("u2", (30, 40)) % 7, axis=1, dtype="u2")
    raw = values.tobytes()
    whole = COMPRESSED[compression](raw) if compression in COMPRESSED else raw
    tags = t.page_tags(values) | {t.COMPRESSION: compression}
    with pytest.raises(ImageRefused) as caught:
        inspect(t.tiff([(tags, [whole[: int(len(whole) * kept)]])]), "x")
    assert caught.value.what in ("truncated", "undecodable")
    assert caught.value.where == "x"


@pytest.mark.parametrize("missing", [1, 100, 1000])
def test_a_file_that_ends_too_early_is_truncated(missing: int) -> None:
    with pytest.raises(ImageRefused) as caught:
        inspect(t.simple(values_of("u2", (30, 40)))[:-missing], "x")
    assert caught.value.what == "truncated"


def test_missing_strips_are_refused() -> None:
    values = values_of("u1", (30, 40))
    tags = t.page_tags(values) | {t.ROWS: 10}
    with pytest.raises(ImageRefused, match="2 of 3 strips"):
        inspect(t.tiff([(tags, [values[:10].tobytes(), values[10:20].tobytes()])]), "x")


def test_four_bands_are_four_bands() -> None:
    """Pillow takes the fourth of RGB for transparency where ExtraSamples is missing, and drops it where it is 0."""
    values = values_of("u1", (8, 9, 4))
    for tags in ({t.PHOTOMETRIC: 2}, {t.PHOTOMETRIC: 2, t.EXTRA: 0}, {t.PHOTOMETRIC: 1, t.EXTRA: [0, 0, 0]}):
        data = t.simple(values, tags)
        assert np.array_equal(decode(data, "x", 4), values)
        assert inspect(data, "x").channels == 4
        with pytest.raises(ImageRefused, match=r"4 bands, image\.channels 3.*source\.bands"):
            decode(data, "x", 3)


@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_transparency_is_what_the_file_calls_so(kind: str, premultiplied: bool) -> None:
    top = np.iinfo(kind).max
    values = values_of(kind, (8, 9, 5))  # colours, a band, transparency
    if premultiplied:
        values[:, :, :3] = (values[:, :, :3].astype(float) * values[:, :, 4:] / top).astype(kind)
    found = read(t.simple(values, {t.PHOTOMETRIC: 2, t.EXTRA: [0, 1 if premultiplied else 2]}))
    share = values[:, :, 4:].astype(float) / top
    colours = values[:, :, :3] * (1 if premultiplied else share) + top * (1 - share)
    assert np.abs(found.values[:, :, :3] - colours).max() <= 0.51
    assert np.array_equal(found.values[:, :, 3], values[:, :, 3])
    assert "transparency" in found.changes


def test_min_is_white_is_turned_round() -> None:
    bytes_ = values_of("u1")
    assert np.array_equal(decode(t.simple(bytes_, {t.PHOTOMETRIC: 0}), "x", 1)[:, :, 0], 255 - bytes_)
    twelve = np.array([[0, 4095, 1000]], np.uint16)
    shown = decode(t.simple(twelve, {t.PHOTOMETRIC: 0}), "x", 1).ravel()
    assert shown.tolist() == [255, 0, 193]  # 255 x 3095 / 4095 = 192.7
    floats = np.array([[0.0, 1.0, 0.25]], np.float32)
    assert decode(t.simple(floats, {t.PHOTOMETRIC: 0}), "x", 1).ravel().tolist() == [255, 0, 191]


def test_palettes_are_looked_up() -> None:
    index, palette = values_of("u1") % 4, np.random.default_rng(0).integers(0, 256, (4, 3))
    entries = (palette * 257).T.reshape(-1).tolist()
    tags = t.page_tags(index) | {t.PHOTOMETRIC: 3, t.BITS: 2, t.COLOUR_MAP: entries}
    assert np.array_equal(decode(t.tiff([(tags, [t.packed_bits(index, 2)])]), "x"), palette[index])


def test_orientation_turns_all_bands() -> None:
    values = values_of("u2", (8, 9, 4))
    found = read(t.simple(values, {t.ORIENTATION: 6, t.PHOTOMETRIC: 1, t.EXTRA: [0, 0, 0]}))
    assert np.array_equal(found.values, np.rot90(values, -1))
    assert "turned" in found.changes


def test_pages_are_pictures_and_smaller_versions_are_not() -> None:
    pictures = [values_of("u2", (5, 6)) // n for n in (1, 2, 3)]
    pages = [t.deflated(picture) for picture in pictures]
    pages[1][0][t.NEW_SUBFILE] = 1
    opened = open_file(t.tiff(pages), "x", LIMIT)
    assert opened.pages == 2
    assert np.array_equal(opened.read(1).values, pictures[2])


def test_a_stack_that_was_cut_off_is_truncated() -> None:
    data = t.tiff([t.deflated(values_of("u2", (5, 6))) for _ in range(3)])
    with pytest.raises(ImageRefused) as caught:
        inspect(data[: len(data) // 2], "x")
    assert caught.value.what == "truncated"


@pytest.mark.parametrize("compression", ["jpeg", "group3", "group4"])
def test_jpeg_and_fax_are_read_by_pillow(compression: str) -> None:
    image = Image.fromarray(photo(3)).convert("L" if compression == "jpeg" else "1")
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression=compression)
    found = decode(buffer.getvalue(), "x", 1)[:, :, 0]
    expected = np.asarray(Image.open(buffer).convert("L"))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({t.BITS: [5, 6, 5]}, "unsupported_depth|undecodable"),
        ({t.FORMAT: [6, 6, 6]}, "sample format 6"),
        ({t.PHOTOMETRIC: 8}, "photometric interpretation 8"),
        ({t.COMPRESSION: 34712}, "compression 34712"),
        ({t.PREDICTOR: 7}, "predictor 7"),
        ({t.SAMPLES: 200, t.BITS: 8, t.FORMAT: 1}, "200 bands"),
        ({t.WIDTH: 60_000, t.HEIGHT: 60_000}, "too_many_pixels"),
        ({t.WIDTH: 200, t.HEIGHT: 400, t.SAMPLES: 60, t.BITS: 8, t.FORMAT: 1}, "too_many_pixels.*4,800,000 bytes"),
        ({t.ROWS: 0, t.WIDTH: 0}, "undecodable"),
    ],
)
def test_what_is_not_supported_is_a_sentence(tags: dict[int, t.Value], words: str) -> None:
    with pytest.raises(ImageRefused, match=words):
        inspect(t.simple(values_of("u1", (8, 9, 3)), tags), "x", max_pixels=LIMIT)


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize("bands", [1, 2, 4, 9])
def test_what_is_written_is_read_back(kind: str, bands: int) -> None:
    values = values_of(kind, (21, 17, bands))
    data = write_tiff(values, (-1.5, 7.0))
    assert data == write_tiff(values, (-1.5, 7.0))
    raster = read(data)
    assert np.array_equal(raster.values.reshape(values.shape), values)
    assert raster.declared == (None if kind == "u1" else (-1.5, 7.0))


def test_pillow_opens_what_is_written() -> None:
    values = values_of("u2", (21, 17, 1))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(write_tiff(values, (0.0, 9.0))))), values[:, :, 0])
