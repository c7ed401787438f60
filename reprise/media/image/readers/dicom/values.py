"""The pixels of a DICOM frame as a TIFF of the values that they stand for; the rules for all images do the rest.

The modality's rescaling makes, for instance, Hounsfield units of stored numbers. What becomes black and white follows
from `source.range`, as for other images of more than 8 bits, unless a window is asked for. MONOCHROME1 is written as
min-is-white, so that it is inverted and noted like any other such image. The bytes depend on no library's compression.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.readers.dicom.header import check_start, opened, private_errors
from reprise.media.image.readers.tiff.write import write_tiff

_TYPES = (np.uint8, np.uint16, np.int16, np.int32)
Window = Literal["none", "file"] | tuple[float, float]  # none, the file's own, or centre and width


def undecodable_syntax(syntax: str) -> str | None:
    """Return the name of a way of writing pixels for which no decoder is installed, or None."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    name = UID(syntax).name if UID(syntax).is_transfer_syntax else "an unknown transfer syntax"
    try:
        return None if get_decoder(syntax).is_available else name
    except (NotImplementedError, ValueError, KeyError):
        return name


def frame_as_tiff(path: bytes | str, frame: int, rescale: bool, window: Window, most_pixels: int) -> bytes:
    """Return one frame as a TIFF without compression.

    Args:
        path: the file.
        frame: its number, from 0.
        rescale: whether stored numbers become the values of the modality.
        window: what of the values becomes black to white, 8 bits; none keeps the values.
        most_pixels: more are refused before they are decoded.

    Raises:
        ImageRefused: with a code of docs/reference/data-rules.md.
    """
    with opened(path) as file:
        check_start(file)
        with private_errors("its pixels"):
            import pydicom
            from pydicom.pixels import pixel_array

            header = pydicom.dcmread(file, stop_before_pixels=True)
            rows, columns = int(header.Rows), int(header.Columns)
            if rows * columns > most_pixels:
                found = f"{columns} x {rows} pixels"
                raise ImageRefused("too_many_pixels", where="a DICOM file", found=found, fix="Raise source.max_pixels.")
            file.seek(0)
            stored = pixel_array(file, index=frame)
            return _written(_of_frame(header, frame), stored, rescale, window)


def _of_frame(header: Any, frame: int) -> Any:
    """Return the header with what enhanced files say of all frames, or of this one, at its top where others say it."""
    groups = [
        *list(header.get("SharedFunctionalGroupsSequence") or [])[:1],
        *list(header.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1],
    ]
    for group in groups:
        for macro in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for stated in list(group.get(macro) or [])[:1]:
                for element in stated:
                    header[element.tag] = element
    return header


def _written(header: Any, stored: np.ndarray, rescale: bool, window: Window) -> bytes:
    from pydicom.pixels import apply_color_lut

    photometric = str(header.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, header)
    if stored.ndim == 3:
        return write_tiff(stored, packed=False)
    stored = _used_bits(header, stored)
    values, no_data = stored, _padding(header)
    if rescale:
        values, no_data = _rescaled(header, stored, no_data)
    if window != "none":
        values, no_data = _windowed(header, values, window), None
    return write_tiff(values[:, :, None], packed=False, min_is_white=photometric == "MONOCHROME1", no_data=no_data)


def _used_bits(header: Any, stored: np.ndarray) -> np.ndarray:
    """Clear the bits of native pixels beyond those that are used: old files keep overlays there."""
    used, most = int(header.get("BitsStored", header.BitsAllocated)), stored.dtype.itemsize * 8
    if stored.dtype.kind not in "ui" or not 0 < used < most:
        return stored
    shift = stored.dtype.type(most - used)
    return (stored << shift) >> shift  # signed numbers keep their sign


def _padding(header: Any) -> float | None:
    value = header.get("PixelPaddingValue")
    return None if value is None else float(value)


def _rescaled(header: Any, stored: np.ndarray, no_data: float | None) -> tuple[np.ndarray, float | None]:
    """Apply the modality's table or line; the type follows from what the stored bits can hold, not from this image."""
    from pydicom.pixels import apply_modality_lut

    if "ModalityLUTSequence" in header:
        return apply_modality_lut(stored, header), None
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    if not (math.isfinite(slope) and math.isfinite(intercept) and slope):
        found = f"a slope of {slope:g} and an intercept of {intercept:g}"
        raise ImageRefused("undecodable", where="a DICOM file", found=found, fix="Set source.options.rescale to false.")
    if (slope, intercept) == (1, 0):
        return stored, no_data
    no_data = None if no_data is None else no_data * slope + intercept
    if slope.is_integer() and intercept.is_integer() and stored.dtype.kind in "ui":
        bits = int(header.get("BitsStored", header.BitsAllocated))
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if stored.dtype.kind == "i" else (0, (1 << bits) - 1)
        ends = sorted((low * slope + intercept, high * slope + intercept))
        kind = next((t for t in _TYPES if np.iinfo(t).min <= ends[0] and ends[1] <= np.iinfo(t).max), None)
        if kind is not None:
            return (stored.astype(np.int64) * int(slope) + int(intercept)).astype(kind), no_data
    return (stored.astype(np.float64) * slope + intercept).astype(np.float32), no_data


def _windowed(header: Any, values: np.ndarray, window: Window) -> np.ndarray:
    """Map values to 0 to 255 by a window (DICOM PS3.3, C.11.2.1.2, C.11.2.1.3); of several in the file, by the first.

    Args:
        header: of the file.
        values: (h, w), rescaled.
        window: the file's, or centre and width.
    """
    centre, width = _window_of(header) if isinstance(window, str) else window
    function = str(header.get("VOILUTFunction") or "LINEAR") if isinstance(window, str) else "LINEAR"
    x = values.astype(np.float64)
    if function == "SIGMOID":
        shades = 255.0 / (1.0 + np.exp(np.clip(-4.0 * (x - centre) / width, -700, 700)))
    elif function == "LINEAR_EXACT":
        shades = ((x - centre) / width + 0.5) * 255.0
    elif width > 1:
        shades = ((x - (centre - 0.5)) / (width - 1.0) + 0.5) * 255.0
    else:  # a step
        shades = np.where(x > centre - 0.5, 255.0, 0.0)
    return np.floor(np.clip(shades, 0, 255) + 0.5).astype(np.uint8)


def _window_of(header: Any) -> tuple[float, float]:
    first = [header.get(name) for name in ("WindowCenter", "WindowWidth")]
    centre, width = (
        float(v[0] if isinstance(v, list | tuple) or hasattr(v, "__iter__") else v) if v is not None else math.nan
        for v in first
    )
    if not (math.isfinite(centre) and math.isfinite(width) and width > 0):
        fix = "Set source.options.window to none or given."
        raise ImageRefused("missing_window", where="a DICOM file", found="no window in the file", fix=fix)
    return centre, width
