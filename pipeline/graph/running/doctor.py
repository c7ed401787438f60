"""`reprise doctor`: is everything there that a run needs? Packages, git, DVC, disk, GPU, locks and the remote.

No lock is taken, and nothing is changed, except that a small file of a name of its own is written to the remote and to
the store of shards, read back and removed. Each finding that is not well says what to do.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from pipeline.graph.dvc import cache_folder
from pipeline.graph.remotes.remote import default_remote, try_remote
from pipeline.graph.remotes.stored_shards import stored_shards, try_store
from pipeline.graph.running.processes import what_runs
from pipeline.processes.git import git
from reprise.config.errors import GitError, GraphError, RemoteError, RepriseError, printable
from reprise.runtime.entry import cores

WELL, NOTE, WRONG = "ok", "note", "problem"
_LEAST_FREE = 5 << 30  # bytes
_TORCH_SECONDS = 120.0
_NO_REMOTE = "To share them: `dvc remote add --default NAME URL`, then `reprise push`."
_ABSENT = "The first result makes it. If it should be there, look at its path, and whether its disk is mounted."
_ASK_TORCH = """
import json, torch
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
try:
    import torchvision
    vision = ""
except (ImportError, OSError, RuntimeError) as error:
    vision = str(error)
built_for = torch.version.cuda or torch.version.hip
print(json.dumps({"version": torch.__version__, "built for": built_for, "gpus": gpus, "torchvision": vision}))
"""


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        what: the thing.
        state: `ok`, `note` or `problem`.
        found: what was found.
        fix: what to do; empty where nothing is to be done.
    """

    what: str
    state: str
    found: str
    fix: str = ""

    def row(self) -> list[str]:
        """Return the cells of a table."""
        return [self.what, self.state, f"{self.found}{'. ' if self.fix else ''}{self.fix}"]


def examine(root: Path | None) -> Iterator[Finding]:
    """Look at the environment and, where there is one, the project.

    Args:
        root: the project; None outside of one.
    """
    yield _versions()
    yield from _packages()
    yield _torch()
    yield _git(root)
    if root is None:
        yield Finding("project", NOTE, "this folder is in no project", "Make one: `reprise init FOLDER --images PATH`.")
        return
    yield from _disk(root)
    yield _runs(root)
    yield _remote(root)
    yield from _store(root)


def reprise_version() -> str:
    """Return the version of Reprise; "unknown" where it is not installed and no pyproject.toml states it."""
    try:
        return metadata.version("reprise")
    except metadata.PackageNotFoundError:
        return str(_project_table().get("version", "unknown"))


def _project_table() -> dict[str, object]:
    """Return the table `project` of the pyproject.toml of a clone."""
    import tomllib

    path = Path(__file__).resolve().parents[3] / "pyproject.toml"
    try:
        return dict(tomllib.loads(path.read_text(encoding="utf-8"))["project"])
    except (OSError, KeyError, ValueError):
        return {}


def _versions() -> Finding:
    found = f"Reprise {reprise_version()}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Finding("versions", WELL, f"{found}, {cores()} cores")


def _packages() -> Iterator[Finding]:
    """Hold what is installed against what Reprise asks for."""
    try:
        asked = metadata.requires("reprise") or []
    except metadata.PackageNotFoundError:
        asked = list(_project_table().get("dependencies", []))  # type: ignore[call-overload]
    wrong = []
    for line in asked:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"{wanted.name} {version} is installed, and {wanted.specifier} is asked for")
    if wrong:
        yield Finding("packages", WRONG, "; ".join(wrong), "Run `make setup` in a clone, or install the wheel again.")
    else:
        yield Finding("packages", WELL, f"all {len(asked)} that Reprise asks for")


