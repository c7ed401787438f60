"""`python -m stages.ingest.look ROOT`: say what the names in a folder or archive mean, before there is a project.

It prints JSON: `pictures`, `volumes` and `films`, how many files have such a name; `labelled`, whether the folders of
the pictures, or else of the volumes, or else of the films, are classes, or null where that can be read in two ways;
`named_train`, how many of these files lie in a folder of train, 0 where folders are no splits; `said`, what was
understood or what is not clear, as sentences; `source`, which source reads it; `tables`, the tables at the top of a
folder; `complete`, whether all was counted. Of archives the first ones are listed; no other file is opened.
"""

from __future__ import annotations

import argparse
import json
import posixpath
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from reprise.config.errors import ImageRefused, SourceError, printable
from reprise.media.lookup import IMAGE, NAMES, VOLUME, modality
from reprise.media.video.container import claims_film
from reprise.runtime.entry import run_stage
from reprise.storage.walk import list_entries
from stages.ingest.archives.members import NESTED
from stages.ingest.archives.open_archive import open_archive, stem
from stages.ingest.archives.samples import group
from stages.ingest.names.layout import understand

_LISTED = 20  # archives that are opened
_SHOWN = 6  # extensions of samples
_TABLES = (".csv", ".tsv", ".parquet")


def look(root: Path) -> dict[str, Any]:
    """Read the names as ingest does where no option says what folders mean.

    Raises:
        SourceError: the folder cannot be listed.
    """
    files = [""] if root.is_file() else [entry.text for entry in list_entries(root) if entry.reason is None]
    claimed = [name for name in files if any(modality(kind).claims(name) for kind in NAMES) or claims_film(name)]
    archives = [name for name in files if NESTED.fullmatch(posixpath.basename(name) or root.name)]
    if archives and (root.is_file() or not claimed):
        return _in_archives(root, archives)
    tables = [name for name in files if "/" not in name and name.casefold().endswith(_TABLES)]
    return {**_meaning(root, files), "source": "folder", "tables": tables, "complete": True}


def _in_archives(root: Path, archives: list[str]) -> dict[str, Any]:
    """Read the names inside archives; tars whose members share keys with several extensions are shards."""
    names: list[str] = []
    extensions: Counter[str] = Counter()
    shards, said = True, []
    for name in archives[:_LISTED]:
        try:
            opened = open_archive(str(root / name))
        except (ValueError, ImageRefused) as error:
            cause = error.found if isinstance(error, ImageRefused) else error
            said.append(f"{printable(name or root.name, 200)} cannot be read: {printable(cause, 200)}.")
            continue
        members = [member for member in opened.members if member.reason is None]
        samples = group(members).samples
        shared = [sample for sample in samples if len(sample.members) > 1]
        shards = shards and not zipfile.is_zipfile(root / name) and 2 * len(shared) > len(samples)
        extensions.update(extension for sample in samples for extension in sample.members)
        names += [posixpath.join(stem(name), member.name) for member in members]
    if len(archives) > _LISTED:
        said.append(f"Of {len(archives):,} archives the first {_LISTED} were looked into.")
    found = {**_meaning(root, names), "tables": [], "complete": len(archives) <= _LISTED}
    if names and shards:
        shown = ", ".join(printable(extension, 20) for extension, _ in extensions.most_common(_SHOWN))
        column = "cls" if "cls" in extensions else "the column that holds the class"
        hint = f"To read classes, write source.options.label: {column}."
        return {
            **found,
            "labelled": False,
            "said": [f"The tars look like shards of WebDataset ({shown}). {hint}", *said],
            "source": "webdataset",
        }
    return {**found, "said": [*found["said"], *said], "source": "archive"}


def _meaning(root: Path, files: list[str]) -> dict[str, Any]:
    """Count samples by their names, and say what their folders mean."""
    pictures, volumes = ([name for name in files if modality(kind).claims(name)] for kind in (IMAGE, VOLUME))
    films = [name for name in files if claims_film(name)]
    names = pictures or volumes or films
    counts = {"pictures": len(pictures), "volumes": len(volumes), "films": len(films)}
    try:
        layout = understand(names, root)
    except SourceError as question:
        said = f"{question.what}: {printable(str(question.found))}. {question.fix}"
        return {**counts, "labelled": None, "named_train": 0, "said": [said[0].upper() + said[1:]]}
    placed = (layout.place(name) for name in names) if layout.splits else ()
    train = sum(place is not None and place[0] == "train" for place in placed)
    return {
        **counts,
        "labelled": layout.labels != "none",
        "named_train": train,
        "said": list(layout.sentences),
    }


def main(argv: list[str]) -> None:
    """Parse the command line and print what the names mean."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.ingest.look", description="Say what a folder or archive holds."
    )
    parser.add_argument("folder", type=Path, help="folder of images, archive, or folder of archives")
    print(json.dumps(look(parser.parse_args(argv).folder)))


if __name__ == "__main__":
    run_stage(main, algebra=False)
