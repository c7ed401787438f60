"""Write shards: plan which image goes into which tar, then write the tars side by side. Same manifest, same bytes.

Where the source gives masks, boxes, flow or poses, each becomes a member before its image: `<key>.<fact>.<ext>`.

Plain bytes are kept; anything else is decoded by the rules of reprise/media and stored without loss. Every file is
compared with its hash in the manifest, so a file that changed since ingest is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reprise.artifacts.facts.sides import FILE as SIDES_FILE
from reprise.artifacts.facts.sides import read_member, write_sides
from reprise.artifacts.layout import INGEST
from reprise.artifacts.shards import INDEX, index_schema, write_index
from reprise.config.errors import ImageRefused, MachineError, ShardError
from reprise.media.image.sides import largest_side_bytes, scaled_side
from reprise.media.lookup import IMAGE, modality
from reprise.media.modality import Stored
from reprise.runtime.blocks.use import asked, run_apart
from reprise.runtime.workers import Lost, NoProcessError, Workers
from reprise.storage import ustar
from reprise.storage.atomic import atomic_file, explained_storage
from reprise.storage.listing import READ_FLAGS, open_regular
from reprise.storage.progress import Progress
from reprise.storage.system.machine import patiently
from stages.shard.params import ShardParams
from stages.shard.send import Sender

Columns = dict[str, list[Any]]  # of the index, by name; "sides": rows of sides.parquet
Members = Mapping[str, Sequence[dict[str, Any]]]  # key -> rows of the table that ingest wrote
_ATTEMPT = ".attempt-"  # before the name of a folder in which a tar is being written
_ENTRIES = ".json"  # after the name of a tar: its rows of the index, until all tars are done
_WRITE_BYTES = 1 << 18  # written at once: one call for each member takes four times as long
_TAR_SECONDS, _ATTEMPTS = 86_400.0, 4  # nothing in a tar can hang; attempts after the first
_WORTH_PROCESSES = 64 << 20  # bytes to pack; to pack fewer takes less time than starting processes


@dataclass(frozen=True)
class Plan:
    """One tar.

    Attributes:
        name: of the file.
        rows: of the manifest, one for each image.
        bytes: an upper bound of the tar's length.
        sides: facts beside the images, by key.
    """

    name: str
    rows: list[dict[str, Any]]
    bytes: int
    sides: Members = field(default_factory=dict)

    @property
    def modality(self) -> str:
        """The kind of its samples."""
        return str(self.rows[0].get("modality", IMAGE)) if self.rows else IMAGE


Task = tuple[Plan, ShardParams, Path, bool]  # the arguments of `write_shard`


def write_shards(
    manifest: pa.Table,
    params: ShardParams,
    output: Path,
    workers: int,
    work: Path | None = None,
    sides: Sequence[dict[str, Any]] = (),
    sender: Sender | None = None,
) -> int:
    """Write all tars and the index into `output`, and return the number of tars.

    Args:
        manifest: the images to pack.
        params: sizes of tars and images.
        output: folder to fill.
        workers: number of processes.
        work: folder that survives a kill; tars that an earlier process finished there on the same inputs are kept.
        sides: facts beside the images, rows of the table that ingest wrote.
        sender: of the same `work`; sends each tar to a store as soon as it is finished, so that `output` gets a table
            of them in their place.

    Raises:
        ShardError: a source file is missing or changed since ingest.
    """
    plans = plan(manifest, params, sides)
    for unfinished in (work or output).glob(f"{_ATTEMPT}*"):  # of a process that was killed
        shutil.rmtree(unfinished, ignore_errors=True)
    finished = {p.name: columns for p in plans if work and (columns := _finished(p, work, sender))}
    done = sum(len(columns["key"]) for columns in finished.values())
    with Progress("shard", manifest.num_rows, done=done) as progress:
        if sender is not None:
            for name in finished:
                sender.send(name)
        for columns in _write_all(
            [p for p in plans if p.name not in finished], params, work or output, workers, work is not None
        ):
            finished[columns["shard"][0]] = columns
            if sender is not None:
                sender.send(columns["shard"][0])
            progress.advance(len(columns["key"]))
        if sender is not None:
            sender.finish(output)
    if work is not None and sender is None:
        for p in plans:
            shutil.move(work / p.name, output / p.name)
            (work / f"{p.name}{_ENTRIES}").unlink()
    write_index(output / INDEX, _table(finished.values()))
    if sides:
        write_sides(output / SIDES_FILE, [row for columns in finished.values() for row in columns["sides"]])
    return len(plans)


def _table(parts: Iterable[Columns]) -> pa.Table:
    parts = list(parts)
    schema = index_schema(parts[0] if parts else ())
    tables = (pa.table({name: part[name] for name in schema.names}, schema=schema) for part in parts)
    return pa.concat_tables([schema.empty_table(), *tables])


def _finished(shard: Plan, work: Path, sender: Sender | None) -> Columns | None:
    """Return the index rows of a tar that an earlier process finished, or None where it is missing or cut short."""
    try:
        columns = json.loads((work / f"{shard.name}{_ENTRIES}").read_text(encoding="utf-8"))
        if columns["key"] != [row["key"] for row in shard.rows]:
            return None
        if sender is not None and sender.has(shard.name):
            return columns
        return columns if (work / shard.name).stat().st_size == _end(columns) else None
    except (OSError, ValueError):
        return None


def _end(columns: Columns) -> int:
    """Compute the length of the tar that these index rows describe."""
    last = {name: values[-1] for name, values in columns.items() if name != "sides"}
    after = last["offset"] - ustar.BLOCK + ustar.member_size(last["bytes"]) + ustar.member_size(len(_json(last)))
    return int(after) + len(ustar.END)


def scaled_down(manifest: pa.Table, max_side: int) -> int:
    """Count the images that are stored smaller than they are."""
    sides = [manifest[name] for name in ("depth", "width", "height") if name in manifest.column_names]
    longer = pc.max_element_wise(*sides)
    return int(pc.sum(pc.greater(longer, max_side)).as_py() or 0)


def plan(manifest: pa.Table, params: ShardParams, sides: Sequence[dict[str, Any]] = ()) -> list[Plan]:
    """Fill tars in the order of keys, split by split, by an upper bound of the bytes that each image takes.

    The bound depends on the manifest alone, so the plan is known before any image is read.
    """
    plans: list[Plan] = []
    members: dict[str, list[dict[str, Any]]] = {}
    for side in sides:
        members.setdefault(side["key"], []).append(side)

    def planned(name: str, rows: list[dict[str, Any]], size: int) -> Plan:
        return Plan(name, rows, size, {row["key"]: members[row["key"]] for row in rows if row["key"] in members})

    for split in sorted(set(manifest["split"].to_pylist())):
        rows: list[dict[str, Any]] = []
        size, number = len(ustar.END), 0
        for row in manifest.filter(pc.equal(manifest["split"], split)).to_pylist():
            more = _upper_bound(row, params.max_side)
            more += sum(ustar.member_size(largest_side_bytes(side["bytes"])) for side in members.get(row["key"], ()))
            if rows and size + more > params.max_shard_bytes:
                plans.append(planned(f"{split}-{number:06d}.tar", rows, size))
                rows, size, number = [], len(ustar.END), number + 1
            rows.append(row)
            size += more
        plans.append(planned(f"{split}-{number:06d}.tar", rows, size))
    return plans


def _upper_bound(row: dict[str, Any], max_side: int) -> int:
    size = modality(row.get("modality", IMAGE)).largest_stored_bytes(row, max_side)
    return ustar.member_size(size) + ustar.member_size(256 + 12 * len(row["group"] or ""))


def _write_all(
    plans: list[Plan], params: ShardParams, output: Path, workers: int, resumable: bool
) -> Iterator[Columns]:
    """Write tars side by side, or in this process where that is as fast or no other can be started."""
    tasks, done = [(p, params, output, resumable) for p in plans], 0
    if (workers > 1 or asked()) and len(plans) > 1 and sum(p.bytes for p in plans) >= _WORTH_PROCESSES:
        try:
            prepare = partial(_prepare_worker, plans[0].modality)
            with Workers(_write_task, prepare, min(workers, len(tasks))) as pool:
                for task, columns in zip(tasks, run_apart(pool, tasks, _TAR_SECONDS), strict=True):
                    yield _write_alone(pool, task, columns) if isinstance(columns, Lost) else columns
                    done += 1
            return
        except NoProcessError as error:
            print(f"warning: {error} Until then, shards are written by one process.", file=sys.stderr, flush=True)
    yield from map(_write_task, tasks[done:])


def _write_task(task: Task) -> Columns:
    """Write a tar in a folder of this attempt, and move it to its place.

    A worker that was given up for lost may still write; another then writes the same tar beside it, and not into it.
    """
    shard, params, output, resumable = task
    attempt = output / f"{_ATTEMPT}{secrets.token_hex(8)}"
    with explained_storage(attempt):
        attempt.mkdir()
        try:
            columns = write_shard(shard, params, attempt, resumable)
            for name in (shard.name, f"{shard.name}{_ENTRIES}")[: 1 + resumable]:
                os.replace(attempt / name, output / name)
        finally:
            shutil.rmtree(attempt, ignore_errors=True)
    return columns


def _write_alone(pool: Workers, task: Task, lost: Lost) -> Columns:
    """Write a tar again whose process ended.

    Raises:
        MachineError: it ends again and again. Every image was decoded by ingest, so no image is to blame.
    """
    for _ in range(_ATTEMPTS):
        columns: Columns | Lost = pool.alone(task, _TAR_SECONDS, fresh=True)
        if not isinstance(columns, Lost):
            return columns
        lost = columns
    raise MachineError(
        "processes that write shards end before they are done",
        where=task[0].name,
        found=f"{_ATTEMPTS + 1} ends in a row; of the last, {lost}",
        fix="Look for what ends them (`dmesg` shows the out-of-memory killer; a batch system has limits).",
    )


def _prepare_worker(kind: str) -> None:
    from reprise.runtime.entry import prepare_process

    prepare_process()
    modality(kind).limit_threads()


def write_shard(shard: Plan, params: ShardParams, output: Path, resumable: bool = True) -> Columns:
    """Write one tar, which appears whole or not at all, and return its rows of the index.

    Args:
        shard: its plan.
        params: longest side of an image.
        output: folder of the tar.
        resumable: also write the rows to a file beside the tar, for `_finished` to read after a kill. That file need
            not be written atomically: one that was cut short is not valid JSON.
    """
    columns: Columns = {name: [row[name] for row in shard.rows] for name in ("key", "split", "channels", "group")}
    columns |= {"shard": [shard.name] * len(shard.rows)}
    if shard.modality != IMAGE:
        columns["modality"] = [shard.modality] * len(shard.rows)
    stored: list[tuple[Any, ...]] = []
    waiting: list[bytes] = []
    sides: list[dict[str, Any]] = []
    offset = written = 0
    with atomic_file(output / shard.name) as file:
        for row in shard.rows:
            sample, sha256 = _stored(row, params.max_side)
            data, size = sample.data, _size(sample)
            for side in shard.sides.get(row["key"], ()):
                fact, described = _side(side, row, (sample.width, sample.height))
                member = ustar.member(f"{row['key']}.{side['fact']}.{side['ext']}", fact)
                sides.append(described | {"shard": shard.name, "offset": offset + ustar.BLOCK})
                waiting.append(member)
                offset += len(member)
            stored.append((offset + ustar.BLOCK, len(data), sample.extension, sha256, *size.values()))
            image = ustar.member(f"{row['key']}.{sample.extension}", data)
            card = ustar.member(f"{row['key']}.json", _json(row | size))
            waiting += (image, card)
            offset += len(image) + len(card)
            if offset - written >= _WRITE_BYTES:
                file.write(b"".join(waiting))
                waiting, written = [], offset
        file.write(b"".join((*waiting, ustar.END)))
    names = ("offset", "bytes", "ext", "sha256", *size)
    columns |= {name: list(values) for name, values in zip(names, zip(*stored, strict=True), strict=True)}
    columns["sides"] = sides
    if resumable:
        beside = output / f"{shard.name}{_ENTRIES}"
        with explained_storage(beside):
            beside.write_text(json.dumps(columns), encoding="utf-8")
    return columns


def _size(sample: Stored) -> dict[str, int]:
    """Return the sides of a stored sample by the columns of the index that hold them."""
    depth = {} if sample.depth is None else {"depth": sample.depth}
    return {"width": sample.width, "height": sample.height} | depth


def _json(facts: dict[str, Any]) -> bytes:
    """Write the member `<key>.json` with sorted keys, in ASCII.

    Formatting by hand is faster than `json.dumps`; only the group is text from outside and must be escaped.
    """
    group = "null" if facts["group"] is None else json.dumps(facts["group"])
    depth = f'"depth":{facts["depth"]},' if "depth" in facts else ""
    return (
        f'{{"channels":{facts["channels"]},{depth}"group":{group},"height":{facts["height"]},'
        f'"key":"{facts["key"]}","split":"{facts["split"]}","width":{facts["width"]}}}'
    ).encode("ascii")


def _side(side: dict[str, Any], row: dict[str, Any], stored: tuple[int, int]) -> tuple[bytes, dict[str, Any]]:
    """Return a fact beside an image as the shard holds it, and its row of the table but for its place."""
    data = read_member(INGEST / side["shard"], side)
    where = f"{side['key']}.{side['fact']}"
    data = scaled_side(side["kind"], data, (row["width"], row["height"]), stored, where)
    return data, side | {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _stored(row: dict[str, Any], max_side: int) -> tuple[Stored, str]:
    """Return an image in the form that the shard stores, and the SHA-256 of its bytes."""
    data = _source_bytes(row)
    try:
        stored = modality(row.get("modality", IMAGE)).stored_form(data, row["path"], row, max_side)
    except ImageRefused as refusal:
        raise _changed(row, f"{refusal.what}: {refusal.found}") from refusal
    except MemoryError as error:
        raise MachineError(
            "this machine has too little memory to store an image",
            where=row["path"],
            found=f"{row['width']} x {row['height']} pixels",
            fix="Free memory, or set REPRISE_THREADS to fewer processes.",
        ) from error
    sha256 = row["sha256"] if stored.data is data else hashlib.sha256(stored.data).hexdigest()
    return stored, sha256


def _source_bytes(row: dict[str, Any]) -> bytes:
    """Read the bytes that ingest examined.

    The first attempt is the fast one: it checks nothing but the hash, which suffices. Where that fails, the second
    finds the reason for the message, or follows a link inside the root.
    """
    try:
        descriptor = os.open(row["path"], READ_FLAGS)
        try:
            data = _read(descriptor, row)
        finally:
            os.close(descriptor)
    except OSError:
        data = b""
    if _as_ingested(row, data):
        return data
    try:
        data = patiently(lambda: _read_carefully(row))
    except ImageRefused as refusal:
        raise _changed(row, f"{refusal.what}: {refusal.found}") from refusal
    if not _as_ingested(row, data):
        raise _changed(row, "other bytes than ingest examined")
    return data


def _read_carefully(row: dict[str, Any]) -> bytes:
    with open_regular(row["path"]) as descriptor:
        return _read(descriptor, row)


def _read(descriptor: int, row: dict[str, Any]) -> bytes:
    one_more = row["offset"] == 0  # of a file of its own, to notice that it grew
    return os.pread(descriptor, row["bytes"] + one_more, row["offset"])


def _as_ingested(row: dict[str, Any], data: bytes) -> bool:
    return len(data) == row["bytes"] and hashlib.sha256(data).hexdigest() == row["sha256"]


def _changed(row: dict[str, Any], found: str) -> ShardError:
    return ShardError(
        "an image changed since ingest",
        where=row["path"],
        found=found,
        fix="Run `reprise repro`, which scans the source again (or `python -m stages.ingest.scan`, then `dvc repro`).",
    )
