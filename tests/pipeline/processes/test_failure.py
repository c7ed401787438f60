"""The message of a failed command, and which failures are worth a retry."""

from __future__ import annotations

import pytest

from pipeline.cli.errors import print_error
from pipeline.processes.commands import CommandFailed
from pipeline.processes.failure import (
    LAST_LINES,
    STAGES_FAILED,
    failure_message,
    failure_of,
    is_transient,
    own_sentence,
)


def test_the_stages_own_message_comes_before_dvcs() -> None:
    lines = ["error: the real reason. Found: x.", "ERROR: failed to reproduce 'a': exited with 1"]
    assert failure_message(CommandFailed(["dvc"], 255, lines)) == "the real reason. Found: x."
    assert failure_message(CommandFailed(["dvc"], 255, lines[1:])) == "failed to reproduce 'a': exited with 1"
    assert failure_message(CommandFailed(["dvc"], 255, ["Traceback", "ValueError: x", ""])) == "ValueError: x"
    assert failure_message(CommandFailed(["dvc", "repro"], 3)) == "dvc repro ended with status 3"


def test_the_findings_of_an_error_belong_to_its_message() -> None:
    lines = ["error: 2 wrong parameters in params.yaml:", "  a: no. Found: 1.", "  b: no. Found: 2.", "Correct them."]
    expected = "2 wrong parameters in params.yaml: a: no. Found: 1. b: no. Found: 2. Correct them."
    assert failure_message(CommandFailed(["check"], 1, lines)) == expected
    assert failure_message(CommandFailed(["dvc"], 255, [*lines, "ERROR: failed to reproduce 'a'"])) == expected
    assert failure_message(CommandFailed(["dvc"], 255, [*lines[:3], "ERROR: failed to run: a"])) == expected[:-14]
    assert failure_message(CommandFailed(["check"], 1, ["error: two:", "  a", "  b", "Do."])) == "two: a b. Do."
    assert failure_message(CommandFailed(["check"], 1, ["error: one.", "  not of it"])) == "one."
    assert failure_message(CommandFailed(["check"], 1, ["error: one:", "not of it"])) == "one:"


DEFECT = [
    *(f"pretrain: step {n}" for n in range(300)),
    "Traceback (most recent call last):",
    '  File "plugins/methods/mine.py", line 3, in loss',
    "ZeroDivisionError: division by zero",
    "ERROR: failed to reproduce 'pretrain': failed to run: python -m stages.pretrain, exited with 1",
]


def test_a_process_that_explained_nothing_is_told_by_its_end_and_the_place_of_all_output() -> None:
    """Its whole output stands nowhere in the message, however much it wrote."""
    message = failure_message(CommandFailed(["dvc"], 255, DEFECT), "a/log.txt")
    status = "failed to reproduce 'pretrain': failed to run: python -m stages.pretrain, exited with 1"
    assert message == f"{status}; its last line: ZeroDivisionError: division by zero; all output: a/log.txt"
    only_dvc = ["Running stage 'a':", "> python -m stages.a", "", "ERROR: failed to reproduce 'a': exited with -9"]
    assert failure_message(CommandFailed(["dvc"], 255, only_dvc)) == "failed to reproduce 'a': exited with -9"
    assert failure_message(CommandFailed(["dvc"], 255, ["one", "ERROR: unexpected error: x"])) == "unexpected error: x"
    assert failure_message(CommandFailed(["dvc"], 1, ["error: the reason."]), "a/log.txt") == "the reason."


def test_the_parts_of_a_failure() -> None:
    dvc = ["python", "-P", "-m", "reprise.start", "pipeline.graph.in_dvc", "--wait-for-lock", "repro", "pretrain"]
    unexplained = failure_of(CommandFailed(dvc, 255, shown=DEFECT))
    assert (unexplained.what, unexplained.where) == ("dvc repro failed with exit status 255", "dvc repro")
    assert unexplained.found.strip("\n").split("\n") == [f"  | {line}" for line in DEFECT[-LAST_LINES:]]
    assert "stderr" in unexplained.fix
    explained = failure_of(CommandFailed(["python", "-m", "stages.check"], 2, ["noise", "error: a: no. Found: 1. Do."]))
    assert (explained.what, explained.found) == ("stages.check failed with exit status 2", "a: no. Found: 1. Do.")
    stages = failure_of(CommandFailed(STAGES_FAILED, 1, ["failed: a; error: x", "not run: b"]))
    assert (stages.what, stages.found) == ("stages of the graph failed", "\n  failed: a; error: x\n  not run: b")
    assert failure_of(CommandFailed(["dvc"], 3)).found == "no output"


@pytest.mark.parametrize(
    ("line", "passes"),
    [
        ("error: the archive cannot be downloaded (https://x). Found: timed out. Fetch it.", True),
        ("error: the archive cannot be downloaded (https://x). Found: Service Unavailable. Fetch it.", True),
        ("error: the archive cannot be downloaded (https://x). Found: Not Found. Fetch it.", False),
        ("error: the archive has another checksum (x). Found: 12. Fetch it again.", False),
        ("step 3: timed out waiting for nothing", False),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(line: str, passes: bool) -> None:
    assert is_transient([line, "ERROR: failed to reproduce 'ingest'"]) is passes


def test_a_line_without_a_sentence_explains_nothing() -> None:
    assert own_sentence(["error: ", "error:"]) is None
    error = CommandFailed(("git", "push", "https://me:secret@host/x"), 128, lines=["fatal: no"])
    assert failure_message(error) == "fatal: no"


def test_the_sentence_of_a_program_that_explained_nothing_holds_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(CommandFailed(("git", "push", "https://me:secret@host/x"), 128, lines=["fatal: no"]))
    assert "failed with exit status 128" in (said := capsys.readouterr().err)
    assert "secret" not in said
