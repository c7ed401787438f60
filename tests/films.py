"""Films that tests draw: a square that moves over a plain background, written with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

LOSSLESS = {"codec": "ffv1", "pixels": "bgr0"}  # in Matroska: decoded pixels are those that were drawn


def scene(
    index: int, width: int = 64, height: int = 48, background: tuple[int, ...] = (20, 30, 90), seed: int = 0
) -> np.ndarray:
    """Draw frame `index` of a film: (height, width, 3) uint8; a square moves two pixels a frame."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = background
    side = height // 4
    x = (2 * index + 11 * seed) % (width - side)
    y = (index + 7 * seed) % (height - side)
    picture[y : y + side, x : x + side] = (240, 200 - 20 * seed % 200, 40 * seed % 256)
    return picture


def scenes(count: int, **how: Any) -> list[np.ndarray]:
    """Draw `count` frames."""
    return [scene(i, **how) for i in range(count)]


def write_film(
    path: Path,
    pictures: Sequence[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    form: str | None = None,
    options: dict[str, str] | None = None,
    turned: int = 0,
    source: str = "rgb24",
) -> Path:
    """Encode pictures, ten a second, or at `times` in hundredths of a second.

    Args:
        path: its extension decides about the container unless `form` does.
        pictures: (h, w, c) of one size, of the pixel format `source`.
        codec: FFmpeg's name of the encoder.
        pixels: its pixel format.
        turned: degrees that the film says it is to be turned by.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=10, options={"threads": "1", **(options or {})})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        if turned:
            stream.set_display_rotation(turned)
        if times is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 100)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, source)
            if times is not None:
                frame.pts, frame.time_base = times[i], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
