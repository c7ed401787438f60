"""What a row says of its image: class, group, split and facts, read by the options of the source."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reprise.config.errors import ImageRefused, SourceError, printable
from reprise.storage.listing import read_regular
from stages.ingest.names.layout import SPLIT_NAMES, UNLABELLED
from stages.ingest.tables import cells
from stages.ingest.tables.cells import BadCell
from stages.ingest.tables.options import FactColumn, StatementOptions
from stages.ingest.tables.places import Places
from stages.ingest.tables.rows import Row

_MASK_BYTES = 1 << 28  # of a file
_NO_FACTS: Mapping[str, Any] = {}


class RefusedRow(Exception):
    """A row that is not taken in: a code of docs/reference/data-rules.md, and the reason as a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Statement:
    """What a row says.

    Attributes:
        label, group, split: as in a candidate.
        facts: by name, but for captions.
        captions: by name; several rows of one image may each have some.
    """

    label: str | None = None
    group: str | None = None
    split: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Mask:
    """A mask that is read when it is written into the shards.

    Attributes:
        where: the row, for messages.
        reference: the path of a PNG, or its bytes.
    """

    where: str
    reference: str | bytes

    def __call__(self) -> Any:
        """Decode it: (h, w) uint8.

        Raises:
            SourceError: it is no PNG of one channel and 8 bits.
        """
        from reprise.media.image.sides import decode_side

        try:
            data = self.reference
            data = data if isinstance(data, bytes) else read_regular(data, _MASK_BYTES)
            return decode_side("mask", data, self.where)
        except ImageRefused as refusal:
            found = f"{printable(self.reference, 200) if isinstance(self.reference, str) else 'bytes'}: {refusal.found}"
            fix = "Write it as a PNG of one channel and 8 bits, or leave the cell empty."
            raise SourceError("a mask cannot be read", where=self.where, found=found, fix=fix) from refusal

    def __eq__(self, other: object) -> bool:
        """Two masks are one if they are read from one place."""
        return isinstance(other, Mask) and self.reference == other.reference

    def __hash__(self) -> int:
        return hash(self.reference)


class Reader:
    """Reads rows by the options of a source.

    Args:
        options: which column says what.
        places: where masks may lie.
        names: of classes, for columns that hold their numbers.

    Attributes:
        unknown_splits: values of the column of splits that mean none, with the number of their rows.
        not_a_number: column -> cells that hold NaN.
    """

    def __init__(self, options: StatementOptions, places: Places, names: Mapping[str, Sequence[str]]) -> None:
        self._options, self._places, self._names = options, places, names
        self.unknown_splits: Counter[str] = Counter()
        self.not_a_number: Counter[str] = Counter()

    def statement(self, row: Row) -> Statement:
        """Read a row.

        Raises:
            RefusedRow: a cell breaks a rule.
        """
        options = self._options
        label = self._cell(row, options.label, self._name)
        split = self._cell(row, options.split, self._split)
        if split == UNLABELLED:
            split, label = "train", None
        facts: dict[str, Any] = {}
        captions: dict[str, tuple[str, ...]] = {}
        for name, fact in options.facts.items():
            value = self._cell(row, fact.column or name, self._fact, fact, row)
            if value is not None and fact.kind == "caption":
                captions[name] = value
            elif value is not None:
                facts[name] = value
        if options.labels is not None:
            facts |= self._labels(row)
        return Statement(
            label, self._cell(row, options.group, self._name), split, facts or _NO_FACTS, captions or _NO_FACTS
        )

    def _cell(self, row: Row, column: str | None, read: Callable[..., Any], *more: Any) -> Any:
        """Read one cell; None where there is no column, or nothing in it."""
        value = None if column is None else row.cells[column]
        if cells.is_empty(value):
            if isinstance(value, float) and math.isnan(value):
                self.not_a_number[str(column)] += 1
            return None
        try:
            return read(value, column, *more)
        except BadCell as bad:
            raise RefusedRow("bad_value", f"column '{printable(column, 80)}': {bad}") from bad

    def _name(self, value: Any, column: str) -> str | None:
        return cells.name_of(value, self._names.get(column, ()))

    def _split(self, value: Any, column: str) -> str | None:
        name = self._name(value, column)
        if name is None:
            return None
        split = self._options.split_names.get(name) or SPLIT_NAMES.get(name.strip().casefold())
        if split is None:
            self.unknown_splits[name] += 1
        return split

    def _labels(self, row: Row) -> dict[str, int]:
        options = self._options.labels
        assert options is not None
        value = row.cells[options.column]
        if value is None or value == "":
            return dict.fromkeys(options.names, 0) if options.empty == "none" else {}

        def read(value: Any, column: str) -> dict[str, int]:
            return cells.labels_of(value, options.separator, options.names, self._names.get(column, ()))

        return dict(self._cell(row, options.column, read) or {})

    def _fact(self, value: Any, column: str, fact: FactColumn, row: Row) -> Any:
        if fact.kind == "word":
            return cells.name_of(value, self._names.get(column, ()))
        if fact.kind == "boxes":
            return cells.boxes_of(value, fact.form)
        if fact.kind == "mask":
            return self._mask(value, row)
        read: dict[str, Callable[[Any], Any]] = {
            "number": cells.number_of,
            "flag": cells.flag_of,
            "caption": cells.captions_of,
            "pose": cells.pose_of,
        }
        return read[fact.kind](value)

    def _mask(self, value: Any, row: Row) -> Mask | None:
        reference = picture(value)
        if not isinstance(reference, str):
            return None if reference is None else Mask(row.where, reference)
        path, entry = self._places.find(reference)
        if entry.reason is not None:
            raise RefusedRow(entry.reason, f"its mask {printable(path, 200)}: {entry.detail}")
        return Mask(row.where, path)


def picture(value: Any) -> str | bytes | None:
    """Read the cell of an image or a mask: its bytes, else its path, else nothing.

    Args:
        value: a text, bytes, or a struct of `bytes` and `path`, as Hugging Face writes images.

    Raises:
        BadCell: it is none of these.
    """
    if isinstance(value, dict) and value.keys() <= {"bytes", "path"}:
        value = value.get("bytes") or value.get("path")
    if cells.is_empty(value) or value == b"":
        return None
    if isinstance(value, str | bytes):
        return value
    raise BadCell(f"an image is a path, bytes, or a struct of `bytes` and `path`; found {type(value).__name__}")
