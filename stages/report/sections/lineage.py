"""The lineage of the page: SHA-256 of its inputs, and a place for the facts in provenance.js.

Checked by: tests/stages/report/test_page.py.
"""

from __future__ import annotations

from typing import Any

from stages.report.readers.inputs import Input

TITLE = "Lineage"
ORDER = 110
READS = ("inputs",)


def show(inputs: tuple[Input, ...]) -> dict[str, Any]:
    """List every input; page.js fills in time, machine and revision from provenance.js."""
    return {"inputs": inputs}
