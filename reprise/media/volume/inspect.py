"""Untrusted bytes -> one volume, or the reason why they are refused."""

from __future__ import annotations

import hashlib

import numpy as np

from reprise.config.errors import ImageRefused
from reprise.media.image.readers.raster import Raster
from reprise.media.image.readers.refusal import looks_like, picture_format
from reprise.media.image.scale import observe
from reprise.media.modality import Examined, Limits
from reprise.media.volume.fields import COLUMNS, NPY_MAGIC
from reprise.media.volume.nifti import begins_like_nifti, read_nifti
from reprise.media.volume.npy import read_npy
from reprise.media.volume.raster import Block

BANDS, INCOMPLETE = "bands", "not_finite"  # codes of what was changed, as of images
CONSTANT, EMPTY_SLICES, ANISOTROPIC = "constant", "empty_slices", "anisotropic"  # notes on what is odd in a volume
MOST_EMPTY = 0.5  # share of the slices of one value above which it is noted
MOST_ANISOTROPIC = 2.0  # the largest spacing divided by the smallest above which it is noted


def looks_like_volume(data: bytes) -> bool:
    """Return whether bytes begin like a `.npy` or a NIfTI file."""
    return data[:6] == NPY_MAGIC or begins_like_nifti(data)


def read_volume(data: bytes, where: str, limits: Limits | None) -> Block:
    """Read a file of any format.

    Args:
        data: the file.
        where: its name, for messages.
        limits: of the data set; None for a file that was inspected already.

    Raises:
        ImageRefused: empty, not_a_volume, or as the readers of the formats.
        MachineError: what reads the format is not installed.
    """
    if not data:
        raise ImageRefused("empty", where=where, found="0 bytes", fix="Repair or remove it, then run again.")
    if data[:6] == NPY_MAGIC:
        return read_npy(data, where, limits)
    if begins_like_nifti(data):
        return read_nifti(data, where, limits)
    raise ImageRefused(
        "not_a_volume",
        where=where,
        found=_what_else(data),
        fix="Convert it to .npy or NIfTI, or remove it: source.modality is volume.",
    )


def inspect_volume(data: bytes, where: str, limits: Limits) -> Examined:
    """Read a file completely and describe the volume in it.

    Args:
        data: the file.
        where: its name, for messages.
        limits: files beyond them are refused, and only the channels that they choose are taken.

    Raises:
        ImageRefused: as `read_volume`, and missing_bands or no_values.
    """
    block, choices = read_volume(data, where, limits), limits.choices
    changes, bands, present = dict(block.changes), None, block.values.shape[3]
    values = block.values
    if choices.bands and list(choices.bands) != list(range(1, present + 1)):
        bands = ",".join(map(str, choices.bands))
        values = chosen_channels(values, bands, where)
        changes[BANDS] = f"channels {bands} of {present} were taken"
    observed = observe(Raster(values), choices)
    if observed is not None and observed.incomplete:
        if not np.isfinite(values).any():
            raise ImageRefused(
                "no_values", where=where, found="no value that is a finite number", fix="Repair or remove it."
            )
        changes[INCOMPLETE] = "infinite values, or values that are no number, become black or white"
    changes |= _oddities(values, block.spacing)
    depth, height, width, channels = values.shape
    facts = dict.fromkeys(COLUMNS) | {
        "width": width,
        "height": height,
        "channels": channels,
        "format": block.format,
        "plain": False,
        "pixels": digest_of(values),
        "bands": bands,
        "sample": None if observed is None else values.dtype.name,
        "depth": depth,
        "spacing": None if block.spacing is None else ",".join(f"{size:g}" for size in block.spacing),
    }
    return Examined(facts, "", observed, changes)


def chosen_channels(values: np.ndarray, bands: str | None, where: str) -> np.ndarray:
    """Select channels of (D, H, W, C) values.

    Args:
        values: as a file holds them.
        bands: numbers from 1, with commas; None takes all.
        where: name of the file, for messages.

    Raises:
        ImageRefused: a channel that the volume does not have.
    """
    if bands is None:
        return values
    wanted = [int(number) - 1 for number in bands.split(",")]
    if max(wanted) >= values.shape[3]:
        raise ImageRefused(
            "missing_bands",
            where=where,
            found=f"{values.shape[3]} channels, and {bands} are wanted",
            fix="Choose others with source.bands in params.yaml.",
        )
    return np.ascontiguousarray(values[..., wanted])


def digest_of(values: np.ndarray) -> str:
    """Compute the SHA-256 of values, their type and shape: equal for the same volume in files of all formats."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"volume {little.dtype.str} {little.shape}\n".encode())
    digest.update(little.data)
    return digest.hexdigest()


def _oddities(values: np.ndarray, spacing: tuple[float, float, float] | None) -> dict[str, str]:
    """Note what makes a volume doubtful; it is taken in as it is."""
    notes = {}
    if (values == values.reshape(-1)[0]).all():
        notes[CONSTANT] = "all of its values are equal"
    else:
        flat = values.reshape(len(values), -1)
        empty = int((flat == flat[:, :1]).all(axis=1).sum())
        if empty > MOST_EMPTY * len(flat):
            notes[EMPTY_SLICES] = f"{empty} of its {len(flat)} slices have one value throughout"
    if spacing is not None and max(spacing) > MOST_ANISOTROPIC * min(spacing):
        listed = " x ".join(f"{size:g}" for size in spacing)
        notes[ANISOTROPIC] = f"its spacing is {listed}, and it is scaled to a cube as if it were equal"
    return notes


def _what_else(data: bytes) -> str:
    picture = picture_format(data)
    return f"a picture ({picture})" if picture else looks_like(data).replace("image format", "format of volumes")
