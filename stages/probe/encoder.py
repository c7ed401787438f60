"""The protocol of probes that compare encoders: features of the same examples by each encoder, and the base class.

Such a probe is one file under `probes/representations/` with one subclass of `RepresentationProbe`. As in any probe,
numpy, torch and `reprise.measures` are imported inside the methods: reading parameters stays cheap.
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
    """The examples that every encoder has features of, in one order.

    Args:
        train_keys: (n,) strings.
        test_keys: (m,) strings of the scored split.
        train_labels: (n,) int64 indices into `classes`, -1 where an example has no label.
        test_labels: (m,) int64 indices, likewise.
        classes: names of the classes.
        scored: name of the scored split: test, else val, else train.
    """

    train_keys: np.ndarray
    test_keys: np.ndarray
    train_labels: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    scored: str

    @property
    def labelled(self) -> bool:
        """Whether both splits have labels, and the scored split is not the training split."""
        return self.scored != "train" and bool((self.train_labels >= 0).any() and (self.test_labels >= 0).any())


@dataclass(frozen=True)
class Encoder:
    """One encoder and its features.

    Args:
        name: as people read it.
        run: name of the run.
        seed: of the run.
        train: (n, d) float32 features of the training split.
        test: (m, d) float32 features of the scored split.
    """

    name: str
    run: str
    seed: int
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Encoders:
    """All encoders that are compared, on the same examples."""

    examples: Examples
    members: tuple[Encoder, ...]

    def digest(self, labels: bool, augmented: bool = False, shifted: bool = False) -> str:
        """Return the SHA-256 of everything that a probe can see; labels count only for probes that read them."""
        e = self.examples
        found = hashlib.sha256(repr([e.train_keys.tolist(), e.test_keys.tolist(), e.scored]).encode())
        if labels:
            found.update(repr([e.classes, e.train_labels.tolist(), e.test_labels.tolist()]).encode())
        for encoder in self.members:
            found.update(f"{encoder.name} {encoder.train.shape} {encoder.test.shape}".encode())
            found.update(encoder.train.tobytes() + encoder.test.tobytes())
        return found.hexdigest()


class RepresentationProbe(ABC):
    """A comparison of every encoder with every encoder (and with itself). The file's name is the probe's name.

    Attributes:
        symmetric: whether a and b may be exchanged; each pair is then computed once.
        caption: one clause that says how to read a cell, shown with the figures.
        needs_labels: whether the probe is left out where the examples have no labels.
    """

    symmetric: ClassVar[bool]
    caption: ClassVar[str]
    needs_labels: ClassVar[bool] = False
    needs_augmented: ClassVar[bool] = False
    needs_shifted: ClassVar[bool] = False

    class Params(StrictModel):
        """Override with the probe's own."""

    def __init__(self, params: Any) -> None:
        self.params = params

    @abstractmethod
    def prepare(self, encoder: Encoder, examples: Examples) -> Any:
        """Compute once per encoder what `compare` needs of it in every pair."""

    @abstractmethod
    def compare(self, a: Any, b: Any) -> dict[str, float | None]:
        """Return metric -> value of the pair (a, b), None where these two cannot be compared.

        Args:
            a: what `prepare` returned for the encoder of the row.
            b: what `prepare` returned for the encoder of the column.
        """

    def overall(self, matrices: dict[str, np.ndarray]) -> dict[str, float]:
        """Return figures of whole matrices; none by default.

        Args:
            matrices: metric -> (encoders, encoders) values in the encoders' order, NaN where there is no value.
        """
        return {}

    def protocol(self, examples: Examples) -> dict[str, str]:
        """Describe every choice in words."""
        return {}
