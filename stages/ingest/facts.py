"""What the source says of each image besides its label: held against its declaration, written beside the manifest.

A fact that is not what its declaration says is a defect of the source, so it stops ingest with a sentence; nothing is
left out in silence. Where the source declares no facts, no file is written.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reprise.artifacts.facts.sides import FILE as SIDES_FILE
from reprise.artifacts.facts.sides import TAR, write_sides
from reprise.artifacts.facts.table import Facts, objects, write_facts
from reprise.config.errors import ImageRefused, SourceError, printable
from reprise.config.facts import MOST_FACTS, SCALARS, SIDES, TEXT, Fact, problem_of, repeated_name
from reprise.media.text.rules import (
    LONGEST_CAPTION,
    LONGEST_WORD,
    MOST_CAPTIONS,
    problem_of_text,
    problem_of_word,
)
from reprise.media.text.stored import encode_captions
from reprise.storage import ustar
from reprise.storage.progress import track
from stages.ingest.candidates.select import Image

_UNKNOWN = "Correct the source, or leave the fact out where it is not known."


def _refuse_pictures(declared: Sequence[Fact], rows: Sequence[Image]) -> None:
    """Refuse facts that lie in the pixels of a picture, where the samples have a depth.

    Raises:
        SourceError: naming the first of them.
    """
    beside = next((fact for fact in declared if fact.kind in SIDES), None)
    if beside is not None and any(row.facts.get("depth") is not None for row in rows):
        raise SourceError(
            "facts of this kind lie in the pixels of a picture, and volumes have none",
            where="source.modality",
            found=f"volumes, and the fact '{beside.name}' of kind {beside.kind}",
            fix="Leave the fact out of the source.",
        )


def write_source_facts(declared: Sequence[Fact], rows: Sequence[Image], output: Path) -> dict[str, dict[str, Any]]:
    """Check and write the facts of the images that are kept.

    Args:
        declared: by the source.
        rows: the images, with their splits.
        output: data/ingest.

    Returns:
        fact -> its declaration and the number of images of which it is known; empty where the source declares none.

    Raises:
        SourceError: a declaration or a value breaks a rule.
    """
    _check_declarations(declared)
    _refuse_pictures(declared, rows)
    by_name = {fact.name: fact for fact in declared}
    for row in rows:
        if unknown := sorted(row.candidate.facts.keys() - by_name):
            raise _wrong("a source declares every fact that it gives", row, unknown[0], "Return it from `facts`.")
    if not declared:
        return {}
    rows = sorted(rows, key=lambda row: row.key)
    columns: dict[str, np.ndarray] = {}
    captions: dict[str, np.ndarray] = {}
    for fact in declared:
        if fact.kind in SCALARS:
            found = [_scalar(fact, _value(row, fact.name), row) for row in rows]
            columns[fact.name] = objects(found) if fact.kind == "word" else np.array(found, dtype=np.float64)
        elif fact.kind == "caption":
            captions[fact.name] = objects([_captions(_value(row, fact.name), row, fact.name) for row in rows])
    write_facts(output, Facts(tuple(declared), objects([row.key for row in rows]), columns, captions))
    members = _write_members([fact for fact in declared if fact.kind in SIDES or _is_member(fact)], rows, output)
    return {
        fact.name: fact.as_json() | {"known": sum(fact.name in row.candidate.facts for row in rows)}
        for fact in declared
        if fact.kind not in SIDES or members
    }


def _check_declarations(declared: Sequence[Fact]) -> None:
    found = next(((fact.name, problem) for fact in declared if (problem := problem_of(fact))), None)
    if found is None and (repeated := repeated_name(declared)):
        found = (repeated, "two facts may not have the same name")
    if found is None and len(declared) > MOST_FACTS:
        found = (f"{len(declared)} facts", f"there can be {MOST_FACTS} facts")
    if found is not None:
        name, rule = found
        raise SourceError(rule, where="facts of the source", found=name, fix="Correct the source's `facts`.")


def _value(row: Image, name: str) -> Any:
    value = row.candidate.facts.get(name)
    return value() if callable(value) else value


def _scalar(fact: Fact, value: Any, row: Image) -> Any:
    """Return a number (NaN where unknown), 0 or 1, or a word (None where unknown)."""
    if fact.kind == "word":
        if value is None or not (problem := problem_of_word(value)):
            return value
        rule = f"the fact '{fact.name}' is a word of 1 to {LONGEST_WORD} characters without control characters"
        raise _wrong(rule, row, f"{value!r}: {problem}", _UNKNOWN)
    if value is None:
        return math.nan
    number = isinstance(value, int | float | np.integer | np.floating | np.bool_) and math.isfinite(value)
    if number and (fact.kind == "number" or value in (0, 1)):
        return float(value)
    rule = f"the fact '{fact.name}' is a finite number" if fact.kind == "number" else f"'{fact.name}' is 0 or 1"
    raise _wrong(rule, row, repr(value), _UNKNOWN)


def _captions(value: Any, row: Image, name: str) -> tuple[str, ...]:
    texts = () if value is None else (value,) if isinstance(value, str) else tuple(value)
    for text in texts:
        if problem := problem_of_text(text):
            rule = f"a caption ('{name}') is a text of 1 to {LONGEST_CAPTION} characters without control characters"
            raise _wrong(rule, row, f"{text!r}: {problem}", "Correct the source, or leave the caption out.")
    if len(texts) > MOST_CAPTIONS:
        raise _wrong(f"an image has at most {MOST_CAPTIONS} captions", row, len(texts), "Leave some out.")
    return texts


def _is_member(fact: Fact) -> bool:
    """Tell whether a fact of text lies beside its image in the shards as well: a caption that is no label."""
    return fact.kind == "caption" and fact.use == "given"


def _write_members(facts: Sequence[Fact], rows: Sequence[Image], output: Path) -> bool:
    """Write what lies beside images in shards into a tar, from which these take it; tell whether there is any."""
    if not facts:
        return False
    table: list[dict[str, object]] = []
    lengths: dict[str, int] = {}  # of poses: a batch of them is one matrix
    with open(output / TAR, "wb") as file:
        for row in track(rows, "facts"):
            for fact in facts:
                value = _value(row, fact.name)
                if value is None or (fact.kind == "caption" and not value):
                    continue
                data, extension = _encoded(fact, value, row), SIDES.get(fact.kind, TEXT)
                if fact.kind == "pose" and len(value) != lengths.setdefault(fact.name, len(value)):
                    rule = f"the poses ('{fact.name}') of all images have one length"
                    found = f"{len(value)} numbers, and {lengths[fact.name]} for other images"
                    raise _wrong(rule, row, found, "Correct the source.")
                table.append(
                    {
                        "key": row.key,
                        "fact": fact.name,
                        "kind": fact.kind,
                        "shard": TAR,
                        "offset": file.tell() + ustar.BLOCK,
                        "bytes": len(data),
                        "ext": extension,
                        "sha256": hashlib.sha256(data).hexdigest(),
                    }
                )
                file.write(ustar.member(f"{row.key}.{fact.name}.{extension}", data))
        file.write(ustar.END)
    write_sides(output / SIDES_FILE, table)
    return True


def _encoded(fact: Fact, value: Any, row: Image) -> bytes:
    from reprise.media.image.sides import encode_side

    if fact.kind == "caption":
        return encode_captions(_captions(value, row, fact.name))
    where = f"{printable(row.candidate.name, 200)}: fact '{fact.name}'"
    try:
        return encode_side(fact.kind, value, row.facts["width"], row.facts["height"], where)
    except ImageRefused as refusal:
        raise SourceError(refusal.what, where=where, found=refusal.found, fix=refusal.fix) from refusal


def _wrong(rule: str, row: Image, found: object, fix: str) -> SourceError:
    return SourceError(rule, where=row.candidate.name, found=found, fix=fix)
