"""Facts of images beyond their one label: facts.json declares them, two Parquet tables hold those that are no pictures.

facts.parquet has a row an image and a column a fact: double for numbers, boolean for flags, text for words, null where
unknown. captions.parquet has a row a caption: key, name of the fact, its number within the image, and the text. Masks,
boxes, flow and poses are members of the shards (reprise/artifacts/facts/sides.py); facts.json declares them too.

Three folders have this form: data/ingest (what the source gives, where it gives any), data/facts/all (with the columns
of targets.csv), and data/facts/runs/<run> (the training images, and only the facts that the run's method reads).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reprise.artifacts.results import read_json
from reprise.artifacts.tables.parquet import read_table, write_table
from reprise.config.errors import ManifestError
from reprise.config.facts import SCALARS, Fact, parse_facts
from reprise.storage.atomic import write_json

DECLARED, TABLE, CAPTIONS = "facts.json", "facts.parquet", "captions.parquet"
_TYPES = {"number": pa.float64(), "flag": pa.bool_(), "word": pa.string()}
_CAPTIONS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("fact", pa.string(), nullable=False),
        pa.field("number", pa.int32(), nullable=False),  # of the caption within its image, from 0
        pa.field("text", pa.string(), nullable=False),
    ]
)
_FIX = "Run `dvc repro facts` to write it again."


@dataclass(frozen=True)
class Facts:
    """Facts of n images.

    Attributes:
        declared: what is known, in order.
        keys: (n,) of the images, as objects.
        columns: fact -> (n,) float64 (number, flag; NaN where unknown) or objects (word; None where unknown).
        captions: fact -> (n,) tuples of texts, empty where unknown.
        unmatched: rows of targets.csv that name no image.
        examples: the first names of such rows.
    """

    declared: tuple[Fact, ...] = ()
    keys: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=object))
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    captions: Mapping[str, np.ndarray] = field(default_factory=dict)
    unmatched: int = 0
    examples: tuple[str, ...] = ()

    def named(self, *kinds: str) -> list[str]:
        """List the names of the facts of these kinds, in the order of their declaration."""
        return [fact.name for fact in self.declared if fact.kind in kinds]

    def declaration(self, name: str) -> Fact:
        """Return the declaration of a fact that is there."""
        return next(fact for fact in self.declared if fact.name == name)

    def chosen(self, names: Iterable[str], rows: np.ndarray | None = None) -> Facts:
        """Return these facts alone, of all images or of those in `rows`."""
        wanted = set(names)
        part = slice(None) if rows is None else rows
        return Facts(
            tuple(fact for fact in self.declared if fact.name in wanted),
            self.keys[part],
            {name: values[part] for name, values in self.columns.items() if name in wanted},
            {name: texts[part] for name, texts in self.captions.items() if name in wanted},
        )

    def joined(self, keys: np.ndarray) -> Facts:
        """Return the facts of these images, in this order; what is not known of an image is empty."""
        place = {key: i for i, key in enumerate(self.keys.tolist())}
        rows = np.array([place.get(key, -1) for key in keys.tolist()], dtype=np.int64)
        columns = {name: _taken(values, rows) for name, values in self.columns.items()}
        captions = {name: _taken(texts, rows, ()) for name, texts in self.captions.items()}
        return Facts(self.declared, keys, columns, captions, self.unmatched, self.examples)


def _taken(values: np.ndarray, rows: np.ndarray, unknown: object = None) -> np.ndarray:
    """Take rows, where -1 is an image of which nothing is known."""
    if values.dtype != object:
        return np.where(rows >= 0, values[rows], np.nan) if len(values) else np.full(len(rows), np.nan)
    taken = np.empty(len(rows), dtype=object)
    taken[:] = [values[i] if i >= 0 else unknown for i in rows.tolist()]
    return taken


def objects(values: Sequence[Any]) -> np.ndarray:
    """Return a one-dimensional array of objects, also of tuples of one length."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def write_facts(folder: Path, facts: Facts) -> None:
    """Write declarations and tables, sorted by key."""
    order = np.argsort(facts.keys.astype(str), kind="stable")
    keys = facts.keys[order].tolist()
    columns = {"key": pa.array(keys, pa.string())}
    for name in facts.named(*SCALARS):
        kind, values = facts.declaration(name).kind, facts.columns[name][order]
        if kind == "word":
            columns[name] = pa.array(values.tolist(), pa.string())
        else:
            unknown = np.isnan(values)
            known = values == 1 if kind == "flag" else values
            columns[name] = pa.array(known, _TYPES[kind], mask=unknown)
    rows = [
        {"key": key, "fact": name, "number": number, "text": text}
        for name in sorted(facts.named("caption"))
        for key, texts in zip(keys, facts.captions[name][order].tolist(), strict=True)
        for number, text in enumerate(texts)
    ]
    rows.sort(key=lambda row: (row["key"], row["fact"], row["number"]))
    captions = pa.Table.from_pylist(rows, _CAPTIONS_SCHEMA)
    write_table(folder / TABLE, pa.table(columns))
    write_table(folder / CAPTIONS, captions)
    content = {
        "facts": [fact.as_json() for fact in facts.declared],
        "unmatched": facts.unmatched,
        "examples": list(facts.examples),
    }
    write_json(folder / DECLARED, content)


def read_facts(folder: Path) -> Facts:
    """Read a folder of facts; a folder without facts.json holds none.

    Raises:
        ManifestError: a file is missing or damaged, or the tables do not have what is declared.
    """
    if not (folder / DECLARED).exists():
        return Facts()
    content = read_json(folder / DECLARED, _FIX)
    declared = parse_facts(content.get("facts"), folder / DECLARED)
    fields = [pa.field("key", pa.string(), nullable=False)]
    fields += [pa.field(fact.name, _TYPES[fact.kind]) for fact in declared if fact.kind in SCALARS]
    table = read_table(folder / TABLE, pa.schema(fields), ManifestError, _FIX)
    keys = objects(table["key"].to_pylist())
    if len(set(keys)) < len(keys):
        raise ManifestError("keys must be unique", where=folder / TABLE, found="a repeated key", fix=_FIX)
    columns = {
        fact.name: objects(table[fact.name].to_pylist()) if fact.kind == "word" else _numbers(table[fact.name])
        for fact in declared
        if fact.kind in SCALARS
    }
    captions = {fact.name: objects([()] * len(keys)) for fact in declared if fact.kind == "caption"}
    _add_captions(captions, keys, read_table(folder / CAPTIONS, _CAPTIONS_SCHEMA, ManifestError, _FIX), folder)
    examples = tuple(str(name) for name in content.get("examples", ()))
    return Facts(tuple(declared), keys, columns, captions, int(content.get("unmatched", 0)), examples)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return np.array([np.nan if value is None else float(value) for value in column.to_pylist()], dtype=np.float64)


def _add_captions(captions: dict[str, np.ndarray], keys: np.ndarray, table: pa.Table, folder: Path) -> None:
    place = {key: i for i, key in enumerate(keys.tolist())}
    for row in table.to_pylist():
        if row["fact"] not in captions or row["key"] not in place:
            raise ManifestError(
                "a caption is of no declared fact, or of no image",
                where=folder / CAPTIONS,
                found=f"fact {row['fact']}, key {row['key']}",
                fix=_FIX,
            )
        captions[row["fact"]][place[row["key"]]] += (row["text"],)
