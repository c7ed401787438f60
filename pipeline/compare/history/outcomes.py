"""What became of nights besides figures: versions that were promoted, and runs of flows that did not complete.

Versions are read from git's tags, so those that a person promoted are among them. Runs that did not complete leave a
file each in .reprise/flows/refused, which is working state like the nights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.compare.history.records import read_records, store_record
from pipeline.compare.sides.names import iso_time
from pipeline.graph.workspace import STATE
from pipeline.processes.git import git
from reprise.config.texts.credentials import hide_credentials

REFUSED_RUNS = STATE / "flows" / "refused"
PROMOTED, REFUSED = "promoted", "refused"
_LONGEST = 2000  # characters of a message
_LARGEST = 1 << 20  # bytes of a file
_TAG = re.compile(r"[a-z][a-z0-9_]{0,47}@v\d{1,9}\.0\.0")
_FIELDS = ("%(refname:strip=2)", "%(creatordate:unix)", "%(objectname)", "%(*objectname)", "%(contents:body)")


@dataclass(frozen=True)
class Outcome:
    """A version that was promoted, or a run of a flow that did not complete.

    Attributes:
        kind: `promoted` or `refused`.
        name: the tag of a version; of a run the name of its final state, such as Drift, Held or Failed.
        when: in ISO 8601, UTC; empty where it is not known.
        commit: that the tag leads to, or that was checked out; empty where there is none.
        message: why, in sentences.
    """

    kind: str
    name: str
    when: str
    commit: str
    message: str


def store_refused(ended: datetime, commit: str, state: str, message: str, root: Path = Path()) -> Path:
    """Store what stopped a run, and remove the oldest of too many.

    Args:
        ended: when the run ended, with a zone.
        commit: the commit that is checked out; empty where there is none.
        state: name of its final state.
        message: of that state, without secrets.
        root: the project folder.
    """
    content = {"commit": commit, "state": state, "message": message[:_LONGEST]}
    return store_record(root / REFUSED_RUNS, ended, content)


def read_outcomes(root: Path = Path()) -> tuple[list[Outcome], list[str]]:
    """Return all outcomes, oldest first, and the names of files that cannot be read.

    Raises:
        GitError: git is missing or fails.
    """
    refused, unreadable = read_records(root / REFUSED_RUNS, _LARGEST, _refused)
    return sorted([*_promoted(root), *refused], key=lambda outcome: outcome.when), unreadable


def _refused(ended: datetime, raw: Mapping[str, Any]) -> Outcome:
    when = ended.astimezone(UTC).isoformat(timespec="seconds")
    return Outcome(REFUSED, str(raw["state"]), when, str(raw["commit"]), str(raw["message"])[:_LONGEST])


def _promoted(root: Path) -> list[Outcome]:
    """Read the tags of promoted versions; anybody may have pushed them, so their texts are from outside."""
    listing = git("for-each-ref", f"--format={'%00'.join(_FIELDS)}%00", "refs/tags/*@v*", cwd=root)
    cells = listing.split("\0")
    records = [cells[start : start + len(_FIELDS)] for start in range(0, len(cells) - len(_FIELDS), len(_FIELDS))]
    found = []
    for tag, seconds, itself, commit, body in records:
        name = tag.strip("\n")
        if _TAG.fullmatch(name):
            # Without a commit behind it, the tag has no message of its own: somebody has set it by hand.
            message = hide_credentials(" ".join(body.split())[:_LONGEST]) if commit else ""
            found.append(Outcome(PROMOTED, name, iso_time(seconds), commit or itself, message))
    return found
