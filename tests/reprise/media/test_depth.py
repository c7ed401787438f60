"""More than 8 bits: which values become black and white, by each rule, and what shards keep."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from reprise.config.errors import SourceError
from reprise.media.image.decode import decode
from reprise.media.image.image import Image as ImageModality
from reprise.media.image.inspect import inspect
from reprise.media.image.scale import to_eight_bits
from reprise.media.image.stored import stored_form
from reprise.media.modality import Choices, Examined, Limits
from tests.reprise.media import tiff_files as t
from tests.stages.ingest.hostile import encoded

LIMIT = 100_000


def examined(*files: bytes, **choices: object) -> list[Examined]:
    """The samples of all files, completed; all but the last file are training images."""
    limits = Limits(LIMIT, 1, Choices(**choices))  # type: ignore[arg-type]
    media = ImageModality()
    found = [media.inspect(data, "x", limits) for data in files]
    trained = [number < len(files) - 1 or len(files) == 1 for number, samples in enumerate(found) for _ in samples]
    return media.complete([sample for samples in found for sample in samples], trained, limits.choices)


def range_of(*files: bytes, **choices: object) -> tuple[float, float]:
    facts = examined(*files, **choices)[0].facts
    return facts["low"], facts["high"]


def row(*values: float, kind: str = "u2", **tags: t.Value) -> bytes:
    """A TIFF of one row."""
    return t.simple(np.array([values], kind), {getattr(t, name): value for name, value in tags.items()})


def shades(data: bytes) -> list[int]:
    return decode(data, "x", 1).ravel().tolist()


def test_twelve_bits_in_sixteen_are_not_black() -> None:
    assert shades(row(0, 2048, 4095)) == [0, 128, 255]
    assert shades(encoded(Image.fromarray(np.array([[0, 2048, 4095]], np.uint16)), "PNG")) == [0, 128, 255]


def test_packed_bits_say_what_is_white() -> None:
    values = np.array([[100, 0]])
    tags = t.page_tags(values.astype("u2")) | {t.BITS: 12}
    assert shades(t.tiff([(tags, [t.packed_bits(values, 12)])])) == [6, 0]  # 100 / 4095 x 255, though it is the largest


def test_one_range_for_all_images_from_those_of_train() -> None:
    dim, bright, test = row(0, 300), row(0, 900), row(0, 30_000)
    samples = examined(dim, bright, test)
    assert {(s.facts["low"], s.facts["high"]) for s in samples} == {(0, 1023)}
    assert [sorted(s.changes) for s in samples] == [["range"], ["range"], ["clipped", "range"]]
    assert samples[0].changes["range"] == "uint16: the values 0 to 1023 become 0 to 255"
    assert "it has 0 to 30000" in samples[2].changes["clipped"]


def test_each_type_of_sample_has_its_own_range() -> None:
    packed = np.array([[5, 7]])
    twelve = t.tiff([(t.page_tags(packed.astype("u2")) | {t.BITS: 12}, [t.packed_bits(packed, 12)])])
    samples = examined(row(0, 60_000), row(0.0, 0.5, kind="f4"), twelve, row(3, 9, kind="i2"), row(1, 2, kind="u1"))
    assert [(s.facts["low"], s.facts["high"]) for s in samples] == [
        (0, 65535),
        (0, 1),
        (0, 4095),
        (3, 9),
        (None, None),
    ]
    assert [s.facts["sample"] for s in samples] == ["uint16", "float32", "uint16", "int16", None]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ((0, 255), "u2", (0, 255)),
        ((0, 256), "u2", (0, 511)),
        ((0, 65535), "u2", (0, 65535)),
        ((7, 7), "u2", (0, 7)),
        ((0, 0), "u2", (0, 1)),
        ((0, 1_000_000), "u4", (0, 2**20 - 1)),
        ((-1000, 3000), "i2", (-1000, 3000)),
        ((-5, -5), "i2", (-5, -4)),
        ((0.0, 1.0), "f4", (0, 1)),
        ((0.25, 0.5), "f8", (0, 1)),
        ((0.0, 200.0), "f4", (0, 200)),
        ((-0.5, 0.5), "f4", (-0.5, 0.5)),
    ],
)
def test_the_safe_rule(values: tuple[float, ...], kind: str, expected: tuple[float, float]) -> None:
    assert range_of(row(*values, kind=kind)) == expected


def test_what_every_file_states_counts() -> None:
    stated = row(0, 900, MAX_VALUE=1000)
    assert range_of(stated, stated) == (0, 1000)
    assert range_of(stated, row(0, 900), stated) == (0, 1023)  # not every one
    assert range_of(row(0, 2000, MAX_VALUE=1000), stated) == (0, 2047)  # not true
    assert shades(row(0, 4095, MAX_VALUE=4095)) == [0, 255]


def test_the_other_rules() -> None:
    dim, bright = row(*range(10, 110)), row(*range(0, 2000, 20))
    assert range_of(dim, dim, range="observed") == (10, 109)
    assert range_of(dim, bright, dim, range="observed") == (0, 1980)
    assert range_of(dim, dim, range="declared") == (0, 65535)
    assert range_of(row(0, 9, MAX_VALUE=500), range="declared") == (0, 500)
    assert range_of(dim, range="given", given=(5.0, 50.0)) == (5, 50)
    low, high = range_of(dim, bright, dim, range="percentiles", percentiles=(1.0, 99.0))
    assert low == pytest.approx(np.percentile(np.arange(10, 110), 1))  # the lower of the two images
    assert high == pytest.approx(np.percentile(np.arange(0, 2000, 20), 99))
    with pytest.raises(SourceError, match=r"source\.range.*no file declares"):
        range_of(row(0, 1, kind="f4"), range="declared")


def test_what_is_no_number_is_noted_and_left_out_of_the_range() -> None:
    sample = examined(row(np.nan, 2, np.inf, 5, kind="f4"))[0]
    assert (sample.facts["low"], sample.facts["high"]) == (2, 5)
    assert "not_finite" in sample.changes
    assert shades(row(np.nan, 2, np.inf, 5, -np.inf, kind="f4")) == [0, 0, 255, 255, 0]


def test_the_value_for_no_data_is_left_out_of_the_range() -> None:
    data = row(-9999, 20, 30, kind="i2", NO_DATA=b"-9999\0")
    sample = examined(data)[0]
    assert (sample.facts["low"], sample.facts["high"]) == (20, 30)
    assert "-9999" in sample.changes["no_data"]
    assert shades(data) == [0, 0, 255]


@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "f4"])
@pytest.mark.parametrize("inverted", [False, True])
def test_shades_against_the_formula(kind: str, inverted: bool) -> None:
    values = np.random.default_rng(0).integers(-1000 if kind != "u2" and kind != "u4" else 0, 30_000, (40, 50))
    low, high = 12, 20_001
    shares = np.clip((values - low) / (high - low), 0, 1)
    expected = np.floor((1 - shares if inverted else shares) * 255 + 0.5)
    found = to_eight_bits(values.astype(kind), (low, high), inverted)
    assert np.abs(found - expected).max() == 0


def test_colours_of_sixteen_bits_keep_them_and_so_does_their_transparency() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65536, (24, 32, 4), dtype=np.uint16)
    colours = cv2.imencode(".png", values[:, :, 2::-1])[1].tobytes()
    assert np.array_equal(decode(colours, "x"), np.floor(values[:, :, :3] / 257 + 0.5).astype(np.uint8))
    see_through = cv2.imencode(".png", values[:, :, [2, 1, 0, 3]])[1].tobytes()
    share = values[:, :, 3:] / 65535
    light = np.floor(values[:, :, :3] * share + 65535 * (1 - share) + 0.5)
    assert np.abs(decode(see_through, "x").astype(int) - np.floor(light / 257 + 0.5)).max() <= 1
    assert "transparency" in inspect(see_through, "x").changes


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_avif_of_all_depths(bits: int) -> None:
    values = np.random.default_rng(0).integers(0, 2**bits, (24, 32, 3), dtype=np.uint16)
    values = values.astype(np.uint8) if bits == 8 else values
    options = [cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_DEPTH, bits]
    data = cv2.imencode(".avif", values[:, :, ::-1], options)[1].tobytes()
    found = inspect(data, "x")
    assert (found.format, found.plain, found.channels) == ("AVIF", False, 3)
    assert found.sample == (None if bits == 8 else "uint16")
    expected = np.floor(values * 255.0 / (2**bits - 1) + 0.5)
    assert np.abs(decode(data, "x") - expected).max() <= 1  # AVIF's colours are rounded, even at its best quality


def test_avif_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:, :8] = 250  # the left becomes the top
    data = encoded(picture, "AVIF", quality=95, exif=exif)
    found = decode(data, "x")
    assert found.shape == (32, 16, 3)
    assert found[:6].min() > 200
    assert found[10:].max() < 50


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize(
    ("kind", "bands", "extension"),
    [
        ("u2", 1, "png"),
        ("u2", 3, "png"),
        ("u2", 4, "tif"),
        ("u1", 4, "tif"),
        ("i2", 1, "tif"),
        ("u4", 1, "tif"),
        ("f4", 2, "tif"),
    ],
)
def test_the_stored_form_keeps_the_values_and_shows_the_range(
    kind: str, bands: int, extension: str, inverted: bool
) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 100 if kind == "u1" else 3000, (9, 7, bands)).astype(kind)
    values = values[:, :, 0] if bands == 1 else values
    data = t.simple(values, {t.PHOTOMETRIC: 0 if inverted else 1})
    sample = examined(data, range="given", given=(100.0, 2000.0))[0]
    stored = stored_form(data, "x", sample.facts, 64)
    assert stored.extension == extension
    assert len(stored.data) <= ImageModality().largest_stored_bytes(sample.facts | {"bytes": 0}, 64)
    assert stored.data == stored_form(data, "x", sample.facts, 64).data
    if kind == "u1":
        expected = 255 - values if inverted else values
    else:
        expected = to_eight_bits(values, (100.0, 2000.0), inverted)
    assert np.array_equal(decode(stored.data, "x", bands, plain=True), expected.reshape(9, 7, bands))
    if extension == "png" and not inverted:
        kept = cv2.imdecode(np.frombuffer(stored.data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(kept if bands == 1 else kept[:, :, ::-1], values)
    again = examined(stored.data)[0].facts  # as a source of its own
    assert (again["width"], again["height"], again["channels"]) == (7, 9, bands)


def test_what_is_stored_smaller_keeps_its_depth() -> None:
    values = np.random.default_rng(0).integers(0, 4096, (64, 48), dtype=np.uint16)
    data = t.simple(values)
    stored = stored_form(data, "x", examined(data)[0].facts, 32)
    small = np.asarray(Image.open(io.BytesIO(stored.data)))
    assert (stored.width, stored.height, small.dtype) == (24, 32, np.uint16)
    kernel = Image.Resampling.BILINEAR
    expected = np.asarray(Image.fromarray(values.astype(np.float32)).resize((24, 32), kernel))
    assert np.array_equal(small, np.floor(expected + 0.5))


def test_bands_are_chosen() -> None:
    values = np.random.default_rng(0).integers(0, 4096, (6, 7, 6), dtype=np.uint16)
    data = t.simple(values, {t.PHOTOMETRIC: 1})
    sample = examined(data, bands=(5, 3, 2))[0]
    assert (sample.facts["channels"], sample.facts["bands"]) == (3, "5,3,2")
    assert sample.changes["bands"] == "bands 5,3,2 of 6 were taken"
    stored = stored_form(data, "x", sample.facts, 64)
    kept = cv2.imdecode(np.frombuffer(stored.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(kept[:, :, ::-1], values[:, :, [4, 2, 1]])


def test_a_dark_band_alone_has_the_range_of_all_images() -> None:
    values = np.full((6, 7, 4), 60_000, np.uint16)
    values[:, :, 3] = 900
    sample = examined(t.simple(values, {t.PHOTOMETRIC: 1}), bands=(4,))[0]
    assert sample.facts["channels"] == 1
    assert (sample.facts["low"], sample.facts["high"]) == (0, 1023)  # of what is taken, not of what is left out
