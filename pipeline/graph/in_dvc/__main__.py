"""Run DVC's command line with checks: `python -m pipeline.graph.in_dvc repro ...`, in the project folder.

DVC has no setting for them: its `verify` holds fetched files against their names, but neither listings, nor names, nor
the run cache, nor what lies in the cache already. So eight functions and classes of DVC are replaced, of the version
that requirements.lock pins; the tests in tests/pipeline/remotes/test_hostile.py fail if a replacement has no effect.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.graph.workspace import STATE


def main() -> int:
    """Run DVC and return its exit status, or 1 if bytes from a remote were refused that it could not compute."""
    command = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")
    _keep_notes_private()
    _install()
    from pipeline.graph.in_dvc.cache import REFUSALS

    if command == "get-output":
        from pipeline.graph.in_dvc.outputs import get_output

        return get_output(*sys.argv[2:])
    from dvc.cli import main as run_dvc

    REFUSALS.optional = command == "repro"
    status = int(run_dvc(sys.argv[1:]) or 0)
    return status or int(REFUSALS.foreign and not REFUSALS.optional)


def _keep_notes_private() -> None:
    """Keep DVC's notes about this folder in the folder.

    Their usual place, /var/tmp/dvc, is open to every user of the machine, and DVC unpickles what it finds there.
    """
    if "DVC_SITE_CACHE_DIR" not in os.environ:
        folder = Path.cwd() / STATE / "dvc"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.environ["DVC_SITE_CACHE_DIR"] = str(folder)


def _install() -> None:
    """Replace what DVC uses by what checks."""
    import dvc.cachemgr
    import dvc.data_cloud
    import dvc_data.hashfile.transfer
    import dvc_data.index.checkout
    from dvc.output import Output
    from dvc.stage.cache import StageCache
    from dvc_data.hashfile.tree import Tree
    from dvc_objects.fs.local import LocalFileSystem

    from pipeline.graph.in_dvc import cache, folder, run_cache

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
        (Output, "_checkout", folder.check_before_checkout),
        (dvc_data.index.checkout, "_create_files", folder.check_before_creation),
    ]
    for owner, name, replace in replacements:
        setattr(owner, name, replace(getattr(owner, name)))  # a DVC without the attribute fails here


if __name__ == "__main__":
    sys.exit(main())
