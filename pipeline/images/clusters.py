"""The clusters of a run's embedding, as a table for people or as a folder of pictures for each cluster.

The pictures of the source are only read: they are copied, or on request hard-linked, and each is compared with its hash
in the manifest. What is no file of its own (a page of a stack, an image in an archive) is written as shards hold it.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import IO, Any

from pipeline.images.chosen_run import ChosenRun
from pipeline.images.file_names import FileNames
from reprise.artifacts import layout
from reprise.artifacts.facts.names import read_names
from reprise.artifacts.labels.image_clusters import FILE, PROBE, SUITE, read_image_clusters
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.shards import INDEX, Shards, read_index
from reprise.artifacts.tables.spreadsheet import safe
from reprise.config.errors import ImageRefused, ResultError, ShardError, SourceError, StorageError
from reprise.config.params import read_yaml
from reprise.storage.atomic import atomic_directory, atomic_file, explained_storage
from reprise.storage.listing import read_regular, sha256_of

OVERVIEW = ("cluster", "images", "certainty", "most central", "least certain")
TABLE = "clusters.csv"
CSV = ".csv"
_COLUMNS = ("cluster", "path", "certainty", "distance", "split", "key")
_MANIFEST = ["key", "path", "offset", "bytes", "page", "sha256", "split", "format"]


@dataclass(frozen=True)
class Member:
    """An image in its cluster.

    Attributes:
        key: of the manifest.
        cluster: its number.
        distance: to the centre.
        certainty: 0 between two clusters, 1 on a centre.
        file: its row of the manifest.
    """

    key: str
    cluster: int
    distance: float
    certainty: float
    file: dict[str, Any]

    @property
    def path(self) -> str:
        """The path of its file."""
        return str(self.file["path"])

    @property
    def name(self) -> str:
        """What the source calls it: the path of its file, or the name of a frame or a member of an archive."""
        return str(self.file.get("name", self.path))

    @property
    def is_file(self) -> bool:
        """Whether the image is a file of its own in the source."""
        inside = Path(self.path).is_relative_to(layout.INGEST)
        return not inside and self.file["offset"] == 0 and self.file["page"] is None

    def cells(self) -> list[object]:
        """Its row of the table."""
        certainty, distance = f"{self.certainty:.4f}", f"{self.distance:.4f}"
        return [self.cluster, safe(self.name), certainty, distance, self.file["split"], self.key]


def members_of(run: ChosenRun) -> list[Member]:
    """Read the clusters of a run, by cluster and within it by distance: the most central image comes first.

    Raises:
        ResultError: the run has no clusters, or they are of other images than the manifest.
        ManifestError: the manifest is missing or damaged.
    """
    path = layout.probes_on_features(run.name, run.seed) / SUITE / FILE
    if not path.exists():
        raise _no_clusters(run, path)
    table = read_image_clusters(path)
    names = read_names()
    files = {
        row["key"]: row | {"name": names.get(row["key"], row["path"])}
        for row in read_manifest(columns=_MANIFEST).to_pylist()
    }
    rows = table.to_pylist()
    if {row["key"] for row in rows} != files.keys():
        raise ResultError(
            "the clusters are of other images than the manifest",
            where=path,
            found=f"{len(rows)} images, and {len(files)} in the manifest",
            fix="Run `reprise repro`, which computes them again.",
        )
    members = [Member(r["key"], r["cluster"], r["distance"], r["certainty"], files[r["key"]]) for r in rows]
    return sorted(members, key=lambda member: (member.cluster, member.distance, member.key))


def _no_clusters(run: ChosenRun, path: Path) -> ResultError:
    asked = PROBE in ((read_yaml(layout.PARAMS).get("probes") or {}).get(SUITE) or {})
    listing = "" if asked else f"Write `{PROBE}: {{}}` under probes.{SUITE} in params.yaml, and `{SUITE}` in suites. "
    return ResultError(
        f"the run '{run.name}' has no clusters with seed {run.seed}",
        where=path,
        found=f"no such file{'' if asked else f', and params.yaml does not list the probe {PROBE}'}",
        fix=f"{listing}Run `reprise repro`.",
    )


def overview(members: Sequence[Member]) -> list[list[str]]:
    """Return a row for each cluster: number, images, median certainty, most central and least certain image."""
    rows = []
    for number, grouped in groupby(members, key=lambda member: member.cluster):
        cluster = list(grouped)
        certainty = median(member.certainty for member in cluster)
        unsure = min(cluster, key=lambda member: (member.certainty, member.key))
        rows.append([str(number), f"{len(cluster)}", f"{certainty:.3f}", cluster[0].path, unsure.path])
    return rows


def in_words(members: Sequence[Member], done: Counter[str]) -> str:
    """Say what was exported."""
    count = len({member.cluster for member in members})
    ways = {
        "copied": "copied",
        "linked": "hard-linked to your files",
        "written": "written as the shards hold them, since they are no files of their own",
    }
    parts = [f"{done[way]:,} {words}" for way, words in ways.items() if done[way]] or ["a table"]
    return f"{len(members):,} images in {count:,} clusters, {'; '.join(parts)}"


def export(members: Sequence[Member], target: Path, *, link: bool = False) -> Counter[str]:
    """Write a table, where the target ends in .csv, or else a folder for each cluster.

    Args:
        members: of all clusters.
        target: must not exist; a folder may be empty.
        link: make hard links in place of copies.

    Returns:
        How many images were `copied`, `linked`, or `written` from the shards; nothing for a table.

    Raises:
        StorageError: the target exists, lies among the images, or cannot be written.
        SourceError: an image changed since it was taken in.
    """
    target = Path(os.path.abspath(target))
    _refuse_target(members, target)
    if target.suffix.lower() == CSV:
        with atomic_file(target, "w") as file:
            _write_table(file, _COLUMNS, (member.cells() for member in members))
        return Counter()
    done: Counter[str] = Counter()
    digits = len(str(members[-1].cluster)) if members else 1
    stored = None if all(member.is_file for member in members) else StoredImages()
    rows: list[list[object]] = []
    with atomic_directory(target) as folder:
        for number, grouped in groupby(members, key=lambda member: member.cluster):
            names = FileNames()
            place = f"cluster-{number:0{digits}d}"
            with explained_storage(target):
                (folder / place).mkdir()
            for member in grouped:
                if member.is_file or stored is None:
                    name = names.of(member.path, member.key)
                    done[_put(member, folder / place / name, link=link)] += 1
                else:
                    data, extension = stored.read(member.key)
                    name = names.of(f"{member.key}.{extension}", member.key)
                    _write(folder / place / name, data)
                    done["written"] += 1
                rows.append([safe(f"{place}/{name}"), *member.cells()])
        with (folder / TABLE).open("w", encoding="utf-8", newline="\n") as file:
            _write_table(file, ("copy", *_COLUMNS), rows)
    return done


class StoredImages:
    """The images of the shards by key."""

    def __init__(self) -> None:
        index = read_index()
        self._extensions = dict(zip(index["key"].to_pylist(), index["ext"].to_pylist(), strict=True))
        self._shards = Shards.open()
        self._rows = {key: row for row, key in enumerate(self._shards.keys.tolist())}

    def read(self, key: str) -> tuple[bytes, str]:
        """Return the bytes of an image and its file extension.

        Raises:
            ShardError: the shards do not have it.
        """
        if key not in self._rows:
            raise ShardError(
                "the shards lack an image of the manifest",
                where=layout.SHARDS / INDEX,
                found=f"no key {key}",
                fix="Run `reprise repro`.",
            )
        return self._shards.read(self._rows[key]), self._extensions[key]


def _refuse_target(members: Sequence[Member], target: Path) -> None:
    """Refuse what would overwrite something, or put pictures where the next `repro` takes them for new images."""
    taken = os.path.lexists(target) and (not target.is_dir() or target.is_symlink() or any(target.iterdir()))
    if taken:
        raise StorageError(
            "an export needs a new file or an empty folder, and nothing is overwritten",
            where=target,
            found="something of that name",
            fix="Name one that does not exist yet.",
        )
    real = Path(os.path.realpath(target))
    around = [Path(os.path.realpath(layout.DATA))]
    around += [Path(os.path.realpath(path)) for path in _roots(members)]
    for place in around:
        if real.is_relative_to(place):
            raise StorageError(
                "an export cannot lie among the images or results",
                where=target,
                found=f"a place inside {place}",
                fix="Name a place elsewhere: what lies there belongs to the source of images, or to DVC.",
            )


def _roots(members: Sequence[Member]) -> list[str]:
    """Return the source's own folder, and the folder that holds all files of the source."""
    source = (read_yaml(layout.PARAMS).get("source") or {}).get("root")
    files = [os.path.abspath(member.path) for member in members if member.is_file]
    common = os.path.dirname(files[0]) if len(set(files)) == 1 else os.path.commonpath(files) if files else None
    return [root for root in (source if isinstance(source, str) and os.path.isdir(source) else None, common) if root]


