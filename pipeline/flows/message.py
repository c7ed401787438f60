"""Compose the message about a run: one page for Prefect and one text to send, in the words of the report.

It says what the report says first, what changed in parameters and data since the last completed run, what the
differences amount to, what was refused or failed, and where the report is. This module does not import Prefect.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from pipeline.compare.sides.parameters import by_name, differences
from pipeline.graph.workspace import STATE
from pipeline.processes.markdown import escape
from reprise.artifacts.layout import DATASET, MANIFEST, PARAMS
from reprise.artifacts.report_words import ReportWords
from reprise.config.errors import printable
from reprise.config.params import read_yaml
from reprise.storage.atomic import write_json

PREVIOUS_INPUTS = STATE / "flows" / "previous_inputs.json"
MOST_VERDICTS = 15
MOST_CHANGES = 40
_VERDICTS = "Verdicts (corrected for the number of pairs; the brackets are intervals of each pair alone)"
_LONGEST = 600  # characters of one line


@dataclass(frozen=True)
class Inputs:
    """What a run was made from.

    Attributes:
        ended: when the run ended, in ISO 8601 with an offset; empty for one that has not ended.
        parameters: content of params.yaml, in which rows that have a name stand under it.
        data: counts of the data set, and the hash of its manifest.
    """

    ended: str
    parameters: Mapping[str, Any]
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    """The message about a run.

    Attributes:
        subject: one line: the data set and how the run ended.
        parts: (heading, lines), in the order in which they are read.
        link: address of the report; empty where there is none.
    """

    subject: str
    parts: Sequence[tuple[str, Sequence[str]]]
    link: str = ""

    def text(self) -> str:
        """Return the body of a notification: plain text without the subject."""
        blocks = [
            "\n".join([f"{heading}:", *(f"- {' '.join(printable(line, _LONGEST).split())}" for line in lines)])
            for heading, lines in self.parts
        ]
        return "\n\n".join([*blocks, f"Report: {self.link}"] if self.link else blocks)

    def markdown(self) -> str:
        """Return the page that Prefect shows."""
        blocks = [
            "\n".join([f"### {heading}", "", *(f"- {escape(line, _LONGEST)}" for line in lines)])
            for heading, lines in self.parts
        ]
        link = [f"[The report](<{self.link}>)"] if self.link else []
        return "\n\n".join([f"## {escape(self.subject)}", *blocks, *link])


@dataclass(frozen=True)
class Ending:
    """How a run went.

    Attributes:
        began, ended: times with a zone.
        completed: whether every stage is up to date, the results were sent, and no gate failed.
        summary: the message of the run's final state.
        failures: a line for each stage that failed or was skipped, and for what else went wrong.
        gate: the lines of the gate's judgement, where a gate was asked for.
    """

    began: datetime
    ended: datetime
    completed: bool
    summary: str
    failures: Sequence[str] = field(default_factory=tuple)
    gate: Sequence[str] = ()


def compose(
    ending: Ending,
    words: ReportWords | None,
    changes: Sequence[str],
    differences: Sequence[str],
    zone: tzinfo | None,
    link: str = "",
) -> Message:
    """Compose the message.

    Args:
        ending: how the run went.
        words: those of the report, if this run brought it up to date.
        changes: lines on parameters and data, from `changes_since`.
        differences: lines on metrics that changed since the last completed run.
        zone: the reader's time zone, in which all times are given; None takes that of this machine.
        link: address of the report.
    """
    name = " ".join(printable(words.title, 100).split()) if words else "the graph"
    parts: list[tuple[str, Sequence[str]]] = []
    if words:
        parts.append(("Result", words.result))
        parts.append(("Take care", words.cautions))
    elif link:
        parts.append(("Result", ["This run did not bring the report up to date. The link leads to an earlier one."]))
    if not ending.completed:
        parts.append(("What failed", ending.failures or [ending.summary]))
    parts.append(("Changed since the last completed run", changes))
    parts.append(("Differences from it", differences))
    if words:
        parts.append((_VERDICTS, first_of(words.verdicts, MOST_VERDICTS, "in the report")))
        parts.append(("Refused", words.refused or ["Nothing."]))
    parts.append(("Gate", ending.gate))
    parts.append(("Run", [f"{_span(ending.began.astimezone(zone), ending.ended.astimezone(zone))}. {ending.summary}"]))
    subject = f"Reprise: {name}: {'completed' if ending.completed else 'failed'}"
    return Message(subject, [part for part in parts if part[1]], link)


def first_of(lines: Sequence[str], most: int, where: str) -> list[str]:
    """Return the first lines, and a line with the number of those that are left out and where they are."""
    left_out = len(lines) - most
    return [*lines[:most], f"{left_out} more are {where}."] if left_out > 0 else list(lines)


def read_inputs(root: Path) -> Inputs:
    """Read what the folder's results are made from; what cannot be read is left out."""
    data: dict[str, Any] = {}
    try:
        raw = json.loads((root / DATASET).read_text(encoding="utf-8"))
        data = {"source": raw["source"], "images": raw["kept"], "refused files": raw["quarantined"], **raw["counts"]}
        data["content"] = hashlib.sha256((root / MANIFEST).read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        pass  # the run failed before there were data
    return Inputs("", by_name(read_yaml(root / PARAMS)), data)


def changes_since(before: Inputs | None, now: Inputs, zone: tzinfo | None) -> list[str]:
    """List what changed in parameters and data.

    Args:
        before: of the last completed run; None where there was none.
        now: of this run.
        zone: the reader's time zone; None takes that of this machine.
    """
    if before is None:
        return ["There is no earlier run of this flow in this folder."]
    lines = first_of(_differences(before.parameters, now.parameters), MOST_CHANGES, "in params.yaml")
    if now.data:
        old, new = ({key: v for key, v in each.data.items() if key != "content"} for each in (before, now))
        told = _differences(old, new)
        if not told and before.data.get("content") != now.data.get("content"):
            told = ["the images or their labels changed; their numbers did not"]
        lines += [f"data: {line}" for line in told]
    since = shown(datetime.fromisoformat(before.ended).astimezone(zone))
    return [*lines, f"That run ended on {since}."] if lines else [f"Nothing since the run that ended on {since}."]


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List the differences of two nested mappings, a line each, in the order of the new one."""
    return [change.line() for change in differences(old, new)]


def store_inputs(inputs: Inputs, ended: datetime, root: Path) -> None:
    """Store what a completed run was made from, so that the next message can tell what changed."""
    write_json(root / PREVIOUS_INPUTS, asdict(inputs) | {"ended": ended.isoformat(timespec="seconds")})


def load_previous_inputs(root: Path) -> Inputs | None:
    """Return what the last completed run was made from, or None if that cannot be read."""
    try:
        inputs = Inputs(**json.loads((root / PREVIOUS_INPUTS).read_text(encoding="utf-8")))
        return inputs if datetime.fromisoformat(inputs.ended).tzinfo and isinstance(inputs.parameters, dict) else None
    except (OSError, ValueError, TypeError):
        return None


def shown(moment: datetime) -> str:
    """Write a time with the name of its zone: "Friday 27 November 2026, 02:41 (Europe/Berlin)"."""
    return f"{moment:%A} {moment.day} {moment:%B %Y, %H:%M} ({_zone_name(moment)})"


def _span(began: datetime, ended: datetime) -> str:
    until = f"{ended:%H:%M} ({_zone_name(ended)})" if began.date() == ended.date() else shown(ended)
    return f"{began:%A} {began.day} {began:%B %Y, %H:%M} to {until}"


def _zone_name(moment: datetime) -> str:
    return str(getattr(moment.tzinfo, "key", None) or moment.tzname())
