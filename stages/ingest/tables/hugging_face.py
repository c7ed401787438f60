"""Folders as Hugging Face writes them: which files hold which split, and what the columns are.

Two forms are known: a folder of the hub, with Parquet files whose names or folders say the split, and what
`save_to_disk` writes, with Arrow files that state.json lists. The package `datasets` is not needed, and nothing in the
folder is run: a script that would build the data set is no data.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprise.config.errors import ImageRefused, SourceError, printable
from reprise.storage.listing import read_regular
from reprise.storage.walk import Entry, list_entries
from stages.ingest.names.layout import SPLIT_NAMES, SplitName
from stages.ingest.tables.columnar import ArrowPart, ColumnarPart, ParquetPart, features_of
from stages.ingest.tables.images import Part
from stages.ingest.tables.rows import columns_shown

_FORMS = {".parquet": ParquetPart, ".arrow": ArrowPart}
_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?")
_BETWEEN_WORDS = re.compile(r"[-._ 0-9]+")  # as the package `datasets` separates words of a file's name
_TABLES = (".parquet", ".pq", ".arrow", ".csv", ".tsv", ".jsonl")
_LONGEST_JSON = 64 << 20  # bytes
_NAME = re.compile(r"[^/\\\0]+")


@dataclass(frozen=True)
class HubFolder:
    """What a folder holds.

    Attributes:
        parts: files in their order, each with the split of its rows.
        features: name of a column -> its type, as Hugging Face describes it; empty where nothing says it.
        sentences: how the folder was read.
    """

    parts: Sequence[Part]
    features: Mapping[str, Any]
    sentences: Sequence[str] = field(default_factory=tuple)


def understand_folder(root: Path, link_roots: Sequence[str], splits: Mapping[str, SplitName]) -> HubFolder:
    """Find the files of a folder and their splits.

    Args:
        root: the folder.
        link_roots: folders into which links may lead, such as the cache of the hub.
        splits: what splits of other names are.

    Raises:
        SourceError: it holds no such files, or they can be understood in several ways.
    """
    entries = {entry.text: entry for entry in list_entries(root, link_roots)}
    named = list(_saved(root, entries) if _is_saved(entries) else _by_name(root, entries))
    if not named:
        raise _wrong(
            "there is no data set of Hugging Face",
            root,
            f"{len(entries):,} other files" if entries else "an empty folder",
            "Set source.root in params.yaml to a folder with Parquet files, or to one that `save_to_disk` wrote.",
        )
    meant = _meant([split for _, split in named], splits, root)
    _check_one_configuration(root, named)
    parts = []
    for name, split in named:
        kind = _FORMS[os.path.splitext(name)[1]]
        parts.append(Part(kind(_usable(root, entries[name]), name), None if split is None else meant[split]))
    counts = {split: sum(s == split for _, s in named) for split in dict.fromkeys(s for _, s in named)}
    sentences = [
        f"The split {printable(split, 60)} is {meant[split]} ({count:,} files)."
        for split, count in counts.items()
        if split is not None
    ]
    sentences += _not_read(entries, {name for name, _ in named})
    return HubFolder(parts, _features(root, parts, entries), sentences)


def image_column(features: Mapping[str, Any], part: ColumnarPart, asked: str | None, root: Path) -> str:
    """Return the column of images: the one that is asked for, or the only one there is.

    Raises:
        SourceError: there is none, or there are several.
    """
    if asked is not None:
        return asked
    found = [name for name, kind in features.items() if isinstance(kind, dict) and kind.get("_type") == "Image"]
    found = found or part.columns_of_bytes()
    if len(found) != 1:
        raise _wrong(
            "it is not clear which column holds the images",
            root,
            f"columns of images: {columns_shown(found) or 'none'}; all columns: {columns_shown(part.columns())}",
            "Name it in source.options.image.",
        )
    return found[0]


def label_column(features: Mapping[str, Any], asked: str | None, root: Path) -> str | None:
    """Return the column of the class: the one that is asked for, or the only one that the folder calls so, or None.

    Raises:
        SourceError: there are several.
    """
    found = [name for name, kind in features.items() if isinstance(kind, dict) and kind.get("_type") == "ClassLabel"]
    if asked is not None or not found:
        return asked
    if len(found) > 1:
        fix = "Name one of them in source.options.label."
        raise _wrong("several columns hold classes", root, columns_shown(found), fix)
    return found[0]


def class_names(features: Any, column: str = "") -> dict[str, list[str]]:
    """Return the names of classes by column; those of fields of structs by `column.field`."""
    found: dict[str, list[str]] = {}
    if isinstance(features, dict):
        if features.get("_type") == "ClassLabel" and isinstance(features.get("names"), list):
            return {column: [str(name) for name in features["names"]]}
        for name, kind in features.items():
            inside = name if not column else column if name == "feature" else f"{column}.{name}"
            found |= class_names(kind, inside)
    if isinstance(features, list) and len(features) == 1:  # how older versions write lists
        found |= class_names(features[0], column)
    return found


def _not_read(entries: Mapping[str, Entry], read: set[str]) -> list[str]:
    """Say which tables of the folder are not read; a split may be in them."""
    others = [name for name in entries if name.casefold().endswith(_TABLES) and name not in read]
    others = [name for name in others if not os.path.basename(name).startswith("cache-")]
    if not others:
        return []
    return [f"Other tables in the folder, which are not read: {len(others):,}, such as {printable(others[0], 120)}."]


def _is_saved(entries: Mapping[str, Entry]) -> bool:
    return "dataset_dict.json" in entries or "state.json" in entries


def _saved(root: Path, entries: Mapping[str, Entry]) -> Iterator[tuple[str, str | None]]:
    """Yield name and split of the files that `save_to_disk` wrote."""
    if "dataset_dict.json" not in entries:
        state = _read_json(root, entries["state.json"])
        split = state.get("_split")
        yield from ((name, split if isinstance(split, str) else None) for name in _files(root, "", state, entries))
        return
    for split in _strings(_read_json(root, entries["dataset_dict.json"]).get("splits"), root):
        state_name = f"{split}/state.json"
        if state_name not in entries:
            raise _wrong("a split is not there", root, f"no file {state_name}", "Copy the whole folder.")
        state = _read_json(root, entries[state_name])
        yield from ((name, split) for name in _files(root, f"{split}/", state, entries))


def _files(root: Path, folder: str, state: Mapping[str, Any], entries: Mapping[str, Entry]) -> list[str]:
    """Return the files that a state.json lists, in its order."""
    if state.get("_indices_data_files"):
        fix = "Call `flatten_indices()` before `save_to_disk`."
        raise _wrong("the data set is a selection of rows that lie elsewhere", root, f"{folder}state.json", fix)
    listed = state.get("_data_files")
    rows = listed if isinstance(listed, list) else []
    names = _strings([row.get("filename") if isinstance(row, dict) else None for row in rows], root)
    for name in names:
        if folder + name not in entries or os.path.splitext(name)[1] not in _FORMS:
            found = printable(folder + name, 200)
            raise _wrong("a file of the data set is not there", root, found, "Copy the whole folder.")
    return [folder + name for name in names]


def _strings(listed: Any, root: Path) -> list[str]:
    """Check names of files and folders that the folder states: a name leads nowhere else."""
    names = listed if isinstance(listed, list) else [listed]
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in (".", ".."):
            raise _wrong("a name in the description of the data set is no name", root, repr(name)[:200], "Correct it.")
    return names


def _by_name(root: Path, entries: Mapping[str, Entry]) -> Iterator[tuple[str, str | None]]:
    """Yield the files of a folder of the hub, and the split that each one's name or folder says."""
    names = [name for name in entries if os.path.splitext(name)[1] in _FORMS]
    names = [name for name in names if not os.path.basename(name).startswith("cache-")]  # `datasets` keeps results so
    forms = sorted({os.path.splitext(name)[1] for name in names})
    if len(forms) > 1:
        fix = "Set source.root to a folder with files of one form."
        raise _wrong("files of a data set have one form", root, f"files in {' and '.join(forms)}", fix)
    for name in names:
        yield name, _split_of(name)


