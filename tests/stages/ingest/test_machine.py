"""What the machine lacks costs no image: kills from outside, no process, no memory, no open file, a failing disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest

from reprise.config.errors import MachineError
from reprise.runtime.workers import Lost
from reprise.storage.listing import digest_folder
from reprise.storage.system import machine
from reprise.storage.walk import list_entries
from stages.ingest.candidates import examine as examining
from stages.ingest.candidates.examine import Finding, Limits, examine, examine_all, has_memory
from tests.stages.ingest import hostile

LIMITS = Limits(1_000_000, 4)
ITEM = ("a.png", hostile.PNG)
GOOD = Finding("0" * 64, 10, {"width": 1})
HUNGRY = Finding("0" * 64, 10, None, "out_of_memory", "")
KILLED, CRASHED, LATE = Lost(-9), Lost(-11), Lost(None)


class Script:
    """Stands in for the workers: answers what `alone` is asked from a list."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers, self.fresh = answers, 0

    def alone(self, task: object, seconds: float, fresh: bool = False, function: object = None) -> Any:
        self.fresh += fresh
        return self.answers.pop(0)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "_PAUSE", 0.0)
    monkeypatch.setattr(machine, "_PAUSES", (0.0, 0.0))


@pytest.mark.parametrize(
    "ends", [[], [KILLED], [KILLED] * 4, [CRASHED], [LATE], [Lost(-15), CRASHED, KILLED], [Lost(1), KILLED, KILLED]]
)
def test_an_image_is_taken_in_however_often_others_kill_its_process(ends: list[Lost]) -> None:
    pool = Script([*ends, [GOOD]])
    assert examining._examine_alone(pool, ITEM) is GOOD
    assert pool.fresh == len(ends)  # each further attempt has a process of its own


@pytest.mark.parametrize(
    ("ends", "times", "last"),
    [
        ([CRASHED, CRASHED], 2, "its process was ended by SIGSEGV"),
        ([Lost(3), Lost(-6)], 2, "its process was ended by SIGABRT"),
        ([LATE, LATE], 2, "it did not end in time"),
        ([KILLED, CRASHED, KILLED, LATE], 4, "it did not end in time"),
        ([KILLED] * 5 + [None], 5, "its process was ended by SIGKILL"),  # None: the idle process lived on
    ],
)
def test_an_image_that_ends_its_processes_alone_is_refused_and_the_sentence_says_that(
    ends: list[Any], times: int, last: str
) -> None:
    finding = examining._examine_alone(Script(list(ends)), ITEM)
    assert (finding.reason, finding.samples) == ("crashed_decoder", ())
    assert finding.sha256 is not None
    assert finding.detail.startswith(f"It ended its decoding process {times} times, alone in a fresh one each time")
    assert last in finding.detail


def test_a_machine_that_kills_idle_processes_too_is_named() -> None:
    with pytest.raises(
        MachineError, match=r"6 ends in a row, also of a process that did nothing.*out-of-memory killer"
    ):
        examining._examine_alone(Script([KILLED] * 6), ITEM)


def test_too_little_memory_stops_ingest_unless_the_file_asks_for_more_than_any_image() -> None:
    assert examining._with_memory(Script([[GOOD]]), ITEM, LIMITS) is GOOD
    assert examining._with_memory(Script([[HUNGRY], True]), ITEM, LIMITS) is HUNGRY
    for answers in ([[HUNGRY], False], [[HUNGRY], KILLED]):
        with pytest.raises(MachineError, match=r"too little memory.*source\.max_pixels"):
            examining._with_memory(Script(answers), ITEM, LIMITS)
    assert has_memory(LIMITS)
    assert not has_memory(Limits(1 << 58, 4))


def test_without_processes_ingest_decodes_by_itself_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_: SpawnProcess) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(SpawnProcess, "start", refused)
    items = [(name, data) for name, (data, _) in hostile.FILES.items()]
    assert list(examine_all(items, LIMITS, 4)) == list(examine_all(items, LIMITS, 0))
    assert "warning: no worker process can be started (this machine). Found: Cannot allocate memory" in (
        capsys.readouterr().err
    )


def failing(call: Callable[..., Any], number: int, times: int, where: str) -> Callable[..., Any]:
    """A system call that fails `times` times with this error on paths that end with `where`."""
    left = [times]

    def fail(path: Any, *arguments: Any, **more: Any) -> Any:
        if isinstance(path, str | bytes) and os.fsdecode(path).endswith(where) and left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return call(path, *arguments, **more)

    return fail


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT])
def test_a_fault_of_the_machine_while_a_file_is_opened_is_borne_or_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(hostile.PNG)
    monkeypatch.setattr(os, "open", failing(os.open, number, 2, "a.png"))
    assert examine("a.png", str(path), LIMITS).samples  # it passed
    monkeypatch.setattr(os, "open", failing(os.open, number, 99, "a.png"))
    with pytest.raises(MachineError, match="because of the machine, not of the file"):
        examine("a.png", str(path), LIMITS)
    with pytest.raises(MachineError):
        digest_folder(tmp_path, tmp_path / "cache")


def test_a_disk_that_fails_while_a_file_is_read_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(hostile.PNG)

    def broken(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "read", broken)
    with pytest.raises(MachineError, match=r"a\.png.*Input/output error.*dmesg"):
        examine("a.png", str(path), LIMITS)


def test_a_folder_that_the_machine_cannot_list_stops_and_one_without_permission_is_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cat").mkdir()
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", failing(scandir, errno.EMFILE, 99, "cat"))
    with pytest.raises(MachineError, match=r"cat.*ulimit -n"):
        list_entries(tmp_path)
    monkeypatch.setattr(os, "scandir", failing(scandir, errno.EACCES, 99, "cat"))
    assert [(e.text, e.reason) for e in list_entries(tmp_path)] == [("cat", "unreadable")]


def test_permission_is_no_damage_and_no_fault_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(hostile.PNG)
    monkeypatch.setattr(os, "open", failing(os.open, errno.EACCES, 99, "a.png"))
    finding = examine("a.png", str(path), LIMITS)
    assert finding.reason == "unreadable"
    assert finding.detail == "Permission denied. Give yourself read permission on it."


def test_decoders_without_memory_say_nothing_about_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2
    from PIL import ImageFile

    def no_memory(*_: object) -> None:
        error = cv2.error("Insufficient memory")
        error.code = cv2.Error.StsNoMem
        raise error

    monkeypatch.setattr(cv2, "imdecode", no_memory)
    assert examine("a.png", hostile.PNG, LIMITS).reason == "out_of_memory"
    monkeypatch.undo()

    def failed(_: object) -> None:
        raise OSError("out of memory when reading image file")  # PIL.ImageFile._get_oserror(-9)

    monkeypatch.setattr(ImageFile.ImageFile, "load", failed)
    assert examine("a.jpg", hostile.JPEG, LIMITS).reason == "out_of_memory"
