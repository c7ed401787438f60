"""A remote and a cache that somebody else can write to: nothing of theirs gets into the folder unchecked."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.graph.dvc import Outcome
from pipeline.graph.remotes import remote
from reprise.config.errors import ObjectError
from tests.pipeline.dvc_project import Project
from tests.pipeline.graph.remotes.conftest import clone, ran
from tests.pipeline.graph.remotes.test_remote import restored

PLANTED = b"import os\nos.system('touch PWNED')\n"


class Store:
    """The files of a remote or a cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        return self.folder / "files/md5" / name[:2] / name[2:]

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Put other bytes under a name, with the size, time and mode of before."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.stat() if path.exists() else None
        if before:
            path.chmod(0o644)
        path.write_bytes(data)
        if before:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        path.chmod(0o444)

    def put(self, data: bytes, suffix: str = "") -> str:
        name = hashlib.md5(data).hexdigest() + suffix
        self.write(name, data)
        return name


def outs_of(project: Project) -> dict[str, str]:
    entries = yaml.safe_load(project.lock())["stages"].values()
    return {out["path"]: out["md5"] for entry in entries for out in entry["outs"]}


def member(store: Store, listing: str, name: str) -> str:
    return next(each["md5"] for each in json.loads(store.read(listing)) if each["relpath"] == name)


def everything(folder: Path) -> set[str]:
    """All files below the folder's parent that are no state of git, DVC or Reprise."""
    ours = (".git", ".dvc", ".reprise")
    return {
        str(path.relative_to(folder.parent))
        for path in folder.parent.rglob("*")
        if path.is_file() and not any(part in ours for part in path.relative_to(folder.parent).parts[1:-1])
    }


@pytest.fixture
def pushed(origin: Project, tmp_path: Path) -> Store:
    remote.push(origin.root)
    ran(origin)
    return Store(tmp_path / "store")


def damage(origin: Project, store: Store, outside: Path) -> str:
    """Alter a file of the first output, and let the listing of the second lead out of it; return the altered object."""
    outs = outs_of(origin)
    x = member(store, outs["data/first"], "x")
    store.write(x, b"first: 7"[: len(store.read(x))])
    evil = store.put(PLANTED)
    listing = json.loads(store.read(outs["data/second"]))
    names = ("../../difflib.py", "../../.git/hooks/post-checkout", "../../../ESCAPED", str(outside / "absolute"))
    listing += [{"md5": evil, "relpath": name} for name in names]
    store.write(outs["data/second"], json.dumps(listing).encode())
    return x


def test_altered_bytes_and_a_listing_that_leads_out_are_refused(origin: Project, pushed: Store, tmp_path: Path) -> None:
    """The pull fails and names both, and the folder stays as it was."""
    outs = outs_of(origin)
    x = damage(origin, pushed, tmp_path)
    victim = clone(origin, tmp_path / "victim")
    before = everything(victim.root)
    refused = victim.reprise("pull", check=False)
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert "data/first/x" in refused.stderr
    assert x in refused.stderr
    assert outs["data/second"] in refused.stderr
    assert "data/second" in refused.stderr
    assert "reprise push" in refused.stderr
    assert everything(victim.root) == before
    assert not Store(victim.root / ".dvc/cache").path(x).exists()
    assert not (victim.root / ".git/hooks/post-checkout").exists()


@pytest.mark.slow
def test_what_is_refused_is_computed(origin: Project, pushed: Store, tmp_path: Path) -> None:
    outs = outs_of(origin)
    damage(origin, pushed, tmp_path)
    victim = clone(origin, tmp_path / "victim")
    before = everything(victim.root)
    assert restored(victim, pull=True) == [Outcome.RAN] * 2
    assert ran(origin) == ["first", "second"]
    assert outs_of(victim) == outs
    assert everything(victim.root) == before | {f"victim/data/{n}/{f}" for n in ("first", "second") for f in "xy"}
    assert not (victim.root / ".git/hooks/post-checkout").exists()


def _link_to_dev_zero(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _huge(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, 1 << 40)


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [_link_to_dev_zero, _pipe, _huge])
@pytest.mark.parametrize("kind", ["file", "listing", "entry"])
def test_what_never_ends_or_fills_the_disk_is_not_fetched(
    origin: Project, pushed: Store, tmp_path: Path, spoil: Callable[[Path], None], kind: str
) -> None:
    outs = outs_of(origin)
    entry = next(path for path in (pushed.folder / "runs").rglob("*") if path.is_file())
    file = pushed.path(member(pushed, outs["data/first"], "x"))
    spoil({"file": file, "listing": pushed.path(outs["data/first"]), "entry": entry}[kind])
    victim = clone(origin, tmp_path / "victim")
    if kind == "entry":
        lines: list[str] = []
        remote.pull(victim.root, lines.append)
        assert any("run cache is refused" in line for line in lines)
        return
    with pytest.raises(ObjectError, match=r"regular file|more than the|larger than"):
        remote.pull(victim.root)


@pytest.mark.slow
@pytest.mark.parametrize("shared", ["copy", "reflink,copy", "hardlink", "symlink"])
def test_altered_objects_of_a_shared_cache_are_not_restored(origin: Project, tmp_path: Path, shared: str) -> None:
    """Same size, same times, same mode: DVC itself takes the object as it is, and so would the next stage."""
    cache = tmp_path / "shared"
    shutil.copytree(origin.root / ".dvc/cache", cache)
    store, outs = Store(cache), outs_of(origin)
    x = member(store, outs["data/first"], "x")
    victim = clone(origin, tmp_path / "victim")
    victim.dvc("cache", "dir", "--local", str(cache))
    victim.dvc("config", "--local", "cache.type", shared)
    right = store.read(x)
    store.write(x, b"first: 9"[: len(right)])
    done = restored(victim)
    assert done == [Outcome.RAN, Outcome.RESTORED]
    assert (victim.root / "data/first/x").read_bytes() == right
    assert store.read(x) == right  # the run stored the right bytes again
    assert ran(origin) == ["first"]
    # And a fresh output is not replaced by a link to somebody's bytes under its name.
    other = clone(origin, tmp_path / "other")
    other.dvc("cache", "dir", "--local", str(cache))
    other.dvc("config", "--local", "cache.type", shared)
    shutil.rmtree(cache / "runs")
    (other.root / "dvc.lock").unlink()
    store.write(x, b"first: 9"[: len(right)])
    assert restored(other) == [Outcome.RAN] * 2
    assert (other.root / "data/first/x").read_bytes() == right