def _split_of(name: str) -> str | None:
    """Return the split that a file's name says, else the nearest of its folders; None if none does."""
    *folders, own = os.path.splitext(name)[0].split("/")
    sharded = _SHARD.fullmatch(own)
    if sharded:  # the whole word is the split: train_sft is not train; the cache writes <data set>-<split>
        return sharded["split"].rpartition("-")[2]
    return next((word for part in (own, *reversed(folders)) if (word := _split_word(part))), None)


def _split_word(text: str) -> str | None:
    """Return the one word of a name that is a split's; None if there is none, or they mean several."""
    words = [word for word in _BETWEEN_WORDS.split(text) if word.casefold() in SPLIT_NAMES]
    return words[0] if len({SPLIT_NAMES[word.casefold()] for word in words}) == 1 else None


def _meant(named: Sequence[str | None], splits: Mapping[str, SplitName], root: Path) -> dict[str, SplitName]:
    """Say what each split is; none where no file has one."""
    names = sorted({name for name in named if name is not None})
    if missing := sorted(set(splits) - set(names)):
        found = f"{columns_shown(missing)}; there are {columns_shown(names) or 'none'}"
        raise _wrong("source.options.splits names splits that are not there", root, found, "Correct the names.")
    meant = {name: split for name in names if (split := splits.get(name) or SPLIT_NAMES.get(name.casefold()))}
    unknown = [name for name in names if name not in meant]
    if unknown or (names and None in named):
        found = f"splits {columns_shown(names)}" + (f"; unclear: {columns_shown(unknown)}" if unknown else "")
        if None in named:
            found += "; some files have no split in their names"
        example = printable((unknown or names)[0], 40)
        fix = f"Say in source.options.splits what each of them is, for instance {{{example}: train}} (train, val, "
        fix += "test or unlabelled)" + (", and move files without a split away." if None in named else ".")
        raise _wrong("it is not clear which split some files belong to", root, found, fix)
    return meant


