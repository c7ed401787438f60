"""Compare several sides with the first of them: what differs in parameters and images, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.compare.freshness import old_figures
from pipeline.compare.revisions import Measurements, read_measurements
from pipeline.compare.runs import Comparison, compare_measurements, read_family, without
from pipeline.compare.sides.answers import Flips, flips
from pipeline.compare.sides.curves import Curve, read_curves
from pipeline.compare.sides.fairness import Note, notes_on
from pipeline.compare.sides.inputs import ImageChange, SideInputs, image_change, read_inputs
from pipeline.compare.sides.names import RUN, Side
from pipeline.compare.sides.parameters import ParameterChange, differences
from pipeline.processes.redaction import make_redactor
from reprise.config.errors import ResultError

Curves = Mapping[str, Mapping[int, Curve]]


@dataclass(frozen=True)
class PairOfSides:
    """One side compared with the first.

    Attributes:
        base: the first side.
        other: the side that is compared with it.
        notes: what speaks against comparing them.
        parameters: parameters that differ; None where params.yaml of a side cannot be read.
        images: in what the images differ; None where they do not, or where that is not known.
        figures: every run and metric, with differences and verdicts.
        flips: images whose answer flipped, a run each.
    """

    base: Side
    other: Side
    notes: tuple[Note, ...]
    parameters: tuple[ParameterChange, ...] | None
    images: ImageChange | None
    figures: Comparison
    flips: tuple[Flips, ...]


@dataclass(frozen=True)
class Overview:
    """All sides, and each but the first compared with the first.

    Attributes:
        sides: in the order in which they were named.
        metric: the metric that is tested, and whose answers are compared.
        pairs: one for each side but the first.
        curves: the loss of each run and seed over epochs, a side each; empty unless they were asked for.
    """

    sides: tuple[Side, ...]
    metric: str
    pairs: tuple[PairOfSides, ...]
    curves: tuple[Curves, ...] = ()

    @property
    def doubtful(self) -> bool:
        """Whether a comparison is unfair or stale."""
        return any(note.kind in ("unfair", "stale") for pair in self.pairs for note in pair.notes)


def compare_sides(
    sides: Sequence[Side],
    *,
    metric: str | None = None,
    runs: Sequence[str] = (),
    curves: bool = False,
    root: Path = Path(),
) -> Overview:
    """Compare sides with the first of them.

    Args:
        sides: two or more, from `find_sides`.
        metric: the only metric to show; None shows all, and tests the one that `summary.family` names.
        runs: the only runs to show; none means all.
        curves: whether to read the training curves as well.
        root: the project folder.

    Raises:
        ResultError: a side holds no metrics, or none has the metric or a run.
        GitError: git is missing or fails.
    """
    family = read_family(root)
    old = old_figures(root) if any(not side.commit for side in sides) else {}
    measured = [_measured(side, runs, old, root) for side in sides]
    inputs = {side.revision: read_inputs(side, root) for side in sides}
    curves_of = {side.revision: read_curves(side, root) for side in sides} if curves else {}
    pairs = []
    for side, figures in zip(sides[1:], measured[1:], strict=True):
        base, both = sides[0], (measured[0], figures)
        concerned = runs
        if side.kind == RUN:
            both = (_as(f"{base.run} -> {side.run}", measured[0]), _as(f"{base.run} -> {side.run}", figures))
            concerned = (base.run, side.run)
        stale = {run: why for run, why in old.items() if not concerned or run in ("", *concerned)}
        pairs.append(_pair((base, both[0]), (side, both[1]), inputs, stale, family=family, metric=metric, root=root))
    shown = tuple(_curves_of(side, runs, curves_of[side.revision]) for side in sides) if curves else ()
    return Overview(tuple(sides), metric or family, tuple(pairs), shown)


def _pair(
    base: tuple[Side, Measurements],
    other: tuple[Side, Measurements],
    inputs: Mapping[str, SideInputs],
    old: Mapping[str, str],
    *,
    family: str,
    metric: str | None,
    root: Path,
) -> PairOfSides:
    (first, before), (second, after) = base, other
    of_first, of_second = inputs[first.revision], inputs[second.revision]
    changed = None
    if of_first.images and of_second.images and of_first.images != of_second.images:
        changed = image_change(first, second, root)
    figures = compare_measurements(before, after, family, metric=metric, old=old)
    return PairOfSides(
        first,
        second,
        tuple(notes_on((before, of_first), (after, of_second), changed, old)),
        _parameters(first, second, of_first, of_second, root),
        changed,
        figures,
        tuple(flips(before, after, (metric or family).partition(".")[0])),
    )


def _parameters(
    first: Side, second: Side, before: SideInputs, after: SideInputs, root: Path
) -> tuple[ParameterChange, ...] | None:
    """List the parameters that differ: of two revisions all of params.yaml, of two runs their rows and their blocks."""
    if before.parameters is None or after.parameters is None:
        return None
    hide = make_redactor(root)
    if second.kind != RUN:
        return tuple(differences(before.parameters, after.parameters, hide=hide))
    old, new = (
        {
            part: block[side.run]
            for part in ("runs", "adapt", "methods")
            if isinstance(block := before.parameters.get(part), Mapping) and side.run in block
        }
        for side in (first, second)
    )
    return tuple(differences(old, new, hide=hide))


def _measured(side: Side, runs: Sequence[str], old: Mapping[str, str], root: Path) -> Measurements:
    """Read the figures of a side under the name that was typed, without those that are not current."""
    found = replace(read_measurements(side.revision, root, answers=True), name=side.name)
    if not side.commit:
        found = without(found, old)
    wanted = [side.run] if side.kind == RUN else list(runs)
    missing = [run for run in wanted if run not in found.means and not (old and ("" in old or run in old))]
    if missing:
        raise ResultError(
            "there are no figures of this run",
            where=side.name,
            found=f"figures of {', '.join(found.means) or 'no run'}, none of {', '.join(missing)}",
            fix="Name a run that has been computed, or run `reprise repro`.",
        )
    return _only(found, wanted) if wanted else found


def _only(measured: Measurements, runs: Sequence[str]) -> Measurements:
    return replace(
        measured,
        means={run: values for run, values in measured.means.items() if run in runs},
        seeds={m: {run: v for run, v in by_run.items() if run in runs} for m, by_run in measured.seeds.items()},
        answers={key: value for key, value in measured.answers.items() if key[0] in runs},
        budgets={run: budget for run, budget in measured.budgets.items() if run in runs},
    )


def _as(name: str, measured: Measurements) -> Measurements:
    """Give the figures of a single run another name, so that two runs are compared as one run at two revisions is."""
    return replace(
        measured,
        means=dict(zip([name], measured.means.values(), strict=False)),
        seeds={m: dict(zip([name], by_run.values(), strict=False)) for m, by_run in measured.seeds.items()},
        answers={(name, seed, probe): value for (_, seed, probe), value in measured.answers.items()},
        budgets=dict(zip([name], measured.budgets.values(), strict=False)),
        of_one_run=True,
    )


def _curves_of(side: Side, runs: Sequence[str], found: Curves) -> Curves:
    wanted = [side.run] if side.kind == RUN else runs or list(found)
    return {run: found[run] for run in wanted if run in found}
