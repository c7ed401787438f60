"""Build a wheel whose only top-level package is `reprise`; pyproject.toml says everything else.

`stages` and `pipeline` are names that other projects use too, so a wheel keeps ours in `reprise/installed`
(reprise/start.py finds them there), beside the files from which `reprise init` makes a project. An editable
installation leaves all packages where they are.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

MOVED = ("pipeline", "stages")
INSTALLED = Path("reprise", "installed")
COPIED_FILES = Path("pipeline", "projects", "copied_files.txt").read_text(encoding="utf-8").split()
PROJECT_FILES = ("dvc.yaml", "params.yaml", "prefect.yaml", *COPIED_FILES)


class BuildPackages(build_py):
    """Copy the packages, and then move those that must not be found by their short names."""

    def run(self) -> None:
        """Build; in a wheel, fill `reprise/installed`."""
        super().run()
        if self.editable_mode:
            return
        installed = Path(self.build_lib, INSTALLED)
        shutil.rmtree(installed, ignore_errors=True)
        installed.mkdir(parents=True)
        for package in MOVED:
            shutil.move(Path(self.build_lib, package), installed / package)
        for name in PROJECT_FILES:
            target = installed / "project" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, target)


class DescribePackages(egg_info):
    """Write the metadata, in which `reprise` is the one top-level package."""

    def run(self) -> None:
        """Write the metadata."""
        super().run()
        Path(self.egg_info, "top_level.txt").write_text("reprise\n", encoding="utf-8")


setup(cmdclass={"build_py": BuildPackages, "egg_info": DescribePackages})