def _check_one_configuration(root: Path, named: Sequence[tuple[str, str | None]]) -> None:
    """Refuse files of one split in several folders: they are configurations of the data set, which are apart."""
    folders: dict[str | None, set[str]] = defaultdict(set)
    for name, split in named:
        folders[split].add(os.path.dirname(name))
    several = next((sorted(found) for found in folders.values() if len(found) > 1), None)
    if several:
        fix = "Set source.root in params.yaml to the folder of the configuration that you mean."
        raise _wrong("files of one split lie in several folders", root, columns_shown(several), fix)


def _features(root: Path, parts: Sequence[Part], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Return the types of the columns, which all files have in common."""
    first: dict[str, Any] = {}
    for number, (table, _) in enumerate(parts):
        assert isinstance(table, ColumnarPart)
        features = features_of(table)
        if number and class_names(features) != class_names(first):
            found = f"{table.shown} and {parts[0].table.shown} differ"
            raise _wrong("files of a data set have the same classes", root, found, "Take the files of one version.")
        first = first or features
    if first:
        return first
    for folder in dict.fromkeys((os.path.dirname(parts[0].table.shown), "")):
        entry = entries.get(f"{folder}/dataset_info.json".lstrip("/"))
        described = _read_json(root, entry).get("features") if entry else None
        if isinstance(described, dict):
            return described
    return {}


def _usable(root: Path, entry: Entry) -> Path:
    """Return the path of a file, if nothing speaks against reading it."""
    if entry.reason is not None:
        fix = "Name the folder that holds it in source.options.link_roots."
        fix = fix if entry.reason == "outside_root" else "Copy the whole folder, and give yourself permission to read."
        raise _wrong(f"the file {printable(entry.text, 200)} cannot be read", root, entry.detail, fix)
    return root / entry.text


def _read_json(root: Path, entry: Entry) -> dict[str, Any]:
    try:
        value = json.loads(read_regular(_usable(root, entry), _LONGEST_JSON))
    except (ImageRefused, ValueError, RecursionError) as error:
        fix = "Copy the folder again."
        raise _wrong(f"{printable(entry.text, 200)} cannot be read", root, printable(str(error), 200), fix) from error
    return value if isinstance(value, dict) else {}


def _wrong(what: str, root: Path, found: str, fix: str) -> SourceError:
    return SourceError(what, where=root, found=found, fix=fix)
