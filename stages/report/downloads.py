"""The results as files for other programs: CSV, LaTeX and JSON. They hold what the page shows, and no more."""

from __future__ import annotations

import base64
import csv
import io
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from markupsafe import Markup

from reprise.artifacts.tables.spreadsheet import safe
from reprise.storage.atomic import dump_json
from stages.report.artifacts import Artifacts
from stages.report.claims.further_metrics import further_verdicts
from stages.report.claims.opening import opening
from stages.report.estimates import confidence_of, estimate, family_of, intervals_of
from stages.report.message import message_words
from stages.report.readers.comparison import Intervals, Verdict
from stages.report.readers.runs import Run
from stages.report.text import metric_title

TYPES = {"csv": "text/csv", "tex": "application/x-tex", "json": "application/json"}
COLUMNS = ("run", "method", "labels", "metric", "value", "low", "high", "sd_over_seeds", "seeds", "n")
DIGITS = 6
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def downloads(artifacts: Artifacts) -> dict[str, str]:
    """Write the results in every format.

    Returns:
        extension ("csv", "tex", "json") -> text.
    """
    runs, comparison = artifacts.runs, artifacts.comparison
    intervals, family = intervals_of(comparison), family_of(comparison)
    metrics = list(dict.fromkeys((family, *artifacts.params.metrics)))
    return {
        "csv": figures_csv(runs, intervals),
        "tex": latex(runs, metrics, intervals),
        "json": dump_json(results(artifacts)),
    }


def data_uri(extension: str, text: str) -> Markup:
    """Write a file as an address, so that a page that was mailed still has it."""
    encoded = base64.b64encode(text.encode("utf-8", "backslashreplace")).decode("ascii")
    return Markup("data:{};base64,{}").format(TYPES[extension], encoded)


def figures(runs: Sequence[Run], intervals: Intervals) -> list[dict[str, Any]]:
    """List every metric of every run: the mean over seeds with its interval, and the spread over seeds."""
    rows = []
    for run in runs:
        for metric in sorted({name for seed in run.seeds for name in seed.figures}):
            mean = estimate(run, metric, intervals)
            assert mean is not None  # some seed has the metric
            config, counts = run.first.config, [s.figures[metric].n for s in run.seeds if metric in s.figures]
            row = {
                "run": run.name,
                "method": str(config.get("method") or ""),
                "labels": str(config.get("labels") or ""),
                "metric": metric,
                "value": _rounded(mean.value),
                "low": _rounded(mean.low),
                "high": _rounded(mean.high),
                "sd_over_seeds": _rounded(statistics.stdev(mean.seeds)) if len(mean.seeds) > 1 else None,
                "seeds": len(mean.seeds),
                "n": counts[0],
            }
            rows.append(row)
    return rows


def figures_csv(runs: Sequence[Run], intervals: Intervals) -> str:
    """Write a row for each run and metric; names that a spreadsheet would compute begin with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in figures(runs, intervals):
        writer.writerow(["" if row[name] is None else safe(row[name]) for name in COLUMNS])
    return text.getvalue()


def latex(runs: Sequence[Run], metrics: Sequence[str], intervals: Intervals) -> str:
    """Write a table for the package booktabs: a row for each run, the highest first, no winner in bold.

    Args:
        runs: of the page.
        metrics: "<probe>.<metric>", a column each; the first one orders the rows.
        intervals: of the means over seeds.
    """
    by_run = {run.name: [estimate(run, metric, intervals) for metric in metrics] for run in runs}
    order = sorted(by_run, key=lambda name: (-(e.value if (e := by_run[name][0]) else float("-inf")), name))
    head = " & ".join(["Run", *(escape_latex(metric_title(metric)) for metric in metrics)])
    rows = []
    for name in order:
        cells = []
        for e in by_run[name]:
            ends = "" if e is None or e.low is None or e.high is None else f" [{e.low:.3f}, {e.high:.3f}]"
            cells.append("--" if e is None else f"{e.value:.3f}{ends}")
        rows.append(" & ".join([escape_latex(name), *cells]) + r" \\")
    lines = [
        "% Values in brackets are the ends of the interval. Highest figures are no winners: see the verdicts.",
        rf"\begin{{tabular}}{{l{'c' * len(metrics)}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Write a text so that LaTeX prints it: on one line, with its special characters escaped."""
    line = re.sub(r"\s+", " ", "".join(c for c in text if c.isprintable() or c.isspace()))
    return "".join(_LATEX.get(character, character) for character in line)


def results(artifacts: Artifacts) -> dict[str, Any]:
    """Put all of the result into plain values: what the head of the page says, figures and verdicts."""
    runs, comparison, params = artifacts.runs, artifacts.comparison, artifacts.params
    begin, dataset, family = opening(artifacts), artifacts.dataset, family_of(comparison)
    said = begin.headline
    verdicts = [(family, verdict) for verdict in comparison.verdicts] if comparison else []
    for further in further_verdicts(runs, params.metrics, artifacts.answers, confidence_of(comparison)):
        verdicts += [(further.metric, verdict) for verdict in further.verdicts]
    return {
        "title": params.title or (dataset.name if dataset else None),
        "headline": {"sentence": said.sentence, "surprises": said.surprises, "details": said.details},
        "trust": [{"question": p.question, "answer": p.answer, "care": p.care} for p in begin.trust],
        "images": artifacts.images.counts if artifacts.images else {},
        "refused": {refusal.reason: refusal.count for refusal in artifacts.refusals or ()},
        "confidence": confidence_of(comparison),
        "figures": figures(runs, intervals_of(comparison)),
        "verdicts": [_verdict(metric, verdict) for metric, verdict in verdicts],
        "message": asdict(message_words(begin, artifacts, verdicts)),
    }


def _verdict(metric: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "metric": metric,
        "first": verdict.first,
        "second": verdict.second,
        "difference": _rounded(verdict.gap),
        "low": _rounded(verdict.low),
        "high": _rounded(verdict.high),
        "p_adjusted": _rounded(verdict.p),
        "differs": verdict.differs,
        "unequal": verdict.unequal,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS) + 0.0
