"""Sides held against each other: what differs, what is unfair, which answers flipped, and how it is written."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from pipeline.cli import main
from pipeline.cli.output import to_json
from pipeline.compare.pages.comparison import page, write_page
from pipeline.compare.revisions import Answers, Measurements
from pipeline.compare.sides.answers import flips
from pipeline.compare.sides.curves import curves_in
from pipeline.compare.sides.fairness import notes_on
from pipeline.compare.sides.inputs import inputs_in
from pipeline.compare.sides.names import find_sides
from pipeline.compare.sides.overview import compare_sides
from pipeline.compare.sides.parameters import by_name, differences
from pipeline.compare.sides.texts import document, markdown
from reprise.config.errors import GraphError, ResultError
from tests.pipeline.cli.answers import strict
from tests.pipeline.compare.sides.conftest import HOSTILE, IMAGES, give, keys, params
from tests.pipeline.dvc_project import Project
from tests.small_shards import make_shards


def test_two_revisions_with_one_changed_parameter(two: Project) -> None:
    """The parameter, the difference with its interval, the curves, the flipped images; nothing is unfair."""
    overview = compare_sides(find_sides(["HEAD~1", "HEAD"], two.root), curves=True, root=two.root)
    pair = overview.pairs[0]
    assert [change.line() for change in pair.parameters or ()] == ["methods.simclr.temperature: 0.5 -> 0.2"]
    assert pair.notes == () and pair.images is None and not overview.doubtful
    changes = {(change.run, change.metric): change for change in pair.figures.changes}
    simclr = changes["simclr", "knn.top1"]
    assert simclr.difference == pytest.approx(3 / 60)
    assert simclr.over == "examples" and simclr.interval.low is not None
    assert "exact McNemar" in simclr.verdict and changes["simclr", "linear.top1"].verdict == ""
    of_simclr = next(each for each in pair.flips if each.run == "simclr")
    assert [flip.key for flip in of_simclr.became_wrong] == sorted(keys(3))
    assert [flip.key for flip in of_simclr.became_right] == sorted(keys(6, 48))
    assert of_simclr.became_wrong[0].before == "cat" and of_simclr.became_wrong[0].after == HOSTILE
    assert overview.curves[0]["simclr"][0][0] == (0.0, 1.0)
    assert overview.curves[0]["random"][0] == tuple((float(epoch), None) for epoch in range(4))  # all NaN

    make_shards(two.root / "data/shards", [(8, 8)] * 20)
    target = two.root / "compared.html"
    write_page(overview, target, two.root)
    text = target.read_text(encoding="utf-8")
    assert text.count("<img ") == 6  # those of the twenty in the shards that flipped: three of each run
    assert "<script" not in text and "&lt;script&gt;alert(1)" in text
    assert "no values that can be drawn" in text and "Same images, same budgets" in text

    content = strict(to_json(document(overview, two.root)))
    told = content["comparisons"][0]
    assert told["parameters"] == [
        {"name": "methods.simclr.temperature", "kind": "changed", "old": 0.5, "new": 0.2},
    ]
    run = next(each for each in told["flips"] if each["run"] == "simclr")
    assert (run["became_right"], run["became_wrong"]) == (6, 3)
    assert all(each["path"].startswith(HOSTILE) for each in run["examples_wrong"])
    assert "<script" not in markdown(overview)


def test_other_data_and_budgets_are_unfair(two: Project) -> None:
    """The folder has half of the images and trained for longer."""
    give(two, {"simclr": 0.9, "random": 0.5}, images=40, epochs=8)
    two.dvc("repro", "--quiet")
    overview = compare_sides(find_sides(["HEAD"], two.root), root=two.root)
    pair = overview.pairs[0]
    assert pair.images is not None and pair.images.counts["removed"] == IMAGES - 40
    assert {note.about for note in pair.notes if note.kind == "unfair"} == {"data", "test images", "budget"}
    assert "images seen (240 and 320)" in " ".join(note.text for note in pair.notes)
    verdicts = [change.verdict for change in pair.figures.changes if "unequal budgets" in change.verdict]
    assert verdicts and not any(".;" in verdict for verdict in verdicts)
    assert overview.doubtful
    text = page(overview, {}, {})
    assert "Images removed: 12 of 20" in text and "The data are not the same: images: 20 removed." in text


def test_old_figures_of_the_folder_and_of_a_revision_are_stale(two: Project) -> None:
    two.write("params.yaml", json.dumps(params(temperature=0.7)))
    overview = compare_sides(find_sides(["HEAD"], two.root), root=two.root)
    notes = [note for note in overview.pairs[0].notes if note.kind == "stale"]
    assert notes and "methods is modified" in notes[0].text.replace("methods.simclr", "methods")
    two.commit("edited, and not run")
    again = compare_sides(find_sides(["HEAD~1", "HEAD"], two.root), root=two.root).pairs[0]
    assert [note.text for note in again.notes if note.kind == "stale"] == [
        "The figures of HEAD may be old: methods in params.yaml is another than its stages ran with."
    ]


def test_runs_of_the_folder_are_compared_with_each_other(
    two: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By name, on the same images; the exit status is 0, and stdout is JSON alone."""
    monkeypatch.chdir(two.root)
    monkeypatch.setattr(sys, "argv", ["reprise", "compare", "random", "simclr", "--json", "--strict"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert not ended.value.code
    content = json.loads(capsys.readouterr().out)
    figures = {figure["metric"]: figure for figure in content["comparisons"][0]["figures"]}
    assert figures["knn.top1"]["run"] == "random -> simclr"
    assert "simclr above random by 0.4000; exact McNemar" in figures["knn.top1"]["verdict"]
    assert content["comparisons"][0]["flips"][0]["became_right"] == 24
    named = {change["name"] for change in content["comparisons"][0]["parameters"]}
    assert named == {"runs.method", "methods.temperature"}


def test_names_of_experiments_runs_and_nothing(two: Project) -> None:
    first = two.call("git", "rev-parse", "HEAD~1").stdout.strip()
    reference = f"refs/exps/{first[:2]}/{first[2:]}"
    two.call("git", "update-ref", f"{reference}/warmer", first)
    two.call("git", "update-ref", "refs/exps/exec/EXEC_HEAD", first)
    warmer, folder = find_sides(["warmer"], two.root)
    assert (warmer.kind, warmer.commit, folder.name) == ("experiment", first, "workspace")
    assert find_sides(["exp:warmer", "HEAD"], two.root)[0].commit == first
    assert find_sides(["run:simclr", "random"], two.root)[0].name == "simclr"
    two.call("git", "branch", "simclr")
    assert find_sides(["simclr"], two.root)[0].kind == "revision"
    second = two.call("git", "rev-parse", "HEAD").stdout.strip()
    two.call("git", "update-ref", f"refs/exps/{second[:2]}/{second[2:]}/warmer", second)
    with pytest.raises(GraphError, match="several experiments have this name"):
        find_sides(["warmer"], two.root)
    with pytest.raises(GraphError, match=r"nothing has this name \(simcrl\).*no experiment and no run.*'simclr'"):
        find_sides(["simcrl"], two.root)
    with pytest.raises(GraphError, match="cannot be compared with each other"):
        find_sides(["HEAD", "random"], two.root)
    with pytest.raises(GraphError, match="a run is compared with another run"):
        find_sides(["random"], two.root)
    with pytest.raises(GraphError, match="too many names"):
        find_sides(["HEAD"] * 9, two.root)
    with pytest.raises(GraphError, match="nothing has this name"):
        find_sides(["--output=x"], two.root)


def test_exit_statuses(two: Project) -> None:
    """1 where a comparison is refused, 2 for a wrong command line, 3 for a doubtful one that must not be."""
    refused = two.reprise("compare", "no-such-name", check=False)
    assert refused.returncode == 1 and "nothing has this name" in refused.stderr and refused.stdout == ""
    assert two.reprise("compare", "--json", "--markdown", check=False).returncode == 2
    two.write("given/simclr/0/edited", "")
    doubtful = two.reprise("compare", "--strict", "--markdown", check=False)
    assert doubtful.returncode == 3, doubtful.stderr
    assert "- **stale**: Figures of the folder are not current" in doubtful.stdout


def test_what_is_not_there_is_refused_or_said(two: Project) -> None:
    with pytest.raises(ResultError, match="there are no figures of this run"):
        compare_sides(find_sides(["HEAD", "HEAD~1"], two.root), runs=["gone"], root=two.root)
    two.call("rm", "-r", ".dvc/cache", "data/summary", "data/probe")
    pair = compare_sides(find_sides(["HEAD~1", "HEAD"], two.root), curves=True, root=two.root)
    assert {note.kind for note in pair.pairs[0].notes} == {"unknown"}
    assert "No training curve" in page(pair, {}, {})


def test_hostile_numbers_stay_numbers(two: Project) -> None:
    """NaN and huge values in a committed metrics.json: valid JSON, no verdict, a page all the same."""
    two.write("metrics.json", '{"simclr": {"knn": {"top1": NaN, "huge": 1e308}}, "<b>": {"knn": {"top1": -1e308}}}')
    two.commit("hostile figures")
    overview = compare_sides(find_sides(["HEAD~1", "HEAD"], two.root), root=two.root)
    content = strict(to_json(document(overview, two.root)))
    figures = {(f["run"], f["metric"]): f for f in content["comparisons"][0]["figures"]}
    assert figures["simclr", "knn.top1"]["other"] == "NaN" and figures["simclr", "knn.top1"]["difference"] is None
    assert figures["simclr", "knn.huge"]["other"] == 1e308
    text = page(overview, {}, {})
    assert "1.0000e+308" in text and "<b>" not in text and "metrics.json is not the file" in text
    two.write("metrics.json", f'{{"simclr": {{"knn": {{"top1": {10**400}}}}}}}')
    two.commit("a number without end")
    with pytest.raises(ResultError, match="these metrics cannot be read"):
        compare_sides(find_sides(["HEAD~1", "HEAD"], two.root), root=two.root)


def answers(correct: list[bool], first: int = 0) -> Answers:
    names = tuple(str(i) for i in range(first, first + len(correct)))
    said = tuple("a" if right else "b" for right in correct)
    return Answers(names, np.array(correct), (None,) * len(correct), ("a",) * len(correct), said)


def test_flips_against_a_plain_count() -> None:
    """Over three seeds and images that only some have: an image flips where half of the seeds turned."""
    rng = np.random.default_rng(0)
    old = {s: (rng.random(30) < 0.5).tolist() for s in range(3)}
    new = {s: (rng.random(30) < 0.5).tolist() for s in range(3)}
    before = Measurements("old", {}, {}, {("r", s, "knn"): answers(v) for s, v in old.items()})
    after = Measurements("new", {}, {}, {("r", s, "knn"): answers(v, first=5) for s, v in new.items()})
    found = flips(before, after, "knn")[0]
    turned = {str(i): sum(int(new[s][i - 5]) - int(old[s][i]) for s in range(3)) / 3 for i in range(5, 30)}
    assert found.images == 25
    assert {flip.key for flip in found.became_right} == {key for key, t in turned.items() if t >= 0.5}
    assert {flip.key for flip in found.became_wrong} == {key for key, t in turned.items() if t <= -0.5}
    assert flips(before, after, "linear") == []


def test_parameters_are_told_by_the_row_that_changed() -> None:
    old = by_name({"runs": [{"name": "a", "method": "x"}, {"name": "b"}], "train": {"epochs": 1}, "gone": 1})
    new = by_name({"runs": [{"name": "b", "labels": "c"}, {"name": "a", "method": "y"}], "train": {"epochs": 1}})
    assert [change.line() for change in differences(old, new)] == [
        "runs.b.labels was added: c",
        "runs.a.method: x -> y",
        "gone was removed: 1",
    ]


def test_credentials_of_an_old_revision_are_not_repeated() -> None:
    old = {"source": {"root": "https://ada:canary@store.example/x"}, "gone": [{"a": "password=canary"}]}
    new = {"source": {"root": "https://store.example/x?sig=canary"}}
    lines = [change.line() for change in differences(old, new)]
    assert len(lines) == 2 and not any("canary" in line for line in lines)


def test_damaged_files_of_a_revision_leave_empty_what_they_held() -> None:
    assert inputs_in(None, None, None).parameters is None
    assert inputs_in(b"a: &a [*a]", b"\xff", None).images == ""
    assert inputs_in(b"- 1", b"stages: 3", b"{}").stale == (
        "dvc.lock is missing or cannot be read, so nothing says what its figures were made from",
    )
    assert curves_in(b"run,seed,epoch,loss\na,x,1,1\na,0,inf,1\na,0,1,1e999\n\xff,0,1,2", "loss")["a"] == {
        0: ((1.0, None),)
    }
    empty = Measurements("a", {}, {})
    assert (
        notes_on((empty, inputs_in(b"{}", None, None)), (empty, inputs_in(b"{}", None, None)), None, {})[0].about
        == "data"
    )
