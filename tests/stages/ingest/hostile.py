"""Files from hell, made on the spot; shared by the tests of ingest and the fuzz harness."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms


def photo(seed: int = 0, height: int = 24, width: int = 32) -> np.ndarray:
    """A smooth RGB picture (h, w, 3) uint8 that no other seed gives."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / rng.uniform(2, 9) + y / rng.uniform(2, 9) + rng.uniform(0, 6)) for _ in range(3)]
    return (127.5 + 127.5 * np.stack(waves, axis=2)).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    """Bytes of an image in a format of Pillow."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few bytes whose header promises billions of pixels."""
    import struct
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def animated(kind: str, frames: int = 3) -> bytes:
    """An animation whose frames differ."""
    pictures = [Image.fromarray(photo(100 + i)) for i in range(frames)]
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], duration=50)


def rotated(orientation: int, seed: int = 7, kind: str = "PNG") -> bytes:
    """An image with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(photo(seed), kind, exif=exif)


def with_segments(jpeg: bytes, number: int) -> bytes:
    """A JPEG with so many segments of 65,533 bytes that call themselves EXIF."""
    segment = b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)
    return jpeg[:2] + segment * number + jpeg[2:]


def transparent_palette(seed: int) -> bytes:
    """A palette of which one colour is transparent."""
    return encoded(Image.fromarray(photo(seed)).quantize(8), "PNG", transparency=3)


def profiled(seed: int, kind: str) -> bytes:
    """An image with a colour profile."""
    return encoded(photo(seed), kind, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


def deep(seed: int) -> Image.Image:
    """A grey picture of 16 bits."""
    return Image.fromarray(photo(seed)[:, :, 0].astype(np.uint16) * 257)


JPEG = encoded(photo(1), "JPEG", quality=90)
PNG = encoded(photo(2), "PNG")

# name -> (bytes, reason of the quarantine or None when it is taken in)
FILES: dict[str, tuple[bytes, str | None]] = {
    "whole.jpg": (JPEG, None),
    "whole.png": (PNG, None),
    "whole.webp": (encoded(photo(3), "WEBP", lossless=True), None),
    "whole.bmp": (encoded(photo(4), "BMP"), None),
    "whole.tif": (encoded(photo(5), "TIFF"), None),
    "still.gif": (encoded(photo(6), "GIF"), None),
    "moving.gif": (animated("GIF"), None),
    "moving.webp": (animated("WEBP"), None),
    "moving.png": (animated("PNG"), None),
    "wrong_extension.png": (encoded(photo(8), "JPEG"), None),
    "no_extension": (encoded(photo(9), "PNG"), None),
    "cmyk.jpg": (encoded(Image.fromarray(photo(10)).convert("CMYK"), "JPEG"), None),
    "grey.jpg": (encoded(Image.fromarray(photo(11)).convert("L"), "JPEG"), None),
    "grey16.png": (encoded(Image.fromarray((np.arange(24 * 32).reshape(24, 32) * 80).astype(np.uint16)), "PNG"), None),
    "palette.png": (encoded(Image.fromarray(photo(12)).quantize(16), "PNG"), None),
    "alpha.png": (encoded(np.dstack([photo(13), photo(14)[:, :, 0]]), "PNG"), None),
    "rotated.jpg": (rotated(6, 15, "JPEG"), None),
    "bilevel.png": (encoded(Image.fromarray(photo(16)).convert("1"), "PNG"), None),
    "names with\nnewline.png": (encoded(photo(17), "PNG"), None),
    "quotes'\".png": (encoded(photo(18), "PNG"), None),
    "emoji \N{GRINNING FACE}.png": (encoded(photo(19), "PNG"), None),
    "<script>alert(1)<.png": (encoded(photo(20), "PNG"), None),
    "$(touch pwned); rm.png": (encoded(photo(21), "PNG"), None),
    "..sneaky.png": (encoded(photo(22), "PNG"), "hidden"),
    "CASE.png": (encoded(photo(23), "PNG"), None),
    "case.png": (encoded(photo(24), "PNG"), None),
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "truncated.png": (PNG[: len(PNG) // 2], "truncated"),
    "empty.jpg": (b"", "empty"),
    "bomb.png": (bomb(), "too_many_pixels"),
    "big.png": (bomb(9000, 9000), "too_many_pixels"),
    "tiny.png": (encoded(photo(25, 2, 2), "PNG"), "too_small"),
    "drawing.svg": (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
    "page.jpg": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", "not_an_image"),
    "notes.txt": (b"these are notes", "other_file"),
    "float.tif": (encoded(Image.fromarray(np.linspace(0, 1, 24 * 32, dtype=np.float32).reshape(24, 32)), "TIFF"), None),
    "lab.tif": (encoded(Image.new("LAB", (32, 24)), "TIFF"), "unsupported_depth"),
    ".hidden.png": (encoded(photo(26), "PNG"), "hidden"),
    "profile.jpg": (profiled(40, "JPEG"), None),
    "profile.png": (profiled(41, "PNG"), None),
    "palette with transparency.png": (transparent_palette(42), None),
    "grey and alpha.png": (encoded(Image.fromarray(photo(43)).convert("LA"), "PNG"), None),
    "much exif.jpg": (with_segments(encoded(photo(44), "JPEG"), 10), None),
    "turned and deep.tif": (encoded(deep(45), "TIFF", tiffinfo={274: 6}), None),
    f"{'n' * 251}.png": (encoded(photo(46), "PNG"), None),
    "caf\u00e9.png": (encoded(photo(47), "PNG"), None),
    "cafe\u0301.png": (encoded(photo(48), "PNG"), None),
    " spaces .png ": (encoded(photo(49), "PNG"), None),
    "back\\slash.png": (encoded(photo(50), "PNG"), None),
    "-rf.png": (encoded(photo(51), "PNG"), None),
    "a..b.png": (encoded(photo(52), "PNG"), None),
    "%2e%2e%2fpasswd.png": (encoded(photo(53), "PNG"), None),
    "C:\\con.png": (encoded(photo(54), "PNG"), None),
    "\u202egnp.exe.png": (encoded(photo(55), "PNG"), None),
    "truncated.gif": (encoded(photo(59), "GIF")[:-200], "truncated"),
    "truncated.webp": (encoded(photo(56), "WEBP", lossless=True)[:-100], "truncated"),
    "truncated.tif": (encoded(photo(57), "TIFF")[:-300], "truncated"),
    "truncated.bmp": (encoded(photo(58), "BMP")[:-300], "truncated"),
    "archive.jpg": (b"PK\x03\x04" + bytes(100), "not_an_image"),
    "zeros.png": (bytes(4096), "not_an_image"),
}


def build(root: Path) -> dict[str, str | None]:
    """A class folder with one of everything; returns shown name -> reason (None: taken in), relative to `root`."""
    folder = root / "things"
    folder.mkdir(parents=True)
    expected: dict[str, str | None] = {}
    for name, (data, reason) in FILES.items():
        (folder / name).write_bytes(data)
        expected[f"things/{name}"] = reason
    outside = root.parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "secret.png").write_bytes(encoded(photo(30), "PNG"))
    odd: dict[str, tuple[Callable[[Path], object], str]] = {
        "copy of whole.png": (lambda p: p.write_bytes(PNG), "duplicate"),
        "link_inside.png": (lambda p: p.symlink_to(folder / "whole.jpg"), "duplicate"),
        "link_outside.png": (lambda p: p.symlink_to(outside / "secret.png"), "outside_root"),
        "link_broken.png": (lambda p: p.symlink_to(folder / "nothing.png"), "broken_link"),
        "link_to_itself.png": (lambda p: p.symlink_to(p), "link_loop"),
        "link_up": (lambda p: p.symlink_to(root, target_is_directory=True), "link_to_folder"),
        "link_dots": (lambda p: p.symlink_to("../../outside/secret.png"), "outside_root"),
        "link_zero": (lambda p: p.symlink_to("/dev/zero"), "outside_root"),
        "fifo.png": (os.mkfifo, "not_a_file"),
        "socket.png": (_socket, "not_a_file"),
    }
    for name, (make, reason) in odd.items():
        make(folder / name)
        expected[f"things/{name}"] = reason
    expected["things/link_inside.png"] = "duplicate"
    with open(os.fsencode(folder) + b"/bad\xff\xfe.png", "wb") as file:
        file.write(encoded(photo(31), "PNG"))
    expected["things/bad\\xff\\xfe.png"] = "name_not_utf8"
    return expected


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as endpoint:
            endpoint.bind(path.name)
    finally:
        os.chdir(here)
