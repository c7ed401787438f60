"""What can be said without labels: pretrained runs against the untrained network, and their seeds among each other.

Checked by: tests/stages/report/claims/test_without_labels.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.report.claims.without_labels import Compared, compare_without_labels, percent, sentence_of
from stages.report.estimates import confidence_of, intervals_of
from stages.report.readers.comparison import Comparison
from stages.report.readers.nearest import NEIGHBOURS, Nearest
from stages.report.readers.runs import Run
from stages.report.section_registry import Absent
from stages.report.text import number

TITLE = "Without labels"
ORDER = 8
READS = ("runs", "nearest", "comparison")


@dataclass(frozen=True)
class Row:
    """A run: neighbours in common, then how far changes of an image move the features and the rank, with untrained."""

    run: str
    shared: str
    agreement: str
    beyond: str
    moved: tuple[str, str]
    rank: tuple[str, str]


def show(runs: tuple[Run, ...], nearest: Nearest | None, comparison: Comparison | None) -> dict[str, Any] | Absent:
    """Compare every pretrained run with the untrained network."""
    compared = compare_without_labels(runs, nearest, intervals_of(comparison), confidence_of(comparison))
    if not compared or nearest is None:
        return Absent(
            "This comparison needs the embeddings of a pretrained run and of the untrained network (`random`)."
        )
    return {
        "rows": [_row(c) for c in compared],
        "sentences": sentence_of(compared),
        "untrained": compared[0].untrained,
        "neighbours": NEIGHBOURS,
        "images": nearest.images,
        "split": nearest.split,
        "by_chance": percent_of(NEIGHBOURS / (nearest.images - 1)),
    }


def percent_of(share: float) -> str:
    """Write a share without an interval."""
    return f"{100 * share:.1f} %"


def _row(compared: Compared) -> Row:
    low, high = compared.beyond
    beyond = "–" if low is None or high is None else f"[{100 * low:+.0f}, {100 * high:+.0f}]".replace("-", "−")
    return Row(
        compared.run,
        percent(compared.shared),
        percent(compared.agreement),
        beyond,
        ("–", "–") if compared.moved is None else (number(compared.moved[0].value), number(compared.moved[1].value)),
        ("–", "–") if compared.rank is None else (f"{compared.rank[0]:.1f}", f"{compared.rank[1]:.1f}"),
    )
