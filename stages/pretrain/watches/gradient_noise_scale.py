"""`gradient_noise_scale`: at which batch size the noise of the gradient is as large as the gradient.

Source: McCandlish, Kaplan, Amodei et al., "An Empirical Model of Large-Batch Training", 2018, appendix A.1.

Idea: the gradient of a batch is the true one and noise, which falls with the number of images. With G the true gradient
and S the covariance of the gradient of one image, the simple noise scale is tr(S) / |G|^2 images. Far smaller batches
waste no image and take many steps; far larger ones average noise away that no longer matters. It usually grows while a
network learns.

Estimate: one batch is cut into k parts of b images, with gradients g_i and mean g. Then

    tr(S) ~ b / (k - 1)  sum over i of |g_i - g|^2        |G|^2 ~ |g|^2 - tr(S) / (k b)

which are the paper's two equations with a small batch of b and a large one of k b images. Both are unbiased, and their
ratio is noisy: look at its course, not at a single value.

Deviations: the batch is the same at every look, and the gradient is taken before clipping and freezing. A loss that
compares images compares those of one part, so for such a loss the figure is about batches of b images and more.

Figures: `images`, the noise scale, left out where |G|^2 is not above 0; `gradient`, the length of the mean gradient g;
`noise`, the square root of tr(S).

Checked by: tests/stages/pretrain/monitoring/test_watches.py.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.watch import Look, Watch, WatchParams
from stages.pretrain.parts.pairs import parts_of


class NoiseScaleParams(WatchParams):
    """Parameters of `gradient_noise_scale`."""

    parts: Annotated[
        int,
        Field(ge=2, le=256),
        meaning("The batch is cut into this many parts, or fewer where a method needs larger ones.", "parts"),
    ] = 8


class GradientNoiseScale(Watch):
    """Gradients of the parts of a batch, compared with their mean."""

    Params = NoiseScaleParams
    params: NoiseScaleParams

    def look(self, look: Look) -> dict[str, float]:
        """Take the gradient of each part."""
        smallest = max(2, int(look.method.smallest_batch))  # of one image there is no batch statistic
        count = min(self.params.parts, len(look.batch.rows) // (smallest + smallest % 2))
        if count < 2:
            return {}
        gradients = [look.gradient(part) for part in parts_of(look.batch, count)]
        return noise_scale(gradients, len(look.batch.rows) / count)


def noise_scale(gradients: list[Tensor], images: float) -> dict[str, float]:
    """Estimate the noise scale from the gradients of parts of a batch.

    Args:
        gradients: (p,) of each of at least two parts.
        images: in a part.
    """
    count, mean = len(gradients), torch.stack(gradients).double().mean(dim=0)
    spread = sum(float((gradient.double() - mean).square().sum()) for gradient in gradients)
    noise = images * spread / (count - 1)
    signal = float(mean.square().sum()) - noise / (count * images)
    found = {"gradient": float(mean.norm()), "noise": noise**0.5}
    return found | ({"images": noise / signal} if signal > 0 else {})
