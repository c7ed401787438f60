"""The columns that images add to the manifest, and the file extension of each format."""

from __future__ import annotations

COLUMNS = {  # name -> Arrow type, in the manifest's order (reprise/artifacts/manifest.py)
    "width": "int32",  # pixels, upright
    "height": "int32",
    "channels": "int8",  # 1 grey, 3 colour
    "format": "string",  # one of decode.FORMATS
    "plain": "bool",  # any decoder shows the same pixels
    "pixels": "string",  # SHA-256 of what the rules decode: equal for copies in other files
}
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp", "TIFF": "tif", "GIF": "gif"}
