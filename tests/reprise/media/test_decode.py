"""The decode rules, one by one, against what they say in words."""

from __future__ import annotations

import io
import time

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from reprise.config.errors import ImageRefused
from reprise.media.image.decode import decode
from reprise.media.image.inspect import inspect
from reprise.media.image.transform import as_channels
from tests.stages.ingest.hostile import JPEG, PNG, animated, bomb, encoded, photo, rotated

TURNS = {  # EXIF orientation -> what makes the stored pixels upright
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, 1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    data = rotated(orientation, seed=7, kind=kind)
    expected = TURNS[orientation](photo(7))
    assert np.array_equal(decode(data, "x"), expected)
    found = inspect(data, "x")
    assert (found.height, found.width) == expected.shape[:2]
    assert found.plain == (orientation == 1 and kind == "PNG")


def test_transparency_is_laid_over_white() -> None:
    colour, alpha = photo(1), np.full((24, 32), 64, np.uint8)
    alpha[:, :16], alpha[:, 16:24] = 0, 255
    pixels = decode(encoded(np.dstack([colour, alpha]), "PNG"), "x")
    assert (pixels[:, :16] == 255).all()
    assert np.array_equal(pixels[:, 16:24], colour[:, 16:24])
    expected = colour[:, 24:] * (64 / 255) + 255 * (1 - 64 / 255)
    assert np.abs(pixels[:, 24:] - expected).max() <= 1


def test_grey_with_transparency_stays_grey() -> None:
    grey = photo(1)[:, :, 0]
    data = encoded(Image.merge("LA", [Image.fromarray(grey), Image.new("L", (32, 24), 255)]), "PNG")
    assert inspect(data, "x").channels == 1
    assert np.array_equal(decode(data, "x", 1)[:, :, 0], grey)


def test_a_transparent_colour_of_a_palette_becomes_white() -> None:
    image = Image.fromarray(photo(2)).quantize(8)
    index = int(np.asarray(image)[3, 4])
    pixels = decode(encoded(image, "PNG", transparency=index), "x")
    assert (pixels[np.asarray(image) == index] == 255).all()
    others = np.asarray(image) != index
    assert np.array_equal(pixels[others], np.asarray(image.convert("RGB"))[others])


def test_palettes_become_rgb() -> None:
    image = Image.fromarray(photo(2)).quantize(16)
    data = encoded(image, "PNG")
    assert np.array_equal(decode(data, "x"), np.asarray(image.convert("RGB")))
    found = inspect(data, "x")
    assert found.channels == 3
    assert not found.plain


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_divided_by_257(kind: str) -> None:
    values = np.linspace(0, 65535, 24 * 32).reshape(24, 32).round().astype(np.uint16)
    data = encoded(Image.fromarray(values), kind)
    assert np.array_equal(decode(data, "x", 1)[:, :, 0], np.floor(values / 257 + 0.5).astype(np.uint8))
    found = inspect(data, "x")
    assert (found.channels, found.plain) == (1, False)


def test_16_bit_colour_is_divided_by_257() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (24, 32, 3), dtype=np.uint16)
    data = cv2.imencode(".png", values[:, :, ::-1])[1].tobytes()
    assert np.array_equal(decode(data, "x"), np.floor(values / 257 + 0.5).astype(np.uint8))
    assert not inspect(data, "x").plain


def test_cmyk_is_converted() -> None:
    image = Image.fromarray(photo(3)).convert("CMYK")
    data = encoded(image, "TIFF")
    assert np.array_equal(decode(data, "x"), np.asarray(image.convert("RGB")))
    assert not inspect(encoded(image, "JPEG"), "x").plain


def test_ycbcr_is_converted() -> None:
    image = Image.fromarray(photo(3)).convert("YCbCr")
    data = encoded(image, "TIFF")
    assert Image.open(io.BytesIO(data)).mode == "YCbCr"
    assert np.array_equal(decode(data, "x"), np.asarray(image.convert("RGB")))


def test_one_bit_becomes_black_and_white() -> None:
    image = Image.fromarray(photo(3)).convert("1")
    data = encoded(image, "PNG")
    assert np.array_equal(decode(data, "x", 1)[:, :, 0], np.where(np.asarray(image), 255, 0))
    found = inspect(data, "x")
    assert (found.channels, found.plain) == (1, False)


