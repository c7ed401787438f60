"""Open an untrusted film, say what it is, and decode its frames: each one, in order, and the same ones every time.

FFmpeg, through PyAV, reads from a file object: no name, address or playlist can make it open anything else. It is told
the container (container.py), may use no protocol, no nested file and no decoder but those listed here, and decodes in
one thread. A frame that the decoder could not read whole ends the film: what follows would have no certain number.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

from reprise.config.errors import ImageRefused, SourceError
from reprise.media.video.container import container_of, refuse_cut
from reprise.media.video.pixels import depth_of, has_alpha, pixels_of, quarter_turns, small_picture
from reprise.storage.system.machine import FAULTS

if TYPE_CHECKING:
    import numpy as np
    from av.container.input import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

CODECS = frozenset(  # decoders of FFmpeg that may run
    (
        *("h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp8", "vp9", "libvpx", "libvpx-vp9", "mpeg1video"),
        *("mpeg2video", "mpeg4", "msmpeg4v1", "msmpeg4", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "wmv3", "vc1"),
        *("h263", "h263p", "flv", "theora", "mjpeg", "prores", "dnxhd", "dvvideo", "ffv1", "huffyuv", "ffvhuff"),
        *("utvideo", "rawvideo", "v210", "png", "qtrle", "cinepak", "jpeg2000", "vvc", "cfhd", "magicyuv"),
    )
)
_OUTPUT_CORRUPT = 8  # AV_CODEC_FLAG_OUTPUT_CORRUPT: damaged frames are shown as such and not left out in silence
_MOST_STREAMS = 64
_REPAIR = "Repair it, for instance with `ffmpeg -i FILM -c:v ffv1 REPAIRED.mkv`, and look at the result."


@dataclass(frozen=True)
class Described:
    """What a film says of itself.

    Attributes:
        container: one of container.CONTAINERS.
        codec: name of FFmpeg's decoder.
        width, height: pixels of a frame that is turned upright.
        pixel_format: FFmpeg's name.
        bits: of a component.
        alpha: whether it has transparency.
        turns: quarters by which frames are turned counter-clockwise.
        rate: frames a second on average, or None.
        variable: whether the stated rates differ, so that frames have different lengths.
        seconds: length, or None where it is not stated.
        frames: their number as stated, or None.
        interlaced: whether the first frame consists of two fields.
        aspect: width of a pixel by its height.
    """

    container: str
    codec: str
    width: int
    height: int
    pixel_format: str
    bits: int
    alpha: bool
    turns: int
    rate: Fraction | None
    variable: bool
    seconds: float | None
    frames: int | None
    interlaced: bool
    aspect: Fraction

    @property
    def remarks(self) -> dict[str, str]:
        """What a person should know of the frames: code -> clause, sorted."""
        said = {
            "turned": self.turns and f"are turned by {90 * self.turns} degrees, as the film says",
            "interlaced": self.interlaced and "are interlaced, and are taken as they are stored",
            "variable_rate": self.variable and "have different lengths, so numbers and times do not keep step",
            "deep": self.bits > 8 and f"have {self.bits} bits, which fill 16 and go through source.range",
            "transparency": self.alpha and "have transparency, and are laid over white",
            "pixel_aspect": self.aspect != 1 and f"have pixels of {self.aspect} times their height, taken as squares",
        }
        return {code: text for code, text in sorted(said.items()) if isinstance(text, str)}


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: its number in the film, from 0, in the order in which frames are shown.
        time: seconds after the first frame; None where the film gives it none.
        decoded: as PyAV returns it.
        where: name of the film, for messages.
    """

    index: int
    time: Fraction | None
    decoded: VideoFrame = field(repr=False)
    where: str

    def pixels(self) -> np.ndarray:
        """Return the frame upright: (h, w, 1 or 3) uint8 or uint16 (pixels.py).

        Raises:
            ImageRefused: undecodable, where its pixel format cannot be converted.
        """
        with _explained(self.where, lambda: f"{self.decoded.format.name} pixels cannot be converted"):
            return pixels_of(self.decoded)

    def small(self) -> np.ndarray:
        """Return a small picture by which frames are compared: (32, 32, 3) uint8. It raises what `pixels` raises."""
        with _explained(self.where, lambda: f"{self.decoded.format.name} pixels cannot be converted"):
            return small_picture(self.decoded)


def require_pyav(where: str) -> None:
    """Refuse to read films without PyAV.

    Raises:
        SourceError: it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("av") is None:
        raise SourceError(
            "films are read with PyAV, which is not installed",
            where=where,
            found="no package av",
            fix='Install it: `pip install "reprise[video]"`, or `pip install "av>=18,<19"`.',
        )


class Film:
    """A film that is open; made by `open_film`.

    Attributes:
        described: what it says of itself.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, name: str, where: str, max_pixels: int) -> None:
        self._container, self._stream, self._where, self._max_pixels = container, stream, where, max_pixels
        self._decoding = self._decoded()
        first = next(self._decoding, None)
        if first is None:
            raise ImageRefused("undecodable", where=where, found="no frame can be decoded", fix=_REPAIR)
        self._first: VideoFrame | None = first
        self.described = _described(container, stream, first, name)

    def frames(self) -> Iterator[Frame]:
        """Decode all frames in the order in which they are shown, once.

        Raises:
            ImageRefused: undecodable, truncated or too_many_pixels; nothing that came before is to be used then.
        """
        first, self._first = self._first, None
        assert first is not None, "a film is decoded once"
        start, index = first.pts, 0
        frame: VideoFrame | None = first
        while frame is not None:
            yield Frame(index, _time(frame, start, self._stream), frame, self._where)
            frame, index = next(self._decoding, None), index + 1
        expected = _expected(self._stream, self.described.container)
        if index < expected:
            found = f"{index:,} of the {expected:,} frames that its index names"
            raise ImageRefused("truncated", where=self._where, found=found, fix="Copy or fetch the film again.")

    def _decoded(self) -> Iterator[VideoFrame]:
        count = 0
        with _explained(self._where, lambda: f"frame {count:,} cannot be decoded"):
            for frame in self._container.decode(self._stream):
                if frame.is_corrupt:
                    found = f"frame {count:,} is damaged or incomplete"
                    raise ImageRefused("undecodable", where=self._where, found=found, fix=_REPAIR)
                _refuse_size(frame.width, frame.height, self._max_pixels, self._where)
                yield frame
                count += 1


