"""Batch normalisation on a head's output, without scale and shift: SimSiam's and MoCo v3's last layer.

It stands beside the projector and not in it, so that a saved projector is always a plain one.
"""

from __future__ import annotations

from torch import nn


class OutputNorm(nn.BatchNorm1d):
    """(B, d) to mean 0 and variance 1 over the batch."""

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)
