"""A cache for DVC that holds every object against its name before it says that the object is there.

DVC takes a write-protected file of the cache for the object that its name says, whoever wrote it. Here, an object that
differs is set aside and counts as missing: DVC then fetches or computes it again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc_data.fsutils import _localfs_info
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_data.hashfile.meta import Meta
from dvc_data.hashfile.tree import Tree
from dvc_objects.db import noop
from dvc_objects.errors import ObjectFormatError
from dvc_objects.fs.local import LocalFileSystem
from dvc_objects.fs.utils import tmp_fname

from pipeline.graph.in_dvc.refusals import Refusals, set_aside
from pipeline.graph.remotes.listings import LARGEST_LISTING, BadListing, is_object_name, read_listing
from reprise.storage.content_hashes import DIR, ContentHashes, IrregularFile, listing_bytes, md5_of_file, read_regular
from reprise.storage.system.refusals import refusal

HASHES = ContentHashes()
REFUSALS = Refusals()


class CheckedCache(LocalHashFileDB):
    """DVC's cache on a local disk, perhaps shared with others, whose objects are checked."""

    def check(self, oid: str, check_hash: bool = True, _info: dict[str, Any] | None = None) -> Meta:
        """Return what the file system says of an object.

        Raises:
            FileNotFoundError: the object is missing, or differed and was set aside.
        """
        path = self.oid_to_path(oid)
        if oid in self.refuse_altered([oid]):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return Meta.from_info(_info or _localfs_info(path))

    def oids_exist(self, oids: Iterable[str], jobs: int | None = None, progress: Any = noop) -> list[str]:
        """Return the objects that are here and hold what their names say."""
        names = [oid for oid in oids if is_object_name(oid)]
        absent = self.refuse_altered(names)
        return [oid for oid in names if oid not in absent]

    def add(self, path: Any, fs: Any, oid: Any, *args: Any, **kwargs: Any) -> int:
        """Store objects, and check what was stored.

        DVC passes `verify` for objects of a remote, which `CheckedRemote` always asks for; others come from the folder.
        Of these, DVC would go on where one cannot be stored, and lose it where outputs are links into the cache.

        Raises:
            DvcException: an object of the folder cannot be stored.
        """
        foreign, report = bool(kwargs.pop("verify", False)), kwargs.pop("on_error", None)
        sources = dict(
            zip([oid] if isinstance(oid, str) else oid, [path] if isinstance(path, str) else path, strict=True)
        )
        failed: dict[str, BaseException] = _refused_sources(fs, sources) if foreign else {}
        sources = {name: source for name, source in sources.items() if name not in failed}
        added = 0
        if sources:
            options = {**kwargs, "verify": False, "on_error": failed.__setitem__}
            added = super().add(list(sources.values()), fs, list(sources), *args, **options)
            stored = [name for name in sources if name not in failed]
            for name in self.refuse_altered(stored, stored_from="the remote" if foreign else "the folder"):
                failed[name] = ObjectFormatError(f"{name} is not what its name says")
        for name, error in failed.items():
            if not foreign:
                raise DvcException(_not_stored(self.path, name, error)) from error
            if report is None and not REFUSALS.optional:
                raise error
            if not (REFUSALS.optional and isinstance(error, ObjectFormatError)):  # DVC computes what is refused
                report(name, error)
        return added

    def refuse_altered(self, names: Sequence[str], *, stored_from: str | None = None) -> set[str]:
        """Hold objects against their names and set aside those that differ.

        An object that is missing or differs is stored again from the folder, where that still has the right bytes.

        Args:
            names: names of objects.
            stored_from: where they have just been stored from; None for objects that were here before.

        Returns:
            The names of the objects that are not here, or no longer.
        """
        paths = {self.oid_to_path(name): name for name in names}
        absent = set()
        for path, found in HASHES.md5s(paths, follow=False).items():
            name = paths[path]
            if found == name.removesuffix(DIR):
                continue
            if isinstance(found, FileNotFoundError):
                if stored_from or not self._mend(name):
                    absent.add(name)
                continue
            if isinstance(found, OSError) and not isinstance(found, IrregularFile):
                raise found
            what = "is no regular file" if isinstance(found, OSError) else f"has the MD5 {found}"
            where = f"DVC's cache holds an object {REFUSALS.owner(name)} that {what}"
            if stored_from:
                where = f"what came from {stored_from} as {REFUSALS.owner(name)} {what}"
            became = set_aside(path, name)
            mended = None if stored_from else self._mend(name)
            again = f" and stored again from {mended}" if mended else ""
            REFUSALS.say(f"{where}; it is {became}{again}", foreign=stored_from == "the remote")
            if not mended:
                absent.add(name)
        return absent

    def _mend(self, name: str) -> str | None:
        """Store an object again from an output that has the right bytes, and return the path of that output."""
        target = self.oid_to_path(name)
        copy = os.path.join(os.path.dirname(target), tmp_fname())
        for source in REFUSALS.paths.get(name, ()):
            try:
                if not os.path.lexists(source):
                    continue
                self.makedirs(os.path.dirname(target))
                if name.endswith(DIR):
                    Path(copy).write_bytes(_listing_of(source))
                elif HASHES.md5s([source], follow=False)[source] == name:
                    shutil.copyfile(source, copy, follow_symlinks=False)
                if md5_of_file(copy, follow=False) == name.removesuffix(DIR):
                    os.replace(copy, target)
                    self.protect(target)
                    return source
            except OSError:
                continue
            finally:
                Path(copy).unlink(missing_ok=True)
        return None


