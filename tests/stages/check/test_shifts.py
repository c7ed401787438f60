"""The table `shifts` is held against plug-ins, against itself, against the images and against this machine."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from reprise.config.errors import RepriseError
from reprise.config.params import read_yaml
from stages.check.code import modules_by_file
from stages.check.description.parameter_list import subject_named
from stages.check.parameters import problems
from stages.check.rules.data import Facts, data_problems, data_warnings
from stages.check.rules.relations import relation_warnings
from stages.check.shifts import root_warnings

SUITE = {"shift_suites": [{"name": "shift"}], "shift_probes": {"shift": {"shifted_knn": {}}}}


@pytest.fixture
def raw(repository: Path) -> dict[str, Any]:
    return copy.deepcopy(read_yaml(repository / "params.yaml"))


def lines_of(raw: dict[str, Any], *rows: dict[str, Any], suite: dict[str, Any] = SUITE) -> list[str]:
    return [str(problem) for problem in problems(raw | {"shifts": list(rows)} | suite)]


def test_good_rows(raw: dict[str, Any]) -> None:
    rows = [
        {"name": "fog3", "shift": "fog", "severity": 3},
        {"name": "jpeg", "shift": "jpeg", "severity": [1, 2, 3, 4, 5]},
        {"name": "site_b", "shift": "folder", "root": "../site_b", "options": {"labels": "parent"}},
        {"name": "digits", "shift": "digits"},
    ]
    assert lines_of(raw, *rows) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"shift": "fogg", "severity": 1},
            "shifts[0].shift: unknown corruption or source. Found: 'fogg'. Did you mean",
        ),
        ({"shift": "fog"}, "shifts[0].severity: a corruption needs a severity"),
        ({"shift": "fog", "severity": 6}, "less than or equal to 5. Found: 6"),
        ({"shift": "fog", "severity": [1, 1]}, "shifts[0].severity: a severity may be listed only once"),
        (
            {"shift": "fog", "severity": 1, "root": "b"},
            "shifts[0].root: a corruption changes the images of the data set",
        ),
        ({"shift": "fog", "severity": 1, "options": {"wet": 1}}, "shifts[0].options.wet: unknown parameter"),
        ({"shift": "folder"}, "shifts[0].root: this source needs a folder or archive"),
        ({"shift": "folder", "root": "b", "severity": 2}, "shifts[0].severity: images from elsewhere have no severity"),
        ({"shift": "folder", "root": "b", "options": {"labels": "no"}}, "shifts[0].options.labels: "),
        ({"shift": "digits", "root": "b"}, "shifts[0].root: this source has no folder"),
        ({"shift": "fog", "severity": 1, "strength": 2}, "shifts[0].strength: unknown parameter"),
    ],
)
def test_wrong_rows_are_named_with_a_way_out(raw: dict[str, Any], row: dict[str, Any], message: str) -> None:
    assert any(message in line for line in lines_of(raw, {"name": "a", **row})), lines_of(raw, {"name": "a", **row})


def test_names_of_sets_are_unique(raw: dict[str, Any]) -> None:
    rows = [{"name": "fog", "shift": "fog", "severity": [2, 3]}, {"name": "fog3", "shift": "jpeg", "severity": 1}]
    assert any("would have the name of a set of 'fog'. Found: 'fog3'" in line for line in lines_of(raw, *rows))


def test_suites_go_where_they_belong(raw: dict[str, Any]) -> None:
    fog = {"name": "fog3", "shift": "fog", "severity": 3}
    assert any("no shifted images on which" in line for line in lines_of(raw))
    misplaced = {"suites": [*raw["suites"], {"name": "shift"}], "probes": raw["probes"] | {"shift": {}}}
    assert any("It belongs in shift_suites." in line for line in lines_of(raw, fog, suite=misplaced))
    unknown = {"shift_suites": [{"name": "shift"}], "shift_probes": {"shift": {"shifted_kn": {}}}}
    assert any("Did you mean 'shifted_knn'" in line for line in lines_of(raw, fog, suite=unknown))
    alone = raw | {"shifts": [fog]}
    assert any("no suite of probes measures it" in str(warning) for warning in relation_warnings(alone))
    assert not any(warning.path == "shifts" for warning in relation_warnings(alone | SUITE))


def test_shifts_against_the_images_and_the_machine(raw: dict[str, Any], tmp_path: Path) -> None:
    raw |= {"shifts": [{"name": "fog", "shift": "fog", "severity": [1, 5]}], "cache": {"memory_bytes": 1000}}
    facts = Facts({"train": 100}, {"train": 100}, {"a": 100}, False)
    assert any(p.path == "shifts" and "neither a test nor a val" in p.rule for p in data_problems(raw, facts))
    scored = Facts({"train": 100, "test": 10}, {"train": 100}, {"a": 100}, False)
    assert not any(p.path == "shifts" for p in data_problems(raw, scored))
    warning = next(p for p in data_warnings(raw, scored) if p.path == "shifts")
    assert str(warning.found) == f"{2 * 10 * 16 * 16 * 3:,} bytes, cache.memory_bytes 1,000"
    raw |= {"shifts": [{"name": "b", "shift": "folder", "root": "b"}]}
    assert [p.path for p in root_warnings(raw, tmp_path)] == ["shifts[0].root"]
    (tmp_path / "b").mkdir()
    assert not list(root_warnings(raw, tmp_path))


def test_each_row_has_the_code_that_it_runs(raw: dict[str, Any]) -> None:
    rows = [{"name": "a", "shift": "fog", "severity": 1}, {"name": "b", "shift": "folder", "root": "b"}]
    files = dict(modules_by_file(raw | {"shifts": rows} | SUITE))
    assert "stages.embed.shifts.weather.fog" in files["embed_shift/a"]
    assert "stages.embed.shifts.weather.fog" not in files["embed_shift/b"]
    assert "stages.ingest.sources.folder" in files["shift_images/b"]
    assert "stages.probe.probes.shift.shifted_knn" in files["probe_shifts/shift"]
    assert not [name for name in modules_by_file(raw) if "shift" in name[0]]


def test_a_corruption_describes_itself() -> None:
    subject = subject_named("fog")
    assert (subject.kind, subject.parameters) == ("shifts", ())
    assert subject.title.startswith("Fog: bright clouds")
    assert subject.source.startswith("Hendrycks and Dietterich 2019")


def test_a_name_with_two_meanings_is_refused(raw: dict[str, Any], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("plugins/shifts/folder.py")
    own.parent.mkdir(parents=True)
    own.write_text((Path(__file__).parents[3] / "stages/embed/shifts/digital/jpeg.py").read_text())
    try:
        found = lines_of(raw, {"name": "a", "shift": "folder", "root": "b"})
    except RepriseError as error:  # pragma: no cover - it must be a problem like all others
        pytest.fail(json.dumps(str(error)))
    assert any("a corruption and a source have this name" in line for line in found)
