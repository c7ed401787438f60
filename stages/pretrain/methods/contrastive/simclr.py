"""`simclr`: a simple framework for contrastive learning.

Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020. Authors' code: google-research/simclr (its loss is the sum of two directional means, twice the paper's).

Idea: two random views of an image should be closer to each other than to all other images of the batch; a
projector takes the loss, the backbone before it is what one keeps.

Deviations: no blur on small images, as in the paper's CIFAR-10 experiments (appendix B.9); three projector layers as in
the authors' second version (two in the first). The optimiser is `train`'s unless `recipe: paper` asks for LARS, which
pays from batches of thousands on. Widths of the paper: 2048-128.
"""

from __future__ import annotations

from typing import ClassVar

from stages.pretrain.params import RecipeParams
from stages.pretrain.parts.contrastive import ContrastiveParams, TwoViewContrast


class SimCLRParams(ContrastiveParams, RecipeParams):
    """Parameters of `simclr`."""

    PAPER: ClassVar = {"optimizer": "lars", "learning_rate": 0.3, "weight_decay": 1e-6, "warmup_epochs": 10}


class SimCLR(TwoViewContrast):
    """NT-Xent on random batches."""

    Params = SimCLRParams
