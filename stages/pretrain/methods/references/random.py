"""`random`: an untrained backbone, the floor of every comparison.

Everything that a probe finds here comes from the architecture and the pixels, not from learning. Methods that bring a
transformer of their own (`msn`, `simmim`) have another floor than `train.backbone`: `transformer` is theirs.

Source: no publication; the network as it is before training.

Checked by: tests/stages/pretrain/test_run.py; docs/measurements/results.md; docs/measurements/worth-it.md.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from stages.pretrain.method import Method
from stages.pretrain.params import MethodParams


class RandomParams(MethodParams):
    """Parameters of `random`."""

    transformer: Annotated[
        Literal["token", "avg"] | None,
        meaning(
            "An untrained `vit_mini`, read at its `token` or its patches' `avg`, takes the place of "
            "train.backbone; null keeps that."
        ),
    ] = None


class RandomBackbone(Method):
    """Leave the backbone as it was initialised."""

    Params = RandomParams
    modalities = (IMAGE, VOLUME)
    gradient_free = True

    @classmethod
    def own_backbone(cls, params: RandomParams) -> tuple[str, dict[str, Any]] | None:  # type: ignore[override]
        """Return None, or the small transformer with the shape that `msn` and `simmim` have by default."""
        return None if params.transformer is None else ("vit_mini", {"pool": params.transformer})