def test_colour_profiles_and_gamma_are_ignored() -> None:
    """The pixels are those of the file: no other program's colours get in."""
    gamma = PngImagePlugin.PngInfo()
    gamma.add(b"gAMA", (100_000).to_bytes(4, "big"))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for options in ({"pnginfo": gamma}, {"icc_profile": profile}):
        assert np.array_equal(decode(encoded(photo(3), "PNG", **options), "x"), photo(3))


def test_of_several_pages_the_first_counts() -> None:
    data = animated("TIFF")
    assert np.array_equal(decode(data, "x"), photo(100))
    assert not inspect(data, "x").plain


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"\0\0\0\x18ftypqt  " + bytes(40), "a video file, or a picture of no known brand"),
        (b"%PDF-1.7 ...", "a PDF file"),
        (b"PK\x03\x04 ...", "a ZIP archive"),
        (b"\x1f\x8b\x08 ...", "a gzip file"),
        (b"\xef\xbb\xbf\n <!DOCTYPE HTML><title>404</title>", "an HTML page"),
        (b"<?xml version='1.0'?><svg/>", "an SVG drawing"),
        (b"<?xml version='1.0'?><note/>", "an XML file"),
        (b"just words", "text or other data"),
        (b"\0" * 20, "bytes of no known image format"),
    ],
)
def test_what_is_no_image_is_called_what_it_looks_like(data: bytes, looks: str) -> None:
    with pytest.raises(ImageRefused, match=rf"not_an_image.*{looks}"):
        inspect(data, "x")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    data = animated(kind)
    difference = np.abs(decode(data, "x").astype(int) - photo(100))
    assert difference.mean() < 12  # GIF has 256 colours, WebP is lossy here; the second frame is 60 away
    assert np.abs(decode(data, "x").astype(int) - photo(101)).mean() > 40
    assert not inspect(data, "x").plain


def test_channels_are_luma_or_repeated() -> None:
    rgb = photo(4)
    luma = rgb @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    assert np.abs(decode(encoded(rgb, "PNG"), "x", 1)[:, :, 0] - luma).max() <= 1
    grey = rgb[:, :, 0]
    assert np.array_equal(decode(encoded(grey, "PNG"), "x", 3), np.dstack([grey] * 3))
    assert as_channels(grey, 1).shape == (24, 32, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 80}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {"quality": 70}),
        ("WEBP", {"lossless": True}),
    ],
)
@pytest.mark.parametrize("grey", [False, True])
def test_plain_images_give_the_same_pixels_on_both_paths(kind: str, options: dict, grey: bool, channels: int) -> None:
    picture = photo(5)[:, :, 0] if grey else photo(5)
    data = encoded(picture, kind, **options)
    found = inspect(data, "x")
    assert found.plain
    assert np.array_equal(decode(data, "x", channels), decode(data, "x", channels, plain=True))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html></html>", "not_an_image"),
        (b"\0" * 100, "not_an_image"),
        (JPEG[:-20], "truncated"),
        (JPEG[:200], "truncated"),
        (PNG[:-30], "truncated"),
        (encoded(photo(1), "WEBP")[:-10], "truncated"),
        (b"\xff\xd8\xff" + b"\x07" * 50, "undecodable"),
        (bomb(), "too_many_pixels"),
        (bomb(8000, 8000), "too_many_pixels"),
        (encoded(photo(1, 3, 3), "PNG"), "too_small"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "undecodable"),
        (b"\0\0\0\x1cftypavif" + bytes(40), "undecodable"),
        (encoded(Image.new("LAB", (8, 8)), "TIFF"), "unsupported_depth"),
    ],
)
def test_what_cannot_be_taken_in_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageRefused) as caught:
        inspect(data, "x", max_pixels=1_000_000, min_side=4)
    assert caught.value.what == reason


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageRefused, match="9000 x 9000"):
        decode(bomb(9000, 9000), "x")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB; the pixels would take 243 MB


def test_a_chunk_that_ends_nowhere_does_not_keep_opencv_busy() -> None:
    data = bytearray(PNG)
    at = data.index(b"IDAT") - 4
    data[at : at + 4] = (900_000).to_bytes(4, "big")
    began = time.perf_counter()
    found = inspect(bytes(data), "x")  # Pillow has all pixels, so it is taken in, but not as it is
    assert not found.plain
    assert np.array_equal(decode(bytes(data), "x", plain=True), photo(2))
    assert time.perf_counter() - began < 2  # found by fuzzing: 14 seconds for 1,791 bytes
