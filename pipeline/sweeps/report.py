"""Compare the points of a sweep: figures by point and seed, differences from the base point, verdicts on val.

Verdicts are about one metric on val. Figures on test are shown for the report and are not used to rank points. Each run
of each point is compared with the same run of the base point; Holm's correction covers all of these comparisons. A run
whose figures are all the same was not affected by the changes and does not count as a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from pipeline.compare.revisions import Figure, per_seed
from pipeline.processes import markdown
from pipeline.sweeps.curve import Axis, curve_tables
from reprise.config.errors import ResultError
from reprise.measures.statistics import CONFIDENCE, Pair, compare, holm, verdict

_MAX_LABEL_LENGTH = 60  # characters
Seeds = Mapping[int, Figure]
Table = Mapping[str, Mapping[str, Seeds]]  # "probe.metric" -> run -> seed -> Figure


@dataclass(frozen=True)
class Difference:
    """A run of a point compared with the same run of the base point.

    Attributes:
        point: name of the point.
        run: name of the run.
        pair: the statistical comparison, or None if there is nothing to compare.
        verdict: a sentence.
    """

    point: str
    run: str
    pair: Pair | None
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """The comparison of the points of a sweep.

    Attributes:
        base: name of the point that the others are compared with.
        metric: the metric on val that the verdicts are about.
        test: the same metric on the test split, or None if there is none.
        tables: point -> figures, for the points that are done.
        titles: point -> its changes in words.
        differences: one entry per run of each other point.
        axis: what the page shows the figures over; None for no curve.
        confidence: level of the intervals, in (0, 1).
    """

    base: str
    metric: str
    test: str | None
    tables: Mapping[str, Table]
    titles: Mapping[str, str]
    differences: tuple[Difference, ...]
    axis: Axis | None = None
    confidence: float = CONFIDENCE

    def rows(self) -> list[list[str]]:
        """Return the rows of a table, one per point and run; `columns` names the cells."""
        differences = {(d.point, d.run): d for d in self.differences}
        rows = []
        for point, table in self.tables.items():
            for run, seeds in table.get(self.metric, {}).items():
                difference = differences.get((point, run))
                pair = difference.pair if difference else None
                test = table.get(self.test or "", {}).get(run, {})
                rows.append(
                    [
                        point,
                        self.titles[point],
                        run,
                        " ".join(f"{seed}: {figure.value:.4f}" for seed, figure in sorted(seeds.items())),
                        _mean(seeds),
                        f"{pair.difference:+.4f}" if pair else "",
                        "base point" if point == self.base else difference.verdict if difference else "",
                        _mean(test),
                    ]
                )
        return rows

    def columns(self) -> list[str]:
        """Return the header of the table."""
        test = f"{self.test} (test, for the report)" if self.test else "test"
        return ["point", "changes", "run", f"{self.metric} by seed", "mean", "difference", "verdict", test]

    def markdown(self, name: str, revision: str, points: Sequence[tuple[str, str, str, float, str]]) -> str:
        """Return a Markdown page with the states of the points and their figures.

        Args:
            name: name of the plan.
            revision: the commit that the sweep started from.
            points: (name, changes, state, seconds, message) of each point.
        """
        base = f"`{self.base}` ({markdown.escape(self.titles[self.base])})"
        lines = [
            f"# Sweep {name}",
            "",
            f"This sweep ran on commit `{revision[:12]}`. Its verdicts are about `{self.metric}`; figures on test are",
            "shown, but points are not ranked by them. Each run is compared with the same run of the base point,",
            f"{base}, paired by seed, with Holm's correction over all runs of all other points.",
            "",
            markdown.table(
                ["point", "changes", "state", "seconds", "message"],
                [[n, title, state, f"{seconds:.0f}", message] for n, title, state, seconds, message in points],
            ),
            "",
        ]
        rows = self.rows()
        if rows:
            lines.append(markdown.table(self.columns(), rows))
            lines += self._curves()
        else:
            lines.append("There are no figures to compare yet.")
        lines += ["", "`dvc exp show` lists the experiments; `dvc exp apply NAME` copies one into the folder."]
        return "\n".join(lines) + "\n"

    def _curves(self) -> list[str]:
        """Write the figures over the axis: those on val, which decide, and those on test, for the report."""
        if self.axis is None:
            return []
        lines = [""]
        for metric in (self.metric, self.test):
            figures = {point: table.get(metric or "", {}) for point, table in self.tables.items()}
            lines += curve_tables(self.axis, figures, metric or "", self.confidence)
        return lines[:-1]


def compare_points(
    tables: Mapping[str, bytes | None],
    titles: Mapping[str, str],
    base: str,
    metric: str,
    confidence: float = CONFIDENCE,
    axis: Axis | None = None,
) -> Comparison:
    """Compare the points that are done.

    Args:
        tables: point -> content of data/summary/table.csv; None if the cache has lost it.
        titles: point -> its changes in words.
        base: name of the point that the others are compared with.
        metric: "probe.metric" on val.
        confidence: level of the intervals, in (0, 1).
        axis: what the page shows the figures over.

    Raises:
        ResultError: no point has this metric, or it is on the test split.
    """
    figures = {point: per_seed(table) for point, table in tables.items()}
    known = {name for table in figures.values() for name in table}
    if known:
        _check_metric(metric, known)
    test = metric.removesuffix("_val")
    differences = _differences(figures, {p: _label(p, titles[p]) for p in figures}, base, metric, confidence)
    test_metric = test if test != metric and test in known else None
    return Comparison(base, metric, test_metric, figures, titles, differences, axis, confidence)


def _check_metric(metric: str, known: set[str]) -> None:
    """Require a metric on val of every probe that has one.

    Raises:
        ResultError: no point has the metric, or it is on test although the probe has metrics on val.
    """
    probe = metric.split(".", maxsplit=1)[0]
    on_val = sorted(name for name in known if name.endswith("_val"))
    fix = f"Name one of these in the plan: {', '.join(on_val or sorted(known))}. Finished points are not run again."
    if metric not in known:
        raise ResultError(
            "no point has this metric",
            where="metric",
            found=metric,
            fix=fix,
        )
    if not metric.endswith("_val") and any(name.startswith(f"{probe}.") for name in on_val):
        raise ResultError(
            "a sweep must be decided on val, but this metric is on the test split",
            where="metric",
            found=metric,
            fix=fix,
        )


def _differences(
    tables: Mapping[str, Table], labels: Mapping[str, str], base: str, metric: str, confidence: float
) -> tuple[Difference, ...]:
    differences: list[Difference] = []
    before = tables.get(base, {})
    for point, after in tables.items():
        if point == base:
            continue
        for run in after.get(metric, {}):
            if run not in before.get(metric, {}):
                differences.append(Difference(point, run, None, "The base point does not have this run."))
            elif _figures_of_run(before, run) == _figures_of_run(after, run):
                unchanged = "Not affected by these changes: every figure is the same."
                differences.append(Difference(point, run, None, unchanged))
            else:
                values = {
                    f"{run} at {labels[name]}": {seed: figure.value for seed, figure in table[metric][run].items()}
                    for name, table in ((base, before), (point, after))
                }
                pairs = compare(values, confidence=confidence)
                sentence = "" if pairs else "No claim: the two points share no seed."
                differences.append(Difference(point, run, pairs[0] if pairs else None, sentence))
    return _add_verdicts(differences, 1 - confidence)


def _add_verdicts(differences: Sequence[Difference], level: float) -> tuple[Difference, ...]:
    """Add the verdict of each comparison, with Holm's correction over all that are tested."""
    tested = [i for i, d in enumerate(differences) if d.pair and d.pair.p is not None]
    p_values = [p for i in tested if (pair := differences[i].pair) and (p := pair.p) is not None]
    adjusted = dict(zip(tested, holm(p_values), strict=True))
    return tuple(
        Difference(
            d.point,
            d.run,
            d.pair,
            verdict(
                d.pair.a,
                d.pair.b,
                len(d.pair.seeds),
                d.pair.difference,
                d.pair.test,
                adjusted.get(i),
                len(tested),
                level,
            ),
        )
        if d.pair
        else d
        for i, d in enumerate(differences)
    )


def _label(point: str, title: str) -> str:
    """Return how verdicts name a point: by its changes, or by its name if they are long."""
    return title if len(title) <= _MAX_LABEL_LENGTH else point


def _figures_of_run(table: Table, run: str) -> dict[str, Seeds]:
    """Return every figure of a run: metric -> seed -> Figure."""
    return {metric: runs[run] for metric, runs in table.items() if run in runs}


def _mean(seeds: Seeds) -> str:
    return f"{mean(figure.value for figure in seeds.values()):.4f}" if seeds else ""
