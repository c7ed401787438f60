"""The modality of a data set: the one place that decides which code reads, stores and shows its samples.

A data set has one modality. `source.modality` of params.yaml chooses it, the manifest and the index of the shards state
it where it is not `image`, and every stage asks `modality` for its code. The imports are written out, not built from
the name: the fingerprint of a stage's code follows imports in the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from reprise.media.modality import Modality

IMAGE, VOLUME = "image", "volume"
NAMES = (IMAGE, VOLUME)
READERS = ("text", "video")  # folders beside this file that are no modality: what they read becomes samples of one

if TYPE_CHECKING:
    ModalityName = str
else:
    ModalityName = Literal[NAMES]  # as a parameter: any of these names


def modality(name: str = IMAGE) -> Modality:
    """Return the modality of this name.

    Raises:
        ValueError: there is no such modality.
    """
    if name == IMAGE:
        from reprise.media.image.image import Image

        return Image()
    if name == VOLUME:
        from reprise.media.volume.volume import Volume

        return Volume()
    raise ValueError(f"no modality '{name}'; there is {', '.join(NAMES)}")
