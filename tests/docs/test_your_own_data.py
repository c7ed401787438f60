"""docs/your-own-data.md: each section is followed as written, in a folder of its own.

Of a section's fenced blocks, in their order, `python` is run, `yaml` becomes params.yaml, and in `console` the lines
behind `$ ` are run and the lines below them must be among those that are printed ("..." stands for any others).
`reprise repro ingest` stands for its two halves, the scan and the stage, which are called in this process. The port of
the page's web server becomes a free one, since another program may use it.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from stages.ingest.__main__ import main as ingest
from stages.ingest.scan import main as scan

PAGE = Path(__file__).parents[2] / "docs/your-own-data.md"
COMMANDS = {
    "reprise scan": (scan,),
    "reprise repro ingest": (scan, ingest),
}
PORT = "18473"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sections() -> dict[str, list[tuple[str, str]]]:
    """Language and text of the fenced blocks below each heading of the second level."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {heading: _FENCE.findall(text) for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def free_port() -> str:
    """A port that nothing listens to."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return str(place.getsockname()[1])


def follow(blocks: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Do what the blocks say in the current folder, and return the commands that were run."""
    names: dict[str, Any] = {}
    done = []
    port = free_port()
    for language, written in blocks:
        text = written.replace(PORT, port)
        if language == "python":
            exec(compile(text, str(PAGE), "exec"), names)
        elif language == "yaml":
            Path("params.yaml").write_text(text, encoding="utf-8")
        elif language == "console":
            for command, expected in commands(text):
                capsys.readouterr()
                for half in COMMANDS[command]:
                    half([])
                printed = capsys.readouterr().out.splitlines()
                assert [line for line in expected if line not in printed] == [], "\n".join(printed)
                done.append(command)
        else:
            raise AssertionError(f"nobody runs a block of {language}")
    return done


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Return each command of a console block with the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line != "...":
            found[-1][1].append(line)
    return found


@pytest.mark.parametrize("heading", sections())
def test_a_section_can_be_followed(
    heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setattr("stages.ingest.__main__.workers", lambda: 0)  # decoding in this process saves starting others
    assert "reprise repro ingest" in follow(sections()[heading], capsys)
    assert Path("data/ingest/manifest.parquet").exists()


def test_a_line_that_is_not_printed_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = [("yaml", "source: {name: digits}\n"), ("console", "$ reprise scan\nnothing prints this\n")]
    with pytest.raises(AssertionError, match="source is listed for the first time"):
        follow(blocks, capsys)
