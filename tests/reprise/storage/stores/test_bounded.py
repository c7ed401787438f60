"""The bounded folder of fetched files: whole or not at all, within its bound, whoever is killed and whoever reads."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import IO

import pytest

from reprise.storage.stores.bounded import Bounded

SIZE = 10_000
CONTENT = {hashlib.sha256(data).hexdigest(): data for data in (random.Random(i).randbytes(SIZE) for i in range(8))}
NAMES = sorted(CONTENT)


class Maker:
    """Writes the content of a name, and counts how often."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()

    def of(self, name: str) -> object:
        def make(file: IO[bytes]) -> None:
            self.made[name] += 1
            file.write(CONTENT[name])

        return make


def read(cache: Bounded, name: str, maker: Maker) -> bytes:
    descriptor = cache.open(name, SIZE, maker.of(name))  # type: ignore[arg-type]
    try:
        return os.pread(descriptor, SIZE + 1, 0)
    finally:
        os.close(descriptor)


def held(folder: Path) -> int:
    """Bytes in the folder, of what is being made too; locks are empty or a line.

    A file may go while another comes, so only what two listings in a row have in common was there at once.
    """
    before, after = sizes(folder), sizes(folder)
    return sum(after[file] for file in before.keys() & after)


def sizes(folder: Path) -> dict[tuple[str, int], int]:
    """The size of each file by its name and inode."""
    found = {}
    for path in folder.iterdir():
        if not path.name.startswith(".lock"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found[path.name, status.st_ino] = status.st_size
    return found


def test_a_file_is_made_once_and_made_again_when_it_was_cut_short_or_removed(tmp_path: Path) -> None:
    cache, maker = Bounded(tmp_path / "far", 3 * SIZE), Maker()
    for _ in range(3):
        assert read(cache, NAMES[0], maker) == CONTENT[NAMES[0]]
    assert maker.made[NAMES[0]] == 1
    os.truncate(tmp_path / "far" / NAMES[0], 100)
    assert read(cache, NAMES[0], maker) == CONTENT[NAMES[0]]
    (tmp_path / "far" / NAMES[0]).unlink()
    assert read(cache, NAMES[0], maker) == CONTENT[NAMES[0]]
    assert maker.made[NAMES[0]] == 3


def test_those_used_longest_ago_make_room(tmp_path: Path) -> None:
    cache, maker = Bounded(tmp_path / "far", 3 * SIZE), Maker()
    for age, name in enumerate(NAMES[:3]):
        read(cache, name, maker)
        os.utime(tmp_path / "far" / name, (age, age))
    cache._touched.clear()  # as a second later
    read(cache, NAMES[0], maker)
    read(cache, NAMES[3], maker)
    assert {path.name for path in (tmp_path / "far").iterdir() if path.name[0] != "."} == {NAMES[0], *NAMES[2:4]}
    assert held(tmp_path / "far") == 3 * SIZE


def test_what_raises_leaves_nothing(tmp_path: Path) -> None:
    cache = Bounded(tmp_path / "far", 3 * SIZE)

    def make(file: IO[bytes]) -> None:
        file.write(b"half")
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        cache.open(NAMES[0], SIZE, make)
    assert [path for path in (tmp_path / "far").iterdir() if path.name != ".lock"] == []


def test_a_file_stays_readable_while_it_makes_room(tmp_path: Path) -> None:
    cache, maker = Bounded(tmp_path / "far", SIZE), Maker()
    descriptor = cache.open(NAMES[0], SIZE, maker.of(NAMES[0]))  # type: ignore[arg-type]
    read(cache, NAMES[1], maker)
    assert not cache.holds(NAMES[0])
    assert os.pread(descriptor, SIZE, 0) == CONTENT[NAMES[0]]
    os.close(descriptor)


def test_threads_make_a_file_once(tmp_path: Path) -> None:
    cache, maker = Bounded(tmp_path / "far", 2 * SIZE), Maker()
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(read(cache, NAMES[0], maker))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [CONTENT[NAMES[0]]] * 6
    assert maker.made[NAMES[0]] == 1


READER = """
import os, random, sys, pathlib
from tests.reprise.storage.stores.test_bounded import CONTENT, NAMES, SIZE, Maker, read
from reprise.storage.stores.bounded import Bounded
cache, maker, rng = Bounded(pathlib.Path(sys.argv[1]), 3 * SIZE), Maker(), random.Random(int(sys.argv[2]))
for _ in range(150):
    name = rng.choice(NAMES)
    assert read(cache, name, maker) == CONTENT[name]
print("read all")
"""


def test_two_processes_stay_below_the_bound_together(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "far"
    folder.mkdir()
    readers = [
        subprocess.Popen([sys.executable, "-c", READER, str(folder), str(i)], cwd=repository, stdout=subprocess.PIPE)
        for i in range(2)
    ]
    most = 0
    while any(reader.poll() is None for reader in readers):
        most = max(most, held(folder))
        time.sleep(0.001)
    assert [reader.communicate()[0] for reader in readers] == [b"read all\n"] * 2
    assert SIZE <= most <= 3 * SIZE


HALF = """
import sys, pathlib, time
from tests.reprise.storage.stores.test_bounded import CONTENT, NAMES, SIZE
from reprise.storage.stores.bounded import Bounded
def make(file):
    file.write(CONTENT[NAMES[0]][:100]); file.flush()
    print("half", flush=True)
    time.sleep(60)
Bounded(pathlib.Path(sys.argv[1]), SIZE).open(NAMES[0], SIZE, make)
"""


def test_what_a_killed_process_left_makes_room_and_is_made_again(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "far"
    killed = subprocess.Popen([sys.executable, "-c", HALF, str(folder)], cwd=repository, stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"half\n"
    assert held(folder) == SIZE  # the room is taken from the start
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    cache, maker = Bounded(folder, SIZE), Maker()
    assert read(cache, NAMES[1], maker) == CONTENT[NAMES[1]]  # there is room for one
    assert held(folder) == SIZE
    assert read(cache, NAMES[0], maker) == CONTENT[NAMES[0]]
    assert held(folder) == SIZE


def test_a_file_that_was_let_go_makes_room_first_unless_it_is_opened_again(tmp_path: Path) -> None:
    cache, maker = Bounded(tmp_path / "far", 3 * SIZE), Maker()
    for name in NAMES[:3]:
        read(cache, name, maker)
    cache.let_go(NAMES[1])
    cache.let_go(NAMES[2])
    cache.let_go(NAMES[7])  # which is not there
    read(cache, NAMES[2], maker)
    read(cache, NAMES[3], maker)
    assert {path.name for path in (tmp_path / "far").iterdir() if path.name in CONTENT} == {
        NAMES[0],
        NAMES[2],
        NAMES[3],
    }
