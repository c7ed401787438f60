"""The words of the page for a message about a run, from the functions that fill the page, so that both say the same."""

from __future__ import annotations

from collections.abc import Sequence

from reprise.artifacts.report_words import ReportWords
from stages.report.artifacts import Artifacts
from stages.report.claims.opening import Opening
from stages.report.estimates import is_share
from stages.report.readers.comparison import Verdict
from stages.report.readers.images.words import reason_words
from stages.report.readers.runs import Run
from stages.report.text import metric_title, one_line, points, signed


def message_words(begin: Opening, artifacts: Artifacts, verdicts: Sequence[tuple[str, Verdict]]) -> ReportWords:
    """Return what a message about a run repeats.

    Args:
        begin: what the page begins with.
        artifacts: what the page is made of.
        verdicts: (metric, verdict) of all pairs that were compared.
    """
    ordered = sorted(verdicts, key=lambda pair: not pair[1].differs)
    return ReportWords(
        title=one_line(begin.title, 200),
        result=[begin.headline.sentence, *begin.headline.surprises, *begin.headline.details],
        cautions=begin.cares,
        verdicts=[_verdict(artifacts.runs, metric, verdict) for metric, verdict in ordered],
        refused=_refused(artifacts),
    )


def _verdict(runs: Sequence[Run], metric: str, verdict: Verdict) -> str:
    write, unit = (points, " points") if is_share(runs, metric) else (signed, "")
    low, high = verdict.low, verdict.high
    ends = "" if low is None or high is None else f" [{write(low)}, {write(high)}]"
    pair = f"{metric_title(metric)}, {one_line(verdict.first)} − {one_line(verdict.second)}"
    return f"{pair}: {verdict.words} ({write(verdict.gap)}{ends}{unit})"


def _refused(artifacts: Artifacts) -> list[str]:
    """List the files that were refused, by reason, and the expectations that the data do not meet."""
    files = [f"{refusal.count:,} files: {reason_words(refusal.reason)}" for refusal in artifacts.refusals or ()]
    failed = [check for check in artifacts.checks or () if not check.passed]
    return files + [f"expectation not met ({check.level}): {check.name}, found {check.found}" for check in failed]
