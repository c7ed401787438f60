"""`weight_norms`: how long the weights of the network are, altogether and layer by layer.

Source: weights in front of a normalisation can be scaled without effect, so that their length decides how far a step
turns them: van Laarhoven, "L2 Regularization versus Batch and Weight Normalization", 2017.

Idea: under weight decay the lengths settle where decay and growth balance. Lengths that still rise or fall tell that
the effective learning rate does, too; those of a layer that does not learn stay.

Figures: the Euclidean length of all weights of the `backbone` and of the `heads`, that is, of all other weights that
learn; with `by_layer` also of each layer of the backbone, the lowest first (`layer_01`).

Checked by: tests/stages/pretrain/monitoring/test_watches.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import torch
from torch import Tensor

from reprise.config.params import meaning
from reprise.networks.weights.layers import layers_of
from reprise.training.watch import Look, Watch, WatchParams


class WeightNormsParams(WatchParams):
    """Parameters of `weight_norms`."""

    by_layer: Annotated[bool, meaning("Each layer of the backbone has a figure of its own, too.")] = False


class WeightNorms(Watch):
    """Euclidean lengths of weights."""

    Params = WeightNormsParams
    params: WeightNormsParams

    def look(self, look: Look) -> dict[str, float]:
        """Measure the backbone, the heads, and the layers where they are asked for."""
        backbone = dict(look.backbone.named_parameters())
        own = {id(weight) for weight in backbone.values()}
        heads = [p for p in look.method.parameters() if p.requires_grad and id(p) not in own]
        found = {"backbone": length(backbone.values())}
        if heads:
            found["heads"] = length(heads)
        if self.params.by_layer:
            layers = enumerate(layers_of(look.backbone), 1)
            found |= {f"layer_{i:02d}": length(backbone[name] for name in layer) for i, layer in layers}
        return found


def length(weights: Iterable[Tensor]) -> float:
    """Return the Euclidean length of some weights, taken together."""
    squares = [weight.detach().double().square().sum() for weight in weights]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
