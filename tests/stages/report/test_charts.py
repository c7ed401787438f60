"""The numbers behind the drawings: scales, ticks, paths, marks, counts."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from markupsafe import Markup

from stages.report.drawing.charts import (
    Estimate,
    Line,
    bar_chart,
    interval_chart,
    isolated_points,
    line_chart,
    pad,
    path,
    place,
    size_chart,
    tick_texts,
    ticks,
)
from stages.report.drawing.scatter import MOST_CLASSES as MOST_MARKS
from stages.report.drawing.scatter import choose_marks, scatter
from stages.report.sections.confusion import MOST_CLASSES, OTHER, count_confusion, heatmap


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.612, 0.987), (-3.0, 250.0), (1e-9, 3e-9), (5.0, 5.0), (0.0, 1e12)]
)
def test_ticks_are_round_rising_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert found == sorted(set(found))
    assert all(low - 1e-9 * abs(low) <= tick <= high + 1e-9 * abs(high) for tick in found)
    assert 1 <= len(found) <= 7
    steps = [b - a for a, b in itertools.pairwise(found)]
    if steps:
        lead = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
        assert min(abs(lead - s) for s in (1, 2, 5, 10)) < 1e-6


def test_ticks_of_the_unit_interval() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(0, 1, wanted=3) == [0, 0.5, 1]
    assert ticks(21.0, 29.0, wanted=4) == [22, 24, 26, 28]


def test_tick_texts_tell_neighbours_apart() -> None:
    assert tick_texts([0, 0.5, 1]) == ["0.0", "0.5", "1.0"]
    assert tick_texts([10, 20]) == ["10", "20"]
    assert tick_texts([0, 1e-5, 2e-5]) == ["0", "1.0e-5", "2.0e-5"]
    assert tick_texts([-0.5, 0.0]) == ["−0.5", "0.0"]


def test_place_is_linear_and_padding_never_empty() -> None:
    assert place(0.5, (0, 1), (100, 200)) == 150
    assert place(1, (0, 1), (200, 100)) == 100
    for low, high in ((3.0, 3.0), (0.0, 0.0), (-2.0, -2.0), (1.0, 2.0)):
        a, b = pad(low, high)
        assert a < low <= high < b


def _numbers(pattern: str, drawing: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, drawing)]


def test_interval_chart_puts_values_and_ends_where_they_belong() -> None:
    rows = [Estimate("low", 0.2, 0.1, 0.3), Estimate("high", 0.9, 0.8, 1.0), Estimate("bare", 0.5)]
    drawing = str(interval_chart(rows, "a chart"))
    dots = _numbers(r'<circle cx="([\d.]+)"[^>]*class="dot"', drawing)
    assert dots == sorted(dots, reverse=True)  # the largest value first
    whiskers = re.findall(r'<line x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="\2" class="whisker"', drawing)
    assert len(whiskers) == 2  # none where there is no interval
    (left, _, right), scale = whiskers[0], (dots[0] - dots[2]) / 0.7
    assert float(right) - float(left) == pytest.approx(0.2 * scale, abs=0.2)
    assert (float(left) + float(right)) / 2 == pytest.approx(dots[0], abs=0.1)
    assert "high: 0.900 [0.800, 1.000]" in drawing


def test_interval_chart_shows_seeds_only_when_there_are_several() -> None:
    assert str(interval_chart([Estimate("a", 0.5, seeds=(0.5,))], "x")).count('class="seed"') == 0
    assert str(interval_chart([Estimate("a", 0.5, seeds=(0.4, 0.6))], "x")).count('class="seed"') == 2


def test_path_lifts_the_pen_at_gaps() -> None:
    assert path([(0, 0), (1, 2), None, (3, 4), (4, 4)]) == "M0.0 0.0L1.0 2.0M3.0 4.0L4.0 4.0"
    assert isolated_points([(0, 0), None, (3, 4), (4, 4), None, (9, 9)]) == [(0, 0), (9, 9)]


def test_line_chart_leaves_out_what_is_not_finite() -> None:
    drawing = str(line_chart([Line("seed 0", (1, 2, 3), (1.0, None, float("inf")))], "Loss"))
    assert "nan" not in drawing
    assert "inf" not in drawing.replace("no finite", "")
    assert "no finite values" in str(line_chart([Line("seed 0", (1.0,), (None,))], "Loss"))
    assert "no finite values" in str(line_chart([], "Loss"))


def test_bars_have_lengths_in_proportion() -> None:
    drawing = str(bar_chart([("a", [10, 30]), ("b", [20, 0])], ["train", "test"], "x"))
    widths = _numbers(r'<rect [^>]*width="([\d.]+)"', drawing)
    assert widths[1] == pytest.approx(3 * widths[0], rel=1e-2)
    assert widths[2] == pytest.approx(2 * widths[0], rel=1e-2)
    assert widths[3] == 0


def test_size_chart_steps_down_and_draws_the_limit() -> None:
    drawing = str(size_chart([1, 5, 3], "sizes", (4.0, "four")))
    outline = re.search(r'd="([^"]+)" class="area', drawing)
    assert outline
    heights = _numbers(r"V([\d.]+)H", outline.group(1))
    assert heights == sorted(heights)  # y grows downwards: largest first
    limit = _numbers(r'y1="([\d.]+)" x2="[\d.]+" y2="[\d.]+" class="limit"', drawing)[0]
    assert heights[0] < limit < heights[1]


def test_confusion_counts_every_image_once() -> None:
    found = count_confusion(["a", "a", "b", "c"], ["a", "b", "b", "z"], ["b", "a"])
    assert found.names == ("b", "a", "c", "z")  # the data set's order, then by name
    assert found.counts == ((1, 0, 0, 0), (1, 1, 0, 0), (0, 0, 0, 1), (0, 0, 0, 0))
    assert found.total == 4
    assert found.worst[0] == ("a", "b", 1, 2)


def test_confusion_folds_rare_classes() -> None:
    labels = [f"c{i:03}" for i in range(50) for _ in range(50 - i)]
    found = count_confusion(labels, labels, [])
    assert len(found.names) == MOST_CLASSES + 1
    assert found.names[-1] == OTHER
    assert found.folded == 50 - MOST_CLASSES
    assert found.total == len(labels)
    assert found.names[:-1] == tuple(f"c{i:03}" for i in range(MOST_CLASSES))


def test_heatmap_shades_by_the_share_of_the_row() -> None:
    drawing = str(heatmap(count_confusion(["a", "a", "a", "a", "b"], ["a", "a", "a", "b", "b"], []), "x"))
    assert _numbers(r'class="right" fill-opacity="([\d.]+)"', drawing) == pytest.approx(
        [0.12 + 0.88 * 0.75, 1.0], abs=1e-3
    )
    assert _numbers(r'class="wrong" fill-opacity="([\d.]+)"', drawing) == pytest.approx([0.12 + 0.88 * 0.25], abs=1e-3)
    assert "true a, predicted b: 1 of 4" in drawing


def test_marks_go_to_the_frequent_classes_and_differ() -> None:
    labels = [f"c{i:03}" for i in range(40) for _ in range(60 - i)] + [None]
    marks = choose_marks(labels, ["c001", "c000"])
    assert len(marks.names) == MOST_MARKS
    assert marks.others == 40 - MOST_MARKS
    assert marks.names[:2] == ("c001", "c000")
    assert marks.of("c039") == marks.of(None) == -1
    drawn = {re.sub(r'[xy]="[^"]*"|M[\d. ]+l', "", str(scatter([0], [0], [m], [0], "x"))) for m in range(MOST_MARKS)}
    assert (
        len({re.sub(r' data-\w="[^"]*"', "", d) for d in drawn}) == MOST_MARKS
    )  # colour and shape together are unique


def test_scatter_keeps_the_order_of_coordinates_and_drops_what_is_not_finite() -> None:
    drawing = str(scatter([0, 1, float("nan")], [5, 7, 1], [0, 0, 0], [4, 5, 6], "x"))
    points = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*data-i="(\d)"', drawing)
    assert [p[2] for p in points] == ["4", "5"]
    assert float(points[0][0]) < float(points[1][0])
    assert float(points[0][1]) > float(points[1][1])  # up is more
    assert "<circle" not in str(scatter([float("inf")], [0], [0], [0], "x"))


@pytest.mark.parametrize(
    "draw",
    [
        lambda bad: interval_chart([Estimate(bad, 0.5)], bad),
        lambda bad: line_chart([Line(bad, (1.0, 2.0), (1.0, 2.0))], bad),
        lambda bad: bar_chart([(bad, [1])], [bad], bad),
        lambda bad: size_chart([1, 2], bad, (1.0, bad)),
        lambda bad: heatmap(count_confusion([bad], [bad], []), bad),
        lambda bad: scatter([0], [0], [0], [0], bad),
    ],
)
def test_no_chart_lets_markup_through(draw) -> None:
    drawing = draw('"><script>alert(1)</script>')
    assert isinstance(drawing, Markup)
    assert "<script" not in drawing
    assert '">"' not in drawing