def _put(member: Member, place: Path, *, link: bool) -> str:
    """Link or copy the file of an image, and return what was done."""
    try:
        if link:
            digest, _ = sha256_of(member.path)
            _require_unchanged(member, digest)
            _link(member.path, place)
            return "linked"
        data = read_regular(member.path, max(1, int(member.file["bytes"])))
    except ImageRefused as refusal:
        raise _changed(member, f"{refusal.what}: {refusal.found}") from refusal
    _require_unchanged(member, hashlib.sha256(data).hexdigest())
    _write(place, data)
    return "copied"


def _link(path: str, place: Path) -> None:
    try:
        os.link(path, place)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EACCES):
            raise
        raise StorageError(
            "the image cannot be hard-linked from there",
            where=place.parent.name,
            found=f"{path}: {error.strerror}",
            fix="Leave --link out, which copies; links need one file system that has them.",
        ) from error


def _write(place: Path, data: bytes) -> None:
    with explained_storage(place), place.open("xb") as file:
        file.write(data)


def _require_unchanged(member: Member, digest: str) -> None:
    if digest != member.file["sha256"]:
        raise _changed(member, "other bytes")


def _changed(member: Member, found: str) -> SourceError:
    return SourceError(
        "an image changed since it was taken in",
        where=member.path,
        found=found,
        fix="Run `reprise repro`, which takes the images in again; then export.",
    )


def _write_table(file: IO[str], header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
