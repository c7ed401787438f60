"""Whether to trust the result: training, terms and measurement, a question and an answer each.

Checked by: tests/stages/report/claims/test_trust.py.
"""

from __future__ import annotations

from typing import Any

from stages.report.claims.trust import points_of_trust
from stages.report.readers.comparison import Comparison
from stages.report.readers.images.ingest import Images
from stages.report.readers.images.near_copies import NearCopies
from stages.report.readers.images.validation import Check
from stages.report.readers.runs import Run
from stages.report.section_registry import Absent

TITLE = "Whether to trust it"
ORDER = 2
READS = ("runs", "comparison", "images", "near_copies", "checks")


def show(
    runs: tuple[Run, ...],
    comparison: Comparison | None,
    images: Images | None,
    near_copies: NearCopies | None,
    checks: tuple[Check, ...] | None,
) -> dict[str, Any] | Absent:
    """List the questions, those first whose answers ask for care."""
    points = points_of_trust(runs, comparison, images, near_copies, checks)
    if not points:
        return Absent("There is no result yet: the pretrain stage has not written data/runs.")
    return {"points": sorted(points, key=lambda point: not point.care)}