@contextmanager
def open_film(file: BinaryIO, where: str, max_pixels: int) -> Iterator[Film]:
    """Open a film and decode its first frame.

    Args:
        file: open for reading; it is not closed.
        where: its name, for messages.
        max_pixels: largest width x height of a frame.

    Raises:
        ImageRefused: with a code of docs/reference/data-rules.md.
        SourceError: PyAV is not installed.
    """
    require_pyav(where)
    import av

    name = container_of(file, where)
    refuse_cut(file, name, where)
    file.seek(0)
    av.logging.set_level(None)
    with _explained(where, lambda: "its header cannot be read"):
        container = av.open(
            _OnlyReads(file),
            "r",
            format=name,
            options={"protocol_whitelist": "none", "max_streams": str(_MOST_STREAMS)},
            metadata_errors="replace",
            io_open=_refuse_other_files,
        )
    with container:
        stream = _picture_stream(container, where)
        context = stream.codec_context
        _refuse_size(context.width, context.height, max_pixels, where)
        context.thread_type, context.thread_count = "NONE", 1
        context.flags |= _OUTPUT_CORRUPT
        context.options = {"max_pixels": str(max_pixels)}
        yield Film(container, stream, name, where, max_pixels)


class _OnlyReads:
    """A file for FFmpeg without a name: it knows neither the path nor how to write."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell
        self.name = "film"


def _refuse_other_files(url: str, flags: int, options: dict[str, Any]) -> Any:
    raise PermissionError("a film may not open other files")


def _picture_stream(container: InputContainer, where: str) -> VideoStream:
    """Choose the first stream of moving pictures; a cover is none.

    Raises:
        ImageRefused: no_pictures, unsupported_codec.
    """
    cover = _cover()
    streams = [stream for stream in container.streams.video if not int(stream.disposition) & cover]
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        found = f"streams of {kinds}" + (", and a cover" if container.streams.video else "")
        fix = "Remove it: it holds no moving pictures."
        raise ImageRefused("no_pictures", where=where, found=found, fix=fix)
    codec = "no decoder" if streams[0].codec_context is None else streams[0].codec_context.codec.name
    if codec not in CODECS:
        fix = "Convert it, for instance with `ffmpeg -i FILM -c:v ffv1 CONVERTED.mkv`."
        raise ImageRefused("unsupported_codec", where=where, found=f"pictures for the decoder '{codec}'", fix=fix)
    return streams[0]


def _cover() -> int:
    from av.stream import Disposition

    return int(Disposition.attached_pic)


def _described(container: InputContainer, stream: VideoStream, first: VideoFrame, name: str) -> Described:
    turns = quarter_turns(first)
    sides = (first.height, first.width) if turns % 2 else (first.width, first.height)
    rate, steady = stream.average_rate, stream.base_rate
    seconds = None
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None:
        seconds = container.duration / 1e6
    return Described(
        name,
        stream.codec_context.codec.name,
        *sides,
        first.format.name,
        depth_of(first.format),
        has_alpha(first.format),
        turns,
        rate,
        bool(rate and steady and abs(rate / steady - 1) > Fraction(1, 100)),
        seconds,
        stream.frames or None,
        bool(first.interlaced_frame),
        stream.sample_aspect_ratio or Fraction(1),
    )


def _time(frame: VideoFrame, start: int | None, stream: VideoStream) -> Fraction | None:
    if frame.pts is None or start is None or stream.time_base is None:
        return None
    return (frame.pts - start) * stream.time_base


def _expected(stream: VideoStream, container: str) -> int:
    """Return how many frames the index of an MP4 or MOV names; 0 for others, whose indexes count what is not shown."""
    if container != "mov":
        return 0
    return sum(not entry.is_discard for entry in stream.index_entries)


def _refuse_size(width: int, height: int, most: int, where: str) -> None:
    if width * height > most:
        found, fix = f"frames of {width} x {height} pixels", f"The limit is source.max_pixels, {most} pixels."
        raise ImageRefused("too_many_pixels", where=where, found=found, fix=fix)


@contextmanager
def _explained(where: str, what: Any) -> Iterator[None]:
    """Turn the errors of FFmpeg into a refusal."""
    import av

    try:
        yield
    except MemoryError as error:
        fix = "Its decoder asks for more memory than frames of source.max_pixels can need."
        raise ImageRefused("out_of_memory", where=where, found=what(), fix=fix) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:  # OSError: of a place that is not in the file
        if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError) and error.errno in FAULTS:
            raise  # the disk, not the film
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ImageRefused("undecodable", where=where, found=f"{what()} ({reason})", fix=_REPAIR) from error