class FolderRemote(LocalHashFileDB):
    """A remote in a folder. What lies there is not read before it is fetched, and never removed, as DVC would do."""

    def check(self, oid: str, check_hash: bool = True, _info: dict[str, Any] | None = None) -> Meta:
        """Return what the file system says of an object.

        Raises:
            FileNotFoundError: the object is missing or is no regular file.
        """
        path = self.oid_to_path(oid)
        info = _info or _localfs_info(path)
        if not os.path.isfile(path):
            REFUSALS.say(f"the remote's object {REFUSALS.owner(oid)} is no regular file", foreign=True)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return Meta.from_info(info)


def _listing_of(folder: str) -> bytes:
    """Return the listing of a folder as it is."""
    files = {
        str(path): path.relative_to(folder).as_posix() for path in sorted(Path(folder).rglob("*")) if path.is_file()
    }
    hashes = HASHES.md5s(files)
    return listing_bytes({files[path]: md5 for path, md5 in hashes.items() if isinstance(md5, str)})


def _not_stored(cache: str, name: str, error: BaseException) -> str:
    """Say why an output could not be stored."""
    known = refusal(error) if isinstance(error, OSError) else None
    if known:
        return f"outputs cannot be stored in DVC's cache ({cache}). Found: {known.what} ({known.found}). {known.fix}"
    reason = "it changed while it was stored" if isinstance(error, ObjectFormatError) else str(error)
    return f"an output cannot be stored in DVC's cache as {name}: {reason}. Nothing is recorded; run again."


def _refused_sources(fs: Any, sources: dict[str, str]) -> dict[str, BaseException]:
    """Refuse files of a remote that must not be fetched: pipes and devices, and more bytes than dvc.lock says."""
    refused: dict[str, BaseException] = {}
    for (name, path), info in zip(
        sources.items(), fs.info(list(sources.values()), return_exceptions=True), strict=True
    ):
        if isinstance(info, Exception):
            continue  # the transfer meets the same error and explains it
        most = LARGEST_LISTING if name.endswith(DIR) else REFUSALS.sizes.get(name)
        problem = None
        if isinstance(fs, LocalFileSystem) and not os.path.isfile(path):
            problem = "is no regular file"
        elif most is not None and (info.get("size") or 0) > most:
            problem = f"has {info['size']} bytes, more than the {most} that it may have"
        if problem:
            REFUSALS.say(f"the remote's object {REFUSALS.owner(name)} {problem}", foreign=True)
        if problem or name in REFUSALS.listings:
            refused[name] = ObjectFormatError(f"{name} is refused")
    return refused


def load_listing(cls: type[Tree], odb: Any, hash_info: Any, hash_name: str | None = None) -> Tree:
    """Read a listing from any store, as `Tree.load` does, and check it first.

    Raises:
        FileNotFoundError: the listing is missing or is refused.
    """
    name = str(hash_info.value)
    stored = odb.get(name)
    if isinstance(odb, CheckedCache):
        odb.refuse_altered([name])
    try:
        if isinstance(stored.fs, LocalFileSystem):
            data = read_regular(stored.path, LARGEST_LISTING + 1)
        else:
            with stored.fs.open(stored.path, "rb") as file:
                data = file.read(LARGEST_LISTING + 1)
        members = read_listing(data, name)
    except (BadListing, IrregularFile) as error:
        why = "is no regular file" if isinstance(error, OSError) else f"is refused: {error}"
        if isinstance(odb, CheckedCache):
            became = set_aside(stored.path, name)
            REFUSALS.say(f"the listing {REFUSALS.owner(name)} in DVC's cache {why}; it is {became}")
        else:
            REFUSALS.say(f"the remote's listing {REFUSALS.owner(name)} {why}", foreign=True)
            REFUSALS.listings.add(name)
        raise FileNotFoundError(errno.ENOENT, "refused", stored.path) from error
    for member in members:
        REFUSALS.note_member(name, member.name, member.md5)
    if hash_name is None and odb.hash_name == "md5-dos2unix":
        hash_name = "md5-dos2unix"
    tree = cls.from_list(json.loads(data), hash_name=hash_name)
    tree.path, tree.fs, tree.hash_info, tree.oid = stored.path, stored.fs, hash_info, name
    return tree


def find_listing(find: Callable[..., Tree | None]) -> Callable[..., Tree]:
    """Wrap `find_tree_by_obj_id` of dvc_data.hashfile.transfer, so that a refused listing fails alone.

    DVC would stop with an assertion and fetch nothing else. An empty folder lets it go on to store the listing, which
    `CheckedCache.add` refuses.
    """

    def found(odbs: Any, obj_id: Any) -> Tree:
        tree = find(odbs, obj_id)
        if tree is None:
            tree = Tree()
            tree.hash_info, tree.oid = obj_id, obj_id.value
        return tree

    return found
