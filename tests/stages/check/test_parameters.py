"""Promise 9: wrong parameters are reported all at once, before anything runs, with path, found, allowed, nearest."""

from __future__ import annotations

import copy
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reprise.config.params import read_yaml
from stages.check.parameters import known_sections, problems


@pytest.fixture
def raw(repository: Path) -> dict[str, Any]:
    return copy.deepcopy(read_yaml(repository / "params.yaml"))


def lines_of(raw: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in problems(raw)]


def test_the_parameters_of_the_repository_are_valid(raw: dict[str, Any]) -> None:
    assert lines_of(raw) == []


def test_every_section_is_known() -> None:
    assert {"source", "validate", "shard", "image", "train", "embed", "summary", "report"} <= set(known_sections())


def test_everything_wrong_is_reported_at_once(raw: dict[str, Any]) -> None:
    raw["seeds"] = [0, 0, -1]
    raw["train"]["learning_rate"] = -0.2
    raw["reprot"] = raw.pop("report")
    raw["source"]["name"] = "digit"
    raw["mining"]["dae_kmean"] = raw["mining"].pop("dae_kmeans")
    raw["runs"][3]["method"] = "simcrl"
    raw["methods"]["gsimclr"] = {"temperatur": 0.2}
    raw["suites"][1]["name"] = "labelfree"
    raw["probes"]["quality"]["knn"]["k"] = float("nan")
    raw["runs"][1]["labels"] = "none"
    lines = lines_of(raw)
    for path, rest in [
        ("seeds[2]", "greater than or equal to 0. Found: -1"),
        ("seeds", "listed only once. Found: '0'"),
        ("train.learning_rate", "greater than 0. Found: -0.2"),
        ("reprot", "Did you mean 'report'?"),
        ("report", "missing section"),
        ("source.name", "Found: 'digit'. Did you mean 'digits'?"),
        ("mining.dae_kmean", "belongs to no row of 'mines'"),
        ("mining.dae_kmeans", "has no block"),
        ("runs[3].method", "unknown method. Found: 'simcrl'. Did you mean 'simclr'?"),
        ("methods.gsimclr.temperatur", "Did you mean 'temperature'?"),
        ("suites[1].name", "Did you mean 'label_free'?"),
        ("probes.quality.knn.k", "valid integer. Found: nan"),
        ("runs[1].labels", "needs a label set"),
    ]:
        assert any(line.startswith(f"{path}: ") and rest in line for line in lines), (
            f"{path}: {rest}\nin\n" + "\n".join(lines)
        )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda raw: raw["runs"].append({**raw["runs"][0]}),
            "runs: two rows may not have the same name. Found: 'random'",
        ),
        (
            lambda raw: raw["runs"][4].update(labels="dae_kmean"),
            "runs[4].labels: no row of 'mines' is called 'dae_kmean'",
        ),
        (lambda raw: raw["mines"][0].update(on="features/da"), "mines[0].on: no row of 'features' is called 'da'"),
        (lambda raw: raw["mines"][0].update(on="embed/simcl"), "Did you mean 'simclr'?"),
        (lambda raw: raw["mines"][0].update(on="embed/gsimclr"), "gsimclr <- gsimclr"),
        (lambda raw: raw["mines"][0].update(on="../../etc"), "mines[0].on: write features/<name> for"),
        (lambda raw: raw["runs"][3].update(name="$(touch x); rm -rf ~"), "runs[3].name: a name consists of lower-case"),
        (lambda raw: raw["runs"][3].update(name="a\nb"), "runs[3].name: a name consists of lower-case"),
        (lambda raw: raw["runs"].__setitem__(3, "simclr"), "runs[3]: input should be a valid dictionary"),
        (lambda raw: raw.update(runs=None), "runs: input should be a valid list. Found: None"),
        (lambda raw: raw.pop("mines"), "mines: missing parameter"),
        (
            lambda raw: raw["mines"].append({"name": "truth", "miner": "kmeans", "on": "features/dae"}),
            "mines[1].name: this label set is always there; remove the row, and its block in `mining`. Found: 'truth'.",
        ),
        (lambda raw: raw.pop("methods"), "methods: must hold one block per row of runs"),
        (lambda raw: raw.update(probes=[1]), "probes: must hold one block per row of suites. Found: 'list'"),
        (lambda raw: raw["methods"].update(simclr=None), "methods.simclr: must be a block of parameters. Found: None"),
        (
            lambda raw: raw["probes"]["quality"].update(knm={}),
            "probes.quality.knm: unknown probe. Found: 'knm'. Did you mean 'knn'?",
        ),
        (lambda raw: raw["probes"]["quality"].update({3: {}}), "probes.quality.3: unknown probe"),
        (lambda raw: raw["source"].update(options={"x": 1}), "source.options.x: unknown parameter"),
        (lambda raw: raw["train"].update(epochs="60"), "train.epochs: input should be a valid integer. Found: '60'"),
        (lambda raw: raw["train"].update(epochs=True), "train.epochs: input should be a valid integer. Found: True"),
        (
            lambda raw: raw["train"].update(learning_rate=float("inf")),
            "train.learning_rate: input should be a finite number",
        ),
        (lambda raw: raw["train"].update(epochs=10**40), "train.epochs: "),
        (lambda raw: raw.update({"tr\u202eain": 1}), "unknown section"),
    ],
)
def test_one_thing_wrong(raw: dict[str, Any], change: Any, expected: str) -> None:
    change(raw)
    lines = lines_of(raw)
    assert any(expected in line for line in lines), "\n".join(lines) or "nothing was found wrong"


