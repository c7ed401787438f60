"""What was done about near-copies: as a table, in figures, and in sentences for the terminal and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from reprise.artifacts.near_copies import APART, NEAR_COPIES_SCHEMA, NOTHING, REFUSED, TOGETHER
from stages.ingest.candidates.select import Image
from stages.ingest.near.policy import Settled, labels_differ


def near_copies_table(settled: Settled, rows: Mapping[str, Image]) -> pa.Table:
    """Make the table of near-copies.

    Args:
        settled: what was found and decided.
        rows: key -> image, of those that were kept, with their splits.
    """
    return pa.Table.from_pylist(
        [
            {
                "key": one.key,
                "other_key": other.key,
                "path": one.candidate.name,
                "other_path": other.candidate.name,
                "split": _split(one, rows),
                "other_split": _split(other, rows),
                "distance": max(0.0, round(distance, 6)),
                "labels_differ": labels_differ(one, other),
                "done": _done(settled, one, other, rows),
            }
            for (one, other), distance in zip(settled.pairs, settled.distances, strict=True)
        ],
        schema=NEAR_COPIES_SCHEMA,
    )


def _split(image: Image, rows: Mapping[str, Image]) -> str | None:
    """Return the split of an image; of a refused one that which the source gives it."""
    return rows[image.key].candidate.split if image.key in rows else image.candidate.split


def _done(settled: Settled, one: Image, other: Image, rows: Mapping[str, Image]) -> str:
    if one.key not in rows or other.key not in rows:
        return REFUSED
    if rows[one.key].candidate.split != rows[other.key].candidate.split:
        return APART
    return TOGETHER if one.key in settled.units and other.key in settled.units else NOTHING


def near_copies_card(settled: Settled, table: pa.Table) -> dict[str, Any]:
    """Count near-copies, and say what was done, for the data set card.

    Args:
        settled: what was found and decided.
        table: from `near_copies_table`.
    """
    crossing = Counter(
        tuple(sorted((row["split"], row["other_split"])))
        for row in table.select(["split", "other_split", "done"]).to_pylist()
        if row["done"] == APART
    )
    figures = {
        "policy": settled.policy,
        "limit": settled.found.limit,
        "pairs": table.num_rows,
        "images": len({image.key for pair in settled.pairs for image in pair}),
        "refused": len(settled.refused),
        "across_splits": sum(crossing.values()),
        "labels_differ": sum(table["labels_differ"].to_pylist()),
        "alike": settled.found.alike,
        "unrecognisable": settled.found.unrecognisable,
    }
    return figures | {"said": [*_of_pairs(settled, figures, crossing), *_of_others(figures)]}


def _of_pairs(settled: Settled, figures: Mapping[str, Any], crossing: Mapping[tuple[str, ...], int]) -> list[str]:
    if not figures["pairs"]:
        return ["Near-copies: none."]
    said = [f"Near-copies: {_pairs(figures['pairs'])} among {figures['images']:,} images."]
    if settled.policy == "keep_one":
        said.append(f"{_images(figures['refused'])} refused as near-copies of others that stay.")
    if figures["labels_differ"]:
        stay = "; they all stay" if settled.policy == "keep_one" else ""
        said.append(f"In {_pairs(figures['labels_differ'])} of near-copies, the labels differ{stay}.")
    if settled.chained:
        said.append(
            f"{settled.chained:,} images are linked to each other by near-copies. They are most of all images, so they "
            "are not kept in one split; if they show one scene, source.options.group can name what belongs together."
        )
    if crossing:
        where = ", ".join(f"{one} and {other} {count:,}" for (one, other), count in sorted(crossing.items()))
        said.append(f"{_pairs(sum(crossing.values()))} of near-copies lie in two splits ({where}){_way_out(settled)}")
    elif settled.policy != "report":
        said.append("No near-copies lie in two splits.")
    return said


def _way_out(settled: Settled) -> str:
    """Say why copies lie in two splits, and which parameter changes that."""
    if settled.policy == "report":
        return ". source.near_copies is `report`: `same_split` keeps them together, `keep_one` keeps one of them."
    if settled.chained:
        return "."
    if settled.policy == "same_split":
        return (
            ", as the source gives them, so figures on test count pictures that were trained on. "
            "`source.near_copies: keep_one` refuses the copies in train."
        )
    return ", because the source gives them so and their labels differ."


def _of_others(figures: Mapping[str, Any]) -> list[str]:
    said = []
    if figures["alike"]:
        said.append(
            f"{_pairs(figures['alike'])} of images are as near as copies can be, but so are many images of this data "
            "set by chance; they do not count as near-copies."
        )
    if figures["unrecognisable"]:
        said.append(
            f"{_images(figures['unrecognisable'])} too flat, too plain or too small to be recognised in a near-copy; "
            "exact copies of them are found."
        )
    return said


def _pairs(count: int) -> str:
    return f"{count:,} pair{'' if count == 1 else 's'}"


def _images(count: int) -> str:
    return f"{count:,} image{' is' if count == 1 else 's are'}"
