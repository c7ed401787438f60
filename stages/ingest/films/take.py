"""Take frames out of one film: choose, encode without loss, and append them to a file. Runs in a worker process.

The frames of a film lie in one file, one after the other, as PNG. So no later stage needs to read films, and no more
than one frame is in memory.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from reprise.config.errors import ImageRefused, printable
from reprise.storage.listing import open_regular
from stages.ingest.source import Part

if TYPE_CHECKING:
    import numpy as np

    from reprise.media.video.film import Film, Frame

CPU_SECONDS = 60.0  # for one frame; the largest permitted ones take three


@dataclass(frozen=True)
class Choice:
    """Which frames are taken of a film, and what of them; the fields are options of the source.

    Attributes:
        stride: every so many frames, from the first.
        fps: in place of the stride, so many frames a second.
        most_frames: at most so many, from the beginning.
        longest: films of more frames are refused.
        most_bytes: films whose frames take more bytes are refused.
        max_side: longest side in pixels; larger frames are scaled down.
        threshold: distance that makes a cut; None does not look for shots.
        max_pixels: films with larger frames are refused.
    """

    stride: int = 1
    fps: float | None = None
    most_frames: int | None = None
    longest: int = 1_000_000
    most_bytes: int = 100 << 30
    max_side: int | None = None
    threshold: float | None = None
    max_pixels: int = 50_000_000


@dataclass(frozen=True)
class Kept(Part):
    """A frame in the file, which Reprise itself encoded."""

    stays: bool = False
    made: ClassVar[bool] = True


@dataclass(frozen=True)
class Task:
    """One film: its path, its name in messages, what is wanted, and the file to write."""

    path: str
    name: str
    choice: Choice
    output: str


@dataclass(frozen=True)
class Taken:
    """A frame in the file.

    Attributes:
        index: number in the film, from 0.
        seconds: after the first frame; None where the film gives no time.
        shot: number of its shot, from 0; None where shots are not looked for.
        offset, size: bytes in the file.
    """

    index: int
    seconds: float | None
    shot: int | None
    offset: int
    size: int


@dataclass(frozen=True)
class Result:
    """What became of a film.

    Attributes:
        frames: those that were taken.
        decoded: frames that were decoded.
        codec: name of the decoder.
        remarks: code -> clause that a person should know.
        reason: why the film is refused, a code of docs/reference/data-rules.md; empty where it is not.
        detail: the same as a sentence.
    """

    frames: tuple[Taken, ...] = ()
    decoded: int = 0
    codec: str = ""
    remarks: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    detail: str = ""


def take_frames(task: Task) -> Result:
    """Decode a film and write its frames; a film that is refused leaves no file.

    Raises:
        MachineError: the machine is the reason that it cannot be read, or that its frames cannot be written.
    """
    from reprise.media.video.film import open_film

    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # a decoder that takes longer for one frame hangs
    try:
        with (
            open_regular(task.path) as descriptor,
            os.fdopen(descriptor, "rb", closefd=False) as file,
            open_film(file, task.name, task.choice.max_pixels) as film,
        ):
            return _written(film, task)
    except ImageRefused as refusal:
        if os.path.exists(task.output):
            os.unlink(task.output)
        detail = printable(f"{refusal.found}. {refusal.fix}", 300).replace("\n", " ")
        return Result(reason=refusal.what, detail=detail)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _written(film: Film, task: Task) -> Result:
    from reprise.storage.atomic import explained_storage

    frames: list[Taken] = []
    remarks = dict(film.described.remarks)
    decoded = offset = 0
    with explained_storage(Path(task.output)), open(task.output, "wb", buffering=1 << 20) as output:
        for frame, shot, chosen in _chosen(film, task):
            decoded = frame.index + 1
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            if not chosen:
                continue
            if len(frames) == task.choice.most_frames:
                remarks["longer"] = f"are the first {len(frames):,} of a longer film (source.options.most_frames)"
                break
            data = _encoded(frame, task.choice.max_side, remarks)
            seconds = None if frame.time is None else float(frame.time)
            frames.append(Taken(frame.index, seconds, shot, offset, len(data)))
            offset += output.write(data)
            if offset > task.choice.most_bytes:
                found = f"{len(frames):,} frames that take more than {task.choice.most_bytes:,} bytes"
                fix = "Raise source.options.stride or max_gigabytes, or set max_side."
                raise ImageRefused("too_many_bytes", where=task.name, found=found, fix=fix)
    return Result(tuple(frames), decoded, film.described.codec, dict(sorted(remarks.items())))


def _chosen(film: Film, task: Task) -> Iterator[tuple[Frame, int | None, bool]]:
    """Yield every frame, the number of its shot, and whether it is wanted."""
    from reprise.media.video.shots import Shots

    choice = task.choice
    shots = None if choice.threshold is None else Shots(choice.threshold)
    wanted = 0  # number of the next moment, of which there are `fps` a second
    for frame in film.frames():
        if frame.index >= choice.longest:
            found, fix = f"more than {choice.longest:,} frames", "Raise source.options.longest_film, or cut the film."
            raise ImageRefused("too_many_frames", where=task.name, found=found, fix=fix)
        shot = None if shots is None else shots.add(frame.small())
        if choice.fps is None:
            yield frame, shot, frame.index % choice.stride == 0
            continue
        if frame.time is None:
            fix = "Set source.options.stride in place of fps."
            raise ImageRefused("no_times", where=task.name, found="frames without times", fix=fix)
        moment = int(frame.time * Fraction(choice.fps))
        chosen = frame.time * Fraction(choice.fps) >= wanted
        wanted = moment + 1 if chosen else wanted
        yield frame, shot, chosen


def _encoded(frame: Frame, max_side: int | None, remarks: dict[str, str]) -> bytes:
    from reprise.media.image.encode import lossless_png
    from reprise.media.image.stored import stored_size
    from reprise.media.image.transform import resize

    pixels: np.ndarray = frame.pixels()
    height, width = pixels.shape[:2]
    size = (width, height) if max_side is None else stored_size(width, height, max_side)
    if size != (width, height):
        remarks["scaled"] = f"are scaled down to a longer side of {max_side} pixels (source.options.max_side)"
        pixels = resize(pixels, *size)
    return lossless_png(pixels)


def prepare(max_pixels: int) -> None:
    """Prepare a worker process, as one that decodes images is prepared."""
    from reprise.media.modality import Limits
    from stages.ingest.candidates.examine import prepare_worker

    prepare_worker(Limits(max_pixels, 1))
