"""Run command lines of the documents as a person would who has installed Reprise: one after the other, in one shell."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from pipeline.processes.commands import environment

SERVERS = ("make serve",)  # they run until somebody ends them
NAMED_BY = {  # commands with ID for what another command has named: a UUID that it printed
    "prefect deployment schedule pause": "prefect deployment schedule ls",
    "prefect flow-run cancel": "prefect deployment run",
}
_POINT = re.compile(r"temperature-[0-9a-f]{10}")  # of a sweep: its hash is another one at a small size
_OWN = ("PREFECT_API", "PREFECT_HOME", "PREFECT_PROFILE", "PYTHONPATH", "VIRTUAL_ENV")  # of whoever runs the tests
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
UNTIL_READY = 180  # seconds for a server to start on a busy machine
IMAGES = 40  # of each of two classes in /path/to/images


class Shell:
    """A shell whose folder and variables last from one line to the next.

    The programs `reprise` and `python` are those of this environment with the code of the clone, `make` takes the
    environment for installed, and `pip` says what it would install, from what is here. /path/to and the home directory
    are folders of the test.

    Attributes:
        folder: where the next line runs.
    """

    def __init__(self, folder: Path, place: Path, code: Path | None = None) -> None:
        """Begin in a folder.

        Args:
            folder: where the first line runs.
            place: of the programs, of /path/to and of the home directory, which are made where they are missing.
            code: the clone that has the code; by default the folder.
        """
        self.folder = folder
        self._place = place
        self._servers: list[subprocess.Popen[str]] = []
        self._named: dict[str, str] = {}
        self._point = ""
        self._port = str(_free_port())
        home, programs = place / "home", place / "environment/bin"
        home.mkdir(exist_ok=True)
        _install(programs, code or folder)
        make_images(place / "path/to")
        if not (home / "photos").exists():
            (home / "photos").symlink_to(place / "path/to/images")
        self._variables = {
            **{name: value for name, value in environment().items() if not name.startswith(_OWN)},
            "HOME": str(home),
            "PATH": f"{programs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PREFECT_SERVER_API_PORT": self._port,
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(UNTIL_READY),
            "PREFECT_API_REQUEST_TIMEOUT": str(UNTIL_READY),
            "REPRISE_THREADS": "1",
            "COLUMNS": "200",
        }

    def __enter__(self) -> Self:
        """Return the shell."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the servers that were started."""
        for server in self._servers:
            os.killpg(server.pid, signal.SIGINT)
        for server in self._servers:
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)

    def run(self, line: str, seconds: float = 1500) -> str:
        """Run a line, and return what it printed.

        Raises:
            AssertionError: it failed; the message has what it printed.
        """
        line = self.local(line)
        if "repro" in line:
            for place in (self.folder, *self.folder.iterdir(), *self.folder.parent.iterdir()):
                if (place / "dvc.yaml").is_file():
                    small(place / "params.yaml")
        if line.startswith(SERVERS):
            return self._serve(line)
        after = self._place / "after"
        text = (
            f"{line}\nstatus=$?\npwd > {shlex.quote(str(after))}\nenv -0 >> {shlex.quote(str(after))}\nexit $status\n"
        )
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", text],
            cwd=self.folder,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == 0, f"{self.folder}$ {line}\n{done.stdout}"
        folder, _, variables = after.read_text(encoding="utf-8").partition("\n")
        self.folder = Path(folder)
        self._variables = dict(item.split("=", 1) for item in variables.split("\0") if item)
        for names in NAMED_BY.values():
            if line.startswith(names) and (found := _UUID.findall(done.stdout)):
                self._named.setdefault(names, found[-1])
        if line.startswith("reprise sweep"):
            self._point = next(iter(_POINT.findall(done.stdout)[::-1]), self._point)
        return done.stdout

    def local(self, line: str) -> str:
        """Put the folders and the port of this test, and small sizes, in the place of those of the page."""
        for written, here in {
            "/path/to/": f"{self._place}/path/to/",
            "127.0.0.1:4200": f"127.0.0.1:{self._port}",
            "train.epochs=120": "train.epochs=2",
            "python -m benchmarks.cost ": "python -m benchmarks.cost --toy ",
            "python -m studies.films drawn": "python -m studies.films drawn --films 40 --frames 20",
            "python -m studies.volumes solids": "python -m studies.volumes solids --count 120",
        }.items():
            line = line.replace(written, here)
        for command, names in NAMED_BY.items():
            if line.startswith(command):
                line = re.sub(r"\bID\b", self._named[names], line)
        return _POINT.sub(self._point, line)

    def _serve(self, line: str) -> str:
        log = self._place / f"server-{len(self._servers)}.log"
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                cwd=self.folder,
                env=self._variables,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                text=True,
                start_new_session=True,
            )
        self._servers.append(process)
        end = time.monotonic() + UNTIL_READY
        while "password" not in (said := log.read_text(encoding="utf-8")):
            assert process.poll() is None and time.monotonic() < end, f"$ {line}\n{said}"
            time.sleep(0.2)
        time.sleep(1)
        return log.read_text(encoding="utf-8")


