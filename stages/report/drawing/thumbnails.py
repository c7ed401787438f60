"""Small pictures inside the page: decoded from the shards, scaled, and written as data URIs within a budget of bytes.

Pictures of at most `TINY` pixels a side keep their pixels, which the page enlarges without smoothing; larger ones are
scaled down. They are PNG where that is small and JPEG otherwise; both encoders give the same bytes for the same pixels.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from reprise.artifacts.shards import Shards
from reprise.media.image.decode import decode
from reprise.media.image.encode import smallest
from reprise.media.image.thumbnail import shrink
from reprise.media.lookup import modality
from reprise.storage.progress import track

TINY = 40  # pixels of the longer side
SIDES = (96, 72, 56, 40)  # tried from the left until a set of pictures fits its budget
SMALLER = (32, 24)  # further sides for the many pictures of a map
SPRITE_COLUMNS = 40


@dataclass(frozen=True)
class Picture:
    """A picture that the page can show.

    Args:
        uri: the picture as a data URI.
        width, height: its size in pixels.
        crisp: whether to enlarge its pixels as squares.
    """

    uri: Markup
    width: int
    height: int
    crisp: bool


@dataclass(frozen=True)
class Sprite:
    """Many pictures in one: picture i lies in column i % columns and row i // columns, in cells of `side` pixels."""

    picture: Picture
    side: int
    columns: int


class Album:
    """Pixels of images by key, from the shards.

    Args:
        shards: None when there are none; then no key has a picture.
    """

    def __init__(self, shards: Shards | None) -> None:
        self._shards = shards
        self._row = {key: row for row, key in enumerate(shards.keys.tolist())} if shards is not None else {}
        self._small: dict[str, np.ndarray] = {}
        self._tiny: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._row

    def pixels(self, key: str) -> np.ndarray:
        """Decode an image and keep it: (h, w, 3) uint8 RGB, the longer side at most SIDES[0] pixels.

        Raises:
            ShardError: the shard is truncated.
            ImageRefused: the bytes are not an image.
        """
        if key not in self._small:
            assert self._shards is not None
            media = modality(self._shards.modality)
            image = self._small[key] = media.thumbnail(self._shards.read(self._row[key]), key, SIDES[0])
            if max(image.shape[:2]) <= TINY:
                self._tiny.add(key)
        return self._small[key]

    def pictures(self, keys: Iterable[str], budget: int) -> dict[str, Picture]:
        """Encode the images of the keys that have one, at the largest size at which all stay within the budget.

        The smallest size is used when nothing fits, so callers bound the number of keys.

        Args:
            keys: keys of images; repeated ones count once.
            budget: bytes of page for all of them together.
        """
        images = {key: self.pixels(key) for key in track(list(dict.fromkeys(keys)), "thumbnails") if key in self}
        pictures: dict[str, Picture] = {}
        for side in SIDES:
            pictures = {key: encode(shrink(image, side), key in self._tiny) for key, image in images.items()}
            if sum(len(p.uri) for p in pictures.values()) <= budget:
                break
        return pictures

    def sprite(self, keys: Sequence[str], budget: int) -> Sprite | None:
        """Put the images of all keys into one picture within the budget; None when no key has an image.

        Args:
            keys: keys in the order of the cells; a key without an image leaves its cell empty.
            budget: bytes of page.
        """
        if not any(key in self for key in keys):
            return None
        images = [self.pixels(key) if key in self else None for key in track(keys, "map thumbnails")]
        largest = max(max(image.shape[:2]) for image in images if image is not None)
        sides = sorted({min(largest, side) for side in (*SIDES, *SMALLER)}, reverse=True)
        for side in sides:
            sheet = _sheet([None if image is None else shrink(image, side) for image in images], side)
            picture = encode(sheet, tiny=side <= TINY)
            if len(picture.uri) > budget:  # JPEG may be smaller, so it is tried before a smaller side
                picture = encode(sheet, tiny=False)
            if len(picture.uri) <= budget:
                break
        return Sprite(picture, side, SPRITE_COLUMNS)


def encode(image: np.ndarray, tiny: bool) -> Picture:
    """Encode (h, w, 3) uint8 RGB as a data URI: PNG for tiny images or where it is smaller, JPEG otherwise."""
    subtype, data = smallest(image, lossless=tiny)
    base64_text = base64.b64encode(data).decode("ascii")
    uri = Markup("data:image/{};base64,{}").format(subtype, base64_text)  # Markup: `finalize` never shortens it
    return Picture(uri, image.shape[1], image.shape[0], tiny)


def _sheet(images: Sequence[np.ndarray | None], side: int) -> np.ndarray:
    rows = -(-len(images) // SPRITE_COLUMNS)
    sheet = np.full((rows * side, SPRITE_COLUMNS * side, 3), 127, np.uint8)
    for index, image in enumerate(images):
        if image is None:
            continue
        top, left = index // SPRITE_COLUMNS * side, index % SPRITE_COLUMNS * side
        height, width = image.shape[:2]
        y, x = top + (side - height) // 2, left + (side - width) // 2
        sheet[y : y + height, x : x + width] = image
    return sheet


def montage(data: bytes, where: str, budget: int, most_side: int = 1400) -> tuple[Picture, bool]:
    """Fit a montage to the page: cut it at the bottom when it is too tall, then scale it down to the budget.

    Args:
        data: the encoded montage.
        where: the file's name, for messages.
        budget: bytes of page.
        most_side: pixels of its longer side.

    Returns:
        the picture, and whether rows were cut off.

    Raises:
        ImageRefused: the bytes are not an image.
    """
    image = decode(data, where, channels=3)
    cut = image.shape[0] > most_side
    image = shrink(image[:most_side], most_side)
    picture = encode(image, tiny=False)
    while len(picture.uri) > budget and max(image.shape[:2]) > TINY:
        image = shrink(image, max(image.shape[:2]) * 3 // 4)
        picture = encode(image, tiny=False)
    return picture, cut
