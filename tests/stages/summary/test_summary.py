"""What summary writes: figures, verdicts, tables, budgets; deterministic; what is missing is named."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from reprise.config.errors import ParameterError, ResultError
from reprise.config.params import problems_of
from stages.summary.__main__ import main
from stages.summary.params import SummaryParams


def comparison() -> dict[str, Any]:
    main([])
    return json.loads(Path("data/summary/comparison.json").read_text(encoding="utf-8"))


def rows(name: str) -> list[dict[str, str]]:
    with Path("data/summary", name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def pair(found: dict[str, Any], a: str, b: str) -> dict[str, Any]:
    (one,) = [p for p in found["pairs"] if (p["a"], p["b"]) == (a, b)]
    return one


def test_one_seed_compares_models(make) -> None:
    make({"random": 0.5, "simclr": 0.9, "gsimclr": 0.9})
    found = comparison()
    assert [(p["a"], p["b"]) for p in found["pairs"]] == [
        ("simclr", "random"),
        ("gsimclr", "random"),
        ("gsimclr", "simclr"),
    ]
    far = pair(found, "simclr", "random")
    assert far["test"] == "exact McNemar"
    assert far["verdict"].startswith("These two models differ: simclr above random")
    assert far["over_seeds"] == {"low": None, "high": None}
    assert far["over_examples"]["low"] > 0
    assert pair(found, "gsimclr", "simclr")["verdict"].startswith("No difference shown between these two models")
    assert found["metrics"]["knn.top1"]["simclr"]["sd_over_seeds"] is None


def test_three_seeds_compare_methods(make) -> None:
    make({"random": 0.3, "simclr": 0.9}, seeds=[0, 1, 2])
    found = comparison()
    one = pair(found, "simclr", "random")
    values = {
        run: [found["metrics"]["knn.top1"][run]["seeds"][str(s)] for s in range(3)] for run in ("random", "simclr")
    }
    assert one["test"] == "paired t"
    assert one["p"] == pytest.approx(stats.ttest_rel(values["simclr"], values["random"]).pvalue, abs=1e-5)
    assert one["verdict"].startswith("simclr is above random over 3 seeds")
    figure = found["metrics"]["knn.top1"]["simclr"]
    assert figure["mean"] == pytest.approx(np.mean(values["simclr"]), abs=1e-6)
    assert figure["sd_over_seeds"] == pytest.approx(np.std(values["simclr"], ddof=1), abs=1e-6)
    assert figure["low"] < figure["mean"] < figure["high"]
    assert found["metrics"]["knn.balanced_accuracy"]["simclr"]["low"] is None  # nothing to draw its mean from


def test_two_seeds_claim_nothing(make) -> None:
    make({"random": 0.3, "simclr": 0.9}, seeds=[0, 1])
    assert pair(comparison(), "simclr", "random")["verdict"].startswith("No claim: 2 seeds")


def test_groups_reach_the_test(make) -> None:
    make({"random": 0.3, "simclr": 0.9}, grouped=True)
    assert pair(comparison(), "simclr", "random")["test"] == "sign flips of groups"


def test_a_family_without_predictions_needs_seeds(make) -> None:
    make({"a": 0.5, "b": 0.5}, seeds=[0, 1, 2], family="spectrum.rankme")
    one = pair(comparison(), "b", "a")
    assert one["difference"] == pytest.approx(1.0)
    assert one["p"] == 1.0  # every per-seed difference is 1: no spread, no claim
    assert one["over_examples"] == {"low": None, "high": None}


def test_metrics_json_is_nested_means(make) -> None:
    make({"random": 0.3, "simclr": 0.9}, seeds=[0, 1])
    found = comparison()
    metrics = json.loads(Path("metrics.json").read_text(encoding="utf-8"))
    assert set(metrics) == {"random", "simclr"}
    assert metrics["simclr"]["knn"]["top1"] == found["metrics"]["knn.top1"]["simclr"]["mean"]
    assert metrics["random"]["spectrum"] == {"rankme": 10.05}
    assert "map" not in metrics["random"]


def test_table_holds_every_figure_of_every_seed(make) -> None:
    make({"random": 0.3, "simclr": 0.9}, seeds=[0, 1])
    main([])
    table = rows("table.csv")
    assert list(table[0]) == ["run", "seed", "probe", "metric", "value", "low", "high", "n"]
    assert len(table) == 2 * 2 * 4
    assert [r["run"] for r in table] == ["random"] * 8 + ["simclr"] * 8
    rank = next(r for r in table if r["metric"] == "rankme")
    assert (rank["value"], rank["low"], rank["n"]) == ("10.0", "", "500")


def test_curves_keep_every_column(make) -> None:
    make({"random": 0.3, "supervised": 0.9}, configs={"random": {"steps": 0}})
    main([])
    curves = rows("curves.csv")
    assert list(curves[0]) == ["run", "seed", "epoch", "step", "loss", "rankme", "top1"]
    assert [(r["run"], r["epoch"], r["loss"], r["top1"]) for r in curves] == [
        ("supervised", "1", "4", "0.5"),
        ("supervised", "2", "3", "0.5"),
    ]


def test_what_watches_saw_is_one_table_of_the_runs_that_have_some(make) -> None:
    make({"random": 0.3, "simclr": 0.9}, seeds=[0, 1])
    main([])
    assert not Path("data/summary/watches.csv").exists()
    before = {path.name: path.read_bytes() for path in Path("data/summary").iterdir()}
    for seed in (0, 1):
        text = f'"epoch","step","watch","figure","value"\n0,0,"scale","growth",{seed}.5\n1,3,"scale","growth",\n'
        Path(f"data/runs/simclr/{seed}/watches.csv").write_text(text, encoding="utf-8")
    main([])
    found = [tuple(row.values()) for row in rows("watches.csv")]
    assert found[0] == ("simclr", "0", "0", "0", "scale", "growth", "0.5")
    assert [(row[1], row[2], row[-1]) for row in found] == [
        ("0", "0", "0.5"),
        ("0", "1", ""),
        ("1", "0", "1.5"),
        ("1", "1", ""),
    ]
    assert before == {p.name: p.read_bytes() for p in Path("data/summary").iterdir() if p.name != "watches.csv"}


def test_confusion_counts_every_test_image_once_a_run(make) -> None:
    make({"random": 0.3, "simclr": 0.9}, seeds=[0, 1])
    main([])
    confusion = rows("confusion.csv")
    assert len(confusion) == 2 * 200
    right = np.mean([r["actual"] == r["predicted"] for r in confusion if r["run"] == "simclr"])
    assert right == pytest.approx(
        next(float(r["value"]) for r in rows("table.csv") if r["run"] == "simclr" and r["metric"] == "top1")
    )


def test_without_labels_the_rest_still_appears(make) -> None:
    make({"random": 0, "simclr": 0}, labelled=False)
    found = comparison()
    assert found["pairs"] == []
    assert "no run has the metric knn.top1" in found["notes"][0]
    assert found["metrics"]["spectrum.rankme"]["simclr"]["mean"] == 11.0
    assert Path("data/summary/confusion.csv").read_text(encoding="utf-8") == "run,actual,predicted\n"
    assert json.loads(Path("metrics.json").read_text(encoding="utf-8"))["random"] == {"spectrum": {"rankme": 10.0}}


def test_budgets_and_their_differences(make) -> None:
    odd = {"simclr": {"images_seen": 9000, "precision": "fp32"}, "random": {"steps": 0, "images_seen": 0}}
    make({"random": 0.3, "supervised": 0.9, "simclr": 0.9}, configs=odd)
    found = comparison()
    assert found["budget"]["simclr"]["images_seen"] == 9000
    assert found["budget"]["simclr"]["epochs"] is None
    assert len(found["warnings"]) == 2
    assert "differ in images_seen" in found["warnings"][0]
    assert "6000: supervised seed 0; 9000: simclr seed 0" in found["warnings"][0]
    assert "bf16: supervised seed 0; fp32: simclr seed 0" in found["warnings"][1]


def test_pairs_say_in_what_their_budgets_differ(make) -> None:
    odd = {"long": {"epochs": 30, "started_from": "models/a"}, "short": {"epochs": 3}, "random": {"steps": 0}}
    make({"random": 0.3, "long": 0.9, "short": 0.9}, configs=odd)
    unequal = {(pair["a"], pair["b"]): pair["unequal"] for pair in comparison()["pairs"]}
    assert unequal == {("long", "random"): [], ("short", "random"): [], ("short", "long"): ["epochs (3 and 30)"]}


def test_a_share_of_the_images_is_part_of_the_budget(make) -> None:
    """config.json states a share only where it is not all, so its absence is no unknown."""
    make({"simclr": 0.9, "tenth": 0.8}, configs={"tenth": {"image_share": 0.1}})
    found = comparison()
    assert found["pairs"][0]["unequal"] == ["share of the training images (0.1 and 1.0)"]
    assert found["warnings"] == [
        "the runs differ in image_share, so their figures are not at one budget (0.1: tenth seed 0; 1.0: simclr seed 0)"
    ]
    assert "image_share" not in found["budget"]["simclr"]
    assert found["budget"]["tenth"]["image_share"] == 0.1


def test_equal_budgets_warn_of_nothing(make) -> None:
    make({"random": 0.3, "simclr": 0.9}, configs={"random": {"steps": 0, "images_seen": 0, "precision": "fp32"}})
    assert comparison()["warnings"] == []


def test_same_input_same_bytes(make) -> None:
    make({"random": 0.3, "simclr": 0.9}, seeds=[0, 1, 2])
    found = []
    for _ in range(2):
        main([])
        found.append({p.name: p.read_bytes() for p in [*Path("data/summary").iterdir(), Path("metrics.json")]})
    assert found[0] == found[1]
    assert set(found[0]) == {"comparison.json", "table.csv", "curves.csv", "confusion.csv", "metrics.json"}


def test_rows_that_params_no_longer_name_are_left_out(make) -> None:
    make({"random": 0.3, "simclr": 0.9, "old": 0.99})
    parameters = json.loads(Path("params.yaml").read_text(encoding="utf-8"))
    parameters["runs"] = parameters["runs"][:2]
    Path("params.yaml").write_text(json.dumps(parameters), encoding="utf-8")
    assert comparison()["runs"] == ["random", "simclr"]


def test_what_is_missing_or_does_not_fit_is_named(make) -> None:
    folder = make({"random": 0.3, "simclr": 0.9})
    (folder / "data/runs/simclr/0/history.csv").unlink()
    with pytest.raises(ResultError, match=r"simclr/0/history\.csv"):
        main([])
    make({"random": 0.3, "simclr": 0.9})
    features = Path("data/probe/simclr/0/features")
    shutil.copytree(features / "quality", features / "label_free", dirs_exist_ok=True)
    with pytest.raises(ResultError, match="two suites hold a probe called 'knn'"):
        main([])
    shutil.rmtree("data/probe")
    make({"simclr": 0.9}, n=150)
    shutil.move("data/probe/simclr", "data/kept")
    make({"random": 0.3, "simclr": 0.9})
    shutil.rmtree("data/probe/simclr")
    shutil.move("data/kept", "data/probe/simclr")
    with pytest.raises(ResultError, match="different images or labels"):
        main([])
    shutil.rmtree("data/probe/random/0/features/label_free")
    with pytest.raises(ResultError, match=r"random/0/features/label_free/metrics\.json"):
        main([])


@pytest.mark.parametrize(
    ("block", "path"),
    [
        ({"confidence": 1.5}, "summary.confidence"),
        ({"family": "top1"}, "summary.family"),
        ({"famly": "a.b"}, "summary.famly"),
    ],
)
def test_parameters(block: dict[str, Any], path: str) -> None:
    assert [p.path for p in problems_of(SummaryParams, block, "summary")] == [path]


def test_wrong_parameters_stop_before_anything_is_read(make) -> None:
    make({"random": 0.3}, family="nonsense")
    with pytest.raises(ParameterError, match=r"summary\.family"):
        main([])
    assert not Path("data/summary").exists()
