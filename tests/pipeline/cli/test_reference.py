"""Every command says what it writes, how it ends and what its JSON holds; its examples run; the page is fresh."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from pipeline.cli.commands import app
from pipeline.cli.described.completion import runs
from pipeline.cli.described.overview import BEGIN, SECTIONS, summary
from pipeline.cli.described.reference import PAGE, commands, page
from pipeline.cli.exit_codes import MEANINGS, ExitCode
from tests.pipeline.dvc_project import Project

assert PAGE.as_posix() == "docs/reference/command-line.md"  # whose command lines are typed here
ALL = {command.name: command for command in commands(app)}
WITHOUT_JSON = {"flows serve", "worker"}  # run until Ctrl-C
TAKE = {"text", "number", "integer", "yes/no", "list", "list of text", "object", "null", "absent", "anything"}


def test_the_page_is_what_the_commands_say(repository: Path) -> None:
    written = (repository / PAGE).read_text(encoding="utf-8")
    assert written == page(app), f"{PAGE} is stale: run `make docs`"


def test_the_page_tells_what_an_option_takes_from_a_flag() -> None:
    assert "| `--workers` | ADDRESS |" in page(app)
    assert "| `--share-checkpoints` | SECONDS, at least 1.0 |" in page(app)
    assert "| `--force` | flag |" in page(app)


@pytest.mark.parametrize("name", ALL)
def test_a_command_is_described(name: str) -> None:
    description = ALL[name].description
    assert description is not None, f"register `{name}` with pipeline.cli.described.description.command"
    assert description.examples
    assert not description.writes.endswith(".")
    options = {word for param in ALL[name].parser.params for word in param.opts}
    assert ("--json" in options) == (name not in WITHOUT_JSON)
    assert bool(description.fields) == (name not in WITHOUT_JSON)
    for field, text in (description.fields or {}).items():
        kinds, _, meaning = text.partition(": ")
        assert set(kinds.split(" or ")) <= TAKE, (field, kinds)
        assert meaning and not meaning.endswith("."), (field, meaning)
        below = any(other.startswith(f"{field}.") for other in description.fields or {})
        assert below == ("object" in kinds.split(" or ")) or field.endswith("*") or "list" in kinds, field
    if "--wait" in options:
        assert description.busy


def test_the_overview_has_each_command_once_with_its_whole_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    app(["-h"], standalone_mode=False, prog_name="reprise")
    shown = " ".join(capsys.readouterr().out.split())
    named = [name for names in SECTIONS.values() for name in names]
    assert sorted(named) == sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert "..." not in shown.replace("COMMAND [ARGS]...", "")
    assert all(summary(command.parser) in shown for name, command in ALL.items() if " " not in name)
    assert " ".join(BEGIN.split()) in shown


@pytest.mark.parametrize("name", ALL)
def test_the_help_is_whole(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command says what it does, each option what it means; examples and exit codes stand below."""
    app([*name.split(), "--help"], standalone_mode=False, prog_name="reprise")
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: reprise {name} ")
    assert re.search(r"^  Writes ", shown, re.MULTILINE)
    assert re.search(r"^  Exit codes: 0 done; ", shown, re.MULTILINE)
    description = ALL[name].description
    assert description is not None
    assert all(f"    {line}\n" in shown for line in description.examples)
    context = typer.Context(ALL[name].parser, info_name=name)
    for param in ALL[name].parser.params:
        words, meaning = param.get_help_record(context)
        assert len(meaning) > 10, words
        assert param.help.rstrip()[-1] in ".?", (words, param.help)


EXAMPLES = [
    (name, line) for name, command in ALL.items() if command.description for line in command.description.examples
]


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_an_example_can_be_typed(name: str, line: str) -> None:
    """Its command exists, and takes these arguments and options with these values."""
    words = shlex.split(line)
    assert words[:1] == ["reprise"]
    assert words[1 : 1 + len(name.split())] == name.split()
    ALL[name].parser.make_context(name, words[1 + len(name.split()) :])


def test_every_exit_code_has_a_meaning_and_a_number_of_its_own() -> None:
    assert set(MEANINGS) == set(ExitCode)
    assert [int(code) for code in ExitCode] == [0, 1, 2, 3, 4, 130, 143]  # scripts rely on them


def test_a_command_that_refuses_says_when(repository: Path) -> None:
    """Where the code of a command ends with REFUSED, its description says so, and nowhere else."""
    found = {command.name for command in ALL.values() if command.description and command.description.refused}
    assert found == {"doctor", "drift", "gate", "promote", "verify", "compare", "flows run refresh"}
    source = "".join(path.read_text() for path in sorted((repository / "pipeline/cli").rglob("*.py")))
    assert source.count("Exit(ExitCode.REFUSED)") == len(found) - 1  # flows choose between three


def test_completion_knows_the_commands() -> None:
    group = typer.main.get_command(app)
    assert {"--install-completion", "--show-completion"} <= {word for param in group.params for word in param.opts}


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("reprise export --to h", "huggingface\n"),
        ("reprise promote s", "simclr\n"),
        ("reprise list sch", "schedules\n"),
    ],
)
def test_a_shell_completes_choices_runs_and_kinds(typed: str, offered: str, tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
    text = 'runs:\n  - {name: simclr}\n  - {name: "s\\n\\u001b[31m"}\n  - 3\nadapt: no list\n'
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    asked = {"_REPRISE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    done = Project(tmp_path).reprise(check=False, **asked)
    assert (done.returncode, done.stdout, done.stderr) == (0, offered, "")


def test_what_cannot_be_read_completes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert runs("") == []
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params.yaml").write_text("a: [", encoding="utf-8")
    assert runs("") == []
