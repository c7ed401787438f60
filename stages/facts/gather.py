"""Join what the source says of each image with the columns of targets.csv, and choose what one run may see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from reprise.artifacts.facts.names import with_names
from reprise.artifacts.facts.table import Facts, objects, read_facts
from reprise.artifacts.labels.targets import TARGETS, Targets, read_targets
from reprise.artifacts.layout import INGEST, MANIFEST
from reprise.artifacts.manifest import read_manifest
from reprise.config.errors import ManifestError, printable
from reprise.config.facts import Fact, problem_of
from reprise.media.text.quality import Quality, quality
from reprise.media.text.rules import problem_of_text, problem_of_word
from stages.facts.params import FactsParams


def gather(params: FactsParams, targets: Path = TARGETS, ingest: Path = INGEST) -> tuple[Facts, list[str]]:
    """Read and join all facts.

    Args:
        params: kinds and uses of columns of targets.csv.
        targets: the file.
        ingest: the folder with the manifest and the facts of the source.

    Returns:
        The facts of all images in the order of the manifest, and sentences for the terminal.

    Raises:
        ManifestError: targets.csv cannot be used, lacks a declared column, or names a fact that the source gives.
    """
    table = read_manifest(ingest / MANIFEST.name, ["key", "path", "page"])
    keys, paths, pages = (table[name].to_pylist() for name in ("key", "path", "page"))
    paths = with_names(keys, paths, ingest)
    rules = {"word": problem_of_word, "caption": problem_of_text}
    texts = {name: rules[column.kind] for name, column in params.columns.items() if column.kind in rules}
    found = read_targets(keys, paths, targets, pages, texts)
    given = read_facts(ingest).joined(objects(keys))
    declared = _columns(params, found, targets)
    twice = sorted({fact.name for fact in given.declared} & {fact.name for fact in declared})
    if twice:
        raise ManifestError(
            "a fact may be given once, by the source or by a column",
            where=targets,
            found=", ".join(twice),
            fix="Rename the column.",
        )
    columns, captions = dict(given.columns), dict(given.captions)
    for fact in declared:
        if fact.kind == "caption":
            captions[fact.name] = objects([() if text is None else (text,) for text in found.texts[fact.name]])
        else:
            columns[fact.name] = found.texts[fact.name] if fact.kind == "word" else found.values[fact.name]
    facts = Facts((*given.declared, *declared), objects(keys), columns, captions, found.unmatched, found.examples)
    return facts, _sentences(facts)


def captions_of(facts: Facts, manifest: Path = MANIFEST) -> dict[str, Quality]:
    """Count the captions of each fact that holds captions, with the splits of the manifest."""
    names = facts.named("caption")
    if not names:
        return {}
    table = read_manifest(manifest, ["key", "split"])
    split_of = dict(zip(table["key"].to_pylist(), table["split"].to_pylist(), strict=True))
    splits = [split_of[key] for key in facts.keys.tolist()]
    return {name: quality(facts.captions[name].tolist(), splits) for name in names}


def facts_of_run(facts: Facts, wanted: Sequence[str]) -> Facts:
    """Choose the facts that a run's method reads, of the training images alone; nothing where it reads none."""
    if not wanted:
        return Facts()
    table = read_manifest(columns=["key", "split"])
    train = set(table.filter(pc.equal(table["split"], "train"))["key"].to_pylist())
    rows = np.array([i for i, key in enumerate(facts.keys.tolist()) if key in train], dtype=np.int64)
    return facts.chosen(wanted, rows)


def _columns(params: FactsParams, found: Targets, path: Path) -> list[Fact]:
    """Declare the columns of targets.csv, in the order of the file."""
    present = [*found.values, *found.texts]
    if missing := [name for name in params.columns if name not in found.names]:
        raise ManifestError(
            f"targets.csv has no column '{missing[0]}', which facts.columns declares",
            where=path,
            found=f"columns {', '.join(found.names) or 'none'}",
            fix="Write the column, or remove it from facts.columns in params.yaml.",
        )
    if params.columns and not present:
        raise ManifestError(
            f"targets.csv has no row, and facts.columns declares the column '{next(iter(params.columns))}'",
            where=path,
            found=f"columns {', '.join(found.names)}",
            fix="Write a row for each image, or remove the column from facts.columns in params.yaml.",
        )
    known = {fact.name: fact for fact in params.declared()}
    facts = []
    for name in [name for name in found.names if name in present]:
        kind = "flag" if name in found.attributes else "number"
        fact = known.get(name) or Fact(name, kind, origin=path.name)  # type: ignore[arg-type]
        if problem := problem_of(fact):
            raise ManifestError(problem, where=path, found=name, fix="Rename the column.")
        if fact.kind == "flag" and kind != "flag":
            values = found.values[name]
            raise ManifestError(
                f"the column '{name}' holds flags, which are 0, 1 or empty",
                where=path,
                found=f"{values[~np.isin(values, (0, 1)) & ~np.isnan(values)][0]:g}",
                fix="Correct the column, or declare it as `number` in facts.columns.",
            )
        facts.append(fact)
    return facts


def _sentences(facts: Facts) -> list[str]:
    said = []
    for use in ("label", "given"):
        names = [f"{fact.name} ({fact.kind})" for fact in facts.declared if fact.use == use]
        if names:
            seen = "hidden from unsupervised runs" if use == "label" else "for methods that read them"
            said.append(f"{len(names):,} {seen}: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}.")
    if facts.unmatched:
        examples = ", ".join(printable(name, 60) for name in facts.examples)
        said.append(f"{facts.unmatched:,} rows of targets.csv name no image of the manifest, for instance {examples}.")
    return said
