"""`simclr`: a simple framework for contrastive learning.

Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020. Authors' code: google-research/simclr (its loss is the sum of two directional means, twice the paper's).

Idea: two random views of an image should be closer to each other than to all other images of the batch; a
projector takes the loss, the backbone before it is what one keeps.

Deviations: SGD or AdamW instead of LARS (which pays from batches of thousands on); no blur on small images, as in
the paper's CIFAR-10 experiments (appendix B.9).
"""

from __future__ import annotations

from stages.pretrain.parts.contrastive import TwoViewContrast


class SimCLR(TwoViewContrast):
    """NT-Xent on random batches."""
