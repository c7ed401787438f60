"""`vit_mini`: a vision transformer of four blocks for small images, 460,000 weights.

It takes images of any side that its patches fill, and methods can hide patches or leave them out.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; see reprise/networks/small/small_vit.py.

Checked by: tests/reprise/networks/test_networks.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from reprise.config.params import StrictModel, meaning
from reprise.networks.backbone import Backbone, resolve_stem
from reprise.networks.small.small_vit import SmallViT


class ViTMiniParams(StrictModel):
    """Options of `vit_mini`."""

    patch_size: Annotated[
        Annotated[int, Field(ge=1, le=256)] | None,
        meaning(
            "Patches are squares of this side, which must divide the image's; null is 4 with the stem "
            "`small`, 16 with `imagenet`.",
            "pixels",
        ),
    ] = None
    width: Annotated[
        int, Field(ge=1, le=65536), meaning("Tokens have this many numbers, D, a multiple of `heads`.")
    ] = 96
    depth: Annotated[int, Field(ge=1, le=1000), meaning("The transformer has this many blocks.", "blocks")] = 4
    heads: Annotated[int, Field(ge=1, le=1024), meaning("Each block attends with this many heads.", "heads")] = 3
    pool: Annotated[
        Literal["token", "avg"], meaning("Features are the class token (`token`) or the mean of the patches (`avg`).")
    ] = "token"


class ViTMini(Backbone):
    """A SmallViT with patches that suit the image's side."""

    Params = ViTMiniParams

    def build(self, channels: int, size: int, stem: str) -> nn.Module:
        """Build the network: (B, C, S, S) -> (B, width) for any side that the patches fill."""
        params: ViTMiniParams = self.params
        patch_size = params.patch_size or (4 if resolve_stem(stem, size) == "small" else 16)
        return SmallViT(channels, size, patch_size, params.width, params.depth, params.heads, params.pool)
