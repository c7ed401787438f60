"""Each exit code, by a command that ends with it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from pipeline.cli.commands import app
from pipeline.cli.described.reference import commands
from pipeline.cli.described.usage import usage_error
from pipeline.cli.exit_codes import ExitCode, code_of
from pipeline.cli.flows import _code_of
from pipeline.flows.candidate import JUDGED
from pipeline.processes.commands import CommandFailed, environment
from reprise.config.errors import GraphError, ParameterError, RepriseError, WorkspaceBusyError
from tests.pipeline.cli.answers import strict
from tests.pipeline.dvc_project import REPRISE, Project, wait_for

WORDS = {"where": "x", "found": "y", "fix": "z"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GraphError("a", **WORDS), ExitCode.FAILED),
        (ParameterError("a", **WORDS), ExitCode.WRONG),
        (WorkspaceBusyError("a", **WORDS), ExitCode.BUSY),
        (CommandFailed(["dvc"], 255), ExitCode.FAILED),  # DVC's own
        (CommandFailed(["dvc"], 3), ExitCode.FAILED),  # whatever a program means by it
        (CommandFailed(["stages.check"], 2), ExitCode.WRONG),
        (CommandFailed(["x"], 128 + signal.SIGKILL), 137),
        (CommandFailed(["x"], 130), ExitCode.INTERRUPTED),
    ],
)
def test_an_error_has_one_code(error: RepriseError | CommandFailed, code: int) -> None:
    assert code_of(error) == code


@pytest.mark.parametrize("words", ["params simclr", "list --json"])
def test_a_reader_that_leaves_ends_a_command_without_a_word(repository: Path, words: str) -> None:
    """`reprise params simclr | head -n 1`, with more to print than a pipe holds, by the command or by its process."""
    with subprocess.Popen(
        [*REPRISE, *words.split()], cwd=repository, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        said = process.stderr.read().decode()
    assert "Traceback" not in said
    assert "Exception" not in said
    assert process.returncode in (0, 1, 128 + signal.SIGPIPE)  # 0 where all was printed before, 1 by typer


def test_states_of_flows() -> None:
    assert [_code_of(state) for state in (*JUDGED, "Dropped", "Failed", "Crashed", "Cancelled")] == [3, 3, 4, 1, 1, 1]


def test_who_holds_the_folder_ends_the_others_with_busy(toy: Project) -> None:
    """And Ctrl-C ends it with 130, also for a program that asked for JSON."""
    toy.write("input.txt", "sleep")
    first = subprocess.Popen(
        [*REPRISE, "repro", "--json"], cwd=toy.root, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for((toy.root / "sleeping").exists)
        for words in (["repro"], ["verify"]):
            done = toy.reprise(*words, "--json", check=False)
            assert done.returncode == ExitCode.BUSY, done.stderr
            assert strict(done.stdout)["error"]["exit_code"] == ExitCode.BUSY
    finally:
        first.send_signal(signal.SIGINT)
        out, _ = first.communicate(timeout=120)
    assert first.returncode == ExitCode.INTERRUPTED
    assert strict(out)["error"]["what"] == "the command was interrupted"


def test_wrong_parameters_end_with_2_before_anything_runs(toy: Project) -> None:
    """The check's own status reaches the shell through every command that checks."""
    toy.write("stages/check.py", "import sys; sys.exit(2)\n")
    for words in (["repro"], ["why"]):
        assert toy.reprise(*words, check=False).returncode == ExitCode.WRONG
    assert toy.ran() == []


LEADS = {command.name: command.parser for command in commands(app)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("export simclr --to tim", "--to has no such choice (reprise export). Found: 'tim'. Use one of: timm,"),
        ("export simclr --to tim", "Did you mean 'timm'?"),
        ("track mlfow", "TRACKER has no such choice (reprise track). Found: 'mlfow'. Use one of: tensorboard, mlflow"),
        ("predict x --head knnn", "Did you mean 'knn'?"),
        ("flows run refresh --on-drift stopp", "Did you mean 'stop'?"),
        ("search x --top 0", "--top must be greater than or equal to 1 (reprise search). Found: '0'."),
        ("search x --top many", "--top must be a valid integer (reprise search). Found: 'many'."),
        ("search x --top", "--top needs a value"),
        ("croissant --date tomorrow", "does not match the formats '%Y-%m-%d'"),
        ("statsu", "there is no such command (reprise). Found: 'statsu'. Did you mean 'status'?"),
        ("flows server", "there is no such command (reprise flows). Found: 'server'. Did you mean 'serve'?"),
        ("search x --tpo 3", "there is no such option (reprise search). Found: '--tpo'. Did you mean '--top'?"),
        ("export", "RUN is missing (reprise export)"),
        ("export a b", "the command takes fewer arguments (reprise export). Found: also b."),
        ("list --json=1", "--json takes no value"),
    ],
)
def test_a_mistake_is_a_sentence_with_what_was_meant(words: str, said: str) -> None:
    with pytest.raises(typer.TyperException) as caught:
        app(words.split(), standalone_mode=False, prog_name="reprise")
    error = usage_error(caught.value)
    assert said in str(error)
    assert code_of(error) == ExitCode.WRONG


def test_every_choice_is_refused_in_our_words() -> None:
    """Also those of options that are added later."""
    choices = [
        (name, param)
        for name, parser in LEADS.items()
        for param in parser.params
        if re.search(r"<\w+(\|\w+)+>$", param.get_help_record(typer.Context(parser, info_name=name))[0])
    ]
    assert len(choices) >= 4
    for name, param in choices:
        words = [word for word in param.opts if word.startswith("--")]
        with pytest.raises(typer.TyperException) as caught:
            LEADS[name].make_context(f"reprise {name}", ["x", *words, "nosuch"] if words else ["nosuch"])
        assert "has no such choice" in str(usage_error(caught.value)), (name, param.name)


@pytest.mark.slow
def test_sigterm_ends_with_143(toy: Project) -> None:
    toy.write("input.txt", "sleep")
    process = subprocess.Popen(
        [*REPRISE, "repro"], cwd=toy.root, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    wait_for((toy.root / "sleeping").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == ExitCode.TERMINATED


def test_the_start_is_light() -> None:
    """What `reprise --help` and `reprise status` load has neither torch nor Prefect in it; nor a stage."""
    code = (
        "import sys, pipeline.cli.errors\n"
        "print([name for name in ('torch', 'prefect', 'dvc', 'stages', 'scipy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert done.stdout == "[]\n"
