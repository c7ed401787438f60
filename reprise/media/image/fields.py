"""The columns that images add to the manifest, and the file extension of each format."""

from __future__ import annotations

COLUMNS = {  # name -> Arrow type, in the manifest's order (reprise/artifacts/manifest.py)
    "width": "int32",  # pixels, upright
    "height": "int32",
    "channels": "int8",  # bands: 1 grey, 3 colour, or as many as there are
    "format": "string",  # one of files.FORMATS
    "plain": "bool",  # any decoder shows the same pixels
    "pixels": "string",  # SHA-256 of what the rules decode: equal for copies in other files
    "page": "int32",  # which page or frame of the file, from 1; null where it has one
    "bands": "string",  # which bands of the file, from 1 ("4,3,2"); null for all
    "sample": "string",  # numpy's name of the type of the values ("uint16"); null for 8 bits
    "low": "double",  # the value that becomes black; null for 8 bits
    "high": "double",  # the value that becomes white
}
NULLABLE = ("page", "bands", "sample", "low", "high")
EXTENSIONS = {
    "JPEG": "jpg",
    "PNG": "png",
    "WEBP": "webp",
    "BMP": "bmp",
    "TIFF": "tif",
    "GIF": "gif",
    "AVIF": "avif",
    "HEIC": "heic",
}
