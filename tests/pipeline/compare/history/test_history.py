"""Figures over revisions and nights: what changed between neighbours, and histories that lack a part."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.cli.output import to_json
from pipeline.compare.history.nights import NIGHTS, read_nights, store_night
from pipeline.compare.history.outcomes import REFUSED_RUNS, store_refused
from pipeline.compare.history.points import read_history
from pipeline.compare.history.records import MOST
from pipeline.compare.history.texts import chosen_metrics, document, interval_of, outcome_rows, rows
from pipeline.compare.pages.history import page
from pipeline.compare.revisions import Figure, Measurements
from pipeline.compare.sides.inputs import SideInputs
from reprise.config.errors import ResultError
from reprise.measures.statistics import paired_t
from tests.pipeline.cli.answers import strict
from tests.pipeline.dvc_project import Project, new_project

HOSTILE = "<img src=x onerror=alert(1)>"
FAMILY = "knn.top1"
_LOCK = """schema: '2.0'
stages:
  ingest: {{cmd: x, outs: [{{path: data/ingest, md5: {images}.dir}}]}}
  summary: {{cmd: x, outs: [{{path: metrics.json, md5: {metrics}}}, {{path: data/summary, md5: {summary}.dir}}]}}
"""


def put_in_cache(project: Project, content: bytes) -> str:
    """Store an object as DVC does, and return its name without the ending of folders."""
    import hashlib

    name = hashlib.md5(content, usedforsecurity=False).hexdigest()
    suffix = ".dir" if content.startswith(b"[") else ""
    project.write(f".dvc/cache/files/md5/{name[:2]}/{name[2:]}{suffix}", content.decode())
    return name


def write_state(
    project: Project, values: Mapping[str, float], rate: float, images: str = "a", seeds: int = 3, spread: float = 0.01
) -> None:
    """Write metrics.json, params.yaml and dvc.lock as a completed run leaves them, with the table in the cache."""
    metrics = json.dumps({run: {"knn": {"top1": value}} for run, value in values.items()}).encode()
    table = "run,seed,probe,metric,value,low,high,n\n" + "".join(
        f"{run},{seed},knn,top1,{value + spread * (seed - 1)},,,10\n"
        for run, value in values.items()
        for seed in range(seeds)
    )
    listing = json.dumps([{"md5": put_in_cache(project, table.encode()), "relpath": "table.csv"}]).encode()
    names = {
        "images": images * 32,
        "metrics": put_in_cache(project, metrics),
        "summary": put_in_cache(project, listing),
    }
    project.write("metrics.json", metrics.decode())
    project.write("params.yaml", json.dumps({"train": {"rate": rate}, "summary": {"family": FAMILY}}))
    project.write("dvc.lock", _LOCK.format(**names))


@pytest.fixture
def four(tmp_path: Path) -> Project:
    """Four revisions: the second has another rate, the third other images, the fourth nothing but its message."""
    project = new_project(tmp_path / "four")
    project.write("dvc.yaml", "stages: {}\n")
    states = [(0.80, 0.1, "a"), (0.90, 0.2, "a"), (0.905, 0.2, "b")]
    for number, (value, rate, images) in enumerate(states):
        write_state(project, {"simclr": value, HOSTILE: 0.5}, rate, images)
        project.commit(f"state {number} {HOSTILE}")
    project.write("notes.txt", "nothing that was measured")
    project.commit("notes")
    return project


def measured(value: float) -> Measurements:
    return Measurements("night", {"simclr": {FAMILY: value}}, {FAMILY: {"simclr": {0: Figure(value, 0.1, 0.9)}}})


def night(project: Project, day: int, value: float, rate: float = 0.3, commit: str = "", images: str = "c") -> None:
    inputs = SideInputs({"train": {"rate": rate}, "summary": {"family": FAMILY}}, images)
    store_night(datetime(2100, 1, day, 2, 30, tzinfo=UTC), commit, inputs, measured(value), project.root)


def test_neighbours_say_what_changed(four: Project) -> None:
    history = read_history(FAMILY, four.root)
    first, second, third = history.points
    assert history.notes == ()
    assert (first.parameters, first.images_changed) == ((), False)
    assert [change.line() for change in second.parameters or ()] == ["train.rate: 0.1 -> 0.2"]
    assert (second.images_changed, third.images_changed, third.parameters) == (False, True, ())
    assert second.verdicts["simclr"].startswith("No difference shown")  # all seeds rose by the same, so no spread
    wanted = paired_t([0.79, 0.80, 0.81]).interval
    assert interval_of(first, FAMILY, "simclr") == pytest.approx(wanted)
    assert third.also and third.also[0].startswith("workspace")  # the folder is as the last commit left it
    shown = rows(history, FAMILY, ["simclr"])
    assert [row[3] for row in shown] == ["0.8000", "0.9000", "0.9050"]
    assert shown[1][4] == "train.rate: 0.1 -> 0.2"


def test_the_page_marks_data_and_parameters_and_escapes_names(four: Project) -> None:
    history = read_history(FAMILY, four.root)
    text = page(history, [FAMILY], FAMILY)
    assert 'class="letter">P</text>' in text and 'class="letter">D</text>' in text
    assert "<img" not in text and "&lt;img src=x" in text and "<script" not in text
    assert text.count('class="bar ') == 6  # two runs at three points
    content = strict(to_json(document(history, [FAMILY])))
    assert [point["number"] for point in content["points"]] == [1, 2, 3]
    assert content["points"][1]["figures"][FAMILY]["simclr"]["value"] == 0.9
    only = document(history, [FAMILY], ["simclr"])
    assert list(only["points"][0]["figures"][FAMILY]) == ["simclr"]


def test_nights_stand_among_revisions(four: Project) -> None:
    """Two nights with the same figures are one point; a commit that was rewritten away is said."""
    night(four, 1, 0.7)
    night(four, 2, 0.7)
    night(four, 3, 0.6, commit="f" * 40)
    night(four, 4, 0.6, rate=0.4)
    points = read_history(FAMILY, four.root).points
    assert [point.kind for point in points] == ["revision"] * 3 + ["night"] * 3 + ["folder"]
    assert points[3].also == ("night 2100-01-02 02:30",)
    assert points[4].notes == ("The commit ffffffffff of this night is no longer in this repository.",)
    assert [change.line() for change in points[5].parameters or ()] == ["train.rate: 0.3 -> 0.4"]
    assert len(read_history(FAMILY, four.root, most=4).points) == 4
    assert "older points are left out" in " ".join(read_history(FAMILY, four.root, most=4).notes)


def test_a_committed_night_is_one_point(four: Project) -> None:
    write_state(four, {"simclr": 0.95}, 0.5, "d", seeds=1)
    inputs = SideInputs({"train": {"rate": 0.5}, "summary": {"family": FAMILY}}, "d" * 32 + ".dir")
    store_night(datetime.now(UTC), "", inputs, measured(0.95), four.root)
    four.commit("the night's results")
    last = read_history(FAMILY, four.root).points[-1]
    assert last.subject == "the night's results"
    assert {text.split()[0] for text in last.also} == {"night", "workspace"}


def test_damaged_nights_are_named_and_old_ones_removed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    night(project, 1, 0.5)
    for name, text in {"a": "{", "b": '{"ended": "2100-01-01"}', "c": "[]", "d": "[" * 100_000}.items():
        project.write(f"{NIGHTS}/{name}.json", text)
    nights, unreadable = read_nights(tmp_path)
    assert len(nights) == 1 and unreadable == ["a.json", "b.json", "c.json", "d.json"]
    assert nights[0].measured == measured(0.5)
    for number in range(MOST + 3):
        project.write(f"{NIGHTS}/0{number:04}.json", "{}")
    night(project, 2, 0.5)
    assert len(list((tmp_path / NIGHTS).glob("*.json"))) == MOST


def test_promoted_versions_and_refused_runs_stand_below(four: Project) -> None:
    """Tags and files of outcomes may be anybody's: escaped, bounded, and left out where they cannot be read."""
    message = f"simclr, version 1\n\n{HOSTILE} https://u:canary-1@example.org/x"
    four.call("git", "tag", "-a", "simclr@v1.0.0", "-m", message)
    four.call("git", "tag", "simclr@v2.0.0")  # a lightweight tag
    four.call("git", "tag", "Evil@v1.0.0")
    four.call("git", "tag", "simclr@vx")
    reason = f"Drift: the new images differ {HOSTILE} https://u:canary-9@example.org " + "x" * 5000
    store_refused(datetime(2100, 1, 2, 3, 4, tzinfo=UTC), "f" * 40, "Drift", reason, four.root)
    four.write(f"{REFUSED_RUNS}/0.json", '{"ended": "2100-01-01T00:00:00"}')
    four.write(f"{REFUSED_RUNS}/1.json", "[]")
    history = read_history(FAMILY, four.root)
    assert sorted((o.kind, o.name) for o in history.outcomes) == [
        ("promoted", "simclr@v1.0.0"),
        ("promoted", "simclr@v2.0.0"),
        ("refused", "Drift"),
    ]
    head = four.call("git", "rev-parse", "HEAD").stdout.strip()
    assert [o.commit for o in history.outcomes] == [head, head, "f" * 40]
    messages = {o.name: o.message for o in history.outcomes}
    assert messages["simclr@v1.0.0"].startswith(HOSTILE) and messages["simclr@v2.0.0"] == ""
    assert any("0.json, 1.json" in note for note in history.notes)
    shown = strict(to_json(document(history, [FAMILY])))["outcomes"]
    assert shown[2]["when"] == "2100-01-02T03:04:00+00:00" and len(shown[2]["message"]) <= 2000
    text = page(history, [FAMILY], FAMILY)
    assert "simclr@v1.0.0" in text and "Drift" in text and "<img" not in text
    assert "canary" not in text + str(shown) + str(outcome_rows(history))
    for number in range(MOST + 3):
        four.write(f"{REFUSED_RUNS}/0{number:04}.json", "{}")
    store_refused(datetime(2100, 1, 3, tzinfo=UTC), "", "Held", "worse", four.root)
    assert len(list((four.root / REFUSED_RUNS).glob("*.json"))) == MOST


