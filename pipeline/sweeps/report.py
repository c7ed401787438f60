"""The points of a sweep side by side: figures by point and seed, differences from one point, verdicts on val.

Verdicts are about one metric on val. Test figures stand beside them for the report and rank nothing. The family
over which Holm adjusts is every run of every other point against the same run of the base point, on that metric;
a run whose figures are the same throughout was not touched by the changes and is no test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from pipeline.compare.revisions import Figure, per_seed
from pipeline.processes import markdown
from reprise.config.errors import ResultError
from reprise.measures.statistics import CONFIDENCE, Pair, compare, holm, verdict

_LONGEST = 60  # characters
Seeds = Mapping[int, Figure]
Table = Mapping[str, Mapping[str, Seeds]]  # "probe.metric" -> run -> seed -> Figure


@dataclass(frozen=True)
class Difference:
    """A run of a point against the same run of the base point; `pair` is None where nothing differs."""

    point: str
    run: str
    pair: Pair | None
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """What a sweep found.

    Attributes:
        base: name of the point that the others are compared with. metric: on val; test: its namesake on test, or
            None. tables: point -> figures, of the points that are done. titles: point -> its changes in words.
    """

    base: str
    metric: str
    test: str | None
    tables: Mapping[str, Table]
    titles: Mapping[str, str]
    differences: tuple[Difference, ...]

    def rows(self) -> list[list[str]]:
        """Point, run, value by seed on val, mean on val, difference and verdict against the base, mean on test."""
        told = {(d.point, d.run): d for d in self.differences}
        found = []
        for point, table in self.tables.items():
            for run, seeds in table.get(self.metric, {}).items():
                difference = told.get((point, run))
                pair = difference.pair if difference else None
                test = table.get(self.test or "", {}).get(run, {})
                found.append(
                    [
                        point,
                        self.titles[point],
                        run,
                        " ".join(f"{seed}: {figure.value:.4f}" for seed, figure in sorted(seeds.items())),
                        _mean(seeds),
                        f"{pair.difference:+.4f}" if pair else "",
                        "compared with this" if point == self.base else difference.verdict if difference else "",
                        _mean(test),
                    ]
                )
        return found

    def columns(self) -> list[str]:
        """Heads of `rows`."""
        shown = f"{self.test} (test, for the report)" if self.test else "test"
        return ["point", "changes", "run", f"{self.metric} by seed", "mean", "difference", "verdict", shown]

    def markdown(self, name: str, revision: str, points: Sequence[tuple[str, str, str, float, str]]) -> str:
        """A page: what ran, and what it measured."""
        base = f"`{self.base}` ({markdown.escaped(self.titles[self.base])})"
        lines = [
            f"# Sweep {name}",
            "",
            f"Of commit `{revision[:12]}`. Decided on `{self.metric}`; test figures are shown and rank nothing.",
            f"Differences are from {base}, paired by seed, Holm over all runs of all other points.",
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
        else:
            lines.append("There are no figures to compare yet.")
        lines += ["", "`dvc exp show` lists the experiments, `dvc exp apply NAME` puts one into the folder."]
        return "\n".join(lines) + "\n"


def compare_points(
    tables: Mapping[str, bytes | None],
    titles: Mapping[str, str],
    base: str,
    metric: str,
    confidence: float = CONFIDENCE,
) -> Comparison:
    """Compare the points that are done.

    Args:
        tables: point -> data/summary/table.csv; None where the cache has lost it. titles: point -> its changes.

    Raises:
        ResultError: no point has this metric, or it is of the test split.
    """
    read = {point: per_seed(table) for point, table in tables.items()}
    known = {name for table in read.values() for name in table}
    if known:
        _must_decide(metric, known)
    test = metric.removesuffix("_val")
    differences = _differences(read, {p: _short(p, titles[p]) for p in read}, base, metric, confidence)
    return Comparison(base, metric, test if test != metric and test in known else None, read, titles, differences)


def _must_decide(metric: str, known: set[str]) -> None:
    """Sweeps decide on val: a probe that has a figure on val is judged by that."""
    probe = metric.split(".", maxsplit=1)[0]
    on_val = sorted(name for name in known if name.endswith("_val"))
    if metric not in known:
        raise ResultError(
            "no point has this metric",
            where="metric",
            found=metric,
            fix=f"Name one of these in the plan: {', '.join(on_val or sorted(known))}. What is done is not run again.",
        )
    if not metric.endswith("_val") and any(name.startswith(f"{probe}.") for name in on_val):
        raise ResultError(
            "a sweep decides on val, and this metric is of the test split",
            where="metric",
            found=metric,
            fix=f"Name one of these in the plan: {', '.join(on_val)}. What is done is not run again.",
        )


def _differences(
    tables: Mapping[str, Table], shown: Mapping[str, str], base: str, metric: str, confidence: float
) -> tuple[Difference, ...]:
    found: list[Difference] = []
    before = tables.get(base, {})
    for point, after in tables.items():
        if point == base:
            continue
        for run in after.get(metric, {}):
            if run not in before.get(metric, {}):
                found.append(Difference(point, run, None, "The base point does not have this run."))
            elif _of(before, run) == _of(after, run):
                found.append(Difference(point, run, None, "Not touched by these changes: every figure is the same."))
            else:
                values = {
                    f"{run} at {shown[name]}": {seed: figure.value for seed, figure in table[metric][run].items()}
                    for name, table in ((base, before), (point, after))
                }
                pairs = compare(values, confidence=confidence)
                said = "" if pairs else "No claim: the two points share no seed."
                found.append(Difference(point, run, pairs[0] if pairs else None, said))
    return _judged(found, 1 - confidence)


def _judged(found: Sequence[Difference], level: float) -> tuple[Difference, ...]:
    """With the verdict of each, Holm over all that are tested."""
    tested = [i for i, d in enumerate(found) if d.pair and d.pair.p is not None]
    p_values = [p for i in tested if (pair := found[i].pair) and (p := pair.p) is not None]
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
        for i, d in enumerate(found)
    )


def _short(point: str, title: str) -> str:
    """What a verdict calls a point: its changes, or its name where they are long."""
    return title if len(title) <= _LONGEST else point


def _of(table: Table, run: str) -> dict[str, Seeds]:
    """Every figure of a run."""
    return {metric: runs[run] for metric, runs in table.items() if run in runs}


def _mean(seeds: Seeds) -> str:
    return f"{mean(figure.value for figure in seeds.values()):.4f}" if seeds else ""
