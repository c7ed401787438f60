"""Plug-ins of every kind are listed with a line of their documentation and their origin, without being imported."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cli.graph.parameters import plug_ins
from pipeline.cli.listing import list_plug_ins
from reprise.config.errors import ParameterError
from reprise.config.plug_ins.registry import kinds, names


def test_every_plug_in_of_reprise_is_listed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    found = list_plug_ins()
    assert [(p.kind, p.name) for p in found] == [(kind, name) for kind in kinds() for name in names(kind)]
    assert {p.origin for p in found} == {"Reprise"}
    descriptions = {(p.kind, p.name): p.description for p in found}
    assert descriptions["methods", "byol"] == "bootstrap your own latent; predict a slow copy of yourself, no negatives"
    assert all(text and not text.startswith(("(", "`")) for text in descriptions.values())


@pytest.mark.parametrize(("word", "kind"), [("miners", "miners"), ("miner", "miners"), ("quality", "probes/quality")])
def test_one_kind_is_listed(word: str, kind: str) -> None:
    assert [(p.kind, p.name) for p in list_plug_ins(word)] == [(kind, name) for name in names(kind)]


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
    found = {p.name: p for p in list_plug_ins("methods")}
    assert found["broken"].description.startswith("(cannot be read")
    silent = found["silent"]
    assert (silent.description, silent.origin) == ("(no docstring)", "plugins/")
    assert (silent.source, silent.checked_by, silent.maturity) == ("", (), "not stated")


def test_a_file_says_its_source_and_what_checks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "plugins/miners/own"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(
        '"""`mine`: near images. Nothing else.\n\nAn idea. Source: J. Doe et al. 2020,\n"Near | images". More.\n\n'
        'Checked by: tests/test_mine.py (against\nscikit-learn); docs/mine.md.\n"""\n',
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    (mine,) = [p for p in list_plug_ins("miners") if p.name == "mine"]
    assert mine.json() == {
        "kind": "miners",
        "name": "mine",
        "family": "own",
        "description": "near images",
        "source": 'J. Doe et al. 2020, "Near | images"',
        "checked_by": ["tests/test_mine.py (against scikit-learn)", "docs/mine.md"],
        "maturity": "measured here",
        "origin": "plugins/",
    }
    assert mine.files() == ["tests/test_mine.py", "docs/mine.md"]
    without_page = replace(mine, checked_by=mine.checked_by[:1])
    assert (without_page.maturity, replace(without_page, source="no publication; mine").maturity) == (
        "restated only",
        "tested",
    )


def test_an_installed_plug_in_is_listed_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reprise.config.plug_ins import registry

    (tmp_path / "someones").mkdir()
    (tmp_path / "someones/own.py").write_text('"""`own`: a miner of somebody else. It is new."""\n', encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    declared = {"reprise.miners": [registry.PlugIn("own", "someones.own", None, "someones-miners")]}
    monkeypatch.setattr(registry, "_entry_points", lambda: declared)
    (own,) = [p for p in list_plug_ins("miners") if p.name == "own"]
    assert (own.description, own.origin) == ("a miner of somebody else", "package someones-miners")


def test_the_list_as_json(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    plug_ins("schedules", as_json=True)
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert sorted(listed) == names("schedules")
    assert listed["cosine"]["source"].startswith("Loshchilov and Hutter")


def test_the_commands_answer(repository: Path) -> None:
    def reprise(*arguments: str) -> subprocess.CompletedProcess[str]:
        code = "import sys; from pipeline.cli.main import main; sys.argv[0] = 'reprise'; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=repository, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    listed = reprise("list", "schedules")
    assert listed.stdout.splitlines()[0] == "kind\tname\tdescription\tsource\tchecked by\tmaturity\torigin"
    assert "schedules\tcosine\t" in listed.stdout
    shown = reprise("params", "shard")
    assert (shown.returncode, shown.stdout.splitlines()[0]) == (0, "shard (section of params.yaml)")
    wrong = reprise("params", "shrad")
    assert wrong.returncode == 2
    assert "Did you mean 'shard'?" in wrong.stderr
