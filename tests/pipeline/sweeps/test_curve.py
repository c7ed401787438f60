"""The curve of a sweep: means, intervals and differences by value, and which plans may ask for one."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from scipy import stats

from pipeline.sweeps.curve import Axis
from pipeline.sweeps.plans import load_plan
from pipeline.sweeps.report import compare_points
from reprise.config.errors import SweepError

VALUES = {  # point -> run -> figures of the seeds
    "ten": {"random": (0.50, 0.52, 0.51), "simclr": (0.60, 0.66, 0.63)},
    "all": {"random": (0.50, 0.52, 0.51), "simclr": (0.90, 0.88, 0.92)},
}
AXIS = Axis("train.image_share", {"all": 1.0, "ten": 0.1}, "random")


def table(runs: dict[str, tuple[float, ...]]) -> bytes:
    """data/summary/table.csv with a figure on val and one on test, a fifth lower."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["run", "seed", "probe", "metric", "value", "low", "high"])
    for run, values in runs.items():
        for seed, value in enumerate(values):
            writer.writerow([run, seed, "knn", "top1_val", value, value - 0.1, value + 0.1])
            writer.writerow([run, seed, "knn", "top1", value - 0.2, "", ""])
    return text.getvalue().encode()


def page(values=VALUES, axis: Axis | None = AXIS) -> str:
    tables = {name: table(runs) for name, runs in values.items()}
    found = compare_points(tables, {name: name for name in tables}, "all", "knn.top1_val", axis=axis)
    return found.markdown("images", "0" * 40, [])


def cells(text: str, run: str) -> list[list[str]]:
    """The rows of a run in the tables of the curves, in their order on the page."""
    after = text[text.index("## ") :].splitlines()
    return [line.strip("| ").split(" | ") for line in after if line.startswith(f"| {run} |")]


def test_the_curve_rises_along_the_axis_with_intervals_over_seeds() -> None:
    val, gap, test, _ = cells(page(), "simclr")
    low, high = stats.t.interval(0.95, 2, loc=0.63, scale=stats.sem([0.60, 0.66, 0.63]))
    assert val[1] == f"0.6300 \\[{low:.4f}, {high:.4f}\\]"  # the smallest share first, whatever the plan's order
    assert val[2].startswith("0.9000 ")
    assert test[1].startswith("0.4300 ")
    p = stats.ttest_rel([0.90, 0.88, 0.92], [0.50, 0.52, 0.51]).pvalue
    smaller = stats.ttest_rel([0.60, 0.66, 0.63], [0.50, 0.52, 0.51]).pvalue
    assert p < smaller  # Holm doubles the smallest of two
    assert gap[1].startswith("+0.1200 ")
    assert gap[1].endswith(f"p = {smaller:.3f}")
    assert gap[2].startswith("+0.3900 ")
    assert gap[2].endswith(f"p = {2 * p:.3f}" if 2 * p >= 0.001 else "p &lt; 0.001")


def test_one_seed_shows_intervals_over_examples_and_claims_nothing() -> None:
    one = {point: {run: values[:1] for run, values in runs.items()} for point, runs in VALUES.items()}
    val, gap, *_ = cells(page(one), "simclr")
    assert val[1] == "0.6000 \\[0.5000, 0.7000\\]"
    assert gap[1] == "+0.1000"
    two = {point: {run: values[:2] for run, values in runs.items()} for point, runs in VALUES.items()}
    val, gap, *_ = cells(page(two), "simclr")
    assert (val[1], gap[1]) == ("0.6300", "+0.1200")


def test_points_that_are_not_done_leave_the_rest_of_the_curve() -> None:
    val, *_ = cells(page({"all": VALUES["all"]}), "simclr")
    assert len(val) == 2
    assert "## " not in page(axis=None)


@pytest.mark.parametrize(
    ("rest", "sentence"),
    [
        ("points: [{a: 1}, {b: 2}]\ncurve: a\n", "every point must set 'a'"),
        ("points: [{a: 1}, {a: true}]\ncurve: a\n", "every point must set 'a'"),
        ("points: [{a: 1, b: 1}, {a: 1.0, b: 2}]\ncurve: a\n", "two points set 'a', the key of `curve`, to the same"),
        ("points: [{a: 1}, {a: 2}]\nreference: random\n", "`reference` belongs to `curve`"),
    ],
)
def test_plans_that_have_no_curve_are_refused(tmp_path: Path, rest: str, sentence: str) -> None:
    (tmp_path / "p.yaml").write_text(f"name: p\n{rest}", encoding="utf-8")
    with pytest.raises(SweepError, match=sentence):
        load_plan(tmp_path / "p.yaml")


def test_the_plan_over_shares_of_images_gives_each_point_as_many_images(repository: Path) -> None:
    plan = load_plan(repository / "sweeps/images.yaml")
    seen = [point["train.image_share"] * point["train.epochs"] for point in plan.expanded()]
    assert plan.curve == "train.image_share"
    assert seen == [pytest.approx(60)] * 3
    assert sorted(point["train.image_share"] for point in plan.expanded()) == [0.1, 0.3, 1.0]
