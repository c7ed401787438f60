"""Replace the parts of DVC that use objects by such as check them first, and keep outputs until there are new ones.

DVC has no setting for this: its `verify` holds fetched files against their names, but neither listings, nor names, nor
the run cache, nor what lies in the cache already; and only `persist`, which switches the run cache off, would leave the
outputs of the previous run where they are. So eleven functions and classes of DVC are replaced, of the version that
requirements.lock pins; tests/pipeline/graph (remotes/test_hostile.py, test_previous_outputs.py) fail if a replacement
has no effect.
Two more say which stage of how many begins, since DVC does not count them, three let DVCs work beside each other, and
one starts stages from a process that has loaded the libraries that they need. For `dvc repro`, entries of the run cache
are fetched one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import dvc.cachemgr
import dvc.data_cloud
import dvc.dvcfile
import dvc.lock
import dvc.repo.reproduce
import dvc.rwlock
import dvc.stage.run
import dvc_data.hashfile.transfer
import dvc_data.index.checkout
from dvc.output import Output
from dvc.stage import Stage
from dvc.stage.cache import StageCache
from dvc_data.hashfile.tree import Tree
from dvc_objects.fs.local import LocalFileSystem

from pipeline.graph.in_dvc import beside, cache, folder, previous, run_cache, steps
from pipeline.graph.in_dvc.stages_in_copies import starting


def install() -> None:
    """Replace what DVC uses by what checks and keeps."""
    plain_odb = dvc.cachemgr.get_odb

    def checked_odb(fs: Any, path: str, **config: Any) -> Any:
        local = isinstance(fs, LocalFileSystem) and config.get("hash_name", "md5") == "md5"
        return cache.CheckedCache(fs, path, **config) if local else plain_odb(fs, path, **config)

    class CheckedRemote(dvc.data_cloud.Remote):
        def __init__(self, name: str, path: str, fs: Any, *, index: Any = None, **config: Any) -> None:
            super().__init__(name, path, fs, index=index, **{**config, "verify": True})

        @cached_property
        def odb(self) -> Any:
            plain = super().odb
            if not isinstance(self.fs, LocalFileSystem):
                return plain
            return cache.FolderRemote(self.fs, plain.path, hash_name=plain.hash_name, **self.config)

    replacements: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (dvc.cachemgr, "get_odb", lambda plain: checked_odb),
        (dvc.data_cloud, "Remote", lambda plain: CheckedRemote),
        (Tree, "load", lambda plain: classmethod(cache.load_listing)),
        (dvc_data.hashfile.transfer, "find_tree_by_obj_id", cache.find_listing),
        (StageCache, "pull", lambda plain: run_cache.fetch_entries),
        (StageCache, "_load_cache", lambda plain: run_cache.load_entry),
        (StageCache, "_load", lambda plain: run_cache.load_newest),
        (Output, "_checkout", folder.check_before_checkout),
        (dvc_data.index.checkout, "_create_files", folder.check_before_creation),
        (dvc.repo.reproduce, "_reproduce", steps.count_stages),
        (dvc.stage.run, "cmd_run", steps.say_before),
        (dvc.stage.run, "_run", starting.start_in_copy),
        (Output, "remove", previous.keep_previous),
        (Stage, "_run_stage", previous.forget_previous),
        (dvc.dvcfile, "modify_yaml", beside.replace_whole_file),
        (dvc.rwlock, "_edit_rwlock", beside.replace_whole_notes),
        (dvc.lock.Lock, "lock", beside.look_often),
    ]
    for owner, name, replace in replacements:
        setattr(owner, name, replace(getattr(owner, name)))  # a DVC without the attribute fails here


def do_without_locks() -> None:
    """Let this process neither take DVC's locks nor wait for them; for commands that only read the project.

    While a stage runs, DVC keeps its outputs locked, and while it hashes or writes, everything.
    """
    dvc.lock.make_lock = lambda *arguments, **options: dvc.lock.LockNoop()
    dvc.rwlock.rwlock = lambda *arguments, **options: nullcontext()


def fetch_entries_one_by_one() -> None:
    """Let `dvc repro --pull` fetch what the remote's run cache says of each stage when its turn comes."""
    setattr(StageCache, "pull", run_cache.fetch_when_loaded)  # noqa: B010 - of a class without types
