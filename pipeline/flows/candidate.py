"""The run that a refresh promotes if it passes: are its images like those of the champion, and is it no worse?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from pipeline.graph.workspace import STATE, read_digest
from pipeline.processes.markdown import table
from reprise.artifacts import layout
from reprise.config.dvc_file import GRAPH_FILE
from reprise.config.params import read_yaml
from reprise.config.tables import row, tables
from reprise.storage.atomic import write_json

OnDrift = Literal["stop", "tell"]
_DRIFT, HELD = "Drift", "Held"
JUDGED = (_DRIFT, HELD)  # names of the failed states in which images or backbone were compared and refused
SOURCE = STATE / "flows" / "source.json"  # digest of the source that the last completed run has seen
_JUDGED_FILE = STATE / "flows" / "judged.json"  # run -> digest of what its last judgement was about
_SOURCE_FILES = ("source.lock.json", "shifts.lock.json")


def source_digest(root: Path) -> str:
    """Return a digest of the scanned source of images, and of that of shifts."""
    return "".join(digest_of(root / name) for name in _SOURCE_FILES)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, or an empty text where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


@dataclass
class Candidate:
    """A run that may become the next version.

    Attributes:
        run: a row of `runs` or `adapt`.
        on_drift: `stop` trains nothing on images that differ from the champion's, `tell` says so and goes on.
        margin: accepted loss against the champion, a share of the val images.
        lines: what was found, in sentences.
        page: the same as Markdown, for an artifact.
    """

    run: str
    on_drift: OnDrift = "stop"
    margin: float = 0.0
    lines: list[str] = field(default_factory=list)
    page: str = ""

    def question(self, root: Path) -> str:
        """Return a digest of all that a judgement depends on: images, parameters, code, and the rule.

        Comments and the order of params.yaml do not count. The champion is left out: a version that somebody promotes
        by hand answers the question of the last night.
        """
        code = root / layout.PRESENT_CODE
        return hashlib.sha256(
            json.dumps(
                [
                    source_digest(root),
                    read_yaml(root / layout.PARAMS),
                    digest_of(root / GRAPH_FILE),
                    [(path.relative_to(code).as_posix(), digest_of(path)) for path in sorted(code.rglob("*.json"))],
                    [self.on_drift, self.margin],
                ],
                sort_keys=True,
                default=str,
            ).encode()
        ).hexdigest()

    def refuse_unknown(self, root: Path) -> None:
        """Refuse a run that is in no table, before hours of work.

        Raises:
            ParameterError: there is no such run.
        """
        row(tables(read_yaml(root / layout.PARAMS)).trained, self.run, "promote")

    def compare_images(self, root: Path, log: Callable[[str], None]) -> State:
        """Compare the images that have come since the champion with its own, by the backbone that is there.

        Raises:
            GraphError, CommandFailed: they cannot be compared.
        """
        from pipeline.compare.challenge import champion_of
        from pipeline.compare.drift import HEADS, data_drift

        champion = champion_of(self.run, root)
        if not champion:
            return Completed(message=f"{self.run} has no promoted version yet, so there is nothing to compare with")
        folder = layout.run(self.run, read_yaml(root / layout.PARAMS)["seeds"][0])
        found = data_drift(champion, folder if (root / folder / "config.json").is_file() else None, root, log)
        self.lines += found.lines()
        self.page += "\n\n".join(
            ["## New images", *found.lines(), table(HEADS, found.rows()) if found.findings else ""]
        )
        if not (found.drifted or found.unknown) or self.on_drift == "tell":
            return Completed(message="; ".join(found.lines()))
        advice = (
            "Nothing was trained. Look at the new images; if they are what you want, run `reprise repro` and "
            f"`reprise promote {self.run}`."
        )
        self.lines.append(advice)
        return Failed(name=_DRIFT, message=f"{found.lines()[-1]} {advice}")

    def promote(self, root: Path, log: Callable[[str], None]) -> State:
        """Compare the backbone with the champion's, and promote it unless it is worse.

        Raises:
            GraphError, ResultError, CommandFailed: they cannot be compared.
        """
        from pipeline.compare.challenge import challenge
        from pipeline.exports.promote import lock_digest, promote

        judged = lock_digest(root)
        found = challenge(self.run, margin=self.margin, root=root, on_line=log)
        self.lines += found.lines()
        self.page += "\n\n".join(["", "## Champion and challenger", *found.lines()])
        if found.identical:
            return Completed(message=" ".join(found.lines()))
        if not found.passed:
            self.lines.append("It is not promoted.")
            return Failed(name=HELD, message=" ".join(found.lines()))
        done = promote(self.run, found.lines(), root, judged)
        told = f"{self.run} is promoted: {done.tag}. `git push origin {done.tag}` shares it."
        self.lines.append(told)
        self.page += f"\n\n{told}"
        return Completed(name="Promoted", message=" ".join([*found.lines(), told]))


class Seen:
    """What a run of the whole graph sees when it begins, beside what earlier ones have seen.

    Without a candidate only the source counts, because a changed parameter is for `reproduce`. With one, all that its
    judgement depends on counts, and a run without a candidate has judged nothing.

    Args:
        root: the project folder, whose source and code have been looked at.
        candidate: the run to promote, or None.
    """

    def __init__(self, root: Path, candidate: Candidate | None) -> None:
        self._root, self._candidate = root, candidate
        self._source = source_digest(root)
        self._question = candidate.question(root) if candidate else ""

    def unchanged(self) -> str:
        """Say why there is nothing to do; empty where there may be something."""
        if self._candidate is None:
            same = self._source == read_digest(self._root / SOURCE)
            return "the source has not changed since the last completed run" if same else ""
        run = self._candidate.run
        same = _judged(self._root).get(run) == self._question
        return f"the source has not changed, nor have parameters and code, since {run} was last judged" if same else ""

    def record(self, final: State) -> None:
        """Note what was seen. After an error nothing is noted, so the next run tries again."""
        if final.is_completed() or final.name == HELD:  # drift leaves the graph behind the source
            write_json(self._root / SOURCE, {"digest": self._source})
        if self._candidate and (final.is_completed() or final.name in JUDGED):
            write_json(self._root / _JUDGED_FILE, {**_judged(self._root), self._candidate.run: self._question})


def _judged(root: Path) -> dict[str, Any]:
    """Return the record of judgements; empty where there is none that can be read."""
    try:
        found = json.loads((root / _JUDGED_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
