"""Describe the data set that was taken in as Croissant does: JSON-LD that says what lies where and how it is read.

Distribution: the manifest, the tables of facts, and each shard, with their SHA-256 and addresses relative to the
description. Record sets: `splits` and `labels` (their names), `images` (key, picture, split, label, group), `facts` and
`captions`, and one for each fact that is a picture or a list beside its image. The same data give the same bytes.

Source: Akhtar et al., "Croissant: A Metadata Format for ML-Ready Datasets", arXiv:2403.19546;
https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reprise.artifacts.facts.sides import FILE as SIDES_FILE
from reprise.artifacts.facts.sides import read_sides
from reprise.artifacts.facts.table import CAPTIONS, TABLE, read_facts
from reprise.artifacts.layout import ALL_FACTS, DATASET, MANIFEST, SHARDS
from reprise.artifacts.manifest import IMAGE, KEY_DIGITS, SPLITS, modality_of, read_manifest
from reprise.artifacts.results import read_json
from reprise.artifacts.shards import read_index
from reprise.artifacts.tars.table import FarTable, read_far
from reprise.config.errors import ImageRefused, ManifestError
from reprise.config.facts import SCALARS, Fact
from reprise.storage.listing import hash_files

VERSION = "http://mlcommons.org/croissant/1.0"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_KEYS = "[0-9a-f]" * KEY_DIGITS  # a glob: members of facts begin with a key, too, but have a dot behind it
_KEY_OF_NAME = f"^([0-9a-f]{{{KEY_DIGITS}}})"
_PARQUET, _TAR = "application/x-parquet", "application/x-tar"
_MEDIA = {
    "jpg": "image/jpeg",
    "json": "application/json",
    "png": "image/png",
    "tif": "image/tiff",
    "webp": "image/webp",
}
_TYPES = {"number": "sc:Float", "flag": "sc:Boolean", "word": "sc:Text"}
_LICENCES = {
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "MIT": "https://opensource.org/license/mit/",
}
_FIX = "Run `reprise repro shard facts` first, which writes what is described."


def describe(
    folder: Path, title: str | None = None, url: str | None = None, published: str | None = None
) -> dict[str, Any]:
    """Build the description of the data set of the current project.

    Args:
        folder: where the description will lie; addresses are relative to it.
        title: its name; None takes that of the source.
        url: page of the data set, where it has one.
        published: day of its publication (2026-01-31), where it has one.

    Raises:
        RepriseError: ingest, shard or facts did not run, or what they wrote is damaged.
    """
    card = read_json(DATASET, _FIX)
    manifest, index = read_manifest(columns=["split", "label", "group"]), read_index(fix=_FIX)
    facts = read_facts(ALL_FACTS) if (ALL_FACTS / TABLE).exists() else None
    sides = read_sides(SHARDS / SIDES_FILE) if (SHARDS / SIDES_FILE).exists() else []
    shards = sorted(set(index["shard"].to_pylist()))
    tables = {MANIFEST.name: MANIFEST}
    if facts is not None:
        tables |= {TABLE: ALL_FACTS / TABLE} if facts.named(*SCALARS) else {}
        tables |= {CAPTIONS: ALL_FACTS / CAPTIONS} if facts.named("caption") else {}
    far = read_far(SHARDS)
    files = tables | ({} if far else {shard: SHARDS / shard for shard in shards})
    declared = () if facts is None else facts.declared
    kinds = sorted({(str(row["fact"]), str(row["ext"])) for row in sides if row["kind"] != "caption"})
    name = title or str(card["name"])
    labels = sorted(set(manifest["label"].to_pylist()) - {None})
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": re.sub(r"[^\w .()-]", "_", name)[:255],
        "description": f"{name}: {_counts(card)} They were taken in, checked and packed by Reprise; "
        "a record of `images` is one of them.",
        "conformsTo": VERSION,
        "license": _LICENCES.get(str(card["licence"]), str(card["licence"])),
        **({"citeAs": card["citation"]} if card["citation"] else {}),
        **({"url": url} if url else {}),
        **({"datePublished": published} if published else {}),
        "version": "1.0.0",
        "isLiveDataset": False,
        "distribution": [
            *_objects(files, folder),
            *([] if far is None else _stored_objects(far)),
            _file_set("image-files", sorted(set(index["ext"].to_pylist())), shards, _KEYS),
            *(_file_set(f"{fact}-files", [ext], shards, f"{_KEYS}.{fact}") for fact, ext in kinds),
        ],
        "recordSet": [
            _names("splits", "cr:Split", [s for s in SPLITS if card["counts"].get(s)]),
            *([_names("labels", "sc:Enumeration", labels)] if labels else []),
            _images(modality_of(index), bool(labels), manifest["group"].null_count < manifest.num_rows),
            *([_facts([fact for fact in declared if fact.kind in SCALARS])] if TABLE in tables else []),
            *([_captions()] if CAPTIONS in tables else []),
            *(_side(fact, ext, declared) for fact, ext in kinds),
        ],
    }


def _counts(card: Mapping[str, Any]) -> str:
    split = ", ".join(f"{card['counts'][s]:,} {s}" for s in SPLITS if card["counts"].get(s))
    classes = f" in {len(card['classes'])} classes" if card["classes"] else " without classes"
    return f"{card['kept']:,} images{classes} ({split})."


def _objects(files: Mapping[str, Path], folder: Path) -> list[dict[str, Any]]:
    """Describe files with their SHA-256; unchanged ones are not read again.

    Raises:
        ManifestError: one is missing or cannot be read.
    """
    hashes = hash_files({n: os.fsencode(os.path.realpath(p)) for n, p in files.items()}, b"croissant")
    found = []
    for name, path in files.items():
        value = hashes[name]
        if isinstance(value, ImageRefused):
            raise ManifestError("a file of the data set cannot be read", where=path, found=value.found, fix=_FIX)
        found.append(_object(name, Path(os.path.relpath(path, folder)).as_posix(), value[1], value[0]))
    return found


def _stored_objects(far: FarTable) -> list[dict[str, Any]]:
    """Describe tars of a store, by what data/shards says of them."""
    return [_object(n, f"{far.store}/{tar.object}", tar.bytes, tar.sha256) for n, tar in far.tars.items()]


def _object(name: str, address: str, size: int, sha256: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": address,
        "contentSize": f"{size} B",
        "encodingFormat": _TAR if name.endswith(".tar") else _PARQUET,
        "sha256": sha256,
    }


def _file_set(name: str, extensions: Sequence[str], shards: Iterable[str], stem: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "containedIn": [{"@id": shard} for shard in shards],
        "encodingFormat": sorted({_MEDIA.get(e, "application/octet-stream") for e in extensions}),
        "includes": [f"{stem}.{extension}" for extension in extensions],
    }


def _field(record: str, name: str, kind: str | Sequence[str], source: Mapping[str, Any], about: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{record}/{name}",
        "name": name,
        "description": about,
        "dataType": kind,
        "source": source,
    }


def _column(table: str, column: str) -> dict[str, Any]:
    return {"fileObject": {"@id": table}, "extract": {"column": column}}


def _property(files: str, name: str, **more: Any) -> dict[str, Any]:
    return {"fileSet": {"@id": files}, "extract": {"fileProperty": name}, **more}


def _names(name: str, kind: str, values: Sequence[str]) -> dict[str, Any]:
    """Describe a record set whose few records stand in the description itself."""
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "dataType": kind,
        "key": {"@id": f"{name}/name"},
        "field": [{"@type": "cr:Field", "@id": f"{name}/name", "name": "name", "dataType": "sc:Text"}],
        "data": [{f"{name}/name": value} for value in values],
    }


def _images(modality: str, labelled: bool, grouped: bool) -> dict[str, Any]:
    """Describe the samples; what is no picture is the bytes of its member, under the name of its modality."""
    manifest, kind = MANIFEST.name, "sc:ImageObject" if modality == IMAGE else "sc:Text"
    member = _property("image-files", "filename", transform={"regex": _KEY_OF_NAME})
    key = _field("images", "key", "sc:Text", member, "First digits of the SHA-256 of the file that was taken in.")
    split = _field("images", "split", "sc:Text", _column(manifest, "split"), "train, val or test.")
    label = _field("images", "label", "sc:Text", _column(manifest, "label"), "Name of the class.")
    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "key": {"@id": "images/key"},
        "field": [
            key | {"references": _column(manifest, "key")},
            _field("images", modality, kind, _property("image-files", "content"), "The sample itself."),
            split | {"references": {"field": {"@id": "splits/name"}}},
            *([label | {"references": {"field": {"@id": "labels/name"}}}] if labelled else []),
            *([_field("images", "group", "sc:Text", _column(manifest, "group"), "Patient, film.")] if grouped else []),
        ],
    }


def _facts(declared: Sequence[Fact]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "facts",
        "name": "facts",
        "key": {"@id": "facts/key"},
        "field": [
            _field("facts", "key", "sc:Text", _column(TABLE, "key"), "Of the image.")
            | {"references": _column(MANIFEST.name, "key")},
            *(
                _field("facts", fact.name, _TYPES[fact.kind], _column(TABLE, fact.name), fact.meaning or fact.name)
                for fact in declared
            ),
        ],
    }


def _captions() -> dict[str, Any]:
    about = {"key": "Of the image.", "fact": "Name of the fact.", "number": "From 0.", "text": "The caption."}
    return {
        "@type": "cr:RecordSet",
        "@id": "captions",
        "name": "captions",
        "field": [
            _field("captions", name, "sc:Integer" if name == "number" else "sc:Text", _column(CAPTIONS, name), text)
            for name, text in about.items()
        ],
    }


def _side(fact: str, extension: str, declared: Iterable[Fact]) -> dict[str, Any]:
    """Describe what lies beside the images: a mask as a picture, other facts as the text of their member."""
    about = next((f.meaning for f in declared if f.name == fact and f.meaning), fact)
    kind = "sc:ImageObject" if extension == "png" else "sc:Text"
    name = f"{fact}s" if fact in ("images", "facts", "captions", "splits", "labels") else fact
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            _field(
                name,
                "key",
                "sc:Text",
                _property(f"{fact}-files", "filename", transform={"regex": _KEY_OF_NAME}),
                "Of the image.",
            ),
            _field(name, "value", kind, _property(f"{fact}-files", "content"), about),
        ],
    }
