"""From a source to manifest, quarantine, notes, data set card, suggested views, and a tar of images that are not files.

kept + quarantined = found: every file that may be an image ends in one of these two tables. What nobody means as an
image is counted apart and ends in a third table.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from reprise.artifacts.facts.names import write_names
from reprise.artifacts.layout import LEFT_OUT, MANIFEST, NEAR_COPIES, NOTES, QUARANTINE
from reprise.artifacts.manifest import (
    FURTHER_SCHEMA,
    LEFT_OUT_SCHEMA,
    MANIFEST_SCHEMA,
    QUARANTINE_SCHEMA,
    SPLITS,
    write_left_out,
    write_manifest,
    write_notes,
    write_quarantine,
)
from reprise.artifacts.near_copies import write_near_copies
from reprise.config.errors import SourceError
from reprise.media.lookup import IMAGE, NAMES, modality
from reprise.media.modality import Modality
from reprise.storage import ustar
from reprise.storage.atomic import write_json
from reprise.storage.progress import track
from stages.ingest.account.notes import completed, images_in, notes_table, summary
from stages.ingest.account.remedy import remedy
from stages.ingest.account.statement import by_reason, reasons, state
from stages.ingest.candidates.again import bytes_of
from stages.ingest.candidates.examine import Finding, examine_all
from stages.ingest.candidates.select import Image, lost_with_copies, resolve_duplicates
from stages.ingest.candidates.spool import Spool
from stages.ingest.facts import write_source_facts
from stages.ingest.names.groups import check_splits_of_groups
from stages.ingest.near.policy import settle
from stages.ingest.near.record import near_copies_card, near_copies_table
from stages.ingest.near.sketches import SketchFile
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, Encoded, LeftOut, Refused, Source
from stages.ingest.splits.assign import assign_splits, without_given

IMAGES = "images.tar"
VIEWS = "views.json"
# Refused only where the name says that it is a sample of the data set.
_NO_SAMPLE = ("not_an_image", "not_a_volume", "empty", "too_many_bytes")
_IN_PROCESS = 5000  # images made from arrays; more are worth starting workers


def ingest(
    source: Source, params: SourceParams, output: Path, workers: int, published: Path = MANIFEST.parent
) -> dict[str, Any]:
    """Take in everything that a source names.

    Args:
        source: names the candidates.
        params: fractions of the splits, limits of the images.
        output: folder to fill.
        workers: number of decoding processes.
        published: path that `output` gets in the end; the manifest's paths into images.tar begin with it.

    Returns:
        the data set card, as written to dataset.json.

    Raises:
        SourceError: the source cannot be read, is empty, or no image of it can be used.
    """
    with Spool(output) as spool:
        named = [spool.keep(item) for item in track(source.candidates(), "list", unit="files")]
        spool.flush()
        return _ingest(named, source, params, output, workers, published)


def _ingest(
    named: list[Candidate | Refused | LeftOut],
    source: Source,
    params: SourceParams,
    output: Path,
    workers: int,
    published: Path,
) -> dict[str, Any]:
    named, ignored = without_given(named, params.split)
    candidates = [item for item in named if isinstance(item, Candidate)]
    refused = [item for item in named if isinstance(item, Refused)]
    left_out = [item for item in named if isinstance(item, LeftOut)]
    if not candidates:
        raise SourceError(
            "the source holds no images",
            where=source.address,
            found=by_reason((*refused, *left_out)),
            fix=remedy(source, refused, left_out),
        )
    check_splits_of_groups(candidates, source.root)
    with SketchFile(output) as sketches:
        images, bad, others = examine_candidates(candidates, params, workers, sketches)
        distinct, copies = resolve_duplicates(images)
        near = settle(distinct, sketches, params.near_copies)
    split = assign_splits(near.kept, params.val_fraction, params.test_fraction, near.units, params.split)
    rows, left_out = split.rows, left_out + others
    quarantined = [*refused, *bad, *copies, *near.refused, *split.refused]
    _require_images(rows, quarantined, left_out, source)
    rows = completed(rows, params)
    offsets = _write_tar(rows, output / IMAGES, modality(params.modality))
    tar = str(published / IMAGES)
    places = {row.key: (tar, offsets[row.key], row.bytes) for row in rows if row.key in offsets}
    write_manifest(output / MANIFEST.name, manifest_table(rows, places, params.modality))
    write_quarantine(output / QUARANTINE.name, quarantine_table(quarantined))
    write_left_out(output / LEFT_OUT.name, _left_out(left_out))
    notes = notes_table(rows)
    write_notes(output / NOTES.name, notes)
    near_copies = near_copies_table(near, {row.key: row for row in rows})
    write_near_copies(output / NEAR_COPIES.name, near_copies)
    card = _card(source, params, rows, quarantined, left_out, [*ignored, *split.said, *lost_with_copies(copies)])
    card["near_copies"] = near_copies_card(near, near_copies)
    if params.modality != IMAGE:
        said = f"Near-copies of {params.modality}s are not looked for; exact copies are found."
        card["near_copies"] |= {"said": [said], "unrecognisable": 0, "looked_for": False}
    card["changed"] = summary(notes)
    called = [(row.key, row.candidate.name) for row in rows if not isinstance(row.candidate.reference, str)]
    if source.keeps_names and called:
        write_names(output, called)
    if facts := write_source_facts(source.facts(), rows, output):
        card["facts"] = facts
    write_json(output / "dataset.json", card)
    write_json(output / VIEWS, source.views)
    return card


def _require_images(rows: list[Image], refused: list[Refused], left_out: list[LeftOut], source: Source) -> None:
    """Refuse a source of which no image, or a single one, can be used."""
    if not rows:
        raise SourceError(
            "no image of the source can be used",
            where=source.address,
            found=by_reason([*refused, *left_out]),
            fix=remedy(source, refused, left_out),
        )
    if len(rows) == 1:
        raise SourceError(
            "training needs more than one image",
            where=source.address,
            found=f"1 image can be used; refused or left out: {by_reason([*refused, *left_out])}",
            fix=f"Set source.root in params.yaml to {source.reads}, with more images."
            + (f" {remedy(source, refused, [])}" if refused else ""),
        )


def examine_candidates(
    candidates: list[Candidate], params: SourceParams, workers: int, sketches: SketchFile
) -> tuple[list[Image], list[Refused], list[LeftOut]]:
    """Decode all candidates: the images in them, the files that are refused, and those that nobody means as images.

    Args:
        candidates: what the source names.
        params: limits, and what is taken of a file.
        workers: number of decoding processes.
        sketches: gets a sketch of each image.
    """
    made_here = len(candidates) <= _IN_PROCESS and all(_is_made(c.reference) for c in candidates)
    findings = examine_all(
        [(c.name, c.reference) for c in candidates],
        params.limits,
        0 if made_here else workers,
    )
    media = modality(params.modality)
    images: list[Image] = []
    refused: list[Refused] = []
    left_out: list[LeftOut] = []
    for candidate, finding in zip(candidates, track(findings, "ingest", len(candidates)), strict=True):
        images += images_in(candidate, finding, sketches)
        if finding.samples:
            continue
        if candidate.meant or finding.reason not in _NO_SAMPLE or media.claims(candidate.name):
            refused.append(Refused(candidate.name, finding.reason, finding.detail, finding.sha256))
        elif params.modality != IMAGE and modality(IMAGE).claims(candidate.name):
            detail = f"a data set holds samples of one kind, and source.modality is {params.modality}: {finding.detail}"
            refused.append(Refused(candidate.name, "other_modality", detail, finding.sha256))
        else:
            left_out.append(LeftOut(candidate.name, "other_file", _no_sample(candidate.name, finding, params)))
    return images, refused, left_out


def _no_sample(name: str, finding: Finding, params: SourceParams) -> str:
    """Say why a file is left out: it is no sample, and its name does not say that it is one."""
    own = params.modality
    said = f"it is no {own} and has no {own}'s name: {finding.detail}"
    others = [kind for kind in NAMES if kind != own and modality(kind).claims(name)]
    return f"it is named as a {others[0]}, and source.modality is {own}: {finding.detail}" if others else said


def _is_made(reference: str | bytes | Encoded) -> bool:
    return reference.made if isinstance(reference, Encoded) else isinstance(reference, bytes)


def place_of(reference: str | bytes | Encoded) -> tuple[str, int] | None:
    """Return the file of the user in which an image lies, and its first byte there; None for what must be copied."""
    if isinstance(reference, str):
        return reference, 0
    return None if isinstance(reference, bytes) else reference.place()


def _write_tar(rows: list[Image], path: Path, media: Modality) -> dict[str, int]:
    """Store images that lie in no file of the user, and return the offset of each by key; write no file without any."""
    offsets: dict[str, int] = {}
    if all(place_of(row.candidate.reference) for row in rows):
        return offsets
    with open(path, "wb") as file:
        for row in track(rows, "write"):
            if place_of(row.candidate.reference) is None:
                offsets[row.key] = file.tell() + ustar.BLOCK
                file.write(ustar.member(f"{row.key}.{media.extension(row.facts)}", bytes_of(row)))
        file.write(ustar.END)
    return offsets


def manifest_table(
    rows: list[Image], places: Mapping[str, tuple[str, int, int]], modality_name: str = IMAGE
) -> pa.Table:
    """Describe images as the manifest does.

    Args:
        rows: the images.
        places: by key, of images that were copied: the file that holds them, the offset, and the length there.
        modality_name: the kind of all of them.
    """
    others = {} if modality_name == IMAGE else {"modality": modality_name}
    described = []
    for row in rows:
        path, offset, size = places.get(row.key) or (*(place_of(row.candidate.reference) or ("", 0)), row.bytes)
        described.append(
            {
                "key": row.key,
                "path": path,
                "offset": offset,
                "bytes": size,
                "split": row.candidate.split,
                "label": row.candidate.label,
                **row.facts,
                **others,
                "sha256": row.sha256,
                "group": row.candidate.group,
            }
        )
    known = set(described[0]) if described else set()
    schema = pa.schema([*MANIFEST_SCHEMA, *(field for field in FURTHER_SCHEMA if field.name in known)])
    return pa.Table.from_pylist(described, schema=schema)


def quarantine_table(refused: list[Refused]) -> pa.Table:
    """List what was refused as the quarantine does."""
    return pa.Table.from_pylist(
        [{"path": r.name, "reason": r.reason, "detail": r.detail, "sha256": r.sha256} for r in refused],
        schema=QUARANTINE_SCHEMA,
    )


def refused_of(quarantine: pa.Table) -> Iterator[Refused]:
    """Read what was refused from the table of it."""
    for batch in quarantine.to_batches():
        columns = (batch.column(name).to_pylist() for name in ("path", "reason", "detail"))
        yield from map(Refused, *columns)


def _left_out(items: list[LeftOut]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"path": item.name, "reason": item.reason, "detail": item.detail} for item in items], schema=LEFT_OUT_SCHEMA
    )


def _card(
    source: Source,
    params: SourceParams,
    rows: list[Image],
    quarantined: list[Refused],
    left_out: list[LeftOut],
    said: list[str],
) -> dict[str, Any]:
    sizes = {(row.facts["height"], row.facts["width"]) for row in rows}
    classes = Counter(row.candidate.label for row in rows if row.candidate.label is not None)
    card = {
        "source": params.name,
        "name": source.title,
        "citation": source.citation,
        "licence": source.licence,
        "found": len(rows) + len(quarantined),
        "kept": len(rows),
        "quarantined": len(quarantined),
        "refused": reasons(quarantined),
        "left_out": reasons(left_out),
        "counts": {split: sum(row.candidate.split == split for row in rows) for split in SPLITS},
        "classes": sorted(classes),
        "class_counts": dict(sorted(classes.items())),
        "uniform": list(sizes.pop()) if len(sizes) == 1 else None,
        "notes": [*source.notes(), *_clashes(sorted(classes))],
    }
    return card | {"understood": state(card, [*source.understood(), *said], rows, left_out)}


def _clashes(classes: list[str]) -> list[str]:
    """Note classes whose names look alike to a person: they may be meant as one class, and they are not."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(_visible(name), []).append(name)
    return [
        f"Classes {', '.join(map(ascii, same))} "
        + (
            "differ only in upper and lower case and are kept apart."
            if len({name.casefold() for name in same}) == 1
            else "look alike (case, accents, spaces or invisible characters) and are kept apart."
        )
        for same in alike.values()
        if len(same) > 1
    ] + [
        f"Class {name!a} has spaces or invisible characters at an end of its name, and they are kept."
        for name in (same[0] for same in alike.values() if len(same) == 1)
        if _outer(name)
    ]


def _outer(name: str) -> bool:
    """Whether a name begins or ends with something that a person does not see."""
    return any(c.isspace() or unicodedata.category(c) in ("Cf", "Cc") for c in (name[:1], name[-1:]) if c)


def _visible(name: str) -> str:
    """Reduce a name to what a person sees: one form of accents and letters, no case, no outer spaces.

    Casefolding can undo the normal form (and the other way round), hence the second normalisation; invisible characters
    (format and control, categories Cf and Cc) are dropped.
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(c for c in plain if unicodedata.category(c) not in ("Cf", "Cc")).strip()