def test_a_revision_without_a_lock_is_marked_in_the_table(four: Project, monkeypatch, capsys) -> None:
    four.write("metrics.json", json.dumps({"simclr": {"knn": {"top1": 0.5}}}))
    four.call("git", "rm", "-q", "dvc.lock")
    four.commit("figures without a lock")
    history = read_history(FAMILY, four.root)
    (note,) = history.points[-1].notes
    last = rows(history, FAMILY, ["simclr"])[-1][-1]
    assert last == f"nobody can tell whether the images changed; note: {note}"
    assert "Neither parameters nor images changed" not in page(history, [FAMILY], FAMILY)
    monkeypatch.chdir(four.root)
    monkeypatch.setattr(sys, "argv", ["reprise", "history"])
    with pytest.raises(SystemExit):
        main.main()
    assert note in capsys.readouterr().out.splitlines()[-1]


def test_shallow_clones_and_damaged_revisions_are_said(four: Project, tmp_path: Path) -> None:
    four.write("metrics.json", '{"simclr": 3}')
    four.commit("damaged")
    four.call("git", "rm", "-q", "metrics.json")
    four.call("git", "commit", "-q", "-m", "removed")
    history = read_history(FAMILY, four.root)
    assert len(history.points) == 3
    assert any("is left out: these metrics cannot be read" in note for note in history.notes)
    four.call("git", "clone", "--quiet", "--depth", "3", f"file://{four.root}", str(tmp_path / "clone"))
    with pytest.raises(ResultError, match="there is no history yet"):
        read_history(FAMILY, Project(tmp_path / "clone").root.parent / "clone", most=1)
    four.write("metrics.json", json.dumps({"simclr": {"knn": {"top1": 0.4}}}))
    four.commit("again")
    four.call("git", "clone", "--quiet", "--depth", "1", f"file://{four.root}", str(tmp_path / "shallow"))
    shallow = read_history(FAMILY, tmp_path / "shallow")
    assert len(shallow.points) == 1 and "This clone is shallow" in shallow.notes[0]