def _torch() -> Finding:
    """Ask torch for GPUs, in a process of its own: a driver may hang or crash."""
    command = [sys.executable, "-c", _ASK_TORCH]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TORCH_SECONDS, check=False)
        found = json.loads(done.stdout)
    except (ValueError, subprocess.TimeoutExpired) as error:
        reason = "no answer" if isinstance(error, subprocess.TimeoutExpired) else _last_line(done.stderr)
        return Finding("torch", WRONG, f"torch does not start: {reason}", "Install torch again.")
    said = f"torch {found['version']}"
    if found.get("torchvision"):
        why = found["torchvision"].splitlines()[0]
        return Finding(
            "torch", NOTE, f"{said}, but torchvision is built for another torch: {why}",
            "Reprise runs; programs with timm alone do not. Install both from one index of pytorch.org.",
        )  # fmt: skip
    if found["gpus"]:
        return Finding("torch", WELL, f"{said}, {len(found['gpus'])} GPU: {', '.join(found['gpus'])}")
    if shutil.which("nvidia-smi") and not found["built for"]:
        return Finding(
            "torch", NOTE, f"{said} is built for CPUs, and this machine has an NVIDIA driver",
            "Install torch for your GPU from pytorch.org to train on it.",
        )  # fmt: skip
    return Finding("torch", WELL, f"{said}, no GPU: training takes place on the CPU")


def _git(root: Path | None) -> Finding:
    try:
        version = git("--version", cwd=root or Path()).strip()
        if root is None:
            return Finding("git", WELL, version)
        commit = git("rev-parse", "--short", "HEAD", cwd=root).strip()
        return Finding("git", WELL, f"{version}, commit {commit}")
    except GitError as error:
        return Finding("git", WRONG, f"{error.what}: {_first_line(error.found)}", error.fix)


def _disk(root: Path) -> Iterator[Finding]:
    places = {"disk": root, "disk of DVC's cache": _cache(root)}
    seen: set[int] = set()
    for what, wanted in places.items():
        place = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
        if place.stat().st_dev in seen:
            continue
        seen.add(place.stat().st_dev)
        free = shutil.disk_usage(place).free
        said = f"{free / 2**30:.1f} GiB free at {place}"
        if not os.access(place, os.W_OK):
            yield Finding(what, WRONG, f"{place} cannot be written", "Give yourself write permission on it.")
        elif free < _LEAST_FREE:
            yield Finding(what, NOTE, said, "`dvc gc --workspace` drops old results from DVC's cache.")
        else:
            yield Finding(what, WELL, said)


def _cache(root: Path) -> Path:
    try:
        return cache_folder(root)
    except GraphError:
        return root


def _runs(root: Path) -> Finding:
    running = what_runs(root)
    if not running:
        return Finding("locks", WELL, "nothing runs here, and no lock is held")
    return Finding("locks", NOTE, f"{len(running)} runs at work", "`reprise status` shows them.")


def _remote(root: Path) -> Finding:
    try:
        name = default_remote(root)
    except (GraphError, RemoteError) as error:
        return Finding("remote", WRONG, _first_line(error), "Correct .dvc/config.")
    if name is None:
        return Finding("remote", NOTE, "none is set, so results stay on this machine", _NO_REMOTE)
    try:
        trial = try_remote(name, root)
    except RepriseError as error:
        return Finding("remote", WRONG, f"{name}: {_first_line(error)}")
    if trial == "absent":
        return Finding("remote", NOTE, f"{name} is a folder that does not exist, and was not tried", _ABSENT)
    said = {
        "tried": "a small file was written to it, read and removed",
        "read only": "it is a web server, which is only read",
    }[trial]
    return Finding("remote", WELL, f"{name} is set, and {said}; `reprise pull` and `push` use it")


def _store(root: Path) -> Iterator[Finding]:
    """Try to write to the store that params.yaml names, and ask the one in which the shards lie for one of them."""
    try:
        place, tried = try_store(root)
        if tried:
            yield Finding("store", WELL, f"a small object was written to {place}, read and removed")
        elif place is not None:
            yield Finding("store", NOTE, f"{place} is a folder that does not exist, and was not tried", _ABSENT)
    except RepriseError as error:
        yield Finding("store", WRONG, _first_line(error))
    try:
        stored = stored_shards(root)
        if stored is None:
            return
        problem = stored.first_problem()
    except RepriseError as error:
        yield Finding("shards", WRONG, _first_line(error))
        return
    if problem:
        fix = "`reprise verify` looks for all of them; `dvc repro --force shard` sends them again."
        yield Finding("shards", WRONG, problem, fix)
        return
    said = f"{len(stored.tars):,} tars, {stored.size / 2**30:.2f} GiB, below {stored.place}, which answers"
    yield Finding("shards", WELL, f"{said}; {stored.here / 2**30:.2f} GiB are here")


def _first_line(text: object) -> str:
    return printable((str(text).strip().splitlines() or [""])[0])


def _last_line(text: str) -> str:
    return printable((text.strip().splitlines() or ["without a word"])[-1])
