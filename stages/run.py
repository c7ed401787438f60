"""Start a stage with a safe path: `python -P stages/run.py stages.pretrain --run simclr --seed 0`.

`python -m stages.pretrain` puts the working folder in front of Python's own library: a file `difflib.py` that comes
into the folder, from an archive or a remote, would be run by the next command. With `-P` the working folder holds no
modules, and this file finds Reprise's packages in the project that it lies in, and nothing else. So a clone runs its
own code whatever environment is active.
"""

import importlib.abc
import importlib.machinery
import os
import runpy
import sys
from collections.abc import Sequence
from types import ModuleType

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGES = ("reprise", "stages")


class ProjectFinder(importlib.abc.MetaPathFinder):
    """Finds the packages of the project, before any other project of the same name that is installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the specification of one of PACKAGES; for everything else, leave it to the other finders."""
        return importlib.machinery.PathFinder.find_spec(fullname, [PROJECT]) if fullname in PACKAGES else None


def main() -> None:
    """Run the module that the first argument names, with the other arguments."""
    if len(sys.argv) < 2 or not sys.argv[1].startswith("stages."):
        raise SystemExit("usage: python -P stages/run.py stages.STAGE [ARGUMENT ...]")
    os.environ["PYTHONSAFEPATH"] = "1"  # for processes that the stage starts
    del sys.argv[0]
    # `__main__` stays this file, so that the workers of multiprocessing load it before anything else.
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=False)


sys.meta_path.insert(0, ProjectFinder())

if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # while the stage's first modules were loaded; afterwards run_stage answers
        print("interrupted: nothing was done yet", file=sys.stderr)
        sys.exit(130)
