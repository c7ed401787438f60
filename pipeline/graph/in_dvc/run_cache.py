"""Fetch and read entries of the run cache, which say what a stage gave for which inputs, and check them first.

An entry is named after the hash of command, inputs and output paths, and after the hash of its whole content. So an
entry under the right name is about this stage and fills only this stage's outputs. Whether the outputs are those that
the command gives, no hash can tell: docs/trust.md says whom one has to trust.
"""

from __future__ import annotations

import copy
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dvc.config import RemoteConfigError
from dvc.fs import HTTPFileSystem
from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA
from dvc.stage.cache import RunCacheNotSupported, StageCache, _get_cache_hash, _get_stage_hash
from dvc_objects.fs.local import LocalFileSystem
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent
from voluptuous import Invalid

from pipeline.graph.in_dvc.cache import REFUSALS
from pipeline.graph.in_dvc.refusals import set_aside
from pipeline.graph.remotes.listings import is_object_name
from reprise.storage.atomic import atomic_file
from reprise.storage.content_hashes import IrregularFile, read_regular

_ENTRY = re.compile(r"(?P<start>[0-9a-f]{2})/(?P<key>(?P=start)[0-9a-f]{62})/(?P<value>[0-9a-f]{64})")
_LARGEST = 4 << 20  # bytes
_JOBS = 16
_KEYS = frozenset({"path", "md5", "hash", "size", "nfiles", "isexec"})  # of an output; others name places elsewhere


class BadEntry(Exception):
    """An entry is not what its name says, or it must not be used; the text says why."""


def read_entry(data: bytes, key: str, value: str) -> dict[str, Any]:
    """Parse an entry and check it.

    Args:
        data: the content of the file.
        key: the name of its folder: the hash of command, inputs and output paths.
        value: the name of the file: the hash of the content.

    Raises:
        BadEntry: it has another form or another name than DVC gives.
    """
    if len(data) > _LARGEST:
        raise BadEntry(f"it is larger than {_LARGEST >> 20} MiB")
    try:
        yaml = YAML(typ="safe", pure=True)
        if any(isinstance(event, AliasEvent) for event in yaml.parse(data)):
            raise BadEntry("it repeats parts by reference, as DVC never does")
        entry = COMPILED_LOCK_FILE_STAGE_SCHEMA(YAML(typ="safe").load(data))
        outs = entry.get("outs") or []
        for out in outs:
            if out.get("hash") != "md5" or not is_object_name(out.get("md5")) or not out.keys() <= _KEYS:
                raise BadEntry(f"an output has another form than DVC gives: {str(out)[:200]}")
        if not outs or _get_cache_hash(copy.deepcopy(entry), key=True) != key or _get_cache_hash(entry) != value:
            raise BadEntry("its content has another hash")
    except (YAMLError, Invalid, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadEntry(
            f"it cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    return entry


def fetch_entries(
    self: StageCache, remote: str | None, odb: Any = None, key: str | None = None
) -> list[tuple[str, str]]:
    """Fetch the entries of a remote that are not here, in place of `StageCache.pull`; each is checked first.

    Args:
        self: the run cache of this folder.
        remote: name of the remote; None for the default one.
        odb: the remote itself, where it is known.
        key: of the one stage whose entries are wanted, in one listing of them alone; None lists all that there are.
    """
    odb = odb or _remote_of(self, remote)
    runs = odb.fs.join(odb.path, "runs")
    wanted = []
    for source in _listed(odb.fs, odb.fs.join(runs, key[:2], key) if key else runs):
        match = _ENTRY.fullmatch(odb.fs.as_posix(source).removeprefix(odb.fs.as_posix(runs)).lstrip("/"))
        if not match:
            if not source.endswith(".tmp"):  # an unfinished upload
                REFUSALS.say(f"the remote's file {source} has no place in the run cache")
        elif not os.path.exists(self._get_cache_path(match["key"], match["value"])):
            wanted.append((source, match["key"], match["value"]))

    def fetch(source: str, key: str, value: str) -> tuple[str, str] | None:
        try:
            data = _read(odb.fs, source)
            read_entry(data, key, value)
        except (BadEntry, IrregularFile) as error:
            REFUSALS.say(f"the remote's entry {source} of the run cache is refused: {error}")
            return None
        with atomic_file(Path(self._get_cache_path(key, value))) as file:
            file.write(data)
        return key, value

    with ThreadPoolExecutor(_JOBS) as pool:
        return [fetched for fetched in pool.map(lambda each: fetch(*each), wanted) if fetched]


def fetch_when_loaded(self: StageCache, remote: str | None) -> list[tuple[str, str]]:
    """Let each stage fetch its own entries when it looks for them, in place of `StageCache.pull` for `dvc repro`.

    DVC fetches all entries before the first stage, which a remote of many runs makes longer than most stages take.
    """
    self.asked_for_entries = _remote_of(self, remote)
    return []


def _remote_of(self: StageCache, remote: str | None) -> Any:
    """Return a remote that has a run cache.

    Raises:
        RunCacheNotSupported: there is no remote, or it is a web server.
    """
    try:
        odb = self.repo.cloud.get_remote_odb(remote, "fetch --run-cache", hash_name="md5-dos2unix")
    except RemoteConfigError as error:
        raise RunCacheNotSupported(error) from error
    if isinstance(odb.fs, HTTPFileSystem):
        raise RunCacheNotSupported(f"run-cache is not supported for http filesystem: {odb.path}")
    return odb


def _listed(fs: Any, folder: str) -> list[str]:
    try:
        return list(fs.find(folder))
    except FileNotFoundError:
        return []


def load_entry(self: StageCache, key: str, value: str) -> dict[str, Any] | None:
    """Read an entry of the local run cache, in place of `StageCache._load_cache`; a bad one is set aside."""
    path = self._get_cache_path(key, value)
    try:
        return read_entry(read_regular(path, _LARGEST + 1, follow=False), key, value)
    except FileNotFoundError:
        return None
    except (BadEntry, IrregularFile) as error:
        became = set_aside(path, value)
        REFUSALS.say(f"the entry {path} of DVC's run cache is refused: {error}; it is {became}")
        return None


def load_newest(self: StageCache, stage: Any) -> dict[str, Any] | None:
    """Return the newest entry for a stage, in place of `StageCache._load`, which stops at a bad one."""
    key = _get_stage_hash(stage)
    odb = getattr(self, "asked_for_entries", None)
    if odb is not None:
        fetch_entries(self, None, odb, key)
    folder = Path(self._get_cache_dir(key))
    files = sorted(folder.iterdir(), key=lambda file: file.lstat().st_mtime, reverse=True) if folder.is_dir() else []
    entries = (load_entry(self, key, file.name) for file in files if not file.name.endswith(".tmp"))
    return next((entry for entry in entries if entry is not None), None)


def _read(fs: Any, path: str) -> bytes:
    if isinstance(fs, LocalFileSystem):
        return read_regular(path, _LARGEST + 1)
    with fs.open(path, "rb") as file:
        return file.read(_LARGEST + 1)
