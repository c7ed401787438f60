"""Send the results of some stages to the remote, and fetch what it knows of one, by the entries of the run cache.

`dvc push --run-cache` sends every entry that this folder has ever seen, which a machine that computes stage after stage
cannot afford.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from dvc.exceptions import CollectCacheError, DvcException
from dvc.fs import HTTPFileSystem, generic
from dvc.repo import Repo, lock_repo
from dvc.stage.cache import RunCacheNotSupported, _can_hash, _get_stage_hash

from pipeline.graph.in_dvc.run_cache import fetch_entries

SENT, FAILED = 0, 1
KNOWN, UNKNOWN = 0, 3


def send_stages(*names: str) -> int:
    """Send outputs and entries of stages that are up to date; what the remote has is not sent again.

    Args:
        names: DVC's names of the stages.

    Returns:
        SENT, or FAILED after DVC's own message, or one line "ERROR: ...".
    """
    from dvc.cli import main as run_dvc

    if run_dvc(["--wait-for-lock", "push", *names]):
        return FAILED
    try:
        with Repo(_wait_for_lock=True) as repo:
            with lock_repo(repo):
                entries = [entry for name in names for entry in _entries(repo, name)]
            _send_entries(repo, entries)
    except (DvcException, OSError) as error:
        print(f"ERROR: failed to send the run cache: {error}", file=sys.stderr, flush=True)
        return FAILED
    return SENT


def _entries(repo: Repo, name: str) -> Iterator[tuple[str, str]]:
    """Yield key and value of the entries that say what a stage gives for its present inputs."""
    (stage,) = repo.stage.collect(name)
    if _can_hash(stage):
        key = _get_stage_hash(stage)
        folder = repo.cache.legacy.fs.join(repo.stage_cache.cache_dir, key[:2], key)
        if repo.cache.legacy.fs.exists(folder):
            names = [repo.cache.legacy.fs.name(path) for path in repo.cache.legacy.fs.find(folder)]
            yield from ((key, value) for value in names if not value.endswith(".tmp"))


def _send_entries(repo: Repo, entries: list[tuple[str, str]]) -> None:
    odb = repo.cloud.get_remote_odb(None, "push --run-cache", hash_name="md5-dos2unix")
    if isinstance(odb.fs, HTTPFileSystem):
        raise DvcException(f"a web server keeps no run cache: {odb.path}")
    for key, value in entries:
        there = odb.fs.join(odb.path, "runs", key[:2], key, value)
        if repo.stage_cache._load_cache(key, value) and not odb.fs.exists(there):  # noqa: SLF001
            generic.copy(repo.cache.legacy.fs, repo.stage_cache._get_cache_path(key, value), odb.fs, there)  # noqa: SLF001


def fetch_known(name: str) -> int:
    """Fetch the outputs of a stage if this run cache or the remote's says what it gives for its present inputs.

    Returns:
        KNOWN if all outputs are in the cache, so that DVC restores the stage; else UNKNOWN. FAILED if the remote fails.
    """
    try:
        with Repo(_wait_for_lock=True) as repo:
            with lock_repo(repo):
                (stage,) = repo.stage.collect(name)
                if not _can_hash_now(stage):
                    return UNKNOWN
            fetch_entries(repo.stage_cache, None, key=_get_stage_hash(stage))
            with lock_repo(repo):
                entry = repo.stage_cache._load(stage)  # noqa: SLF001
            if entry is None:
                return UNKNOWN
            cached = repo.stage_cache._create_stage(entry, wdir=stage.wdir)  # noqa: SLF001
            for objects in cached.get_used_objs().values():
                repo.cloud.pull(objects)
            return KNOWN if cached.outs_cached() else UNKNOWN
    except CollectCacheError:
        return UNKNOWN
    except (DvcException, RunCacheNotSupported, OSError) as error:
        print(f"ERROR: failed to fetch what the remote knows: {error}", file=sys.stderr, flush=True)
        return FAILED


def _can_hash_now(stage: Any) -> bool:
    """Hash what a stage reads now, and return whether the run cache can hold it."""
    if not stage.deps or not all(dep.exists for dep in stage.deps):
        return False
    stage.save_deps()
    return bool(_can_hash(stage))