def small(file: Path, runs: tuple[str, ...] = ()) -> None:
    """Let a params.yaml, or a plan of a sweep, ask for as little work as makes sense; done once, it changes nothing.

    Args:
        file: the file; its comments stay.
        runs: of the table `runs`, these are kept, with their blocks in `methods`; () for all.
    """
    yaml = YAML()
    yaml.width = 1000
    before = file.read_text(encoding="utf-8")
    params = yaml.load(before)
    if runs:
        params["runs"] = [row for row in params["runs"] if row["name"] in runs]
        for name in set(params["methods"]) - set(runs):
            del params["methods"][name]
    _shorten(params)
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)
    if YAML(typ="safe").load(before) == YAML(typ="safe").load(file):
        file.write_text(before, encoding="utf-8")


def _shorten(block: Any) -> None:
    """Set what costs time, wherever it stands."""
    for key, value in block.items() if hasattr(block, "items") else ():
        if key in ("epochs", "train.epochs"):
            block[key] = 1
        elif key in ("warmup_epochs", "train.warmup_epochs"):
            block[key] = 0
        elif key == "clusters" and isinstance(value, int):
            block[key] = min(value, 32)
        elif key == "seeds":
            block[key] = value[:1]
        elif isinstance(value, list):
            for item in value:
                _shorten(item)
        else:
            _shorten(value)


def make_images(folder: Path) -> None:
    """Fill /path/to: photographs of two classes, pictures without classes, and one picture by itself."""
    if (folder / "images").exists():
        return
    rng = np.random.default_rng(0)
    for label, base in (("cat", 60), ("dog", 180)):
        (folder / "images" / label).mkdir(parents=True)
        for i in range(IMAGES):
            noise = rng.integers(0, 60, (24, 24, 3))
            Image.fromarray((base + noise).astype(np.uint8)).save(folder / f"images/{label}/{i}.png")
    for name in ("photos", "pictures", "other/photos", "any"):
        (folder / name).mkdir(parents=True)
        for i, path in enumerate(sorted((folder / "images").rglob("*.png"))):
            shutil.copy(path, folder / name / f"{i}.png")
    for label, base in (("cat", 60), ("dog", 180)):
        (folder / "tonight").mkdir(exist_ok=True)
        for i in range(IMAGES):
            noise = rng.integers(0, 60, (24, 24, 3))
            Image.fromarray((base + noise).astype(np.uint8)).save(folder / f"tonight/{label}-{i}.png")
    Image.open(folder / "any/0.png").save(folder / "any/picture.jpg")


def _install(programs: Path, code: Path) -> None:
    """Write the programs of an environment in which the code of a clone is installed."""
    if programs.exists():
        return
    programs.mkdir(parents=True)
    python = shlex.quote(sys.executable)
    inside = f"PYTHONPATH={shlex.quote(str(code))}"
    start = "import sys; sys.argv[0] = 'reprise'; from reprise.start import command; command()"
    (programs / "installed").touch()
    make = f"VENV={shlex.quote(str(programs.parent))} STAMP={shlex.quote(str(programs / 'installed'))}"
    scripts = {
        "reprise": f'{inside} exec {python} -c "{start}" "$@"',
        "python": f'{inside} exec {python} "$@"',
        "dvc": f'{inside} exec {python} -m dvc "$@"',
        "prefect": f'{inside} exec {python} -m prefect "$@"',
        "make": f'exec {shutil.which("make")} {make} "$@"',
        "pip": f'shift; exec {python} -m pip install --quiet --dry-run --no-deps --no-index --find-links dist "$@"',
    }
    for name, script in scripts.items():
        path = programs / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])
