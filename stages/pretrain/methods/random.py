"""`random`: an untrained backbone, the floor of every comparison.

Everything that a probe finds here comes from the architecture and the pixels, not from learning.
"""

from __future__ import annotations

from stages.pretrain.method import Method


class RandomBackbone(Method):
    """Leaves the backbone as it was initialised."""

    gradient_free = True
