"""Find what a name on the command line stands for: a revision, an experiment of DVC, the folder, or a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.compare.revisions import WORKSPACE
from pipeline.processes.git import git
from reprise.config.errors import GraphError
from reprise.config.params import read_yaml
from reprise.config.texts.credentials import hide_credentials
from reprise.config.texts.suggest import nearest

REVISION, EXPERIMENT, FOLDER, RUN = "revision", "experiment", "folder", "run"
MOST_SIDES = 8  # as many colours can be told apart
_EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")


@dataclass(frozen=True)
class Side:
    """One of the things that are compared.

    Attributes:
        name: as it was typed.
        kind: "revision", "experiment", "folder" or "run".
        commit: the commit of a revision or an experiment; empty for the folder and its runs.
        when: time of the commit, in ISO 8601 with an offset; empty where there is no commit.
        subject: first line of the commit's message.
        run: name of the run; empty unless this is one.
    """

    name: str
    kind: str
    commit: str = ""
    when: str = ""
    subject: str = ""
    run: str = ""

    @property
    def revision(self) -> str:
        """What `read_measurements` takes for this side."""
        return self.commit or WORKSPACE


def find_sides(names: Sequence[str], root: Path = Path()) -> tuple[Side, ...]:
    """Find what the names stand for; HEAD and the folder where none is given, the folder where one is.

    `run:NAME` and `exp:NAME` say what is meant where a name stands for several things.

    Args:
        names: as they were typed.
        root: the project folder.

    Raises:
        GraphError: nothing has a name, an experiment's name is not unique, a run is compared with a revision, or there
            are too many names.
        GitError: git is missing or fails.
    """
    sides = [find_side(name, root) for name in names or ["HEAD"]]
    if [side.kind for side in sides] == [RUN]:
        raise GraphError(
            "a run is compared with another run",
            where=sides[0].name,
            found="one name",
            fix="Name two runs of this folder, as in `reprise compare random simclr`; or revisions.",
        )
    if len(sides) == 1:
        sides.append(Side(WORKSPACE, FOLDER))
    kinds = {side.kind == RUN for side in sides}
    if len(kinds) > 1:
        raise GraphError(
            "runs of this folder and revisions cannot be compared with each other",
            where=", ".join(f"{side.name} is a {side.kind}" for side in sides),
            found="both kinds",
            fix="Name runs only, or revisions only: those compare every run with itself. `run:NAME` stands for a run.",
        )
    if len(sides) > MOST_SIDES:
        raise GraphError(
            "too many names",
            where="reprise compare",
            found=len(sides),
            fix=f"Name at most {MOST_SIDES}; `reprise history` shows all revisions of a metric.",
        )
    return tuple(sides)


def find_side(name: str, root: Path = Path()) -> Side:
    """Find what one name stands for: the folder, a revision, an experiment, or a run, in this order.

    Raises:
        GraphError: nothing has this name, or several experiments have it.
        GitError: git is missing or fails.
    """
    if name == WORKSPACE:
        return Side(name, FOLDER)
    prefix, colon, rest = name.partition(":")
    if colon and prefix == RUN:
        return _run(name, rest, root)
    if colon and prefix == "exp":
        return _experiment(name, rest, root) or _nothing(name, root)
    commit = _commit(name, root)
    if commit:
        return _with_commit(name, REVISION, commit, root)
    found = _experiment(name, name, root)
    if found is not None:
        return found
    return Side(name, RUN, run=name) if name in run_names(root) else _nothing(name, root)


def run_names(root: Path = Path()) -> list[str]:
    """Return the names of the runs that params.yaml of the folder has: rows of `runs` and of `adapt`."""
    raw = read_yaml(root / "params.yaml")
    rows = [row for table in ("runs", "adapt") for row in (raw.get(table) or [])]
    return [row["name"] for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str)]


def experiments(root: Path = Path()) -> dict[str, list[str]]:
    """Return the references in git of the experiments of DVC, by name."""
    found: dict[str, list[str]] = {}
    for reference in git("for-each-ref", "--format=%(refname)", "refs/exps", cwd=root).splitlines():
        match = _EXPERIMENT.fullmatch(reference)
        if match:
            found.setdefault(match[1], []).append(reference)
    return found


def _commit(name: str, root: Path) -> str:
    return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", cwd=root).strip()


def _with_commit(name: str, kind: str, commit: str, root: Path) -> Side:
    shown = git("show", "--no-patch", "--no-show-signature", "--no-notes", "--format=%ct %s", commit, cwd=root)
    seconds, _, subject = shown.strip().partition(" ")
    return Side(name, kind, commit, iso_time(seconds), hide_credentials(subject))


def iso_time(seconds: str) -> str:
    """Write seconds since 1970, as git has them, in ISO 8601; empty where they are no time that can be written."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""


def _experiment(name: str, wanted: str, root: Path) -> Side | None:
    references = experiments(root).get(wanted, [])
    if len(references) > 1:
        raise GraphError(
            "several experiments have this name",
            where=name,
            found=", ".join(references),
            fix="Name one of these references in its place.",
        )
    if not references:
        return None
    return _with_commit(name, EXPERIMENT, _commit(references[0], root), root)


def _run(name: str, wanted: str, root: Path) -> Side:
    return Side(wanted, RUN, run=wanted) if wanted in run_names(root) else _nothing(name, root)


def _nothing(name: str, root: Path) -> Side:
    runs, known = run_names(root), list(experiments(root))
    near = nearest(name, [*runs, *known])
    listed_runs = f"runs: {', '.join(runs)}" if runs else "no runs"
    listed_experiments = f"experiments: {', '.join(known)}" if known else "no experiments"
    raise GraphError(
        "nothing has this name",
        where=name,
        found=f"no revision of git, no experiment and no run; {listed_runs}; {listed_experiments}",
        fix=near.strip() or "List revisions with `git log --oneline`; `workspace` means the folder as it is.",
    )
