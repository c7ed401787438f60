"""`vit_mini`: a vision transformer of four blocks for small images, 460,000 weights.

It takes images of any side that its patches fill, and methods can hide patches or leave them out.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; see reprise/networks/small_vit.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from reprise.config.params import StrictModel
from reprise.networks.backbone import Backbone, resolve_stem
from reprise.networks.small_vit import SmallViT


class ViTMiniParams(StrictModel):
    """patch_size: in pixels, must divide the image's side; null: 4 with the stem `small`, 16 with `imagenet`.

    width: D, a multiple of heads. depth: blocks. pool: `token` (the class token) or `avg` (the mean of the patches).
    """

    patch_size: Annotated[int, Field(ge=1, le=256)] | None = None
    width: Annotated[int, Field(ge=1, le=65536)] = 96
    depth: Annotated[int, Field(ge=1, le=1000)] = 4
    heads: Annotated[int, Field(ge=1, le=1024)] = 3
    pool: Literal["token", "avg"] = "token"


class ViTMini(Backbone):
    """A SmallViT with patches that suit the image's side."""

    Params = ViTMiniParams

    def build(self, channels: int, size: int, stem: str) -> nn.Module:
        """Build the network: (B, C, S, S) -> (B, width) for any side that the patches fill."""
        params: ViTMiniParams = self.params
        patch_size = params.patch_size or (4 if resolve_stem(stem, size) == "small" else 16)
        return SmallViT(channels, size, patch_size, params.width, params.depth, params.heads, params.pool)
