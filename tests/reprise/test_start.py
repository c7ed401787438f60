"""`python -P -m reprise.start`: our `stages` and `pipeline` are found, whatever else has these names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from reprise import start

HELLO = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from stages.work import answer

if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        print(sys.argv[1:], answer(), pool.submit(answer).result())
"""
WORK = "import pipeline\n\ndef answer():\n    return pipeline.WHOSE\n"


@pytest.mark.parametrize("installed", ["", "reprise/installed"])
def test_our_packages_come_before_others_in_every_process(tmp_path: Path, repository: Path, installed: str) -> None:
    """As in a clone and as in a wheel; the environment has other packages of these names first on its path."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    (ours / "reprise").mkdir(parents=True)
    shutil.copy(repository / "reprise/start.py", ours / "reprise")
    (ours / "reprise/__init__.py").write_text("")
    for package, files in {"stages": {"hello": HELLO, "work": WORK}, "pipeline": {}}.items():
        for folder, text in ((ours / installed, "WHOSE = 'ours'"), (theirs, "raise SystemExit('theirs')")):
            (folder / package).mkdir(parents=True)
            (folder / package / "__init__.py").write_text(text)
        for name, text in files.items():
            (ours / installed / package / f"{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "reprise.start", "stages.hello", "--run", "simclr"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{theirs}{os.pathsep}{ours}"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "['--run', 'simclr'] ours ours\n"), done.stderr


@pytest.mark.parametrize("arguments", [[], ["os"], ["../stages"], ["stagesx.y"]])
def test_only_our_modules_are_started(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["start", *arguments])
    with pytest.raises(SystemExit, match=r"usage: python -P -m reprise\.start stages\.STAGE"):
        start.main()


def test_a_process_that_has_imported_another_package_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    start.find_own_packages()
    assert isinstance(sys.meta_path[0], start.OwnFinder)
    start.find_own_packages()
    assert len([finder for finder in sys.meta_path if isinstance(finder, start.OwnFinder)]) == 1
    monkeypatch.setitem(sys.modules, "pipeline", ModuleType("pipeline"))
    with pytest.raises(ImportError, match="another package called 'pipeline'"):
        start.find_own_packages()
