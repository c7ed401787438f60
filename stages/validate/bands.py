"""Whether the images have the bands that networks will see; the first stage that knows both says so."""

from __future__ import annotations

import pyarrow as pa

from reprise.artifacts.layout import MANIFEST
from reprise.config.errors import ValidationFailed

_ALIKE = {1, 3}  # grey is repeated for colour, and colour becomes luma


def require_bands(manifest: pa.Table, channels: int) -> None:
    """Stop the graph when images have other bands than `image.channels`.

    Args:
        manifest: the images.
        channels: bands that networks see.

    Raises:
        ValidationFailed: it says how many images have how many bands.
    """
    counts = {pair["values"]: pair["counts"] for pair in manifest["channels"].value_counts().to_pylist()}
    fitting = _ALIKE if channels in _ALIKE else {channels}
    others = {bands: count for bands, count in counts.items() if bands not in fitting}
    if not others:
        return
    found = ", ".join(
        f"{count:,} image{'s' if count > 1 else ''} of {bands} band{'s' if bands > 1 else ''}"
        for bands, count in sorted(counts.items())
    )
    wanted = f"Set image.channels to {next(iter(counts))}" if len(counts) == 1 else "Keep images of one kind"
    raise ValidationFailed(
        f"networks cannot see these images with image.channels {channels}",
        where=MANIFEST,
        found=found,
        fix=f"{wanted}, or choose {channels} bands of each image with source.bands.",
    )
