"""Plug-ins of every kind are listed with a line of their documentation and their origin, without being imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.listing import list_plug_ins
from reprise.config.errors import ParameterError
from reprise.config.registry import kinds, names


def test_every_plug_in_of_reprise_is_listed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    rows = list_plug_ins()
    assert [(kind, name) for kind, name, *_ in rows] == [(kind, name) for kind in kinds() for name in names(kind)]
    assert {origin for *_, origin in rows} == {"Reprise"}
    descriptions = {(kind, name): text for kind, name, text, _ in rows}
    assert descriptions["methods", "byol"] == "bootstrap your own latent; predict a slow copy of yourself, no negatives"
    assert all(text and not text.startswith(("(", "`")) for text in descriptions.values())


@pytest.mark.parametrize(("word", "kind"), [("miners", "miners"), ("miner", "miners"), ("quality", "probes/quality")])
def test_one_kind_is_listed(word: str, kind: str) -> None:
    assert [row[:2] for row in list_plug_ins(word)] == [(kind, name) for name in names(kind)]


def test_an_unknown_kind_gets_a_suggestion() -> None:
    with pytest.raises(ParameterError, match="Did you mean 'methods'"):
        list_plug_ins("metods")


def test_a_users_file_is_listed_with_its_origin_even_if_it_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plugins/methods/own"
    folder.mkdir(parents=True)
    (folder / "broken.py").write_text("def (:\n", encoding="utf-8")
    (folder / "silent.py").write_text("x = 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    rows = {name: (text, origin) for _, name, text, origin in list_plug_ins("methods")}
    assert rows["broken"][0].startswith("(cannot be read")
    assert rows["silent"] == ("(no docstring)", "plugins/")


def test_an_installed_plug_in_is_listed_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reprise.config import registry

    (tmp_path / "someones").mkdir()
    (tmp_path / "someones/own.py").write_text('"""`own`: a miner of somebody else. It is new."""\n', encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    declared = {"reprise.miners": [registry.PlugIn("own", "someones.own", None, "someones-miners")]}
    monkeypatch.setattr(registry, "_entry_points", lambda: declared)
    assert ("miners", "own", "a miner of somebody else", "package someones-miners") in list_plug_ins("miners")


def test_the_commands_answer(repository: Path) -> None:
    def reprise(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from pipeline.cli.main import main; sys.argv[0] = 'reprise'; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=repository, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    listed = reprise("list", "schedules")
    assert listed.stdout.splitlines()[0] == "kind\tname\tdescription\torigin"
    assert "schedules\tcosine\t" in listed.stdout
    shown = reprise("params", "shard")
    assert (shown.returncode, shown.stdout.splitlines()[0]) == (0, "shard (section of params.yaml)")
    wrong = reprise("params", "shrad")
    assert wrong.returncode == 1
    assert "Did you mean 'shard'?" in wrong.stderr
