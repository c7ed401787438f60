"""What `reprise init` sees in the images that it is given, and the preset and source that fit them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from pipeline.processes.commands import OWN_MODULE, capture
from pipeline.projects.presets import FILMS, LABELLED, UNLABELLED, VOLUMES, Preset, load_preset
from reprise.config.errors import ParameterError, printable

_ARCHIVES = (".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_TABLES = (".csv", ".tsv", ".parquet")


def look_at(images: Path, preset: str | None) -> dict[str, Any] | None:
    """Return what `stages.ingest.look` understands; None where a preset was named that does not read a folder.

    Raises:
        ParameterError: the images are a file that is no archive, or films in an archive, or do not fit the preset.
    """
    archive = images.name.casefold().endswith(_ARCHIVES)
    if preset is not None:
        named = load_preset(preset)
        if "\nsource:\n  name: folder\n" not in named.text:
            return None
    if images.is_file() and not archive:
        raise _no_archive(images)
    with tempfile.TemporaryDirectory() as folder:  # the process leaves notes in its folder
        shown: dict[str, Any] = json.loads(capture([*OWN_MODULE, "stages.ingest.look", str(images)], cwd=Path(folder)))
    if shown["source"] != "folder" and shown["films"] and not shown["pictures"] and not shown["volumes"]:
        raise ParameterError(
            "films are not read inside archives",
            where="--images",
            found=str(images),
            fix=f"Unpack them, and name their folder with the preset {FILMS}.",
        )
    if shown["source"] == "webdataset" and preset is not None and "\n  options: {splits" in named.text:
        raise ParameterError(
            f"the preset '{preset}' says what folders mean, and shards have none",
            where="--images",
            found=str(images),
            fix=f"Take another preset, such as {UNLABELLED}, or write the source `archive` into params.yaml.",
        )
    return shown


def _no_archive(images: Path) -> ParameterError:
    table = images.name.casefold().endswith(_TABLES)
    fix = (
        f"For a table, make the project with `--preset {UNLABELLED}` and without --images, and write `name: table` and "
        f"`root: {printable(images, 300)}` below `source` in params.yaml."
        if table
        else "Name the folder that holds the images, an archive (ZIP, tar), or a folder of archives."
    )
    return ParameterError("--images names a file that is no archive", where="--images", found=str(images), fix=fix)


def chosen_by_names(images: Path, shown: dict[str, Any], hints: list[str]) -> tuple[Preset, list[str]]:
    """Return the preset that fits what the names show, and sentences that say why.

    Args:
        images: the folder or archive.
        shown: what `stages.ingest.look` understood.
        hints: further sentences about the source.

    Raises:
        ParameterError: no name is that of a picture, a volume, a film, an archive or a table.
    """
    if shown["complete"] and not (shown["pictures"] or shown["volumes"] or shown["films"] or shown["tables"] or hints):
        raise ParameterError(
            "no file there has the name of a picture, such as .jpg or .png",
            where="--images",
            found=str(images),
            fix=f"Name the folder that holds the images. If they come later, name a preset: --preset {UNLABELLED}.",
        )
    if shown["volumes"] and not shown["pictures"]:
        seen = f"{images}: {shown['volumes']:,} volumes by name. {' '.join(shown['said'])}"
        why = f"so the preset is `{VOLUMES}`, which sets source.modality to volume"
        return load_preset(VOLUMES), [seen, why, *hints]
    if shown["films"] and not shown["pictures"]:
        seen = f"{images}: {shown['films']:,} films by name. {' '.join(shown['said'])}"
        return load_preset(FILMS), [seen, f"so the preset is `{FILMS}`, whose source `video` takes frames of films"]
    fitting = LABELLED if shown["labelled"] else UNLABELLED
    other = UNLABELLED if shown["labelled"] else LABELLED
    beside = f" Of {shown['volumes']:,} volumes beside them none is taken in." if shown["volumes"] else ""
    seen = f"{images}: {shown['pictures']:,} pictures by name. {' '.join(shown['said'])}{beside}"
    why = "folders are classes" if shown["labelled"] else "folders are taken as no classes"
    reason = f"so the preset is `{fitting}` ({why}); `--preset {other}` reads them otherwise"
    return load_preset(fitting), [seen, reason, *hints]


def read_by(shown: dict[str, Any]) -> str:
    """Say which source reads archives."""
    return f"params.yaml names the source `{shown['source']}`, which reads them without unpacking"


def table_hints(images: Path, tables: list[str]) -> list[str]:
    """Name the source that reads a table beside the images."""
    return [
        f"{printable(name, 200)} is a table: if it names the images and their classes, write `name: table` and "
        f"`root: {printable(images / name, 300)}` below `source` in params.yaml"
        for name in tables[:1]
    ]
