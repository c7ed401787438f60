"""Take images for a page out of the shards, as they lie there: no image is decoded here."""

from __future__ import annotations

import base64
from collections.abc import Collection
from pathlib import Path

from markupsafe import Markup

from reprise.artifacts.layout import SHARDS
from reprise.artifacts.manifest import IMAGE
from reprise.artifacts.shards import Shards, read_index
from reprise.config.errors import RepriseError

LARGEST = 96 << 10  # bytes of one image in the page
_TYPES = {"jpg": "jpeg", "jpeg": "jpeg", "png": "png", "webp": "webp"}
_CHANNELS = (1, 3)  # that a browser shows as the image is meant
_CRISP = 64  # pixels; sides below are enlarged without blur


def pictures(keys: Collection[str], root: Path = Path()) -> dict[str, Markup]:
    """Return an `img` for each image that the folder's shards hold, that is small enough, and that a browser shows."""
    if not keys:
        return {}
    folder = root / SHARDS
    try:
        shards = Shards.open(folder)
        if shards.modality != IMAGE:
            return {}
        index = read_index(folder)
        found = {}
        rows = zip(index["key"].to_pylist(), index["ext"].to_pylist(), index["bytes"].to_pylist(), strict=True)
        for number, (key, extension, size) in enumerate(rows):
            if key in keys and extension in _TYPES and size <= LARGEST and int(shards.channels[number]) in _CHANNELS:
                found[key] = _picture(shards, number, _TYPES[extension])
        shards.close()
    except (RepriseError, OSError):  # shards of another state of the folder, or half of them: paths are shown instead
        return {}
    return found


def _picture(shards: Shards, number: int, subtype: str) -> Markup:
    encoded = base64.b64encode(shards.read(number)).decode("ascii")
    width, height = int(shards.widths[number]), int(shards.heights[number])
    crisp = Markup(' class="crisp"') if max(width, height) < _CRISP else ""
    return Markup('<img src="data:image/{};base64,{}" width="{}" height="{}" alt=""{}>').format(
        subtype, encoded, width, height, crisp
    )