@pytest.mark.slow
def test_an_altered_object_is_stored_again_from_the_folder(origin: Project) -> None:
    """Nothing runs: the folder still has the bytes that the cache lost."""
    store = Store(origin.root / ".dvc/cache")
    x = member(store, outs_of(origin)["data/first"], "x")
    right = store.read(x)
    store.write(x, b"first: 9"[: len(right)])
    assert restored(origin) == [Outcome.CACHED] * 2
    assert store.read(x) == right
    assert ran(origin) == []


@pytest.mark.slow
def test_entries_of_the_run_cache_fill_only_the_outputs_of_their_stage(
    origin: Project, pushed: Store, tmp_path: Path
) -> None:
    """One names a module of the project, one lies under another stage's name, one is half, one is a bomb."""
    runs = pushed.folder / "runs"
    entries = [path for path in runs.rglob("*") if path.is_file()]
    path = next(
        each for each in entries if "data/second" in each.read_text() and "work.py first" not in each.read_text()
    )
    entry = yaml.safe_load(path.read_text())
    evil = pushed.put(PLANTED)
    planted = entry | {"outs": [{"path": "difflib.py", "hash": "md5", "md5": evil, "size": len(PLANTED)}]}
    os.utime(path, (1, 1))
    bomb = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
    for number, text in enumerate(
        [yaml.dump(planted), path.read_text()[:40], bomb, "!!python/object/apply:os.getcwd []"]
    ):
        (path.parent / f"{number:064x}").write_text(text)
    (runs / "evil.py").write_text("x")
    victim = clone(origin, tmp_path / "victim")
    (victim.root / "dvc.lock").unlink()
    lines: list[str] = []
    remote.pull(victim.root, lines.append)
    assert sum("is refused" in line for line in lines) == 4, lines
    assert sum("no place in the run cache" in line for line in lines) == 1
    shutil.copytree(path.parent, victim.root / ".dvc/cache/runs" / path.parent.relative_to(runs), dirs_exist_ok=True)
    assert restored(victim, pull=True) == [Outcome.RESTORED] * 2  # by the oldest entry of the second: others are bad
    assert (victim.root / "data/second/x").read_bytes() == (origin.root / "data/second/x").read_bytes()
    assert not (victim.root / "difflib.py").exists()
    assert ran(origin) == []


@pytest.mark.slow
def test_nothing_is_written_through_a_link_in_an_output(origin: Project, tmp_path: Path) -> None:
    origin.replace("work.py", '(out / "y").write_text("y")', '(out / "sub").mkdir()\n(out / "sub/y").write_text("y")')
    origin.dvc("repro")
    origin.commit("a folder in a folder")
    remote.push(origin.root)
    victim = clone(origin, tmp_path / "victim")
    outside = tmp_path / "outside"
    outside.mkdir()
    (victim.root / "data/first").mkdir(parents=True)
    (victim.root / "data/first/sub").symlink_to(outside)
    refused = victim.reprise("pull", check=False)
    assert refused.returncode == 1
    assert "symbolic link" in refused.stderr
    assert list(outside.iterdir()) == []


@pytest.mark.slow
def test_results_of_a_revision_are_copied_and_checked(origin: Project, pushed: Store, tmp_path: Path) -> None:
    victim = clone(origin, tmp_path / "victim")
    victim.reprise("get", "data/first", "--out", str(tmp_path / "copy"))
    assert (tmp_path / "copy/x").read_bytes() == (origin.root / "data/first/x").read_bytes()
    x = member(pushed, outs_of(origin)["data/second"], "x")
    pushed.write(x, b"second: 9"[: len(pushed.read(x))])
    refused = victim.reprise("get", "data/second/x", "--out", str(tmp_path / "other"), check=False)
    assert refused.returncode == 1
    assert "data/second/x" in refused.stderr
    assert not (tmp_path / "other").exists()
    again = victim.reprise("get", "data/first", "--out", str(tmp_path / "copy"), check=False)
    assert "place of its own" in again.stderr


@pytest.mark.slow
def test_notes_of_dvc_stay_out_of_the_folder_that_all_users_share(origin: Project) -> None:
    """DVC unpickles its notes, and /var/tmp/dvc is open to everybody."""
    assert restored(origin) == [Outcome.CACHED] * 2
    private = origin.root / ".reprise/dvc"
    assert any(private.rglob("cache.db"))
    assert private.stat().st_mode & 0o77 == 0


@pytest.mark.slow
def test_the_second_pull_reads_nothing_again(origin: Project, pushed: Store, tmp_path: Path) -> None:
    import sqlite3
    import time

    victim = clone(origin, tmp_path / "victim")
    remote.pull(victim.root)
    time.sleep(1.1)  # what is younger than a second is read again
    remote.pull(victim.root)
    with sqlite3.connect(victim.root / ".reprise/hashes.sqlite") as record:
        remembered: list[Any] = record.execute("SELECT path FROM hashes").fetchall()
    assert len(remembered) == 5  # x of two stages, the y that both have, two listings
