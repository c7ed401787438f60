"""Examine every candidate in worker processes: read it, hash it, decode it completely.

A file on which a worker crashes or hangs is refused, and no other file is lost with it.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from reprise.config.errors import ImageRefused, printable
from reprise.media.lookup import modality
from reprise.media.modality import Limits
from reprise.storage.listing import read_regular, sha256_of

_CHUNK = 64
_CHUNK_SECONDS, _IMAGE_SECONDS = 900.0, 120.0  # a decoder that takes longer hangs
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class Finding:
    """The result for one candidate.

    Attributes:
        sha256: of the bytes, whenever they were read.
        bytes: length of the file; 0 when it was not read.
        facts: the modality's columns of the manifest, or None where the candidate is refused.
        reason: why it is refused, a code of docs/reference/data-rules.md.
        detail: the same as a sentence.
    """

    sha256: str | None
    bytes: int
    facts: dict[str, Any] | None
    reason: str = ""
    detail: str = ""


def examine(name: str, reference: str | bytes, limits: Limits) -> Finding:
    """Read and decode one candidate.

    Args:
        name: for messages.
        reference: a path, or the encoded bytes themselves.
        limits: files beyond them are refused.
    """
    sha256, size = None, 0
    try:
        try:
            data = reference if isinstance(reference, bytes) else read_regular(reference, limits.max_bytes)
        except ImageRefused as refusal:
            if refusal.what == "too_many_bytes":  # not decoded, but hashed for the quarantine
                sha256, size = sha256_of(str(reference))
            raise
        sha256, size = hashlib.sha256(data).hexdigest(), len(data)
        return Finding(sha256, size, modality().inspect(data, name, limits))
    except ImageRefused as refusal:
        return Finding(
            sha256,
            size,
            None,
            refusal.what,
            _ADDRESS.sub("", printable(f"{refusal.found}. {refusal.fix}", 300)).replace("\n", " "),
        )
    except MemoryError:
        return Finding(
            sha256,
            size,
            None,
            "out_of_memory",
            "This machine has too little memory to decode it. Lower source.max_pixels.",
        )


def examine_all(items: Sequence[tuple[str, str | bytes]], limits: Limits, workers: int) -> Iterator[Finding]:
    """Examine candidates side by side and yield a finding for each, in the order of `items`.

    Args:
        items: (name, reference) of each candidate.
        limits: files beyond them are refused.
        workers: number of processes; 0 examines in this process, for bytes that Reprise made itself.
    """
    if workers == 0:
        yield from (examine(name, reference, limits) for name, reference in items)
        return
    chunks = deque(items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))
    while chunks:
        in_flight: deque[tuple[Sequence[tuple[str, str | bytes]], Future[list[Finding]]]] = deque()
        pool = _pool(min(workers, len(chunks)))
        try:
            while chunks or in_flight:
                while chunks and len(in_flight) < 3 * workers:  # enough to keep workers busy, not all bytes at once
                    in_flight.append((chunks[0], pool.submit(_examine_chunk, chunks[0], limits)))
                    chunks.popleft()
                findings = in_flight[0][1].result(_CHUNK_SECONDS)
                in_flight.popleft()
                yield from findings
        except (BrokenProcessPool, TimeoutError):
            # The pool does not say which worker died, so every chunk that was under way is examined again.
            suspects = [chunk for chunk, _ in in_flight]
            _end(pool)
            for chunk in suspects:
                yield from _one_by_one(chunk, limits)
        finally:
            _end(pool)


def _one_by_one(chunk: Sequence[tuple[str, str | bytes]], limits: Limits) -> Iterator[Finding]:
    """Examine a chunk in which one image kills or blocks its worker: refuse that image, and examine the others."""
    pool = _pool(1)
    try:
        for item in chunk:
            try:
                yield pool.submit(_examine_chunk, [item], limits).result(_IMAGE_SECONDS)[0]
            except (BrokenProcessPool, TimeoutError):
                _end(pool)
                pool = _pool(1)
                yield _crashed(item[1])
    finally:
        _end(pool)


def _end(pool: ProcessPoolExecutor) -> None:
    """Kill the workers of a pool: one that hangs in a decoder never ends by itself."""
    for worker in list((getattr(pool, "_processes", None) or {}).values()):
        worker.kill()
    pool.shutdown(cancel_futures=True)


def _crashed(reference: str | bytes) -> Finding:
    detail = "The decoder crashed, was killed, or did not end on this file. Repair or remove it, then run again."
    try:
        sha256, size = (
            (hashlib.sha256(reference).hexdigest(), len(reference))
            if isinstance(reference, bytes)
            else sha256_of(reference)
        )
    except ImageRefused:
        return Finding(None, 0, None, "crashed_decoder", detail)
    return Finding(sha256, size, None, "crashed_decoder", detail)


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_worker, initargs=(os.getpid(),)
    )


def _prepare_worker(parent: int) -> None:
    """Prepare a worker: end with the parent, use one thread, write no core files and nothing to stderr.

    C libraries print their complaints there; the quarantine states them.
    """
    import resource

    from reprise.runtime.entry import prepare_process

    prepare_process()
    if os.getppid() != parent:  # the parent died before this worker could ask to end with it
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)

    modality().limit_threads()


def _examine_chunk(chunk: Sequence[tuple[str, str | bytes]], limits: Limits) -> list[Finding]:
    return [examine(name, reference, limits) for name, reference in chunk]
