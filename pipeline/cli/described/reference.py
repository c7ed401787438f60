"""`python -m pipeline.cli.described.reference FILE`: the page of the documentation with every command.

Commands, options and defaults are read from the parser itself, and the rest from what the commands are registered with.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import typer

from pipeline.cli.described.description import Description, description_of
from pipeline.cli.described.overview import summary
from pipeline.cli.exit_codes import MEANINGS
from reprise.storage.atomic import atomic_file

PAGE = Path("docs/reference/command-line.md")
WIDTH = 140  # columns of the pages
_HEAD = """# Command line

`make docs` writes this page from the commands. `reprise COMMAND --help` shows the same of one command.

Commands work in the project around the current folder: the nearest folder, from here upward, that holds `dvc.yaml` and
`params.yaml`. `init`, `doctor`, `embed`, `probe`, `list presets`, and `export` of a folder need none. Paths on the
command line are relative to the current folder. `reprise --version` shows the version.

`reprise --install-completion` lets your shell (bash, zsh, fish, PowerShell) complete commands, options, runs and
kinds of plug-ins, by writing into its settings; `--show-completion` prints what it would write.

## Exit codes

A script may rely on these. Those that a command can end with are listed with it.

"""
_JSON = """
## JSON

With `--json` a command prints one JSON document on stdout and nothing else; progress, notes and what child processes
say go to stderr. The document is strict JSON in ASCII. The names of its fields stay; new ones may be added.

- A number that JSON does not know is one of the texts `"NaN"`, `"Infinity"` and `"-Infinity"`.
- A byte of a file name that is no UTF-8 is the text `\\udcXX`, with the byte as `XX`.
- In a field below, `[]` stands for each element of a list, and `*` for a name that the data give.
- Where there is a result, it is printed whatever the exit code: `drift` prints its findings and ends with 3.
- Where there is none, the document is an error. It has the parts of the sentence on stderr, and secrets are hidden in
  both. If a child process failed, `what` names it, and `found` is its own sentence, or else its last lines; stderr has
  all that it wrote:

```json
{"error": {"what": "the mistake", "where": "a file, an option or a program", "found": "what was there",
           "fix": "what to do", "exit_code": 1}}
```

A process that is killed at once (SIGKILL) prints no document, so a script looks at the exit code first.
"""


class Command(NamedTuple):
    """A command: its name with the groups before it, the parser's object, and what is said of it besides."""

    name: str
    parser: Any
    description: Description | None


def commands(app: typer.Typer) -> list[Command]:
    """List all commands in the order of the help, those of groups in the place of the group."""
    return list(_below(typer.main.get_command(app), ""))


def _below(group: Any, before: str) -> Iterator[Command]:
    for name, parser in group.commands.items():
        if hasattr(parser, "commands"):
            yield from _below(parser, f"{before}{name} ")
        else:
            yield Command(f"{before}{name}", parser, description_of(parser.callback))


def page(app: typer.Typer) -> str:
    """Return the page."""
    found = commands(app)
    codes = _table(["code", "name", "meaning"], [[str(int(c)), f"`{c.name}`", text] for c, text in MEANINGS.items()])
    listed = _table(
        ["command", "what it does", "3 means"],
        [[f"[`{c.name}`](#{_anchor(c.name)})", summary(c.parser), _refused(c.description)] for c in found],
    )
    sections = "\n".join("\n".join(_section(command)) for command in found)
    return f"{_HEAD}{codes}\n{_JSON}\n## Commands\n\n{listed}\n\n{sections}"


def _section(command: Command) -> Iterator[str]:
    description = command.description or Description((), "nothing")
    yield f"### {command.name}\n"
    yield _wrapped(command.parser.help)
    context = typer.Context(command.parser, info_name=command.name)
    rows = [_parameter(parameter, context) for parameter in command.parser.params]
    if rows:
        yield _table(["argument or option", "values", "default", "meaning"], rows) + "\n"
    yield f"Writes {description.writes}.\n"
    exits = "; ".join(f"{int(code)} {words}" for code, words in description.exits().items())
    yield f"Exit codes: {exits}.\n"
    yield (
        "<!-- run by tests/pipeline/cli/test_reference.py -->\n```console\n"
        + "\n".join(f"$ {line}" for line in description.examples)
        + "\n```\n"
    )
    if description.fields:
        yield "Fields with `--json`:\n"
        yield _table(["field", "type", "meaning"], [_field(*item) for item in description.fields.items()]) + "\n"


def _parameter(parameter: Any, context: typer.Context) -> list[str]:
    """Return the cells of an argument or option, from what the help shows of it."""
    shown, meaning = parameter.get_help_record(context)
    values = _VALUES.search(shown)
    extras = _EXTRAS.search(meaning)
    facts = extras["facts"].split("; ") if extras else []
    default = next((fact.removeprefix("default: ") for fact in facts if fact.startswith("default: ")), "")
    limits = [words for words in map(_limits, facts) if words]
    if parameter.param_type_name == "argument":
        name = (parameter.metavar or parameter.name).upper()
    else:
        name = ", ".join([*parameter.opts, *parameter.secondary_opts])
    if values:
        kind = _TYPES.get(values["kind"], values["kind"].replace("|", ", "))
    else:
        kind = "flag" if getattr(parameter, "is_flag", False) else parameter.metavar
    several = ["more than one"] if parameter.nargs == -1 or getattr(parameter, "multiple", False) else []
    words = ", ".join([kind, *limits, *several])
    if parameter.secondary_opts and default:
        default = f"--{default}"
    required = "required" if parameter.required else f"`{default}`" if default else ""
    return [f"`{name}`", words, required, meaning[: extras.start()] if extras else meaning]


_VALUES = re.compile(r"<(?P<kind>[^<>]*)>$")
_EXTRAS = re.compile(r"  \[(?P<facts>[^\[\]]*)\]$")
_TYPES = {
    "str": "text",
    "list[str]": "text",
    "path": "path",
    "int": "integer",
    "int range": "integer",
    "float": "number",
    "float range": "number",
    "%Y-%m-%d": "day, as 2026-01-31",
}


def _limits(fact: str) -> str:
    """Return a range in words: `1<=x<=9` is "1 to 9"."""
    if (both := re.fullmatch(r"(\S+)<=x<=(\S+)", fact)) is not None:
        return f"{both[1]} to {both[2]}"
    least = re.fullmatch(r"x>=(\S+)", fact)
    return f"at least {least[1]}" if least else ""


def _field(path: str, text: str) -> list[str]:
    kind, _, meaning = text.partition(": ")
    return [f"`{path}`", kind, f"{meaning[:1].upper()}{meaning[1:]}."]


def _refused(description: Description | None) -> str:
    return description.refused if description else ""


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _wrapped(text: str) -> str:
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return "\n\n".join(textwrap.fill(paragraph, WIDTH, break_on_hyphens=False) for paragraph in paragraphs) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Write the page to the file that the command line names."""
    from pipeline.cli.commands import app

    with atomic_file(Path(sys.argv[1])) as file:
        file.write(page(app).encode())


if __name__ == "__main__":
    main()
