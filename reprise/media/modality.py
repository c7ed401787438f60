"""The interface between the stages and the kinds of sample: images and volumes.

A modality is a folder beside this file and one branch in lookup.py. Its class has the members of `Modality`; each does
one task, from untrusted bytes to the picture in the report. All samples of a data set have one modality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Facts = Mapping[str, Any]  # values of a modality's columns of the manifest, by name; a row of the manifest is one


@dataclass(frozen=True)
class Choices:
    """What a person chooses about files that hold more than a picture of 8 bits in grey or colour.

    Attributes:
        pages: first, middle or all.
        bands: numbers from 1 in the order wanted; empty for all.
        range: the rule that says which values become black and white (image/scale.py).
        percentiles: lower and upper one, for the rule `percentiles`.
        given: black and white, for the rule `given`.
    """

    pages: str = "first"
    bands: tuple[int, ...] = ()
    range: str = "auto"
    percentiles: tuple[float, float] = (0.1, 99.9)
    given: tuple[float, float] | None = None


@dataclass(frozen=True)
class Limits:
    """What a file may hold at most, and at least, and what is taken of it.

    Attributes:
        max_pixels: largest width x height, or number of values of a volume.
        min_side: smallest side in pixels.
        choices: pages, bands and range of values.
        modality: name of the kind of sample that files hold.
    """

    max_pixels: int
    min_side: int
    choices: Choices = field(default_factory=Choices)
    modality: str = "image"

    @property
    def max_bytes(self) -> int:
        """No permitted file is larger: eight bytes a pixel, and a megabyte of metadata."""
        return 8 * self.max_pixels + (1 << 20)


@dataclass(frozen=True)
class Examined:
    """One sample of a file.

    Attributes:
        facts: values of the modality's columns, by name; `complete` adds those that depend on the whole data set.
        part: name of the sample within its file, such as its page; empty where the file is one sample.
        observed: what `complete` needs to know.
        changes: code -> sentence, for each thing that was changed on the way in.
        sketch: a small picture by which near-copies are found (image/sketch.py); empty where there is none.
    """

    facts: dict[str, Any]
    part: str = ""
    observed: Any = None
    changes: Mapping[str, str] = field(default_factory=dict)
    sketch: bytes = b""


@dataclass(frozen=True)
class Stored:
    """A sample as a shard holds it.

    Attributes:
        data: the member's bytes; the very object that was passed in where the file is kept as it is.
        extension: of the member's name, without a dot.
        width: pixels.
        height: pixels.
        depth: slices of a volume; None for a sample without depth.
    """

    data: bytes
    extension: str
    width: int
    height: int
    depth: int | None = None


class Modality(Protocol):
    """A kind of sample."""

    @property
    def name(self) -> str:
        """The name of its folder."""

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns that it fills in the manifest: name -> Arrow type."""

    @property
    def sides(self) -> tuple[str, ...]:
        """The columns that hold the sides of a sample, in the order of the axes of its array."""

    def claims(self, name: str) -> bool:
        """Return whether a file's name says that somebody means it as a sample of this kind.

        Args:
            name: a path, parts joined by "/".
        """

    def inspect(self, data: bytes, where: str, limits: Limits) -> list[Examined]:
        """Decode untrusted bytes completely and describe each sample in them: one, or one a page.

        Args:
            data: the encoded file.
            where: its name, for messages.
            limits: files beyond them are refused, and only what they choose is taken.

        Raises:
            ImageRefused: with a reason of the quarantine.
        """

    def complete(self, samples: Sequence[Examined], trained: Sequence[bool], choices: Choices) -> list[Examined]:
        """Fill in what depends on the whole data set, such as one range of values for all samples of a type.

        Args:
            samples: all that are kept.
            trained: whether each belongs to the training images, from which choices are made.
            choices: as in `Limits`.

        Returns:
            the samples with all columns and with the changes that follow.

        Raises:
            SourceError: the choices do not suit the samples.
        """

    def extension(self, facts: Facts) -> str:
        """Return the file extension that belongs to the content, without a dot."""

    def stored_form(self, data: bytes, where: str, facts: Facts, max_side: int) -> Stored:
        """Return the sample as shards hold it: the same bytes with every run on one machine.

        Args:
            data: the file, as it was inspected.
            where: its name, for messages.
            facts: its row of the manifest.
            max_side: longest side in pixels.

        Raises:
            ImageRefused: the bytes cannot be decoded.
        """

    def largest_stored_bytes(self, facts: Facts, max_side: int) -> int:
        """Return an upper bound of the length of the stored form, without decoding anything."""

    def decode(self, data: bytes, where: str, channels: int, reduce: int = 1) -> np.ndarray:
        """Decode the stored form: (height, width, channels) uint8, with the depth before them where there is one.

        Args:
            data: the stored bytes.
            where: its name, for messages.
            channels: bands wanted.
            reduce: 2, 4 or 8 decodes at this fraction of the sides, rounded up, where the format can (JPEG); other
                formats are decoded whole.

        Raises:
            ImageRefused: the bytes cannot be decoded, or have other bands than wanted.
        """

    def resize_to_square(self, pixels: np.ndarray, size: int, **preparation: Any) -> np.ndarray:
        """Bring decoded pixels to the form that networks see: (size, size, channels) uint8, of volumes a cube.

        Args:
            pixels: (h, w, c) or (d, h, w, c) uint8.
            size: side in pixels.
            preparation: how published weights expect to be evaluated; see reprise/media/image/transform.py.
        """

    def resize(self, pixels: np.ndarray, sides: Sequence[int], extent: tuple[float, float] | None = None) -> np.ndarray:
        """Scale (h, w, c) or (d, h, w, c) uint8 to these sides, as all views are scaled.

        Args:
            pixels: decoded.
            sides: of the result, in the order of the axes.
            extent: see `transform.resize`; of images only.
        """

    def thumbnail(self, data: bytes, where: str, side: int) -> np.ndarray:
        """Return a picture whose longer side has at most `side` pixels: (h, w, 3) uint8 RGB.

        Of more than three bands it shows the first three as red, green and blue; of two, the first as grey.

        Raises:
            ImageRefused: the bytes cannot be decoded.
        """

    def limit_threads(self) -> None:
        """Keep the decoders to one thread in this process; Reprise decodes several samples side by side."""
