"""`patch_dictionary`: whitened patches against a dictionary; the network that the method `patch_kmeans` fills.

Source: Coates, Ng, Lee, AISTATS 2011; see reprise/networks/patch_dictionary.py.

Checked by: tests/reprise/networks/test_networks.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import nn

from reprise.config.params import StrictModel, meaning
from reprise.networks.backbone import Backbone
from reprise.networks.patch_dictionary import PatchDictionary


class PatchDictionaryParams(StrictModel):
    """Options of `patch_dictionary`."""

    patches: Annotated[
        int,
        Field(ge=1, le=1_000_000),
        meaning("The dictionary has this many patches, K; features have 4 K numbers.", "patches"),
    ] = 256
    patch_size: Annotated[int, Field(ge=1, le=256), meaning("Patches are squares of this side, P.", "pixels")] = 6
    side: Annotated[
        Annotated[int, Field(ge=1, le=1024)] | None,
        meaning("Larger images are scaled down to this side first; null keeps them.", "pixels"),
    ] = None


class PatchDictionaryBackbone(Backbone):
    """Nothing in it is trained by gradients, and it has no stem."""

    Params = PatchDictionaryParams
    pooling: ClassVar[str] = "quadrants"

    def build(self, channels: int, size: int, stem: str) -> nn.Module:
        """Build the network with an empty dictionary: (B, C, S, S) -> (B, 4 K) for any side of P or more."""
        return PatchDictionary(self.params.patches, self.params.patch_size, channels, self.params.side)
