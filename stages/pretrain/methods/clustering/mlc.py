"""`mlc`: manifold linearizing and clustering; each image has a neighbourhood of its own instead of a cluster.

Source: Ding, Tong, Chan, Dai, Ma, Haeffele, "Unsupervised Manifold Linearizing and Clustering", ICCV 2023. The
authors' code could not be read; the method was read in the follow-up with common authors, LeslieTrue/CPP (Chu et al.,
ICLR 2024).

Idea: two heads give features z and codes c, both of length one. The table |c_i . c_j| of a batch, made doubly
stochastic by Sinkhorn's scaling at the temperature eta, says which images belong together, and its columns play the
clusters in the coding rate reduction of MCR2, so that no number of clusters is needed to train:

    loss = -R(Z) + R_c(Z, Pi) + sparsity / 2 * |Pi|^2 - invariance * mean cosine of the two views

In the first share of the training (`warmup_for`) only -R(Z) - invariance * mean cosine counts; then the head of the
features is copied into the head of the codes, whose table is therefore that of the features at first. z and c of an
image are the means over its two views, brought to length one again. Embedding writes the codes, and the miner
`spectral_membership` clusters the same table of all training images.

Deviations: two views and their agreement are those of `nmce`; the follow-up trains on fixed features, and how the
paper uses its views could not be verified. Gradients pass through all scalings, where the follow-up stops them at
those of columns. Both heads are whole multilayer perceptrons; there a hidden layer is common. The table is of the
images of a batch, so a step factorises as many d x d matrices as it has images: keep `output` small. Follow-up: CLIP
features, batch 1,024, width 128, precision 0.1, eta 0.175, 5 half-steps, sparsity 0.05.

Shape legend: B batch, d features and codes.

Checked by: tests/stages/pretrain/methods/test_learned_clusters.py; docs/measurements/learned-clusters.md.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.config.texts.text_forms import wrong_value
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import CODES, Assigner, Classifier, Projector
from reprise.objectives.coding_rate import coding_rate, rate_in_clusters
from reprise.objectives.precision import full_precision
from reprise.objectives.sinkhorn import doubly_stochastic
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import HiddenWidth, Layers, MethodParams, OutputWidth


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise wrong_value("must be odd: rows sum to 1 only then", f" Choose {value - 1} or {value + 1}.")
    return value


class MLCParams(MethodParams):
    """Parameters of `mlc`."""

    warmup_for: Annotated[
        float, Field(ge=0, le=1), meaning("Features are trained without codes in this share of the training.")
    ] = 0.5
    eta: Annotated[
        float, Field(gt=0, le=10), meaning("Affinities are divided by this temperature; lower is sparser.")
    ] = 0.175
    half_steps: Annotated[
        int,
        Field(ge=1, le=101),
        AfterValidator(_odd),
        meaning("Rows and columns are scaled in turn this often, an odd number, so that rows sum to 1.", "scalings"),
    ] = 5
    sparsity: Annotated[float, Field(ge=0), meaning("The squared entries of the table have half this weight.")] = 0.05
    invariance: Annotated[
        float, Field(ge=0), meaning("The agreement of the two views of an image has this weight in the loss.")
    ] = 30.0
    precision: Annotated[
        float, Field(gt=0), meaning("Coding rates are taken at this squared precision (epsilon squared).")
    ] = 0.1
    hidden: HiddenWidth = 256
    output: OutputWidth = 32
    layers: Layers = 2


@full_precision
def mean_of_views(z: Tensor) -> Tensor:
    """Take the mean direction of the views of each image: (2, B, d) of any length -> (B, d) of length one."""
    return F.normalize(F.normalize(z, dim=2).mean(dim=0), dim=1)


@full_precision
def table(codes: Tensor, eta: float, half_steps: int) -> Tensor:
    """Say which images belong together: (B, d) codes of length one -> (B, B), doubly stochastic."""
    return doubly_stochastic((codes @ codes.T).abs(), eta, half_steps)


@full_precision
def reduction_loss(z: Tensor, memberships: Tensor, sparsity: float, precision: float) -> Tensor:
    """Minimise -R(Z) + R_c(Z, Pi) + sparsity / 2 |Pi|^2: (B, d) of length one, (B, B)."""
    rates = rate_in_clusters(z, memberships, precision) - coding_rate(z, precision)
    return rates + 0.5 * sparsity * memberships.square().sum()


class MLC(Method):
    """Projector and head of codes; the second begins as a copy of the first."""

    Params = MLCParams
    modalities = (IMAGE, VOLUME)
    smallest_batch = 2
    taps = (CODES,)
    params: MLCParams
    projector: Projector
    progress: Tensor

    def __init__(self, backbone: nn.Module, params: MLCParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        widths = [backbone.num_features, *[params.hidden] * (params.layers - 1), params.output]
        self.projector, self.codes = Projector(widths), Projector(widths)
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))
        if not self.warming_up:
            self._begin_codes()

    @property
    def warming_up(self) -> bool:
        """Whether codes do not count yet."""
        return float(self.progress) < self.params.warmup_for

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Spread the features out, and after the warm-up hold the neighbourhoods of the codes together."""
        params = self.params
        features = embed_views(self.backbone, batch.views)
        z = torch.stack(self.projector(features).float().chunk(2))
        agreement = F.cosine_similarity(z[0], z[1], dim=1).mean()
        mean = mean_of_views(z)
        if self.warming_up:
            loss = -coding_rate(mean, params.precision)
        else:
            codes = mean_of_views(torch.stack(self.codes(features).float().chunk(2)))
            memberships = table(codes, params.eta, params.half_steps)
            loss = reduction_loss(mean, memberships, params.sparsity, params.precision)
        figures = {"features": features[: batch.images], "projections": z[0], "agreement": agreement}
        return loss - params.invariance * agreement, figures

    def after_step(self, progress: float) -> None:
        """Copy the head of the features into that of the codes when the warm-up ends."""
        before = self.warming_up
        self.progress.fill_(progress)
        if before and not self.warming_up:
            self._begin_codes()

    def _begin_codes(self) -> None:
        """Let the head of the codes begin as that of the features."""
        self.codes.load_state_dict(self.projector.state_dict())

    def heads(self) -> dict[str, Projector | Classifier | Assigner]:
        """Return projector and the head of the codes."""
        return {**super().heads(), CODES: self.codes}