def test_altered_objects_of_the_cache_are_not_shown(four: Project) -> None:
    for path in four.root.glob(".dvc/cache/files/md5/*/*"):
        if path.read_bytes().startswith(b"run,seed"):
            path.write_text(path.read_text().replace("0.8", "0.1"))
    first = read_history(FAMILY, four.root).points[0]
    assert first.measured.means["simclr"][FAMILY] == 0.8 and first.measured.seeds == {}


def test_hostile_figures_and_parameters(four: Project) -> None:
    four.write("metrics.json", '{"simclr": {"knn": {"top1": NaN}}, "random": {"knn": {"top1": 1e308}}}')
    four.write("params.yaml", "a: &a [*a]\n")
    four.commit(HOSTILE)
    four.write("params.yaml", json.dumps({"summary": {"family": FAMILY}}))
    history = read_history(FAMILY, four.root)
    strict(to_json(document(history, [FAMILY])))
    text = page(history, [FAMILY], FAMILY)
    assert "1.0000e+308" in text and "<img" not in text
    damaged = next(point for point in history.points if point.subject == HOSTILE)
    assert damaged.parameters is None
    assert "the parameters cannot be compared" in rows(history, FAMILY, ["random"])[3][4]


def test_secrets_of_this_machine_are_not_repeated(four: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_TOKEN", "canary-0123456789")
    four.write("params.yaml", json.dumps({"summary": {"family": FAMILY}, "source": {"root": "x/canary-0123456789"}}))
    history = read_history(FAMILY, four.root)
    assert [change.name for change in history.points[-1].parameters or ()] == ["source", "train"]
    assert "canary" not in page(history, [FAMILY], FAMILY) + to_json(document(history, [FAMILY]))


def test_the_command(four: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def reprise(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reprise", "history", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    monkeypatch.chdir(four.root)
    status, out, err = reprise("--page", "history.html", "--json")
    assert status == 0 and json.loads(out)["metrics"] == [FAMILY] and "page: " in err
    assert (four.root / "history.html").read_text().startswith("<!doctype html>")
    status, out, _ = reprise("--run", "simclr")
    assert out.splitlines()[0].split("\t") == [
        "point",
        "when (UTC)",
        FAMILY,
        "simclr",
        "changed since the point before",
    ]
    status, _, err = reprise("knn.top5")
    assert status == 1 and "no revision has this metric" in err
    assert reprise("--run", "gone")[0] == 2
    assert reprise("--last", "1")[0] == 2


def test_the_metrics_of_the_report_are_shown_by_default(four: Project) -> None:
    history = read_history(FAMILY, four.root)
    four.write("params.yaml", json.dumps({"report": {"metrics": ["knn.top1", "gone.x"]}}))
    assert chosen_metrics(history, [], four.root) == [FAMILY]
