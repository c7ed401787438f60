"""Copy outputs of any revision out of the cache, or out of the remote, and check every file of the copy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath

from dvc.config import NoRemoteError
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from pipeline.graph.in_dvc.cache import REFUSALS, CheckedCache
from reprise.storage.atomic import atomic_directory, atomic_file
from reprise.storage.content_hashes import DIR, md5_of_file

DONE, REFUSED_STATUS, MISSING_STATUS = 0, 1, 3


class Missing(Exception):
    """Neither the cache nor the remote has an object."""


def get_output(outs: str, path: str, target: str) -> int:
    """Copy a file or folder of outputs.

    Args:
        outs: the outputs of a revision as JSON, a list of [path, name of the object].
        path: the file or folder of the project at that revision.
        target: where to put the copy; it must not exist.

    Returns:
        DONE, MISSING_STATUS, or REFUSED_STATUS after bytes that are not what their names say.
    """
    wanted = PurePosixPath(path)
    try:
        with Repo() as repo:
            files: dict[PurePosixPath, str] = {}
            for out, md5 in json.loads(outs):
                files |= _members(repo, PurePosixPath(out), md5, wanted)
            if not files:
                raise Missing
            _pull(repo, files.values())
            return _copy(repo.cache.local, files, wanted, Path(target))
    except Missing:
        return REFUSED_STATUS if REFUSALS.foreign else MISSING_STATUS


def _pull(repo: Repo, names: object) -> None:
    """Fetch the objects that are not here; without a remote, nothing is fetched."""
    try:
        repo.cloud.pull([HashInfo("md5", name) for name in set(names)])  # type: ignore[call-overload]
    except NoRemoteError:
        return


def _members(repo: Repo, out: PurePosixPath, md5: str, wanted: PurePosixPath) -> dict[PurePosixPath, str]:
    """Return the files of one output that lie at or below the wanted path, with their objects."""
    REFUSALS.paths.setdefault(md5, []).append(out.as_posix())
    if not md5.endswith(DIR):
        return {out: md5} if out.is_relative_to(wanted) else {}
    _pull(repo, [md5])
    try:
        tree = Tree.load(repo.cache.local, HashInfo("md5", md5))
    except FileNotFoundError as error:
        raise Missing from error
    files = {out.joinpath(*parts): info.value for parts, (_, info) in tree.as_dict().items() if info and info.value}
    return {file: name for file, name in files.items() if file.is_relative_to(wanted)}


def _copy(cache: CheckedCache, files: dict[PurePosixPath, str], wanted: PurePosixPath, target: Path) -> int:
    if cache.refuse_altered(sorted(set(files.values()))):
        raise Missing
    if wanted in files:
        with atomic_file(target) as file, open(cache.oid_to_path(files[wanted]), "rb") as source:
            shutil.copyfileobj(source, file)
        copies = {target: files[wanted]}
        return _refuse_copies(copies, target)
    with atomic_directory(target) as folder:
        copies = {}
        for path, name in files.items():
            copy = folder / path.relative_to(wanted)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cache.oid_to_path(name), copy)
            copies[copy] = name
    return _refuse_copies({target / copy.relative_to(folder): name for copy, name in copies.items()}, target)


def _refuse_copies(copies: dict[Path, str], target: Path) -> int:
    """Hash the copies: the cache may belong to others, who can change an object after it was checked."""
    for copy, name in copies.items():
        if md5_of_file(copy) != name:
            REFUSALS.say(f"the copy of {REFUSALS.owner(name)} has other bytes than its name says")
            shutil.rmtree(target) if target.is_dir() else target.unlink()
            return REFUSED_STATUS
    return DONE
