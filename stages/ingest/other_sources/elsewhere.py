"""Images from elsewhere, on which runs are judged: the same classes, and no image that the runs were trained on.

They are examined, described and refused by the rules for the images of the data set. Classes are matched by their
names. Splits of the source mean nothing here: all of its images are scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from reprise.artifacts.layout import MANIFEST, QUARANTINE, shift_images
from reprise.artifacts.manifest import (
    read_manifest,
    scored_split,
    write_manifest,
    write_notes,
    write_quarantine,
)
from reprise.artifacts.shifts import write_card
from reprise.config.errors import SourceError, printable
from reprise.config.shift_rows import ShiftRow
from reprise.media.lookup import modality
from reprise.storage.progress import track
from stages.ingest.account.notes import notes_table, summary
from stages.ingest.account.statement import by_reason, reasons
from stages.ingest.candidates.select import Image, resolve_duplicates
from stages.ingest.candidates.spool import Spool
from stages.ingest.ingest import examine_candidates, manifest_table, place_of, quarantine_table
from stages.ingest.near.sketches import SketchFile
from stages.ingest.other_sources.pack import pack
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, LeftOut, Refused, Source

UNKNOWN_CLASS, TRAINED_ON = "unknown_class", "copy_of_training_image"
SPLIT = "test"  # of every image
_NAMED = 8  # classes in a sentence


def take_in(
    shift: ShiftRow,
    source: Source,
    params: SourceParams,
    max_side: int,
    output: Path,
    workers: int,
    manifest: Path = MANIFEST,
) -> list[str]:
    """Write manifest, quarantine, notes, a shard with its index, and `shift.json` into `output`.

    Args:
        shift: the row.
        source: names the images.
        params: the section `source`, whose limits and choices hold for these images too.
        max_side: longest side of a stored image in pixels.
        output: folder to fill.
        workers: number of decoding processes.
        manifest: of the data set.

    Returns:
        Sentences for the terminal and for the protocol of probes.

    Raises:
        SourceError: the source cannot be read, or none of its images can be used.
    """
    with Spool(output) as spool:
        named = [spool.keep(item) for item in track(source.candidates(), "list", unit="files")]
        spool.flush()
        return _take_in(named, shift, source, params, max_side, output, workers, manifest)


def _take_in(
    named: list[Candidate | Refused | LeftOut],
    shift: ShiftRow,
    source: Source,
    params: SourceParams,
    max_side: int,
    output: Path,
    workers: int,
    manifest: Path,
) -> list[str]:
    images, refused, left_out = _examined(named, params, output, workers)
    known = read_manifest(manifest, ["key", "split", "label", "pixels", "sample", "low", "high"]).to_pylist()
    kept, copies = resolve_duplicates(images)
    kept, unknown = _of_known_classes(kept, {row["label"] for row in known} - {None}, source)
    kept, trained = _not_trained_on(kept, known)
    refused += [*copies, *unknown, *trained]
    if not kept:
        raise SourceError(
            f"no image of the shift '{shift.name}' can be used",
            where=source.address,
            found=by_reason([*refused, *left_out]),
            fix="Name a folder with other images of the same classes.",
        )
    rows = _in_the_same_range(kept, known, params)
    packed, where = pack(rows, output, max_side, params.modality), shift_images(shift.name)
    places = {
        row.key: (str(where / own.shard), own.offset, own.bytes)
        for row in rows
        if place_of(row.candidate.reference) is None
        for own in [packed[row.key]]
    }
    write_manifest(output / MANIFEST.name, manifest_table(rows, places, params.modality))
    write_quarantine(output / QUARANTINE.name, quarantine_table(refused))
    notes = notes_table(rows)
    write_notes(output / "notes.parquet", notes)
    counts = {"found": len(rows) + len(refused), "kept": len(rows), "refused": reasons(refused)}
    said = [*source.understood(), *source.notes(), *_said(rows, refused, known), *summary(notes)]
    write_card(output, shift, said, counts)
    return said


def _examined(
    named: list[Candidate | Refused | LeftOut], params: SourceParams, output: Path, workers: int
) -> tuple[list[Image], list[Refused], list[LeftOut]]:
    """Read and decode everything that the source names; all images belong to one split."""
    candidates = [replace(item, split=SPLIT) for item in named if isinstance(item, Candidate)]
    refused = [item for item in named if isinstance(item, Refused)]
    left_out = [item for item in named if isinstance(item, LeftOut)]
    with SketchFile(output) as sketches:
        images, bad, others = examine_candidates(candidates, params, workers, sketches)
    return images, [*refused, *bad], [*left_out, *others]


def _of_known_classes(images: Iterable[Image], classes: set[str], source: Source) -> tuple[list[Image], list[Refused]]:
    """Keep images whose class the data set has, and images without a class.

    Raises:
        SourceError: images have classes, and the data set has none of them.
    """
    images = list(images)
    if not classes:
        return [replace(image, candidate=replace(image.candidate, label=None)) for image in images], []
    found = {image.candidate.label for image in images if image.candidate.label is not None}
    if found and not found & classes:
        raise SourceError(
            "the classes of these images are not those of the data set",
            where=source.address,
            found=f"classes {_names(found)}; the data set has {_names(classes)}",
            fix="Name the folders of these images after the classes of the data set.",
        )
    kept = [image for image in images if image.candidate.label is None or image.candidate.label in classes]
    others = [image for image in images if image.candidate.label is not None and image.candidate.label not in classes]
    return kept, [
        Refused(i.candidate.name, UNKNOWN_CLASS, f"the data set has no class {i.candidate.label!r}", i.sha256)
        for i in others
    ]


def _not_trained_on(images: list[Image], known: list[dict[str, Any]]) -> tuple[list[Image], list[Refused]]:
    """Refuse images whose pixels are those of an image on which runs were trained or choices were made."""
    scored = scored_split(row["split"] for row in known)
    seen = {row["pixels"]: row for row in known if row["split"] != scored}
    kept, refused = [], []
    for image in images:
        row = seen.get(image.pixels)
        if row is None:
            kept.append(image)
        else:
            detail = f"the same pixels as the image {row['key']} of the split {row['split']}"
            refused.append(Refused(image.candidate.name, TRAINED_ON, detail, image.sha256))
    return kept, refused


def _in_the_same_range(images: list[Image], known: list[dict[str, Any]], params: SourceParams) -> list[Image]:
    """Give values of more than 8 bits the range of the data set, so that a shift in exposure is not undone.

    A type of sample that the data set does not have gets the range of these images.
    """
    ranges = {row["sample"]: (row["low"], row["high"]) for row in known if row["sample"] is not None}
    pages = modality(params.modality).complete([image.page for image in images], [True] * len(images), params.choices)
    completed = []
    for image, own in zip(images, pages, strict=True):
        page, shared = own, ranges.get(own.facts.get("sample"))
        if shared:
            done = "the values {:g} to {:g} become 0 to 255, as in the data set".format(*shared)
            facts = {**own.facts, "low": shared[0], "high": shared[1]}
            page = replace(own, facts=facts, changes={**image.page.changes, "range": done})
        completed.append(replace(image, facts=page.facts, page=page))
    return completed


def _said(rows: list[Image], refused: list[Refused], known: list[dict[str, Any]]) -> list[str]:
    """Say how many images are scored, of which classes, and what was left out."""
    classes = {row["label"] for row in known} - {None}
    here = {row.candidate.label for row in rows} - {None}
    unlabelled = sum(row.candidate.label is None for row in rows)
    sentences = [f"{len(rows):,} images are scored, of {len(here)} of the {len(classes)} classes."]
    if classes and unlabelled:
        sentences.append(f"{unlabelled:,} of them have no class and count only where none is needed.")
    if here and here != classes:
        sentences.append(f"No image here is of the classes {_names(classes - here)}.")
    counts = Counter(item.reason for item in refused)
    if counts[UNKNOWN_CLASS]:
        unknown = {r.detail.removeprefix("the data set has no class ") for r in refused if r.reason == UNKNOWN_CLASS}
        sentences.append(
            f"{counts[UNKNOWN_CLASS]:,} images were left out because the data set has no such class: {_names(unknown)}."
        )
    if counts[TRAINED_ON]:
        sentences.append(
            f"{counts[TRAINED_ON]:,} images were left out because the data set holds the same pixels in a split on "
            "which runs were trained or choices were made."
        )
    others = {reason: n for reason, n in counts.items() if reason not in (UNKNOWN_CLASS, TRAINED_ON)}
    if others:
        listed = ", ".join(f"{reason} {n:,}" for reason, n in sorted(others.items()))
        sentences.append(f"{sum(others.values()):,} files were refused: {listed}.")
    scored = scored_split(row["split"] for row in known)
    same = {row["pixels"] for row in known if row["split"] == scored}
    if both := sum(row.pixels in same for row in rows):
        sentences.append(f"{both:,} images are also in the split {scored} of the data set.")
    return sentences


def _names(classes: Iterable[str]) -> str:
    named = sorted(classes)
    more = f" and {len(named) - _NAMED:,} more" if len(named) > _NAMED else ""
    return ", ".join(printable(name, 60) for name in named[:_NAMED]) + more
