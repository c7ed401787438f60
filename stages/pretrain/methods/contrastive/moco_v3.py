"""`moco_v3`: momentum contrast without a queue, with a predictor; made for vision transformers.

Source: Chen, Xie, He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021. Authors' code:
facebookresearch/moco-v3.

Idea: both views are queries and keys in turn, the other images of the batch are the negatives, the query passes a
predictor that the key does not. A transformer's patch projection is left at its random values: training it made
the loss unstable (section 4.2).

Deviations: `recipe: paper` is that of transformers; for ResNets the authors take LARS (base rate 0.6, decay 1.5e-6),
two projector layers, crops from 0.2, no normalisation after the predictor and temperature 1.0. The release's
transformers have fixed sine-cosine positions, `vit_mini` learns them. Widths of the paper: 4096 hidden, 256 out, three
projector layers.

Shape legend: B batch, d features.

Checked by: tests/stages/pretrain/methods/losses/test_contrastive_losses.py;
tests/stages/pretrain/methods/test_recipes.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.media.lookup import IMAGE, VOLUME
from reprise.networks.heads import Projector
from reprise.objectives.info_nce import in_batch_info_nce
from stages.pretrain.method import Batch, Context
from stages.pretrain.params import HiddenWidth, Layers, OutputWidth, Temperature
from stages.pretrain.parts import paper_views
from stages.pretrain.parts.batch_norm import OutputNorm
from stages.pretrain.parts.teacher import Momentum, TeacherMethod, TeacherParams


class MoCoV3Params(TeacherParams):
    """Parameters of `moco_v3`."""

    PAPER: ClassVar = {  # the release's command for ViT-Small; its optimisers get all parameters in one group
        "optimizer": "adamw", "learning_rate": 1.5e-4, "learning_rate_scaling": "linear",
        "warmup_epochs": 40, "warmup_start": 0.0, "schedule": {"name": "cosine", "end": 0.0}, "schedule_stretch": 1.0,
        "clip_norm": 0.0, "weight_decay": 0.1, "decay_vectors": True, "views": paper_views.BYOL,
        "momentum": 0.99, "momentum_end": 1.0, "momentum_schedule": "cosine",
    }  # fmt: skip
    temperature: Temperature = 0.2
    momentum: Momentum = 0.99
    hidden: HiddenWidth = 256
    output: OutputWidth = 128
    layers: Layers = 3
    freeze_patches: Annotated[bool, meaning("A transformer's patch projection stays at its random values.")] = True


def moco_v3_loss(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], temperature: float) -> Tensor:
    """Compute 2 t (InfoNCE(q1, k2) + InfoNCE(q2, k1)) of (query, key) pairs of (B, d) each (algorithm 1)."""
    total = in_batch_info_nce(first[0], second[1], temperature) + in_batch_info_nce(second[0], first[1], temperature)
    return 2.0 * temperature * total


class MoCoV3(TeacherMethod):
    """Symmetric contrast of predicted queries and taught keys."""

    Params = MoCoV3Params
    modalities = (IMAGE, VOLUME)
    capturable = True
    smallest_batch = 2
    params: MoCoV3Params
    projector: Projector

    def __init__(self, backbone: nn.Module, params: MoCoV3Params, context: Context) -> None:
        super().__init__(backbone, params, context)
        self.projector = Projector([backbone.num_features, *[params.hidden] * (params.layers - 1), params.output])
        self.norm = OutputNorm(params.output)
        self.predictor = Projector([params.output, params.hidden, params.output])
        self.predictor_norm = OutputNorm(params.output)
        if params.freeze_patches and hasattr(backbone, "patch_embed"):
            backbone.patch_embed.requires_grad_(False)
        self.add_teacher("backbone", "projector", "norm")

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare each view's query with the teacher's key of the other; each has its own batch statistics."""
        features = [self.backbone(view) for view in batch.views]
        z1, z2 = (self.norm(self.projector(h)) for h in features)
        q1, q2 = (self.predictor_norm(self.predictor(z)) for z in (z1, z2))
        k1, k2 = (self.taught(view) for view in batch.views)
        loss = moco_v3_loss((q1, k1), (q2, k2), self.params.temperature)
        return loss, {"features": features[0], "projections": z1}
