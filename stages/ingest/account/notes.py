"""What was changed in the images on the way in: collected when they are examined, counted, and written as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa

from reprise.artifacts.manifest import KEY_DIGITS, NOTES_SCHEMA
from reprise.config.errors import printable
from reprise.media.lookup import modality
from stages.ingest.candidates.examine import Finding
from stages.ingest.candidates.select import Image
from stages.ingest.near.sketches import SketchFile
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate


def images_in(candidate: Candidate, finding: Finding, sketches: SketchFile) -> Iterator[Image]:
    """Yield the images of a file: one, or one a page. Pages of a file that belongs to no group become a group.

    Their sketches go to `sketches`.
    """
    for page in finding.samples:
        assert finding.sha256 is not None
        source = candidate
        if page.part:
            group = candidate.group if candidate.group is not None else finding.sha256[:KEY_DIGITS]
            source = replace(candidate, name=f"{candidate.name} ({page.part})", group=group)
        number = sketches.add(page.sketch)
        yield Image(source, finding.sha256, finding.bytes, page.facts, replace(page, sketch=b""), number)


def completed(rows: list[Image], params: SourceParams) -> list[Image]:
    """Fill in what depends on all images together, such as their common range of values; choices are made on train.

    Raises:
        SourceError: the choices do not suit the images.
    """
    trained = [row.candidate.split == "train" for row in rows]
    pages = modality(params.modality).complete([row.page for row in rows], trained, params.choices)
    return [replace(row, facts=page.facts, page=page) for row, page in zip(rows, pages, strict=True)]


def notes_table(rows: list[Image]) -> pa.Table:
    """Make the table of notes: a row for each change of each image."""
    return pa.Table.from_pylist(
        [
            {"key": row.key, "path": row.candidate.name, "note": note, "detail": detail}
            for row in rows
            for note, detail in sorted(row.page.changes.items())
        ],
        schema=NOTES_SCHEMA,
    )


def summary(notes: pa.Table) -> list[str]:
    """Write a sentence for each kind of change, the most frequent first: how many images, and what was done to one."""
    details: dict[str, list[str]] = {}
    for note, detail in zip(notes["note"].to_pylist(), notes["detail"].to_pylist(), strict=True):
        details.setdefault(note, []).append(detail)
    ranked = sorted(details, key=lambda note: (-len(details[note]), note))
    return [
        f"Changed on the way in ({note}): {len(details[note]):,} image{'s' if len(details[note]) > 1 else ''}, "
        f'{"all" if len(set(details[note])) == 1 else "for example"} "{printable(details[note][0], 200)}".'
        for note in ranked
    ]
