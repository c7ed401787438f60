"""The modality of a sample: the one place that decides it.

The imports are written out, not built from the name: the fingerprint of a stage's code follows imports in the source.
"""

from __future__ import annotations

from reprise.media.modality import Modality

IMAGE = "image"
NAMES = (IMAGE,)


def modality(name: str = IMAGE) -> Modality:
    """Return the modality of this name. Until the manifest has a column for it, every sample is an image.

    Raises:
        ValueError: there is no such modality.
    """
    if name == IMAGE:
        from reprise.media.image.image import Image

        return Image()
    raise ValueError(f"no modality '{name}'; there is {', '.join(NAMES)}")
