"""Which run a question about images is asked of, where the person names none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.compare.freshness import old_figures
from reprise.config.errors import ParameterError
from reprise.config.params import read_yaml
from reprise.config.plug_ins.registry import location
from reprise.config.tables import TRUTH, AnyRun, tables
from reprise.config.texts.suggest import nearest

REFERENCES = "references"  # the family of methods that others are compared with


@dataclass(frozen=True)
class ChosenRun:
    """A run of params.yaml and one of its seeds."""

    name: str
    seed: int


def chosen_run(name: str | None, seed: int | None, params_file: Path = Path("params.yaml")) -> ChosenRun:
    """Return the run that was named, or the first one that was trained without true labels.

    Args:
        name: of the run; None takes the first row of `runs` whose method is no reference and reads no true labels, or
            the first row where all are of these.
        seed: None takes the first of `seeds`.
        params_file: the params.yaml.

    Raises:
        ParameterError: there is no such run or seed.
    """
    graph = tables(read_yaml(params_file))
    by_name = {run.name: run for run in graph.trained}
    if name is not None and name not in by_name:
        raise ParameterError(
            "there is no such run",
            where="--run",
            found=name,
            fix=f"Name one of: {', '.join(by_name)}.{nearest(name, list(by_name))}",
        )
    found = default_run(graph.trained) if name is None else by_name[name]
    if seed is not None and seed not in graph.seeds:
        raise ParameterError(
            "no run has this seed",
            where="--seed",
            found=seed,
            fix=f"Name one of `seeds`: {', '.join(map(str, graph.seeds))}.",
        )
    return ChosenRun(found.name, graph.seeds[0] if seed is None else seed)


def default_run(rows: Sequence[AnyRun]) -> AnyRun:
    """Return the first run that was trained without true labels and is no reference, or else the first run."""
    return next((r for r in rows if r.labels != TRUTH and not is_reference(r.method)), rows[0])


def is_reference(method: str) -> bool:
    """Return whether a method only serves to compare others with it, such as `random`."""
    return location("methods", method, "runs").parent.name == REFERENCES


def note_old_figures(run: ChosenRun, say: Callable[[str], None]) -> None:
    """Say so where the results of a run are older than the parameters, data or code of the folder.

    Raises:
        CommandFailed: a parameter is wrong, or the source cannot be read; the process has explained it.
        GraphError: DVC cannot report what changed.
    """
    if reason := old_figures().get(run.name):
        say(f"note: results of {run.name} are older than the folder ({reason}); `reprise repro` computes them again")
