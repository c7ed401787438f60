"""A decoded frame -> pixels, upright, in the colours that the film states: by one rule, with the same result each time.

YCbCr becomes RGB by the matrix that the film names, or else by BT.709 from 720 lines on and BT.601 below. More than 8
bits stay more than 8 bits: such frames fill 16, and `source.range` decides as for any image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame

HD_LINES = 720
_BT709, _BT601 = 1, 5  # numbers of libswscale
_MATRICES = {1: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}  # of the frame -> of libswscale
_LIMITED, _FULL = 1, 2  # range of values
# Bilinear with chroma at full resolution, accurate rounding, and the same bits on every processor.
_EXACT = 2 | 0x2000 | 0x40000 | 0x80000
_AREA = 0x20
_SMALL = 32  # pixels


def depth_of(form: VideoFormat) -> int:
    """Return the largest number of bits that a component of a pixel format has."""
    return max((part.bits for part in form.components), default=8)


def has_alpha(form: VideoFormat) -> bool:
    """Tell whether a pixel format has transparency."""
    return any(part.is_alpha for part in form.components)


def is_grey(form: VideoFormat) -> bool:
    """Tell whether a pixel format is grey."""
    return len([part for part in form.components if not part.is_alpha]) == 1 and not form.has_palette


def quarter_turns(frame: VideoFrame) -> int:
    """Return by how many quarters a frame is turned counter-clockwise to be upright; other angles are not applied."""
    return (int(frame.rotation) // 90) % 4 if int(frame.rotation) % 90 == 0 else 0


def pixels_of(frame: VideoFrame) -> np.ndarray:
    """Convert a frame: (h, w, 1 or 3) uint8, or uint16 where the film has more than 8 bits; transparency over white."""
    deep, grey, clear = depth_of(frame.format) > 8, is_grey(frame.format), has_alpha(frame.format)
    name = {(False, False): "rgb24", (False, True): "rgba", (True, False): "rgb48le", (True, True): "rgba64le"}
    form = ("gray16le" if deep else "gray") if grey and not clear else name[deep, clear]
    values = _converted(frame, form).to_ndarray()
    values = values[:, :, None] if values.ndim == 2 else values
    if clear:
        values = _over_white(values)
        values = values[:, :, :1] if grey else values
    return np.ascontiguousarray(np.rot90(values, quarter_turns(frame)))


def small_picture(frame: VideoFrame) -> np.ndarray:
    """Scale a frame to a small square by which frames are compared: (32, 32, 3) uint8."""
    return _converted(frame, "rgb24", _SMALL, _AREA | 0x80000).to_ndarray()


def _converted(frame: VideoFrame, form: str, side: int | None = None, scaling: int = _EXACT) -> VideoFrame:
    matrix = _MATRICES.get(int(frame.colorspace), _BT709 if frame.height >= HD_LINES else _BT601)
    stated = int(frame.color_range)
    full = stated == _FULL or (stated != _LIMITED and (frame.format.name.startswith("yuvj") or frame.format.is_rgb))
    return frame.reformat(
        side,
        side,
        form,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        interpolation=scaling,
        src_color_range=_FULL if full else _LIMITED,
        dst_color_range=_FULL,
        threads=1,
    )


def _over_white(values: np.ndarray) -> np.ndarray:
    """Lay (h, w, 4) over white."""
    white = int(np.iinfo(values.dtype).max)
    alpha = values[:, :, 3:].astype(np.uint64)
    colour = values[:, :, :3].astype(np.uint64)
    return ((colour * alpha + white * (white - alpha) + white // 2) // white).astype(values.dtype)
