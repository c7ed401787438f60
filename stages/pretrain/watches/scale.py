"""`scale`: whether signals keep their size on the way through the backbone.

Source: Roberts, Yaida, Hanin, "The Principles of Deep Learning Theory", 2022, chapters 3 to 5.

Idea: from layer to layer the mean square of the pre-activations is multiplied by a factor that the initialisation
decides. At its critical value (weights of variance 2 / width before a ReLU, biases of 0) it is 1. Below, signals die
out with the depth; above, they explode; gradients do the same. Normalisation and residual branches keep the size in
their own ways, which the figures show as well.

Figures, over all convolutions and linear layers in the order in which a batch meets them, with q the mean square of
what a layer gives out: `growth`, the factor by which q grows from a layer to the next one, from the slope of log q;
`first` and `last`, the q of the two ends. The network is in the mode of training.

Checked by: tests/stages/pretrain/monitoring/test_watches.py.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from reprise.training.watch import Look, Watch


class Scale(Watch):
    """Mean squares of the pre-activations."""

    def look(self, look: Look) -> dict[str, float]:
        """Pass the first view of the batch once, in full precision."""
        with torch.no_grad():
            return growth(mean_squares(look.backbone, look.batch.views[0].float()))


def mean_squares(network: nn.Module, x: Tensor) -> list[float]:
    """Return the mean square of what each layer with a matrix of weights gives out, in the order of the calls.

    Args:
        network: any; its hooks are taken off afterwards.
        x: its input.
    """
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            found.append(output.detach().double().square().mean())

    layers = [m for m in network.modules() if any(p.ndim > 1 for p in m.parameters(recurse=False))]
    handles = [layer.register_forward_hook(keep) for layer in layers if not list(layer.children())]
    try:
        network(x)
    finally:
        for handle in handles:
            handle.remove()
    return [float(q) for q in found]


def growth(squares: list[float]) -> dict[str, float]:
    """Return the growth from layer to layer, by least squares on the logarithms, and the two ends."""
    if not squares:
        return {}
    found = {"first": squares[0], "last": squares[-1]}
    if len(squares) < 2 or min(squares) <= 0:
        return found
    middle = (len(squares) - 1) / 2
    slope = sum((i - middle) * math.log(q) for i, q in enumerate(squares)) / sum(
        (i - middle) ** 2 for i in range(len(squares))
    )
    return found | {"growth": math.exp(slope)}
