"""Why DVC failed, from its own text: a sentence, the text below it, and no advice that would break a lock in use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.graph import dvc
from pipeline.graph.dvc_output import ADVICE, explain_failure, known_failure, with_sentence
from pipeline.graph.workspace import repair_workspace
from pipeline.processes.commands import CommandFailed
from pipeline.processes.failure import failure_message
from reprise.config.errors import GraphError, WorkspaceBusyError
from tests.pipeline.dvc_project import Project, new_project

# As DVC 3.67 writes them.
BUSY = """ERROR: failed to reproduce 'a': '/x/data/a' is busy, it is being blocked by:
  (PID 29371): dvc repro

If there are no processes with such PIDs, you can manually remove '/x/.dvc/tmp/rwlock' and try again."""
TEXTS = [
    (BUSY, "another DVC works on the same files", "(PID 29371): dvc repro"),
    ("ERROR: Unable to acquire lock. Most likely another DVC process is running", "another DVC holds", "Most likely"),
    ("ERROR: configuration error - config file error: Invalid line ('[core') at line 1.", "settings", "at line 1"),
    (
        "ERROR: unexpected error - /x/.git/: repository path '/x' is not owned by current user",
        "another user",
        "/x/.git/",
    ),
    (
        "ERROR: you are not inside of a DVC repository (up to mount point '/')",
        "no DVC repository",
        "mount point",
    ),
    ("ERROR: /x is not a git repository", "not in a git repository, which DVC needs", "/x is not"),
    (
        "ERROR: unexpected error - [Errno 28] No space left on device: '/x/.dvc/cache'",
        "the disk is full",
        "/x/.dvc/cache",
    ),
    ("ERROR: unexpected error - [Errno 13] Permission denied: '/x/.dvc/tmp'", "DVC has no permission", "/x/.dvc/tmp"),
    ("ERROR: unexpected error - [Errno 30] Read-only file system: 'dvc.lock'", "read-only", "dvc.lock"),
    ("ERROR: unexpected error - [Errno 24] Too many open files: 'x'", "too many open files", "Errno 24"),
    ("ERROR: unexpected error - database is locked", "database of file hashes", "database is locked"),
]


@pytest.mark.parametrize(("text", "what", "kept"), TEXTS, ids=[text[1][:25] for text in TEXTS])
def test_what_dvc_says_becomes_a_sentence_above_its_own_text(tmp_path: Path, text: str, what: str, kept: str) -> None:
    lines = ["Running stage 'a':", *text.splitlines(), "", "Having any troubles? Hit us up at https://dvc.org/support"]
    error = known_failure(lines, tmp_path)
    assert error is not None
    first, *rest, fix = str(error).splitlines()
    assert what in first
    assert first.endswith(f" in {tmp_path}:")
    assert any(kept in line and line.startswith("  | ") for line in rest)
    assert fix.endswith(".")
    assert "manually remove" not in str(error)
    assert "Having any" not in str(error)
    message = failure_message(CommandFailed(["dvc"], 255, with_sentence(lines, tmp_path)))
    assert message.startswith(first)
    assert kept in message


def test_a_stage_that_explained_itself_and_an_unknown_failure(tmp_path: Path) -> None:
    lines = ["error: the real reason. Found: Permission denied.", "ERROR: failed to reproduce 'a': exited with 1"]
    assert with_sentence(lines, tmp_path) == lines
    assert known_failure(["ERROR: unexpected error - \x1b[31m?"], tmp_path) is None
    said = str(explain_failure(["ERROR: unexpected error - \x1b[31m?"], tmp_path, "DVC cannot report"))
    assert said.startswith("DVC cannot report in ")
    assert "  | ERROR: unexpected error - \\x1b[31m?" in said
    assert "Found: no output" in str(explain_failure([], tmp_path))
    assert ADVICE.match(BUSY.splitlines()[-1])
    assert ADVICE.match("WARNING: 'data/models' is empty.")
    assert not ADVICE.match("WARNING: 'data/models' cannot be read.")


def test_settings_that_dvc_cannot_read_are_no_missing_remote(tmp_path: Path) -> None:
    built = new_project(tmp_path)
    built.write(".dvc/config.local", "[core\n    remote = s\n")
    for ask in (lambda: dvc.setting("core.remote", built.root), lambda: dvc.cache_folder(built.root)):
        with pytest.raises(GraphError, match="DVC cannot read its settings"):
            ask()


def test_a_dvc_that_works_here_is_named_before_anything_runs(tmp_path: Path) -> None:
    built = Project(tmp_path)
    command = "import time; print('in', flush=True); time.sleep(100)  # dvc"
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        owners = {"pid": other.pid, "cmd": "dvc repro"}
        built.write(".dvc/tmp/rwlock", json.dumps({"write": {str(built.root / "data/shards"): owners}}))
        with pytest.raises(WorkspaceBusyError, match=rf"another DVC works.*process {other.pid}: dvc repro"):
            repair_workspace(built.root, print)
        other.kill()
    said: list[str] = []
    repair_workspace(built.root, said.append)
    assert said == [f"removed stale locks of processes that have ended ({other.pid})"]
