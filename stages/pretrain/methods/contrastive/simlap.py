"""`simlap`: images of two arbitrary classes attract each other, in the dimensions that a gate opens for the two.

Source: Wu, Atito, Feng, Mo, Kittler, Awais, "Rethinking Positive Pairs in Contrastive Learning", arXiv 2410.18200
(Hydra in its first version, SimLAP in the second). Authors' code: erow/FastSSL, model/simlap.py.

Idea: any two classes have something in common. An image of class y is given a partner class y', and every image of it
is a positive; images of neither are negatives. A gate g(y, y') in (0, 1) for each dimension, learned from the
embeddings of both classes, chooses what is compared. With unit projections z, the other view's z', and a learned
scale s,

    score(i, j) = s * sum over k of g_k^2 z_ik z'_jk,
    loss = mean over positives (i, p) of log(exp score(i, p) + sum over negatives n of exp score(i, n)) - score(i, p).

**It needs classes.** The paper takes those of ImageNet. Here they are the clusters of a mined label set, the run notes
it, and `labels: truth` is refused: a comparison would call it self-supervised.

Deviations: images without a cluster are neither anchors nor positives nor negatives. After every step the scale is
brought to at most 100, where the code leaves it free. The page of a later version names a penalty that makes gates
binary; neither card nor code has it, and it is not here. The code's `identical` and `distinct` are there to compare; a
distinct class that has no image in the batch gives no positives. Widths of the code: projector 2048-256, class
embeddings 512, gate 1024.

Shape legend: B batch, L of them with a cluster, K clusters, d projection.

Checked by: tests/stages/pretrain/methods/losses/test_simlap.py; docs/measurements/relations.md.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.errors import TrainingError
from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import Projector
from reprise.objectives.precision import full_precision
from reprise.runtime.seeds import torch_rng
from stages.pretrain.method import Batch, Context, Method, embed_views
from stages.pretrain.params import HiddenWidth, Layers, MethodParams, OutputWidth

LARGEST_SCALE = 100.0
FAR = -1e30  # a score that weighs nothing, and whose gradient is 0 where there is no other


class SimLAPParams(MethodParams):
    """Parameters of `simlap`."""

    temperature: Annotated[
        float,
        Field(ge=1 / LARGEST_SCALE, le=10),
        meaning("Similarities are divided by this temperature at first; it is learned, and stays at least 0.01."),
    ] = 0.1
    pairs: Annotated[
        Literal["arbitrary", "distinct", "identical"],
        meaning(
            "An image's partner class is that of any image of the batch (`arbitrary`), any other class (`distinct`), "
            "or its own (`identical`)."
        ),
    ] = "arbitrary"
    hidden: HiddenWidth = 256
    output: OutputWidth = 128
    layers: Layers = 2
    class_width: Annotated[
        int, Field(ge=1, le=65536), meaning("The gate's embedding of a class has this width.", "units")
    ] = 128
    gate_hidden: Annotated[int, Field(ge=1, le=65536), meaning("The gate's hidden layer has this width.", "units")] = (
        256
    )


@full_precision
def pair_loss(first: Tensor, second: Tensor, gate: Tensor, scale: Tensor, own: Tensor, partner: Tensor) -> Tensor:
    """Average the loss over all positives of the batch.

    Args:
        first, second: (L, d) projections of both views, not normalised.
        gate: (L, d) in (0, 1), of each anchor's pair of classes.
        scale: a positive scalar.
        own, partner: (L,) int64, each anchor's class and the class of its positives.

    Returns:
        A scalar; 0 where no image is a positive or a negative.
    """
    anchors = F.normalize(first, dim=1) * gate.square()
    score = scale * anchors @ F.normalize(second, dim=1).T
    positive = partner[:, None] == own
    negative = ~(positive | (own[:, None] == own))
    others = torch.logsumexp(score.masked_fill(~negative, FAR), dim=1, keepdim=True)
    each = torch.logaddexp(score, others) - score
    return each.masked_fill(~positive, 0.0).sum() / positive.sum().clamp_min(1)


class Gate(nn.Module):
    """g(y, y'): the mean of two classes' embeddings through a small network, between 0 and 1 for each dimension."""

    def __init__(self, classes: int, width: int, hidden: int, output: int) -> None:
        super().__init__()
        self.classes = nn.Embedding(classes, width)
        self.network = nn.Sequential(
            nn.ReLU(), nn.BatchNorm1d(width), nn.Linear(width, hidden),
            nn.ReLU(), nn.BatchNorm1d(hidden), nn.Linear(hidden, output),
        )  # fmt: skip

    def forward(self, own: Tensor, partner: Tensor) -> Tensor:
        """(L,), (L,) int64 -> (L, output)."""
        return torch.sigmoid(self.network((self.classes(own) + self.classes(partner)) / 2.0))


class SimLAP(Method):
    """Projector, gate, learned scale; both views in one pass."""

    Params = SimLAPParams
    modalities = (IMAGE, VOLUME)
    needs = ("clusters",)
    mined_only: ClassVar[bool] = True
    smallest_batch = 2
    params: SimLAPParams
    projector: Projector
    steps: Tensor

    def __init__(self, backbone: nn.Module, params: SimLAPParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        if params.pairs == "distinct" and context.clusters < 2:
            raise TrainingError(
                "`pairs: distinct` needs a label set of at least two clusters",
                where="methods.*.pairs",
                found=f"{context.clusters} in the run's label set",
                fix="Choose `arbitrary` or `identical`, or mine more clusters.",
            )
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])
        self.norm = nn.LayerNorm(params.output)
        self.gate = Gate(max(1, context.clusters), params.class_width, params.gate_hidden, params.output)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(params.temperature)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.notes.append("The classes of its pairs are clusters of the run's label set, mined and not given.")

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw a partner class for each image that has a cluster, and compare the two views."""
        features_2Bd = embed_views(self.backbone, batch.views)
        first, second = self.norm(self.projector(features_2Bd)).chunk(2)
        shown = {"features": features_2Bd[: len(first)], "projections": first}
        known = batch.clusters >= 0
        own = batch.clusters[known]
        self.steps += 1
        if len(own) < 2:  # the gate normalises over the batch
            return 0.0 * first.float().sum(), shown
        partner = self._partners(own)
        gate = self.gate(own, partner).float()
        scale = self.log_scale.exp()
        loss = pair_loss(first[known], second[known], gate, scale, own, partner)
        with torch.no_grad():  # gates that all close, or all open, choose nothing
            entropy = -(torch.xlogy(gate, gate) + torch.xlogy(1 - gate, 1 - gate)).mean()
            shown |= {"gate_open": gate.mean(), "gate_entropy": entropy, "scale": scale.detach().float()}
        return loss, shown

    def _partners(self, own: Tensor) -> Tensor:
        """Draw the class of each anchor's positives: (L,) int64."""
        if self.params.pairs == "identical":
            return own
        generator = torch_rng(self.context.seed, "partner classes", int(self.steps))
        if self.params.pairs == "arbitrary":
            return own[torch.randperm(len(own), generator=generator).to(own.device)]
        classes = self.context.clusters
        return (own + torch.randint(1, classes, (len(own),), generator=generator).to(own.device)) % classes

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Keep the scale in its bound; a bound inside the step would leave it without a gradient there."""
        self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
