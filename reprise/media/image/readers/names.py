"""What a file's name says about it: whether somebody means it as a picture."""

from __future__ import annotations

import os

# Formats that are read, and formats of pictures that are not: a file of the second kind is refused, not left out.
_PICTURES = frozenset(
    (
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "bmp", "dib", "tif", "tiff", "gif"),
        *("heic", "heif", "hif", "avif", "jp2", "j2k", "jpx", "jpf", "jxl", "ico", "svg", "psd", "tga", "exr", "hdr"),
        *("ppm", "pgm", "pbm", "pnm", "pcx", "mpo", "dng", "nef", "nrw", "cr2", "cr3", "arw", "orf", "rw2", "raf"),
        *("pef", "srw", "raw", "dcm", "svs", "ndpi", "czi", "lif", "fits", "fit", "img"),
    )
)
_TEXTS = frozenset(  # names without extension
    (
        *("readme", "license", "licence", "copying", "notice", "authors", "citation", "changelog", "makefile"),
        *("dockerfile", "manifest", "sha256sums", "md5sums", "checksums", "_success", "index"),
    )
)


def claims_picture(name: str) -> bool:
    """Return whether a name is that of a picture: by its extension, or because it has none and is no usual text.

    Args:
        name: a path, parts joined by "/".
    """
    own = name.rpartition("/")[2]
    extension = os.path.splitext(own)[1].removeprefix(".").casefold()
    if extension:  # digits and signs are part of a name such as frame.0001 or "no. 7 (copy)"
        return extension in _PICTURES or extension.isdigit() or not (extension.isascii() and extension.isalnum())
    return own.casefold() not in _TEXTS
