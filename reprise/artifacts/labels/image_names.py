"""Find the images that a person's table names: by the end of the path, as people and programs write paths.

Tables come from spreadsheets, `find`, Windows and macOS. So `./cats/a.jpg`, `cats\\a.jpg`, `cats//a.jpg`, another form
of an accent and the absolute path of a file that the manifest names relatively all mean the same image. A name that is
an image's as it is written is always taken as it is written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property

SEVERAL = -1  # the end of several paths


class ImageNames:
    """The paths of some images.

    Args:
        paths: parts joined by "/".
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    def find(self, name: str) -> int | None:
        """Return the number of the image that a name means, SEVERAL where it fits several, or None where it fits none.

        Args:
            name: an image's path, or the end of one that begins at a folder.
        """
        for written in dict.fromkeys((name, name.strip(), plain(name.strip()))):
            if written in self._by_end:
                return self._by_end[written]
        composed = unicodedata.normalize("NFC", plain(name.strip()))
        return self._composed.get(composed, self._by_whole_path(composed))

    def _by_whole_path(self, name: str) -> int | None:
        """Find the image whose whole path is the end of `name`, as in an absolute path of a relative one."""
        parts = name.split("/")
        for start in range(1, len(parts)):
            i = self._whole.get("/".join(parts[start:]))
            if i is not None:
                return i
        return None

    @cached_property
    def _by_end(self) -> dict[str, int]:
        """Every end of every path that begins at a folder -> its number, or SEVERAL."""
        index: dict[str, int] = {}
        for i, path in enumerate(self._paths):
            parts = path.split("/")
            for start in range(len(parts)):
                end = "/".join(parts[start:])
                index[end] = SEVERAL if end in index else i
        return index

    @cached_property
    def _composed(self) -> dict[str, int]:
        """Ends in composed form (NFC): macOS writes as two characters what spreadsheets write as one."""
        alike: dict[str, int] = {}
        for end, i in self._by_end.items():
            if not end.isascii():
                form = unicodedata.normalize("NFC", end)
                alike[form] = i if alike.get(form, i) == i else SEVERAL
        return alike

    @cached_property
    def _whole(self) -> dict[str, int]:
        """Whole paths in composed form; only those with a folder, since a bare name says too little."""
        whole: dict[str, int] = {}
        for i, path in enumerate(self._paths):
            form = unicodedata.normalize("NFC", plain(path))
            if "/" in form:
                whole[form] = SEVERAL if form in whole else i
        return whole


def plain(path: str) -> str:
    """Write a path as the manifest does: slashes, and no empty parts or dots."""
    slashed = path.replace("\\", "/")
    slashed = re.sub(r"^[A-Za-z]:(?=/)", "", slashed)  # a drive of Windows
    rooted = slashed.startswith("/")
    parts = [part for part in slashed.split("/") if part not in ("", ".")]
    return ("/" if rooted else "") + "/".join(parts)
