"""The champion of a run against its challenger: may the backbone in the folder take the place of the last one?

The champion is the last promoted version of the run: the highest tag `RUN@vN.0.0`. Both backbones answer the same val
images from the same labelled training images (stages/embed/outside/challenge.py), so the difference is paired. A loss
may be shown in two ways, and each is one-sided at 2.5 %:

- over images, from each image's answers averaged over the seeds: these very backbones are worse;
- over seeds, where both have three or more in common: what they were made by is worse. Three seeds show little, since
  one that lost most widens the interval by more than it moves the mean; so this is never asked alone.

docs/how-to/promote.md says how often both err, and tests/pipeline/compare/test_challenge_rates.py measures it.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.compare.freshness import refuse_old_figures
from pipeline.compare.runs import intervals_in_words, loss_exceeds
from pipeline.graph.lock_file import outputs_of, read_lock
from pipeline.graph.remotes.revision_outputs import fetch_at, outputs_at
from pipeline.graph.stage_modules import run_module
from pipeline.processes.git import git
from reprise.artifacts import layout
from reprise.config.errors import GitError, GraphError
from reprise.config.params import read_yaml
from reprise.config.tables import tables
from reprise.measures.statistics import (
    NO_INTERVAL,
    SEEDS_FOR_METHODS,
    Interval,
    bootstrap_mean,
    mcnemar,
    paired_t,
    sign_flip,
)

_VERSION = re.compile(r"v(\d+)\.0\.0")


@dataclass(frozen=True)
class Challenge:
    """What came of a comparison on val.

    Attributes:
        run: name of the run.
        champion: tag of the last promoted version; empty for a run that has none.
        scores: of the champion and of the challenger, shares of right answers, mean over seeds.
        interval: of challenger - champion: over seeds if there are three or more, over images otherwise.
        p: of the paired test; None where there is none.
        over: what interval and test are over: "3 seeds", "812 images".
        margin: accepted loss.
        left_out: val images that the champion was trained on.
        identical: whether the challenger is the last version, byte for byte, and gets no new one. Nothing is compared
            then, except with an earlier version that was asked for.
        unknown: why nobody can tell which is better; empty where they were compared.
        over_images: interval of the same difference over images (or groups of them), whatever the number of seeds.
        images: what that one is over: "812 images", "40 groups".
    """

    run: str
    champion: str = ""
    scores: tuple[float, float] = (0.0, 0.0)
    interval: Interval = NO_INTERVAL
    p: float | None = None
    over: str = ""
    margin: float = 0.0
    left_out: int = 0
    identical: bool = False
    unknown: str = ""
    over_images: Interval = NO_INTERVAL
    images: str = ""

    @property
    def passed(self) -> bool:
        """Whether neither interval shows the challenger to be worse than the margin allows.

        Where there is none, with fewer than three seeds and too few groups of images, the difference itself decides.
        """
        if self.unknown:
            return False
        before, after = self.scores
        return not self.champion or not loss_exceeds(self.margin, after - before, (self.interval, self.over_images))

    def lines(self) -> list[str]:
        """Say in sentences what was compared, and what follows."""
        if not self.champion:
            return [f"{self.run}: no version has been promoted before, so there is nothing to compare with."]
        if self.identical and not self.images:
            return [f"{self.run}: the backbone in the folder is that of {self.champion}, which is promoted already."]
        if self.unknown:
            told = f"nobody can tell whether it is better than {self.champion}: {self.unknown}"
            advice = "Label images of train and val, or decide yourself: `reprise promote --force`"
            return [f"{self.run}: {told}.", f"{advice}."]
        before, after = self.scores
        found = {self.over: self.interval, self.images: self.over_images}
        test = "" if self.p is None else f", p = {self.p:.3f}" + (f" over {self.over}" if len(found) > 1 else "")
        change = f"{before:.4f} ({self.champion}) -> {after:.4f}, {after - before:+.4f}"
        lines = [f"{self.run}: kNN on val {change} {intervals_in_words(found)}{test}."]
        if self.left_out:
            lines.append(f"{self.left_out:,} val images were left out: {self.champion} was trained on them.")
        tested = any(each.high is not None for each in found.values())
        shown = "with a whole interval" if tested else "by the difference itself"
        rule = f"worse than {self.champion} by more than {self.margin:g} {shown}"
        again = ["Its backbone is that of the last version, and gets no new one."] if self.identical else []
        return [*lines, f"The challenger is {'not ' if self.passed else ''}{rule}.", *again]

    def json(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        compared = self.champion and bool(self.images)
        return {
            "run": self.run,
            "champion": self.champion or None,
            "scores": dict(zip(("champion", "challenger"), self.scores, strict=True)) if compared else None,
            "interval": self.interval._asdict(),
            "p": self.p,
            "over": self.over or None,
            "over_images": self.over_images._asdict() | {"units": self.images or None},
            "margin": self.margin,
            "left_out": self.left_out,
            "identical": self.identical,
            "unknown": self.unknown or None,
            "passed": self.passed,
        }


def versions_of(run: str, root: Path = Path()) -> list[int]:
    """List the promoted versions of a run, ascending."""
    tags = git("tag", "--list", f"{run}@v*", cwd=root).split()
    found = (_VERSION.fullmatch(tag.removeprefix(f"{run}@")) for tag in tags)
    return sorted(int(match[1]) for match in found if match)


def tag_of(run: str, version: int) -> str:
    """Return the tag of a promoted version, in the form that `dvc artifacts get` reads."""
    return f"{run}@v{version}.0.0"


def champion_of(run: str, root: Path = Path()) -> str:
    """Return the tag of the last promoted version of a run, or an empty text."""
    found = versions_of(run, root)
    return tag_of(run, found[-1]) if found else ""


def challenge(
    run: str,
    *,
    champion: str | None = None,
    margin: float = 0.0,
    root: Path = Path(),
    on_line: Callable[[str], None] | None = None,
) -> Challenge:
    """Compare the backbone in the folder with the champion, on val.

    Args:
        run: a row of `runs` or `adapt`.
        champion: git revision; None takes the last promoted version.
        margin: accepted loss, a share of the val images.
        root: the project folder.
        on_line: called with each line of the processes that answer.

    Raises:
        GraphError: the champion's backbone or images are in neither cache nor remote, or no seed is in both.
        ResultError: the folder's figures are not those of its present parameters, data and code.
        CommandFailed: nothing can be told; the process has explained why.
    """
    refuse_old_figures([run], root)
    last = champion_of(run, root)
    tag = last if champion is None else champion
    if not tag:
        return Challenge(run, margin=margin)
    identical = bool(last) and _is_that_of(run, last, root)
    if identical and tag == last:
        return Challenge(run, tag, margin=margin, identical=True)
    answers = _answers(run, tag, tables(read_yaml(root / layout.PARAMS)).seeds, root, on_line)
    if why := answers[0]["unknown"]:
        return Challenge(run, tag, margin=margin, left_out=answers[0]["left_out"], unknown=why)
    right = [{name: np.array(each[name], dtype=bool) for name in ("champion", "challenger")} for each in answers]
    groups, left_out = answers[0]["groups"], answers[0]["left_out"]
    before, after = (float(np.mean([each[name].mean() for each in right])) for name in ("champion", "challenger"))
    judged = _judged(right, groups)
    return Challenge(run, tag, (before, after), **judged, margin=margin, left_out=left_out, identical=identical)


def _is_that_of(run: str, tag: str, root: Path) -> bool:
    """Return whether dvc.lock names the same bytes for all trained seeds of a run as that of a revision."""
    folder = layout.run(run, 0).parent
    try:
        both = [outputs_at(tag, root), outputs_of(read_lock(root))]
    except GitError:  # without a dvc.lock; the comparison says so
        return False
    earlier, now = ({path: md5 for path, md5 in outs.items() if Path(path).parent == folder} for outs in both)
    return bool(now) and earlier == now


def _answers(
    run: str, tag: str, seeds: Sequence[int], root: Path, on_line: Callable[[str], None] | None
) -> list[dict[str, Any]]:
    found = []
    with tempfile.TemporaryDirectory(prefix="reprise-challenge-") as scratch:
        before = Path(scratch) / "before.parquet"
        held = fetch_at(tag, str(layout.MANIFEST), before, root)
        for seed in seeds if held else ():
            folder, out = Path(scratch) / f"champion-{seed}", Path(scratch) / f"{seed}.json"
            if not fetch_at(tag, str(layout.run(run, seed)), folder, root):
                continue
            arguments = ["--champion", str(folder), "--before", str(before), "--run", run, "--seed", str(seed)]
            run_module("stages.embed.outside.challenge", [*arguments, "--out", str(out)], root, on_line)
            found.append(json.loads(out.read_text(encoding="utf-8")))
    if not found:
        raise GraphError(
            "the champion cannot be compared with, because its backbone or its images are not at hand",
            where=f"{tag}:{layout.run(run, seeds[0])}",
            found="no dvc.lock that names it, or neither cache nor remote hold it",
            fix="Run `dvc pull` in a clone that is at this revision, or name another --champion.",
        )
    return found


def _judged(right: list[dict[str, np.ndarray]], groups: list[str | None] | None) -> dict[str, Any]:
    """Test challenger - champion: the fields of `Challenge` from `interval` to `images`.

    Args:
        right: for each seed whether the answers of both are right, (n,) booleans in one order of images.
        groups: of these images, or None. An image without a group is a group of its own.
    """
    each = np.mean([one["challenger"].astype(float) - one["champion"] for one in right], axis=0)
    units, images = None, f"{len(each):,} images"
    if groups is not None:
        names = [group if group is not None else f"/{place}" for place, group in enumerate(groups)]
        units, images = np.unique(names, return_inverse=True)[1].reshape(-1), f"{len(set(names)):,} groups"
    over_images = bootstrap_mean(each, units)
    found = {"interval": over_images, "p": None, "over": images, "over_images": over_images, "images": images}
    if len(right) >= SEEDS_FOR_METHODS:
        tested = paired_t([one["challenger"].mean() - one["champion"].mean() for one in right])
        return {**found, "interval": tested.interval, "p": tested.p, "over": f"{len(right)} seeds"}
    if units is not None:
        return {**found, "p": sign_flip(each, units)}
    return {**found, "p": mcnemar(right[0]["challenger"], right[0]["champion"]) if len(right) == 1 else None}