def test_a_circle_through_two_runs_is_reported_once(raw: dict[str, Any]) -> None:
    raw["mines"] += [
        {"name": "a", "miner": "kmeans", "on": "embed/two"},
        {"name": "b", "miner": "kmeans", "on": "embed/one"},
    ]
    raw["mining"] |= {"a": {"clusters": 20}, "b": {"clusters": 20}}
    raw["runs"] += [
        {"name": "one", "method": "gsimclr", "labels": "a"},
        {"name": "two", "method": "gsimclr", "labels": "b"},
    ]
    raw["methods"] |= {"one": {}, "two": {}}
    circles = [line for line in lines_of(raw) if "Break the circle" in line]
    assert len(circles) == 1
    assert "one <- two <- one" in circles[0]


def test_a_second_round_is_no_circle(raw: dict[str, Any]) -> None:
    raw["mines"].append({"name": "round2", "miner": "kmeans", "on": "embed/gsimclr"})
    raw["mining"]["round2"] = {"clusters": 20}
    raw["runs"].append({"name": "again", "method": "gsimclr", "labels": "round2"})
    raw["methods"]["again"] = {}
    assert lines_of(raw) == []


def test_none_and_truth_need_no_rows_and_none_holds_no_labels(raw: dict[str, Any]) -> None:
    raw["runs"] = [row for row in raw["runs"] if row["name"] != "gsimclr"]
    del raw["methods"]["gsimclr"]
    raw |= {"mines": [], "mining": {}, "features": [], "extractors": {}}
    assert lines_of(raw) == []
    raw["runs"][1]["labels"] = "none"
    (line,) = lines_of(raw)
    assert line.startswith("runs[1].labels: the method 'supervised' needs a label set and this one is empty.")
    assert line.endswith("Found: 'none'. Name `truth`, or a label set of `mines`.")


def stage(folder: Path, repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.check", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(repository), "REPRISE_QUIET": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_lists_the_problems_a_line_each(tmp_path: Path, repository: Path) -> None:
    text = (repository / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("min_side: 4", "min_side: 0").replace("samples: 48", "sampels: 48")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    done = stage(tmp_path, repository)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: 2 wrong parameters in params.yaml:",
        "  source.min_side: input should be greater than or equal to 1. Found: 0.",
        "  report.sampels: unknown parameter. Found: 48. Did you mean 'samples'?",
        "Correct them; nothing was run.",
    ]


@pytest.mark.slow
def test_a_number_in_the_parameters_changes_no_fingerprint(tmp_path: Path, repository: Path) -> None:
    text = (repository / "params.yaml").read_text(encoding="utf-8")
    written = []
    for epochs in (60, 61):
        changed = re.sub(r"(?m)^  epochs: \d+", f"  epochs: {epochs}", text)
        assert f"  epochs: {epochs}" in changed
        (tmp_path / "params.yaml").write_text(changed, encoding="utf-8")
        done = stage(tmp_path, repository)
        assert (done.returncode, done.stderr) == (0, "")
        files = sorted(path for path in (tmp_path / "data/code").rglob("*.json"))
        written.append([(path.name, path.read_bytes()) for path in files])
    assert len(written[0]) > 10
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seeds: [0]\nseeds: [1]\n", "not plain YAML"),
        ("!!python/object/apply:os.system ['touch made']\n", "not plain YAML"),
        ("a: &a [1]\nb: *c\n", "not plain YAML"),
        ("- 1\n", "not a mapping"),
        ("", "not a mapping"),
        ("seeds: [0]\n", "missing parameter"),
    ],
)
def test_what_is_not_a_parameter_file_is_a_sentence(tmp_path: Path, repository: Path, text: str, expected: str) -> None:
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    done = stage(tmp_path, repository)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "data").exists()


