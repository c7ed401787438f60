"""What became of nights besides figures: versions that were promoted, and runs of flows that did not complete.

Versions are read from git's tags, so those that a person promoted are among them. Runs that did not complete leave a
file each in .reprise/flows/refused, which is working state like the nights.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.compare.sides.names import iso_time
from pipeline.graph.workspace import STATE
from pipeline.processes.git import git
from reprise.config.texts.credentials import hide_credentials
from reprise.storage.atomic import write_json

REFUSED_RUNS = STATE / "flows" / "refused"
MOST = 500  # files; the oldest are removed
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
    moment = ended.astimezone(UTC)
    path = root / REFUSED_RUNS / f"{moment:%Y%m%dT%H%M%SZ}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    ended_at = moment.isoformat(timespec="seconds")
    write_json(path, {"ended": ended_at, "commit": commit, "state": state, "message": message[:_LONGEST]})
    for old in sorted(path.parent.glob("*.json"))[:-MOST]:
        old.unlink(missing_ok=True)
    return path


def read_outcomes(root: Path = Path()) -> tuple[list[Outcome], list[str]]:
    """Return all outcomes, oldest first, and the names of files that cannot be read.

    Raises:
        GitError: git is missing or fails.
    """
    found, unreadable = _promoted(root), []
    for path in sorted((root / REFUSED_RUNS).glob("*.json")):
        try:
            if path.stat().st_size > _LARGEST:
                raise ValueError("too large")
            found.append(_refused(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            unreadable.append(path.name)
    return sorted(found, key=lambda outcome: outcome.when), unreadable


def _refused(raw: dict[str, object]) -> Outcome:
    ended = datetime.fromisoformat(str(raw["ended"]))
    if ended.tzinfo is None:
        raise ValueError("a time without a zone")
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
