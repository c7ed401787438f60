"""What the published weights of an architecture were made for: the side, colours and preparation of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reprise.networks.backbone import backbone_named, for_bands, published_preparation

# What most weights expect that say nothing of it: ImageNet's means and deviations at 224 pixels.
_SIDE = 224
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class MadeFor:
    """The images that the published weights of an architecture expect.

    Attributes:
        size: side in pixels.
        mean, std: per channel, on the 0..1 scale.
        classifier: names of the layers that are left out.
        preparation: how images are cut and scaled (`crop_pct`, `interpolation`, `crop_mode`).
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classifier: tuple[str, ...]
    preparation: dict[str, Any]

    def entries(self, channels: int) -> dict[str, Any]:
        """Return the entries of config.json that say it, for images of so many channels."""
        return {
            "input_size": self.size,
            "channels": channels,
            "mean": for_bands(list(self.mean), channels),
            "std": for_bands(list(self.std), channels),
            **self.preparation,
        }


def made_for(architecture: str, size: int | None = None) -> MadeFor:
    """Return what the published weights of an architecture expect.

    Args:
        architecture: the name of a backbone.
        size: side in pixels that replaces the published one.

    Raises:
        BackboneError: no backbone has that name, or its images are prepared in a way that is not built.
    """
    stated = backbone_named(architecture).made_for()
    classifier = stated.get("classifier") or ()
    return MadeFor(
        size or int(stated.get("input_size", (3, _SIDE, _SIDE))[-1]),
        tuple(stated.get("mean") or _MEAN),
        tuple(stated.get("std") or _STD),
        (classifier,) if isinstance(classifier, str) else tuple(classifier),
        published_preparation(stated, architecture),
    )
