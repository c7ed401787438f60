"""The points of a history: revisions that changed metrics.json, nights of the flows, and the folder as it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.compare.history.nights import Night, read_nights
from pipeline.compare.history.outcomes import Outcome, read_outcomes
from pipeline.compare.revisions import WORKSPACE, Figure, Measurements, parse_means, per_seed, read_measurements
from pipeline.compare.runs import verdicts
from pipeline.compare.sides.inputs import SideInputs, committed, inputs_in
from pipeline.compare.sides.names import FOLDER, REVISION, iso_time
from pipeline.compare.sides.parameters import ParameterChange, differences
from pipeline.graph.lock_file import LOCK_FILE, outputs_of, parse_lock
from pipeline.graph.remotes.cached_files import CachedFiles
from pipeline.processes.git import git
from pipeline.processes.redaction import make_redactor
from reprise.artifacts.layout import METRICS, PARAMS, TABLE
from reprise.config.errors import GitError, GraphError, RepriseError, ResultError
from reprise.config.texts.credentials import hide_credentials

NIGHT = "night"
MOST = 100  # points that are read unless another number is asked for


@dataclass(frozen=True)
class Point:
    """The figures of the project at one time, and what changed since the point before.

    Attributes:
        kind: "revision", "night" or "folder".
        name: the short commit of a revision; "night" or "workspace".
        commit: of a revision, or the one that was checked out in a night; empty where there is none.
        when: in ISO 8601, UTC; empty where it is not known.
        subject: first line of the commit's message; empty for others.
        measured: the figures.
        inputs: what they were made from.
        also: points after this one with the same figures, parameters and images, by their names and times.
        notes: what a reader must know, a sentence each.
        parameters: parameters that changed; None where they cannot be compared.
        images_changed: whether the images changed; None where that is not known.
        verdicts: for each run a sentence on the tested metric, where the seeds allow one.
    """

    kind: str
    name: str
    commit: str
    when: str
    subject: str
    measured: Measurements
    inputs: SideInputs
    also: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    parameters: tuple[ParameterChange, ...] | None = ()
    images_changed: bool | None = False
    verdicts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """All points, oldest first, and what must be known of the whole.

    Attributes:
        points: the points.
        notes: a sentence each: a shallow clone, revisions that were left out.
        outcomes: versions that were promoted and runs of flows that did not complete, oldest first.
    """

    points: tuple[Point, ...]
    notes: tuple[str, ...]
    outcomes: tuple[Outcome, ...] = ()


def read_history(family: str, root: Path = Path(), most: int = MOST) -> History:
    """Read the points of a project, and compare each with the one before.

    Args:
        family: the metric that is tested.
        root: the project folder.
        most: how many points and how many outcomes to show; the oldest are left out.

    Raises:
        ResultError: there are no figures at all.
        GitError: git is missing or fails.
        GraphError: DVC cannot read its settings.
    """
    revisions, notes = _revisions(root, most)
    nights, unreadable = read_nights(root)
    outcomes, damaged = read_outcomes(root)
    unreadable += damaged
    notes += [f"Nights that cannot be read are left out: {', '.join(unreadable)}."] if unreadable else []
    points = sorted([*revisions, *(_of_night(night, root) for night in nights)], key=lambda point: point.when)
    points = _merged([*points, *_folder(root)])
    if len(points) > most:
        notes.append(f"{len(points) - most} older points are left out; --last shows more.")
        points = points[-most:]
    if not points:
        raise ResultError(
            "there is no history yet",
            where=METRICS,
            found="no revision, no night and no folder with figures",
            fix="Run `reprise repro`, then commit: `git add --all && git commit`.",
        )
    hide = make_redactor(root)
    shown = [points[0], *(_compared(old, new, family, hide) for old, new in itertools.pairwise(points))]
    said = tuple(replace(each, message=hide(each.message)) for each in outcomes[-most:])
    return History(tuple(shown), tuple(notes), said)


def _revisions(root: Path, most: int) -> tuple[list[Point], list[str]]:
    """Read the revisions on the first parents of HEAD that changed metrics.json."""
    notes = []
    if not git("rev-parse", "--verify", "--quiet", "HEAD", cwd=root):
        return [], ["There is no commit yet, so only the folder and its nights are shown."]
    if git("rev-parse", "--is-shallow-repository", cwd=root).strip() == "true":
        notes.append("This clone is shallow, so earlier revisions are missing: `git fetch --unshallow` fetches them.")
    listing = git(
        "log", "-z", "--first-parent", "--no-show-signature", "--no-notes", "--no-color", f"--max-count={most + 1}",
        "--format=%H %ct %s", "--", METRICS.as_posix(), cwd=root,
    )  # fmt: skip
    entries = [entry.strip("\n").split(" ", 2) for entry in listing.split("\0") if entry.strip()]
    if len(entries) > most:
        notes.append(f"Only the last {most} revisions are read; --last reads more.")
    cache = CachedFiles(root)
    points = []
    for commit, seconds, *subject in reversed(entries[:most]):
        try:
            found = _of_commit(commit, iso_time(seconds), "".join(subject), cache, root)
        except (ResultError, GitError) as error:
            notes.append(
                f"The revision {commit[:10]} is left out: {error.what} ({' '.join(error.found.split())[:200]})."
            )
            continue
        if found is not None:
            points.append(found)
    return points, notes


def _of_commit(commit: str, when: str, subject: str, cache: CachedFiles, root: Path) -> Point | None:
    """Read a revision; None where it removed metrics.json."""
    metrics = committed(commit, METRICS, root)
    if metrics is None:
        return None
    lock = committed(commit, Path(LOCK_FILE), root)
    inputs = inputs_in(committed(commit, PARAMS, root), lock, metrics)
    means = parse_means(metrics.decode("utf-8", "replace"), f"{commit[:10]}:{METRICS}")
    seeds: dict[str, dict[str, dict[int, Figure]]] = {}
    with suppress(GraphError, ResultError, UnicodeDecodeError):  # the means remain
        seeds = per_seed(cache.read(outputs_of(parse_lock((lock or b"").decode("utf-8"), LOCK_FILE)), TABLE))
    notes = tuple(f"Its figures may be old: {reason}." for reason in inputs.stale)
    measured = Measurements(commit[:10], means, seeds)
    return Point(REVISION, commit[:10], commit, when, hide_credentials(subject), measured, inputs, notes=notes)


def _of_night(night: Night, root: Path) -> Point:
    when = night.ended.astimezone(UTC).isoformat(timespec="seconds")
    notes: tuple[str, ...] = ()
    if night.commit and not _exists(night.commit, root):
        notes = (f"The commit {night.commit[:10]} of this night is no longer in this repository.",)
    return Point(NIGHT, NIGHT, night.commit, when, "", night.measured, night.inputs, notes=notes)


def _exists(commit: str, root: Path) -> bool:
    try:
        return bool(git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}", cwd=root))
    except GitError:
        return False


def _folder(root: Path) -> list[Point]:
    """Return the folder as it is, if it has figures."""
    try:
        measured = read_measurements(WORKSPACE, root)
        changed = (root / METRICS).stat().st_mtime
    except (RepriseError, OSError):
        return []
    when = datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds")
    files = (root / PARAMS, root / LOCK_FILE, root / METRICS)
    contents = [path.read_bytes() if path.is_file() else None for path in files]
    inputs = inputs_in(*contents)
    notes = tuple(f"Its figures may be old: {reason}." for reason in inputs.stale)
    return [Point(FOLDER, WORKSPACE, "", when, "", measured, inputs, notes=notes)]


def _merged(points: Sequence[Point]) -> list[Point]:
    """Join neighbours that say the same, such as a night and the commit of its results."""
    merged: list[Point] = []
    for point in points:
        last = merged[-1] if merged else None
        same = (
            last is not None
            and last.measured.means == point.measured.means
            and last.inputs.parameters == point.inputs.parameters
            and last.inputs.images == point.inputs.images
        )
        if last is None or not same:
            merged.append(point)
            continue
        first, second = (point, last) if point.kind == REVISION and last.kind == NIGHT else (last, point)
        shown = f"{second.name} {second.when[:16].replace('T', ' ')}".strip()
        merged[-1] = replace(first, also=(*last.also, shown), notes=tuple(dict.fromkeys((*last.notes, *point.notes))))
    return merged


def _compared(old: Point, new: Point, family: str, hide: Callable[[str], str]) -> Point:
    """Say of a point what changed since the one before."""
    before, after = old.inputs, new.inputs
    changes = None
    if before.parameters is not None and after.parameters is not None:
        changes = tuple(differences(before.parameters, after.parameters, hide=hide))
    known = bool(before.images and after.images)
    names = (f"{old.name} ({old.when[:10]})", f"{new.name} ({new.when[:10]})")
    if names[0] == names[1]:
        names = (old.when or "before", new.when or "after")
    earlier, later = (replace(point.measured, name=name) for point, name in zip((old, new), names, strict=True))
    tested = verdicts(earlier, later, family)
    sentences = {run: sentence for run, (pair, sentence) in tested.items() if pair.p is not None}
    return replace(
        new,
        parameters=changes,
        images_changed=before.images != after.images if known else None,
        verdicts=sentences,
    )
