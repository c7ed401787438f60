"""Start Reprise's own code: `python -P -m reprise.start stages.pretrain --run simclr --seed 0`.

Any environment may have packages called `stages` and `pipeline` that are not ours. A wheel therefore keeps ours in
`reprise/installed`, where Python's path does not lead, and only processes of Reprise look there: those that this module
starts, the command `reprise`, and whoever imports `reprise.flows`. In a clone both lie beside `reprise`, and
`stages/run.py` starts the stages.

It imports the standard library only, and nothing happens when it is imported.
"""

import importlib
import importlib.abc
import importlib.machinery
import os
import runpy
import sys
from collections.abc import Sequence
from types import ModuleType

_HERE = os.path.dirname(os.path.abspath(__file__))
_INSTALLED = os.path.join(_HERE, "installed")  # exists in a wheel only; setup.py fills it
FOLDER = _INSTALLED if os.path.isdir(_INSTALLED) else os.path.dirname(_HERE)
PACKAGES = ("pipeline", "stages")


class OwnFinder(importlib.abc.MetaPathFinder):
    """Finds our packages before any others of the same name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the specification of one of PACKAGES; for everything else, leave it to the other finders."""
        return importlib.machinery.PathFinder.find_spec(fullname, [FOLDER]) if fullname in PACKAGES else None


def find_own_packages() -> None:
    """Let this process find `pipeline` and `stages` in this installation of Reprise.

    Raises:
        ImportError: the process has already imported another package of one of these names.
    """
    if not any(isinstance(finder, OwnFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, OwnFinder())
    for name in PACKAGES:
        folders = [os.path.abspath(folder) for folder in getattr(sys.modules.get(name), "__path__", ())]
        if name in sys.modules and os.path.join(FOLDER, name) not in folders:
            raise ImportError(
                f"this process has imported another package called {name!r} ({', '.join(folders) or 'a module'}). "
                "Import Reprise in a process that does not need that package."
            )


def command() -> None:
    """Run the command `reprise`."""
    find_own_packages()
    importlib.import_module("pipeline.cli.main").main()


def main() -> None:
    """Run the module of `stages` or `pipeline` that the first argument names, with the other arguments."""
    if len(sys.argv) < 2 or sys.argv[1].partition(".")[0] not in PACKAGES:
        raise SystemExit("usage: python -P -m reprise.start stages.STAGE [ARGUMENT ...]")
    if sys.argv[1].startswith("stages."):
        os.environ["PYTHONSAFEPATH"] = "1"  # for processes that the stage starts
    del sys.argv[0]
    # `__main__` stays this file, so that the workers of multiprocessing load it before anything else.
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=False)


if __name__ in ("__main__", "__mp_main__"):
    find_own_packages()

if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # while the first modules were loaded; afterwards the module itself answers
        print("interrupted: nothing was done yet", file=sys.stderr)
        sys.exit(130)
