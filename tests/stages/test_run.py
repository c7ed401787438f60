"""`python -P stages/run.py`: the project's own code runs, and a file that lies in the project's folder does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HELLO = """
import difflib, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from stages.work import answer

if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        print(sys.argv[1:], answer(), pool.submit(answer).result(), difflib.__file__)
"""
WORK = """
import difflib, os

def answer():
    return f"code of {os.path.dirname(os.path.abspath(__file__))}" + getattr(difflib, "PLANTED", "")
"""
PLANTED = "from pathlib import Path\nPath('ran').write_text('')\nPLANTED = ' and a planted module'\n"


def project(root: Path, repository: Path) -> Path:
    (root / "stages").mkdir(parents=True)
    shutil.copy(repository / "stages" / "run.py", root / "stages")
    for name, text in {"__init__": "", "hello": HELLO, "work": WORK}.items():
        (root / "stages" / f"{name}.py").write_text(text)
    return root


@pytest.mark.parametrize("planted", ["difflib", "multiprocessing", "runpy", "sitecustomize", "stages/difflib"])
def test_a_module_planted_in_the_folder_is_not_run(tmp_path: Path, repository: Path, planted: str) -> None:
    """Another project's `stages` comes first on the path, as one that is installed in the environment would."""
    mine, installed = project(tmp_path / "mine", repository), project(tmp_path / "installed", repository)
    (mine / f"{planted}.py").write_text(PLANTED)
    done = subprocess.run(
        [sys.executable, "-P", "stages/run.py", "stages.hello", "--run", "simclr"],
        cwd=mine,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = f"code of {mine}/stages"
    assert done.stdout.startswith(f"['--run', 'simclr'] {said} {said} ")
    assert str(mine) not in done.stdout.split()[-1]
    assert not (mine / "ran").exists()


@pytest.mark.parametrize("arguments", [[], ["os"], ["difflib"], ["../stages"]])
def test_only_stages_are_started(repository: Path, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-P", repository / "stages" / "run.py", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("usage: python -P stages/run.py stages.STAGE")
