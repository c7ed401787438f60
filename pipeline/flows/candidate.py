"""The run that a refresh promotes if it passes: are its images like those of the champion, and is it no worse?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from pipeline.processes.markdown import table
from reprise.artifacts import layout
from reprise.config.params import read_yaml
from reprise.config.tables import row, tables

OnDrift = Literal["stop", "tell"]
_DRIFT, _HELD = "Drift", "Held"
JUDGED = (_DRIFT, _HELD)  # names of the failed states in which images or backbone were compared and refused


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
        if not found.drifted or self.on_drift == "tell":
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
        if not found.passed:
            self.lines.append("It is not promoted.")
            return Failed(name=_HELD, message=" ".join(found.lines()))
        done = promote(self.run, found.lines(), root, judged)
        told = f"{self.run} is promoted: {done.tag}. `git push origin {done.tag}` shares it."
        self.lines.append(told)
        self.page += f"\n\n{told}"
        return Completed(name="Promoted", message=" ".join([*found.lines(), told]))
