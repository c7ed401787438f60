"""Examine every candidate in worker processes, of this machine or of a Dask cluster: read it, hash it, decode it whole.

Only a file that ends its worker repeatedly, alone in a fresh process, is refused for it. A worker that something else
ends (the out-of-memory killer, a batch system) costs no file; what the machine lacks (processes, memory, open files, a
working disk) stops ingest with a sentence, because the result must depend on the files alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from reprise.config.errors import ImageRefused, MachineError, printable
from reprise.media.lookup import modality
from reprise.media.modality import Examined, Limits
from reprise.runtime.blocks.use import asked, run_apart
from reprise.runtime.workers import Lost, NoProcessError, Workers
from reprise.storage.listing import read_regular, sha256_of
from stages.ingest.source import Encoded

_CHUNK = 64
_WORTH_CLUSTER = 16  # chunks; fewer are examined sooner than a cluster is opened
_CHUNK_SECONDS, _IMAGE_SECONDS = 900.0, 120.0  # a decoder that takes longer hangs
_CPU_SECONDS = 60.0  # for one image; the largest permitted ones take three
_CRASHES, _KILLS = 2, 5  # so many ends of a worker, alone with an image, are the image's fault; kills may have others
_PAUSE, _LONGEST_IDLE = 0.2, 5.0  # seconds
_NO_MEMORY = "out_of_memory"
_BYTES_A_PIXEL = 40  # no permitted image needs more memory to decode: five copies of samples of eight bytes
_PERMITTED_COPIES = 2  # an image that needs all of that, and as much again for what fragments memory
_LIBRARIES = 8 << 30  # bytes of address space that the decoders' libraries may take, most of it never touched
Reference = str | bytes | Encoded
Item = tuple[str, Reference]  # name, and where its bytes are
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class Finding:
    """The result for one candidate.

    Attributes:
        sha256: of the bytes, whenever they were read.
        bytes: length of the file; 0 when it was not read.
        samples: what was found in it, one for each image; empty where the candidate is refused.
        reason: why it is refused, a code of docs/reference/data-rules.md.
        detail: the same as a sentence.
    """

    sha256: str | None
    bytes: int
    samples: tuple[Examined, ...]
    reason: str = ""
    detail: str = ""


def examine(name: str, reference: Reference, limits: Limits) -> Finding:
    """Read and decode one candidate.

    Args:
        name: for messages.
        reference: a path, the encoded bytes themselves, or what reads them.
        limits: files beyond them are refused.

    Raises:
        MachineError: the machine is the reason that the file cannot be read.
    """
    sha256, size = None, 0
    try:
        try:
            data = read(reference, limits.max_bytes)
        except ImageRefused as refusal:
            if refusal.what == "too_many_bytes" and isinstance(reference, str):  # not decoded, but hashed
                sha256, size = sha256_of(reference)
            raise
        sha256, size = hashlib.sha256(data).hexdigest(), len(data)
        return Finding(sha256, size, tuple(modality(limits.modality).inspect(data, name, limits)))
    except ImageRefused as refusal:
        return Finding(
            sha256,
            size,
            (),
            refusal.what,
            _ADDRESS.sub("", printable(f"{refusal.found}. {refusal.fix}", 300)).replace("\n", " "),
        )
    except MemoryError:
        return Finding(
            sha256, size, (), "out_of_memory", "Decoding it takes more memory than any permitted image needs."
        )


def read(reference: Reference, limit: int) -> bytes:
    """Return the bytes of a candidate.

    Args:
        reference: a path, the encoded bytes themselves, or what reads them.
        limit: largest length in bytes.

    Raises:
        ImageRefused: they cannot be read, or are too many.
        MachineError: the machine is the reason.
    """
    if isinstance(reference, bytes):
        return reference
    return reference.read(limit) if isinstance(reference, Encoded) else read_regular(reference, limit)


def examine_all(items: Sequence[Item], limits: Limits, workers: int) -> Iterator[Finding]:
    """Examine candidates side by side and yield a finding for each, in the order of `items`.

    Args:
        items: name and reference of each candidate.
        limits: files beyond them are refused.
        workers: number of processes; 0 examines in this process, for bytes that Reprise made itself.

    Raises:
        MachineError: files cannot be read or decoded, and the machine is the reason.
    """
    done, lost = 0, False
    if workers:
        chunks = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
        code = sorted({type(reference).__module__ for _, reference in items if isinstance(reference, Encoded)})
        try:
            with Workers(partial(_examine_chunk, limits=limits), partial(prepare_worker, limits), workers) as pool:
                results = run_apart(pool, chunks, _CHUNK_SECONDS, code, _WORTH_CLUSTER)
                for chunk, found in zip(chunks, results, strict=True):
                    lost = lost or isinstance(found, Lost)
                    findings = (_examine_alone(pool, item) for item in chunk) if isinstance(found, Lost) else found
                    for item, finding in zip(chunk, findings, strict=True):
                        yield _settled(pool, item, finding, limits)
                        done += 1
            return
        except NoProcessError as error:
            if lost:  # one of these files may have ended a process, and must not end this one
                raise
            print(
                f"warning: {error} Until then, images are decoded in the process of ingest itself.",
                file=sys.stderr,
                flush=True,
            )
    for name, reference in items[done:]:
        finding = examine(name, reference, limits)
        if finding.reason == _NO_MEMORY and not has_memory(limits):
            raise _too_little_memory(name)
        yield finding


def _settled(pool: Workers, item: Item, finding: Finding, limits: Limits) -> Finding:
    """Return a finding that says nothing of the machine that made it.

    Raises:
        MachineError: a machine that decodes lacks memory, or does not see the file that this machine reads.
    """
    if finding.sha256 is None and asked() is not None:  # perhaps by a worker that does not see the file
        here = _examine_alone(pool, item)
        if here.sha256 is not None:
            raise MachineError(
                "a Dask worker cannot read an image that this machine reads",
                where=item[0],
                found=finding.detail,
                fix="Mount the folder of the source on all machines under the same path, then run again.",
            )
        finding = here
    return _with_memory(pool, item, limits) if finding.reason == _NO_MEMORY else finding


def _examine_alone(pool: Workers, item: Item) -> Finding:
    """Examine an image of a chunk that lost its worker; refuse it only if it ends its workers alone, repeatedly."""
    losses: list[Lost] = []
    longest = 0.0
    while True:
        began = time.monotonic()
        found = pool.alone([item], _IMAGE_SECONDS, fresh=bool(losses))
        if not isinstance(found, Lost):
            finding: Finding = found[0]
            return finding
        longest = max(longest, time.monotonic() - began)
        losses.append(found)
        kills = sum(lost.killed for lost in losses)
        if kills >= _KILLS or len(losses) - kills >= _CRASHES:
            break
        time.sleep(_PAUSE * len(losses))
    if losses[-1].killed:
        # A process that does nothing for as long tells an image that is too much from a machine that kills everything.
        idle = pool.alone(min(longest, _LONGEST_IDLE), _IMAGE_SECONDS, fresh=True, function=time.sleep)
        if isinstance(idle, Lost):
            raise MachineError(
                "something ends the decoding processes",
                where=item[0],
                found=f"{len(losses) + 1} ends in a row, also of a process that did nothing; of the last, {idle}",
                fix="Look for what ends them (`dmesg` shows the out-of-memory killer; a batch system has limits).",
            )
    return _refused_for_crashing(item[1], losses)


def _with_memory(pool: Workers, item: Item, limits: Limits) -> Finding:
    """Examine an image again that found too little memory, now alone.

    Raises:
        MachineError: the machine lacks the memory that a permitted image may need.
    """
    found = pool.alone([item], _IMAGE_SECONDS, fresh=True)
    if isinstance(found, Lost):
        return _examine_alone(pool, item)
    finding: Finding = found[0]
    if finding.reason == _NO_MEMORY and pool.alone(limits, _IMAGE_SECONDS, function=has_memory) is not True:
        raise _too_little_memory(item[0])
    return finding


def has_memory(limits: Limits) -> bool:
    """Return whether this process can have as much memory as the largest permitted image may need."""
    try:
        bytearray(_BYTES_A_PIXEL * limits.max_pixels)
    except (MemoryError, OverflowError):
        return False
    return True


def _too_little_memory(name: str) -> MachineError:
    return MachineError(
        "this machine has too little memory to decode an image",
        where=name,
        found="no memory, although no other image was being decoded",
        fix="Free memory, or lower source.max_pixels, which refuses images of more pixels everywhere alike.",
    )


def _refused_for_crashing(reference: Reference, losses: list[Lost]) -> Finding:
    detail = (
        f"It ended its decoding process {len(losses)} times, alone in a fresh one each time; the last time, "
        f"{losses[-1]}. Repair or remove it, then run again."
    )
    if isinstance(reference, Encoded):  # reading it may be what ends the process
        return Finding(None, 0, (), "crashed_decoder", detail)
    try:
        sha256, size = (
            (hashlib.sha256(reference).hexdigest(), len(reference))
            if isinstance(reference, bytes)
            else sha256_of(reference)
        )
    except ImageRefused:
        return Finding(None, 0, (), "crashed_decoder", detail)
    return Finding(sha256, size, (), "crashed_decoder", detail)


def prepare_worker(limits: Limits) -> None:
    """Prepare a worker: end with the parent, use one thread, write no core files and nothing to stderr.

    C libraries print their complaints there; the quarantine states them. The memory of a worker is bounded by what a
    permitted image may need, so that a decoder that asks for more gets none, and the machine is not brought down.
    """
    import resource

    from reprise.runtime.entry import prepare_process

    prepare_process()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)

    modality(limits.modality).limit_threads()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = _LIBRARIES + _PERMITTED_COPIES * _BYTES_A_PIXEL * limits.max_pixels
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _examine_chunk(chunk: Sequence[Item], limits: Limits) -> list[Finding]:
    """Examine images one after the other; one that takes too long on the processor ends this process."""
    findings = []
    for name, reference in chunk:
        signal.setitimer(signal.ITIMER_PROF, _CPU_SECONDS)
        findings.append(examine(name, reference, limits))
    signal.setitimer(signal.ITIMER_PROF, 0)
    return findings
