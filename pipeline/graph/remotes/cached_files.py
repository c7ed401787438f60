"""Read small files of any revision's outputs from DVC's cache alone, without a process of DVC for each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pipeline.graph import dvc
from pipeline.graph.remotes.listings import LARGEST_LISTING, BadListing, is_object_name, read_listing
from reprise.storage.content_hashes import DIR, read_regular

LARGEST = 64 << 20  # bytes of a file


class CachedFiles:
    """Files in DVC's cache. Each is held against its MD5; one that is missing or differs is not there.

    Args:
        root: the project folder.

    Raises:
        GraphError: DVC cannot read its settings.
    """

    def __init__(self, root: Path = Path()) -> None:
        self._objects = dvc.cache_folder(root) / "files/md5"

    def read(self, outs: Mapping[str, str], path: Path) -> bytes | None:
        """Return a file of an output, or None where the cache does not hold it.

        Args:
            outs: the path of each output with the name of its object, from dvc.lock of the revision.
            path: the file, an output or below one.
        """
        wanted = PurePosixPath(path.as_posix())
        out = next((name for name in outs if wanted.is_relative_to(name)), None)
        if out is None:
            return None
        name, below = outs[out], wanted.relative_to(out).as_posix()
        if name.endswith(DIR):
            listing = self._object(name, LARGEST_LISTING)
            try:
                members = read_listing(listing, name) if listing is not None else []
            except BadListing:
                return None
            name = next((member.md5 for member in members if member.name == below), "")
        return self._object(name, LARGEST)

    def _object(self, name: str, limit: int) -> bytes | None:
        if not is_object_name(name):  # a name from outside must not lead to another file
            return None
        try:
            data = read_regular(self._objects / name[:2] / name[2:], limit + 1, follow=False)
        except OSError:
            return None
        same = hashlib.md5(data, usedforsecurity=False).hexdigest() == name.removesuffix(DIR)
        return data if same and len(data) <= limit else None
