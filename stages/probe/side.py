"""What a probe between runs is given: the same examples as two or more encoders see them. Base class of such probes.

A probe between runs is one file under `probes/between/` with one subclass of `BetweenProbe`. Light imports only, as for
any probe: numpy, torch and `reprise.measures` stand inside the methods.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from reprise.config.params import StrictModel

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Examples:
    """The examples that all sides hold, in one order.

    Args:
        train_keys, test_keys: (n,), (m,) strings. `test` is the split that is scored: test, else val, else train.
        train_labels, test_labels: int64 index into `classes`, -1 where there is none.
    """

    train_keys: np.ndarray
    test_keys: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    scored: str

    @property
    def labelled(self) -> bool:
        """Whether there are labels to train on and to score, and a split apart to score them on."""
        return self.scored != "train" and bool((self.train_labels >= 0).any() and (self.test_labels >= 0).any())


@dataclass(frozen=True)
class Side:
    """One encoder: its name for people, run and seed, and its (n, d) and (m, d) float32 features."""

    name: str
    run: str
    seed: int
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class AllSides:
    """Every side on the same examples."""

    examples: Examples
    sides: tuple[Side, ...]

    def digest(self, labels: bool, augmented: bool = False) -> str:
        """SHA-256 of what a probe can see; labels only for probes that read them."""
        e = self.examples
        found = hashlib.sha256(repr([e.train_keys.tolist(), e.test_keys.tolist(), e.scored]).encode())
        if labels:
            found.update(repr([e.classes, e.train_labels.tolist(), e.test_labels.tolist()]).encode())
        for side in self.sides:
            found.update(f"{side.name} {side.train.shape} {side.test.shape}".encode())
            found.update(side.train.tobytes() + side.test.tobytes())
        return found.hexdigest()


class BetweenProbe(ABC):
    """A comparison of every side with every side (and with itself). The file's name is the probe's name.

    Attributes:
        symmetric: a and b may be exchanged, so each pair is computed once.
        about: one clause on what a cell says, shown with the figures.
    """

    symmetric: ClassVar[bool]
    about: ClassVar[str]
    needs_labels: ClassVar[bool] = False
    needs_augmented: ClassVar[bool] = False

    class Params(StrictModel):
        """Override with the probe's own."""

    def __init__(self, params: Any) -> None:
        self.params = params

    @abstractmethod
    def prepare(self, side: Side, examples: Examples) -> Any:
        """What `compare` needs of one side, computed once for all of its pairs."""

    @abstractmethod
    def compare(self, a: Any, b: Any) -> dict[str, float | None]:
        """metric -> value of (a, b), both as `prepare` gave them; None where these two cannot be compared."""

    def overall(self, matrices: dict[str, np.ndarray]) -> dict[str, float]:
        """Figures of a whole matrix (sides in their order, NaN where there is no value); none by default."""
        return {}

    def protocol(self, examples: Examples) -> dict[str, str]:
        """Every choice in words."""
        return {}
