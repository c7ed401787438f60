"""The arithmetic of the study, against brute force and by hand; its plans, against the check of params.yaml."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.compare.revisions import Figure
from pipeline.sweeps.plans import points_of, write_changes
from pipeline.sweeps.runner import load_plan
from reprise.config.params import read_yaml
from reprise.measures.statistics import paired_t
from reprise.reading.order import OneByOne, global_batches
from reprise.runtime.seeds import numpy_rng
from stages.check.parameters import problems
from studies import gsimclr

ROOT = Path(__file__).resolve().parents[2]
PLANS = sorted((ROOT / "studies").glob("gsimclr_*.yaml"))


@pytest.mark.parametrize("plan", PLANS, ids=lambda path: path.stem)
def test_every_point_of_a_plan_is_a_right_params_yaml(plan: Path, tmp_path: Path) -> None:
    for point in points_of(load_plan(plan)):
        shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
        write_changes(tmp_path / "params.yaml", point.changes)
        assert problems(read_yaml(tmp_path / "params.yaml")) == []


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sampling", ["random", "guided", "rank"])
def test_pushed_pairs_are_those_that_counting_finds(sampling: OneByOne, masked: bool) -> None:
    rng = np.random.default_rng(0)
    classes, clusters = rng.integers(0, 3, 40), rng.integers(-1, 5, 40)
    found = gsimclr.pushed(classes, clusters, sampling, masked, 12, seed=3)
    same = other = there = 0
    for epoch in range(gsimclr.EPOCHS_COUNTED):
        rng = numpy_rng(3, "batches", 0 if sampling == "rank" else epoch)
        for rows in global_batches(sampling, clusters, 12, rng):
            for a, b in itertools.combinations(rows, 2):
                there += 1
                if masked and clusters[a] == clusters[b] >= 0:
                    continue
                same += classes[a] == classes[b]
                other += classes[a] != classes[b]
    apart = np.mean([classes[a] != classes[b] for a, b in itertools.combinations(range(40), 2)])
    assert found == pytest.approx((same / (same + other), 1 - other / (there * apart)))


def test_masking_the_true_classes_leaves_no_conflict_and_loses_nothing() -> None:
    classes = np.arange(60) % 3
    found = gsimclr.pushed(classes, classes, "guided", True, 60, seed=0)
    assert found == pytest.approx((0.0, 0.0))
    assert gsimclr.pushed(classes, np.full(60, -1), "random", False, 60, seed=0).same_class == pytest.approx(19 / 59)


def test_each_kind_of_guiding_is_tested_against_simclr_and_only_these_are_a_family() -> None:
    values = {
        "simclr": {0: 0.50, 1: 0.52, 2: 0.51},
        "gsimclr": {0: 0.53, 1: 0.545, 2: 0.55},
        "gsimclr_rank": {0: 0.49, 1: 0.53, 2: 0.50},
        "supervised": {0: 0.9, 1: 0.9, 2: 0.9},
    }
    found = gsimclr.against_base(values, ["gsimclr", "gsimclr_rank"])
    alone = paired_t([0.03, 0.025, 0.04])
    assert found["gsimclr"].difference == pytest.approx(alone.mean)
    assert found["gsimclr"].interval == pytest.approx(alone.interval)
    assert found["gsimclr"].p == pytest.approx(2 * alone.p)  # the smaller of two
    two = gsimclr.against_base({run: {0: v[0], 1: v[1]} for run, v in values.items()}, ["gsimclr"])
    assert two["gsimclr"].p is None
    assert two["gsimclr"].difference == pytest.approx(0.0275)


def test_the_table_shows_percent_and_leaves_out_what_was_not_measured() -> None:
    def seeds(*values: float) -> dict[int, Figure]:
        return {seed: Figure(value, None, None) for seed, value in enumerate(values)}

    table = {
        "linear.top1": {"simclr": seeds(0.5, 0.6, 0.7), "gsimclr": seeds(0.6, 0.7, 0.8)},
        "spectrum.rankme": {"simclr": seeds(20.0, 22.0, 24.0)},
    }
    point = gsimclr.Point({}, table, {"gsimclr": gsimclr.Pushed(0.0987, 0.001)}, {})
    head, _, simclr, guided = gsimclr.arms_table(point).splitlines()
    assert head.split(" | ")[1:3] == ["linear P3, backbone", "RankMe"]
    assert simclr == "| simclr | 60.0 ± 10.0 | 22.0 ± 2.0 |  |  |  |  |"
    assert guided.startswith("| gsimclr | 70.0 ± 10.0 |  | +10.0 | 1.000 | 9.87 % | 0.10 % |")


def test_the_axes_begin_where_the_table_on_cifar10_stands() -> None:
    """Rows of the first temperature are those of the table to the letter, so that they come from its cache."""
    table, first = (load_plan(ROOT / f"studies/gsimclr_{name}.yaml").expanded()[0] for name in ("cifar10", "axes"))
    shared = {run["name"]: run for run in table["runs"]}
    both = [run for run in first["runs"] if run["name"] in shared]
    assert len(both) >= 4
    assert all(run == shared[run["name"]] for run in both)
    assert all(first["methods"][run["name"]] == table["methods"][run["name"]] for run in both)
    mined = {run["labels"] for run in both} - {"none", "truth"}  # those two are always there and need no parameters
    assert mined
    assert all(first["mining"][labels] == table["mining"][labels] for labels in mined)
    assert {k: v for k, v in first.items() if k.startswith(("train.", "image."))} == {
        k: v for k, v in table.items() if k.startswith(("train.", "image."))
    }


def test_the_folder_of_images_reaches_every_point() -> None:
    plan = load_plan(ROOT / "studies/gsimclr_axes.yaml")
    rooted = gsimclr.rooted(plan, Path("/images"))
    assert {changes["source"]["root"] for changes in rooted.expanded()} == {"/images"}
    assert [{**c, "source": 0} for c in rooted.expanded()] == [{**c, "source": 0} for c in plan.expanded()]


def test_the_plots_show_every_run_and_those_of_several_temperatures_as_lines(tmp_path: Path) -> None:
    def point(temperature: float, **runs: float) -> gsimclr.Point:
        table = {"linear.top1": {n: {s: Figure(v + s / 100, None, None) for s in range(3)} for n, v in runs.items()}}
        pushed = {name: gsimclr.Pushed(0.1 - i / 50, i / 50) for i, name in enumerate(runs)}
        return gsimclr.Point({"methods": {"simclr": {"temperature": temperature}}}, table, pushed, {})

    points = [point(0.2, simclr=0.4, masked_10=0.41, masked_100=0.42), point(0.5, simclr=0.38, masked_10=0.36)]
    drawn = gsimclr.draw_axes(points, tmp_path)
    assert [path.name for path in drawn] == ["gsimclr-conflicts.png", "gsimclr-temperature.png"]
    assert all(path.stat().st_size > 5_000 for path in drawn)
    rows = gsimclr.axes_table(points).splitlines()[2:]
    assert [row.split(" | ")[:2] for row in rows] == [
        ["| 0.2", "simclr"],
        ["| 0.2", "masked_10"],
        ["| 0.2", "masked_100"],
        ["| 0.5", "simclr"],
        ["| 0.5", "masked_10"],
    ]


def test_conflicts_taken_away_are_a_share_of_those_of_simclr(tmp_path: Path) -> None:
    names = {"simclr": 0.10, "guided_tcc": 0.05, "gsimclr_truth": 0.0, "guided_dae": 0.11}
    shares = {name: gsimclr.Pushed(share, 0.0) for name, share in names.items()}
    seeds = {name: {seed: Figure(0.4 + 0.01 * seed, None, None) for seed in range(3)} for name in names}
    point = gsimclr.Point({"summary.family": "knn.top1"}, {"knn.top1": seeds}, shares, {})
    assert [round(point.removed(name), 6) for name in names] == [0.0, 0.5, 1.0, -0.1]
    assert "kNN - SimCLR's" in gsimclr.arms_table(point)
    assert gsimclr.draw_removed({"learned_cifar10": point}, tmp_path / "plot.png").stat().st_size > 5000
