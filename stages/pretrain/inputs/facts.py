"""The facts that a run's method reads: of the training images, from the run's own folder, and no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reprise.artifacts.facts.sides import Sides
from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.layout import SHARDS, run_facts
from reprise.artifacts.tables.columns import Keys
from reprise.config.errors import TrainingError
from reprise.config.facts import MOVED, Fact, refusal
from reprise.config.tables import TRUTH, AnyRun
from reprise.media.image.sides import decode_side

_FIX = "Run `dvc repro facts`, which writes it."


def read_run_facts(row: AnyRun, reads: Sequence[str], keys: Keys) -> dict[str, np.ndarray]:
    """Read what the method declares in `reads`.

    Args:
        row: of the run.
        reads: names of facts.
        keys: (n,) of the training images.

    Returns:
        fact -> (n,) float64 (number, flag; NaN where unknown), (n,) objects (word, caption), or (n, d) float64 (pose).
        Masks are left out; see `read_run_masks`.

    Raises:
        TrainingError: the facts are not there, or the run may not see one of them.
    """
    if not reads:
        return {}
    facts = read_facts(run_facts(row.name)).joined(np.asarray(keys))
    known: dict[str, Fact] = {fact.name: fact for fact in facts.declared}
    if refused := refusal(reads, list(facts.declared), row.labels == TRUTH):
        rule, found, fix = refused
        raise TrainingError(rule, where=f"runs: {row.name}", found=found, fix=fix)
    values_of = [name for name in reads if known[name].kind not in MOVED]  # the others: inputs/masks.py
    poses = {name: _poses(name, keys) for name in values_of if known[name].kind == "pose"}
    read = {name: poses[name] if name in poses else {**facts.columns, **facts.captions}[name] for name in values_of}
    for name, values in read.items():
        if not len(values) or not _known(values).any():
            raise TrainingError(
                f"the method reads the fact '{name}', and it is known of no training image",
                where=f"runs: {row.name}",
                found=f"{len(keys)} images",
                fix=_FIX,
            )
    return read


def _known(values: np.ndarray) -> np.ndarray:
    """Tell of which images a fact is known: (n,) booleans."""
    if values.dtype == object:
        return np.array([bool(value) for value in values.tolist()])
    return ~np.isnan(values.reshape(len(values), -1)).all(axis=1)


def _poses(name: str, keys: Keys) -> np.ndarray:
    """Read a pose of each image from the shards: (n, d) float64, NaN where unknown."""
    sides = Sides(SHARDS)
    found = {
        i: decode_side("pose", sides.read(key, name), f"{key}.{name}")
        for i, key in enumerate(keys.tolist())
        if sides.has(key, name)
    }
    poses = np.full((len(keys), len(next(iter(found.values()), ())) or 1), np.nan)
    for i, pose in found.items():
        poses[i] = pose
    return poses


def batch_facts(facts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Make arrays of what can be one: words become numbers in alphabetical order, -1 where unknown; no captions.

    Returns:
        fact -> (n,) float32 or int64, or (n, d) float32.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, values in facts.items():
        if values.dtype != object:
            arrays[name] = values.astype(np.float32)
        elif not any(isinstance(value, tuple) for value in values.tolist()):
            number = {word: i for i, word in enumerate(sorted({word for word in values.tolist() if word is not None}))}
            arrays[name] = np.array([number.get(word, -1) for word in values.tolist()], dtype=np.int64)
    return arrays
