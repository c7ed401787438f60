"""Local features: what a backbone knows of each place of an image, before pooling makes one vector of them.

A backbone gives them by a method `forward_features`, in one of the forms that timm's networks have: a map (B, D, h, w),
a map (B, h, w, D), or tokens (B, P + h w, D) of which the first P stand for no place (class token, registers). Here
they all become (B, D, h, w). Places divide the image evenly, unless the network has a method `local_stride` that states
their distance in pixels for images of a side.

| backbone | local features | stride in pixels | its output is |
|---|---|---|---|
| `resnet_tiny`, `resnet20` | the last map | 4 | their mean |
| `vit_mini` | the tokens of patches after the last normalisation | the patch | the class token; their mean with `avg` |
| `patch_dictionary` | the triangle code at every position | 1 | their means over four quadrants |
| networks of timm | what `forward_features` gives | up to the network, mostly 14, 16 or 32 | up to the network |

Layers behind the pooling (ConvNeXt has a normalisation there, MobileNet a wider layer) are not applied to places.

Shape legend: B images, C channels, S side of the images, D width, h x w places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_CLOSE = 1e-4  # relative to the largest number of the output


@dataclass(frozen=True)
class Places:
    """Where the local features of a network lie in its images.

    Attributes:
        width: D, numbers of a local feature.
        rows, columns: h and w.
        stride: distance of neighbouring places in pixels of the image that the network sees.
        mean_is_output: whether the network's own features are the mean of its local ones.
    """

    width: int
    rows: int
    columns: int
    stride: float
    mean_is_output: bool

    def centre(self, index: int, side: int) -> float:
        """Return the distance of a place's centre from the image's border in pixels.

        Args:
            index: of the row or column.
            side: S, of the image in pixels.
        """
        return (side - self.stride * (self.rows - 1)) / 2 + self.stride * index


def local_features(network: nn.Module, x: Tensor) -> Tensor | None:
    """Compute local features: (B, C, S, S) -> (B, D, h, w).

    Returns:
        None where the network has none, or none that lie on a square grid.
    """
    forward = getattr(network, "forward_features", None)
    found = forward(x) if forward is not None else None
    if not isinstance(found, Tensor) or found.ndim not in (3, 4):
        return None
    if found.ndim == 4:
        return found.permute(0, 3, 1, 2) if _channels_last(network, found) else found
    tokens = found[:, _prefix(network) :]
    side = math.isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).unflatten(2, (side, side)) if side and side * side == tokens.shape[1] else None


def places_of(network: nn.Module, channels: int, size: int) -> Places | None:
    """Try a network on one image, the same noise each time; None where it has no local features.

    Args:
        network: in evaluation mode, on any device.
        channels: C.
        size: S in pixels.
    """
    noise = torch.rand((1, channels, size, size), generator=torch.Generator().manual_seed(0)) * 2 - 1
    weight = next((value for value in network.state_dict().values() if value.is_floating_point()), noise)
    with torch.no_grad():
        x = noise.to(weight.device)
        found = local_features(network, x)
        if found is None:
            return None
        output, mean = network(x), found.mean(dim=(2, 3))
    same = output.shape == mean.shape and bool((output - mean).abs().max() <= _CLOSE * output.abs().max())
    _, width, rows, columns = found.shape
    stated = getattr(network, "local_stride", None)
    return Places(width, rows, columns, float(stated(size)) if stated is not None else size / rows, same)


def _prefix(network: nn.Module) -> int:
    """Return how many of the first tokens stand for no place; a few networks have a class token and no count of it."""
    stated = getattr(network, "num_prefix_tokens", None)
    return int(stated) if stated is not None else int(getattr(network, "cls_token", None) is not None)


def _channels_last(network: nn.Module, found: Tensor) -> bool:
    """Return whether a map of four dimensions is (B, h, w, D), as Swin has it."""
    stated = getattr(network, "output_fmt", None)
    if stated is not None:
        return str(stated) == "NHWC"
    width = getattr(network, "num_features", found.shape[1])
    return bool(found.shape[1] != width == found.shape[3])
