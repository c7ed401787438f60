"""The message of a failed command, and which failures are worth a retry."""

from __future__ import annotations

import pytest

from pipeline.processes.commands import CommandFailed
from pipeline.processes.failure import failure_message, is_transient


def test_the_stages_own_message_comes_before_dvcs() -> None:
    lines = ["error: the real reason. Found: x.", "ERROR: failed to reproduce 'a': exited with 1"]
    assert failure_message(CommandFailed(["dvc"], 255, lines)) == "the real reason. Found: x."
    assert failure_message(CommandFailed(["dvc"], 255, lines[1:])) == "failed to reproduce 'a': exited with 1"
    assert failure_message(CommandFailed(["dvc"], 255, ["Traceback", "ValueError: x", ""])) == "ValueError: x"
    assert failure_message(CommandFailed(["dvc", "repro"], 3)) == "dvc repro ended with status 3"


def test_the_findings_of_an_error_belong_to_its_message() -> None:
    lines = ["error: 2 wrong parameters in params.yaml:", "  a: no. Found: 1.", "  b: no. Found: 2.", "Correct them."]
    expected = "2 wrong parameters in params.yaml: a: no. Found: 1. b: no. Found: 2."
    assert failure_message(CommandFailed(["check"], 1, lines)) == expected
    assert failure_message(CommandFailed(["check"], 1, ["error: one.", "  not of it"])) == "one."


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
