"""The words of the report that a message about a run repeats: `message` in data/report/results.json.

The report stage writes them with the functions that fill the page, so both say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprise.artifacts.layout import RESULTS_JSON
from reprise.artifacts.results import read_json
from reprise.config.errors import ResultError

_LISTS = ("result", "cautions", "verdicts", "refused")


@dataclass(frozen=True)
class ReportWords:
    """What the page says first.

    Attributes:
        title: the heading of the page.
        result: sentences on the result.
        cautions: what speaks against trusting it.
        verdicts: one text for each pair of runs and metric; those that show a difference come first.
        refused: what was refused on the way in: files by reason, and expectations that the data do not meet.
    """

    title: str
    result: Sequence[str] = ()
    cautions: Sequence[str] = ()
    verdicts: Sequence[str] = ()
    refused: Sequence[str] = ()


def read_report_words(root: Path = Path()) -> ReportWords | None:
    """Read the words below the project folder `root`; None before the report stage ran.

    Raises:
        ResultError: the file is damaged or of another shape.
    """
    path = root / RESULTS_JSON
    if not path.exists():
        return None
    raw = read_json(path)
    words = raw.get("message") if isinstance(raw, dict) else None
    if not isinstance(words, dict) or not _is_whole(words):
        raise ResultError(
            "these are not the results of a report", where=path, found=words, fix="Run `dvc repro report` once more."
        )
    return ReportWords(**words)


def _is_whole(words: dict[str, Any]) -> bool:
    lists = [words.get(name) for name in _LISTS]
    if words.keys() != {"title", *_LISTS} or not isinstance(words["title"], str):
        return False
    return all(isinstance(each, list) and all(isinstance(text, str) for text in each) for each in lists)
