"""The protocol of a backbone, and `build_backbone`, which builds every backbone by its name.

A backbone is one file in `reprise/networks/backbones`, or in `plugins/backbones` of the user's project; its name is the
file's. The file defines one subclass of `Backbone`, which says how the network is built. A name that no file has is
looked up in timm (`backbones/timm.py`).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from reprise.config.errors import BackboneError
from reprise.config.params import Problem, StrictModel, parse, problems_of
from reprise.config.plug_ins.registry import load_class
from reprise.media.image.transform import CROP_MODES, INTERPOLATIONS, TRIANGLE
from reprise.media.lookup import IMAGE

if TYPE_CHECKING:
    from torch import nn

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
SMALL_SIDE = 64  # pixels: up to this side a 7x7 stride-2 stem with pooling would throw most of the image away


class NoOptions(StrictModel):
    """The options of a backbone that has none."""


class Backbone(ABC):
    """How one network is built.

    Attributes:
        Params: the typed options.
        pooling: how features of places become one vector an image; config.json states it.
        modalities: the kinds of samples that the network sees; `volume` is (B, C, S, S, S) in place of (B, C, S, S).
        name: the name that was asked for; only `timm` needs it.
        params: the options, an instance of `Params`.
    """

    Params: ClassVar[type[StrictModel]] = NoOptions
    pooling: ClassVar[str] = "average"
    modalities: ClassVar[tuple[str, ...]] = (IMAGE,)

    def __init__(self, name: str, params: Any) -> None:
        self.name, self.params = name, params

    @abstractmethod
    def build(self, channels: int, size: int, stem: str) -> nn.Module:
        """Build the untrained network; initial weights come from torch's global generator.

        Args:
            channels: C, bands of the images.
            size: S, the side of the images in pixels.
            stem: `small`, `imagenet` or `auto`; see `resolve_stem`. Networks with one stem only ignore it.

        Returns:
            A module with the attribute `num_features` (d) that maps normalised images (B, C, S, S) to features (B, d).
            Local features for dense probes come from a method `forward_features`, as `local_features` describes.

        Raises:
            BackboneError: the network cannot be built for such images.
        """

    def made_for(self) -> dict[str, Any]:
        """Return what foreign weights of this network expect, as timm's `default_cfg` states it.

        Keys: `input_size` (C, S, S), `mean` and `std` per channel on the 0..1 scale, `classifier` (name of the layer or
        layers that are left out). Keys that are missing have ImageNet's values. `crop_pct`, `interpolation` and
        `crop_mode` say how images are cut and scaled; where they are missing, the whole image is, by a triangle.
        """
        return {}


def backbone_named(name: str, options: dict[str, Any] | None = None) -> Backbone:
    """Look a backbone up and check its options, without building it.

    Args:
        name: a plug-in's name ("resnet_tiny") or timm's ("resnet50").
        options: the values of its `Params`.

    Raises:
        BackboneError: timm does not know the name either.
        ParameterError: wrong options, or a plug-in that cannot be imported.
    """
    backbone_class = _class_named(name)
    return backbone_class(name, parse(backbone_class.Params, options or {}, f"options of the backbone {name}"))


def option_problems(name: str, options: dict[str, Any]) -> list[Problem]:
    """Find what is wrong with the options of a backbone that did not come from params.yaml; see `backbone_named`."""
    return problems_of(_class_named(name).Params, options, "options")


def _class_named(name: str) -> type[Backbone]:
    if not re.fullmatch(_NAME, name) or ".." in name:
        raise BackboneError(
            "unknown backbone",
            where="train.backbone",
            found=name,
            fix="Name a plug-in or a network of timm, such as resnet18; paths and addresses are never opened.",
        )
    return load_class("backbones", name, Backbone, "train.backbone")  # type: ignore[type-abstract]


def published_preparation(stated: dict[str, Any], name: str) -> dict[str, Any]:
    """Return how images are cut and scaled for published weights: `crop_pct`, `interpolation` and `crop_mode`.

    Args:
        stated: what `Backbone.made_for` returns.
        name: of the backbone, for the message.

    Raises:
        BackboneError: the weights ask for a way that is not built.
    """
    interpolation, mode = stated.get("interpolation") or TRIANGLE, stated.get("crop_mode") or "center"
    share = float(stated.get("crop_pct") or 1.0)
    if interpolation not in INTERPOLATIONS or mode not in CROP_MODES or share > 1:
        raise BackboneError(
            "the published weights ask for images that are prepared in a way that is not built",
            where=name,
            found=f"interpolation '{interpolation}', crop mode '{mode}', crop_pct {share:g}",
            fix=f"Choose a backbone with one of {', '.join(INTERPOLATIONS)}, {' or '.join(CROP_MODES)}, and at most 1.",
        )
    return {"crop_pct": share, "interpolation": interpolation, "crop_mode": mode}


def for_bands(values: Sequence[float], channels: int) -> list[float]:
    """Bring numbers for red, green and blue to other bands, as timm does it with the weights of the first layer.

    Args:
        values: three numbers.
        channels: C; grey gets their mean, and more bands repeat them in turn.
    """
    if channels == 1:
        return [float(sum(values) / len(values))]
    return [float(values[band % len(values)]) for band in range(channels)]


def build_backbone(
    architecture: str, channels: int, size: int, stem: str = "auto", options: dict[str, Any] | None = None
) -> nn.Module:
    """Build an untrained backbone; initial weights come from torch's global generator.

    Args:
        architecture: a plug-in's name ("resnet_tiny") or timm's ("resnet50").
        channels: C, bands of the images.
        size: S, the side of the images in pixels.
        stem: see `resolve_stem`.
        options: the values of the backbone's `Params`.

    Returns:
        A module that maps normalised images (B, C, S, S) to features (B, num_features).

    Raises:
        BackboneError: an unknown name, or a network that cannot be built for such images.
        ParameterError: wrong options, or a plug-in that cannot be imported.
    """
    return backbone_named(architecture, options).build(channels, size, stem)


def resolve_stem(stem: str, size: int) -> str:
    """Choose the first layers of a network that has two kinds of them.

    Args:
        stem: `imagenet`: the network's own; `small`: a 3x3 stride-1 convolution without pooling in its place (SimCLR,
            appendix B.9), or patches of 4 instead of 16 pixels; `auto`: `small` for images up to SMALL_SIDE.
        size: the side of the images in pixels.

    Returns:
        `small` or `imagenet`.
    """
    return ("small" if size <= SMALL_SIDE else "imagenet") if stem == "auto" else stem
