"""`python -m stages.ingest.look FOLDER`: say what the names in a folder of images mean, before there is a project.

It prints JSON: `pictures`, `volumes` and `films`, how many files have such a name; `labelled`, whether the folders of
the pictures, or else of the volumes, or else of the films, are classes, or null where that can be read in two ways;
`named_train`, how many of these files lie in a folder of train, 0 where folders are no splits; `said`, what was
understood or what is not clear, as sentences. No file is opened.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from reprise.config.errors import SourceError, printable
from reprise.media.lookup import IMAGE, VOLUME, modality
from reprise.media.video.container import claims_film
from reprise.runtime.entry import run_stage
from reprise.storage.walk import list_entries
from stages.ingest.names.layout import understand


def look(root: Path) -> dict[str, Any]:
    """Read the names as ingest does where no option says what folders mean.

    Raises:
        SourceError: the folder cannot be listed.
    """
    files = [entry.text for entry in list_entries(root) if entry.reason is None]
    pictures, volumes = ([name for name in files if modality(kind).claims(name)] for kind in (IMAGE, VOLUME))
    films = [name for name in files if claims_film(name)]
    names = pictures or volumes or films
    counts = {"pictures": len(pictures), "volumes": len(volumes), "films": len(films)}
    try:
        layout = understand(names, root)
    except SourceError as question:
        said = f"{question.what}: {printable(str(question.found))}."
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
    parser = argparse.ArgumentParser(prog="python -m stages.ingest.look", description="Say what a folder holds.")
    parser.add_argument("folder", type=Path, help="folder of images")
    print(json.dumps(look(parser.parse_args(argv).folder)))


if __name__ == "__main__":
    run_stage(main, algebra=False)