def test_suites_on_images_have_a_list_and_a_section_of_their_own() -> None:
    raw = read_yaml(Path(__file__).parents[3] / "params.yaml")
    raw["checks"] = [{"run": "simclr", "seed": 0, "group": "finetune"}]
    raw["image_probes"] = {"finetune": {"finetune": {"epochs": 0}, "moment": {}}}
    assert [(p.path, p.found) for p in problems(raw)] == [("image_probes.finetune.finetune.epochs", 0)]
    raw["image_probes"], raw["probes"]["finetune"] = {}, {"moment": {}}
    found = {p.path: p.rule for p in problems(raw)}
    assert found["image_probes.finetune"] == "must hold one block per probe"
    assert found["probes.finetune"] == "this block belongs to no row of 'suites'"
    raw["suites"] = [*raw["suites"], {"name": "finetune"}]
    raw["checks"] = [{"run": "simclr", "seed": 0, "group": "quality"}]
    found = {p.path: p.hint for p in problems(raw)}
    assert found["suites[2].name"] == " It belongs in checks."
    assert found["checks[0].group"] == " It belongs in suites."


def test_a_method_reads_masks_only_beside_changes_that_move_them(
    raw: dict[str, Any], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "plugins/changes/swirl.py"
    file.parent.mkdir(parents=True)
    body = "from reprise.training.change import Change\n\n\nclass Swirl(Change):\n    def draw(self, frame, rng): ...\n"
    file.write_text(body, encoding="utf-8")
    raw["source"] = {"name": "shapes", "options": {"given": ["mask"]}}
    raw["runs"].append({"name": "detcon", "method": "detcon", "labels": "none"})
    raw["methods"]["detcon"] = {"views": ["crop", "tps", "grey"]}
    assert lines_of(raw) == []
    raw["methods"]["detcon"]["views"].append("swirl")
    [line] = lines_of(raw)
    assert line.startswith("methods.detcon.views: the method reads masks, and this change does not say what becomes")
    assert "keeps_places = True" in line
    raw["source"]["options"]["given"] = []
    assert "reads the fact 'mask', which is a label" in lines_of(raw)[0]


def test_a_run_reads_the_facts_that_its_parameters_name(raw: dict[str, Any]) -> None:
    """And without any it needs clusters, which the label set `none` has not."""
    raw["runs"].append({"name": "soft", "method": "softcon", "labels": "none"})
    raw["methods"]["soft"] = {"facts": ["x", "ship"]}
    raw["source"] = {"name": "shapes", "options": {"given": ["x"]}}
    assert "reads the fact 'ship', and nothing gives it" in lines_of(raw)[0]
    raw["facts"]["columns"] = {"ship": {"kind": "flag"}}
    assert "reads the fact 'ship', which is a label" in lines_of(raw)[0]
    raw["facts"]["columns"] = {"ship": {"kind": "flag", "use": "given"}}
    assert lines_of(raw) == []
    code = importlib.import_module("stages.check.code")
    assert code._reads(raw, raw["runs"][-1]) == ["x", "ship"]
    raw["methods"]["soft"] = {}
    assert "method 'softcon' needs a label set with labels" in lines_of(raw)[0]
    raw["runs"][-1]["labels"] = "truth"
    assert lines_of(raw) == []


def test_a_method_reads_what_is_given_and_no_labels(raw: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    """Refused before anything runs: a fact that nothing gives, a label of an unsupervised run, a fact given twice."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "plugins/methods/reader.py"
    file.parent.mkdir(parents=True)
    file.write_text("from stages.pretrain.method import Method\n\n\nclass R(Method):\n    reads = ('pose', 'site')\n")
    raw["runs"].append({"name": "reader", "method": "reader", "labels": "none"})
    raw["methods"]["reader"] = {}
    assert "reads the fact 'pose', and nothing gives it. Found: 'reader; facts: none'" in lines_of(raw)[0]
    raw["source"] = {"name": "shapes", "options": {"given": ["caption"]}}
    assert "reads the fact 'pose', which is a label, and the run is not trained on the truth" in lines_of(raw)[0]
    raw["source"]["options"]["given"] = ["pose"]
    raw["facts"]["columns"] = {"sites": {"kind": "word", "use": "given"}}
    [line] = lines_of(raw)
    assert line.startswith("runs[5].method: the method reads the fact 'site', and nothing gives it")
    assert "Did you mean 'sites'?" in line
    raw["facts"]["columns"] = {"site": {"kind": "word"}}
    raw["runs"][-1]["labels"] = "truth"
    assert lines_of(raw) == []
    raw["facts"]["columns"]["scale"] = {"kind": "number"}
    assert lines_of(raw)[0].startswith("facts.columns.scale: the source gives a fact of this name")
