"""`mugs`: three granularities at once; each image by itself, with its neighbours, and in a group.

Source: Zhou, Zhou, Si, Yu, Ng, Yan, "Mugs: A Multi-Granular Self-Supervised Learning Framework", arXiv 2203.14415.
Authors' code: sail-sg/mugs.

Idea: the teacher, an average of the student, makes three targets from the large crops, and the student predicts each
from every other crop.

- instance: InfoNCE against a queue of earlier targets (MoCo), so that every image is apart from every other;
- local group: the same, on the output of a small transformer that sees the crop's features and those of their nearest
  neighbours in a buffer of earlier images, so that images with the same neighbours come together;
- group: cross entropy with the teacher's centred, sharpened assignment to prototypes (DINO), which forms clusters.

Each loss is the mean of its large-crop and its small-crop terms, and the whole is the mean of the three, by weights.

Deviations: the paper's network is a ViT; its heads read the class token, and its neighbours the mean of the patches
before the last normalisation. Here both are the vector that the backbone gives, so that ResNets work as well. Teacher
and student see the same crops; in the paper half of the student's are changed as RandAugment does, and those do not
enter its buffer, so `recipe: paper_optimizer` has no views. Queues and buffers hold no more vectors than there are
training images and nothing random. In the release the buffer's pointer moves on by twice the batch, so that half of it
may keep its random start for ever; here all of it is overwritten. It also stores features of crops of 224 pixels alone,
here of any side. The teacher's temperature does not rise, and the authors' stochastic depth is left out. Widths of the
release: 65,536 outputs, heads 2048-256 with predictors of 4096, queues and buffer of 65,536, 10 small crops.

Shape legend: B batch, V crops, Q queue, K prototypes, d features, M buffer.

Checked by: tests/stages/pretrain/methods/losses/test_mugs.py; tests/stages/pretrain/methods/test_recipes.py;
docs/measurements/relations.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from reprise.config.params import meaning
from reprise.networks.heads import PlainHead, Prototypes
from reprise.networks.small.small_vit import Block
from reprise.objectives.centring import Centre
from reprise.objectives.info_nce import info_nce
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context
from stages.pretrain.params import Heads, HiddenWidth, OptimizerRecipeParams, OutputWidth, Temperature
from stages.pretrain.parts.centred_teacher import CentreMomentum, GradientClip, StudentTemperature
from stages.pretrain.parts.multi_crop import LARGE, MultiCropParams, ScaleSplit, embed_crops, multi_crop_plan
from stages.pretrain.parts.queue import Queue, queue_length
from stages.pretrain.parts.teacher import Kept, TeacherMethod, TeacherParams
from stages.pretrain.views.settings import ViewSettings

Weight = Annotated[float, Field(ge=0, le=100)]


class MugsParams(MultiCropParams, OptimizerRecipeParams, TeacherParams):
    """Parameters of `mugs`."""

    PAPER: ClassVar = {  # the release's defaults; its rate ends at 1e-6, of 0.0032 at a batch of 1024
        "optimizer": "adamw", "learning_rate": 8e-4, "learning_rate_scaling": "linear",
        "warmup_epochs": 10, "warmup_start": 0.0, "schedule": {"name": "cosine", "end": 1e-6 / 3.2e-3},
        "schedule_stretch": 1.0, "clip_norm": 0.0, "weight_decay": 0.04, "weight_decay_end": 0.2,
        "decay_vectors": False, "momentum": 0.996, "momentum_end": 1.0, "momentum_schedule": "cosine", "clip": 3.0,
        "patch_rate_factor": 0.2, "small_crops": 10, "scale_split": 0.25, "small_scale_min": 0.05,
    }  # fmt: skip
    keep: Kept = "teacher"
    instance: Annotated[Weight, meaning("The loss that tells every image apart has this weight.")] = 1.0
    local_group: Annotated[Weight, meaning("The loss of images with their neighbours has this weight.")] = 1.0
    group: Annotated[Weight, meaning("The loss of assignments to prototypes has this weight.")] = 1.0
    temperature: Temperature = 0.2
    queue: Annotated[
        int,
        Field(ge=1, le=10_000_000),
        meaning("So many targets of earlier crops are negatives, of images and of local groups each.", "targets"),
    ] = 65536
    buffer: Annotated[
        int, Field(ge=1, le=10_000_000), meaning("Neighbours are looked for among so many earlier images.", "images")
    ] = 65536
    neighbours: Annotated[
        int, Field(ge=1, le=1024), meaning("A local group is an image and this many neighbours.", "images")
    ] = 8
    heads: Heads = 4
    outputs: Annotated[
        int, Field(ge=2, le=1_000_000), meaning("Images are assigned to this many prototypes (K).", "prototypes")
    ] = 1024
    student_temperature: StudentTemperature = 0.1
    teacher_temperature: Annotated[
        float, Field(gt=0, le=10), meaning("The teacher's softmax has this temperature.")
    ] = 0.04
    centre_momentum: CentreMomentum = 0.9
    scale_split: ScaleSplit = 0.25
    clip: GradientClip = 3.0
    frozen_for: Annotated[
        float, Field(ge=0, le=1), meaning("The prototypes stay as they are for this share of the training.")
    ] = 0.01
    patch_rate_factor: Annotated[
        float, Field(gt=0, le=1), meaning("A transformer's patch embedding learns at this share of the rate.")
    ] = 1.0
    hidden: HiddenWidth = 256
    output: OutputWidth = 128

    @model_validator(mode="after")
    def _some_loss(self) -> Self:
        if not (self.instance or self.local_group or self.group):
            raise ValueError("instance, local_group and group are all 0: nothing would be learned")
        return self


def over_crops(term: Callable[[int, int], Tensor], crops: int) -> Tensor:
    """Average `term(teacher's crop, student's crop)` over pairs of different crops, large and small ones alike.

    Args:
        term: a scalar for a pair.
        crops: V, of the student; the first LARGE are the teacher's too.
    """
    pairs = [(t, s) for t in range(LARGE) for s in range(crops) if s != t]
    sizes = [[term(t, s) for t, s in pairs if (s < LARGE) == large] for large in (True, False)]
    means = [torch.stack(terms).mean() for terms in sizes if terms]
    return torch.stack(means).mean()


@full_precision
def assignment_loss(
    student: Tensor, teacher: Tensor, centre: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Average the cross entropy of the teacher's centred assignment with the student's.

    Args:
        student, teacher: (B, K) of two crops. centre: (K,).
    """
    target = F.softmax((teacher.detach() - centre) / teacher_temperature, dim=1)
    return -(target * F.log_softmax(student / student_temperature, dim=1)).sum(dim=1).mean()


@torch.no_grad()
@full_precision
def nearest(features: Tensor, buffer: Tensor, count: int) -> Tensor:
    """Find each row's most similar vectors by cosine: (N, d), (M, d) -> (N, min(count, M)) positions."""
    cosine = F.normalize(features, dim=1) @ F.normalize(buffer, dim=1).T
    return cosine.topk(min(count, len(buffer)), dim=1).indices


class Relation(nn.Module):
    """One block of a transformer over a vector and its neighbours; what becomes of the vector is the local group's."""

    def __init__(self, width: int, heads: int, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.block = Block(width, heads)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, features: Tensor, buffer: Tensor) -> Tensor:
        """(N, d) and (M, d) -> (N, d); an empty buffer has no neighbours."""
        near = buffer[nearest(features, buffer, self.neighbours)].to(features.dtype)
        return self.norm(self.block(torch.cat([features[:, None], near], dim=1)))[:, 0]


class Mugs(TeacherMethod):
    """Three heads on one backbone, a relation block, queues, buffers of neighbours, a centred teacher."""

    Params = MugsParams  # type: ignore[assignment]  # its `recipe` has other values
    params: MugsParams

    def __init__(self, backbone: nn.Module, params: MugsParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        width, hidden, output = backbone.num_features, params.hidden, params.output
        self.instance_head = PlainHead([width, hidden, hidden, output], nn.GELU)
        self.instance_predictor = PlainHead([output, hidden, output], nn.GELU)
        heads = math.gcd(params.heads, width)
        self.limited("heads", params.heads, heads, f"heads share the {width} dimensions of the features evenly")
        self.relation = Relation(width, heads, params.neighbours)
        self.local_head = PlainHead([width, hidden, hidden, output], nn.GELU)
        self.local_predictor = PlainHead([output, hidden, output], nn.GELU)
        self.group_head = PlainHead([width, hidden, hidden, output], nn.GELU)
        self.prototypes = Prototypes(output, params.outputs)
        self.centre = Centre(params.outputs, params.centre_momentum)
        length = queue_length(self, params.queue)
        self.queues = nn.ModuleDict({name: Queue(length, output) for name in ("instance", "local_group")})
        why = "no more vectors differ than there are training images"
        most = self.limited("buffer", params.buffer, context.images, why)
        self.buffers_of = nn.ModuleDict({name: Queue(most, width) for name in ("student", "teacher")})
        self.add_teacher("backbone", "instance_head", "relation", "local_head", "group_head", "prototypes")

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """Plan two large crops and `small_crops` small ones."""
        return multi_crop_plan(settings, self.params)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Let the patch embedding of a transformer learn more slowly."""
        patches = getattr(self.backbone, "patch_embed", None)
        if patches is None or self.params.patch_rate_factor == 1.0:
            return []
        return [{"params": list(patches.parameters()), "rate_factor": self.params.patch_rate_factor}]

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the losses with queues and buffers from before this step; then they take in this batch."""
        features = embed_crops(self.backbone, batch.views)
        with torch.no_grad():
            taught = self.teacher["backbone"](torch.cat(batch.views[:LARGE]))
        weights = {name: getattr(self.params, name) for name in ("instance", "local_group", "group")}
        losses, projections = {}, features
        if weights["instance"]:
            projections = self.instance_head(features)
            losses["instance"] = self._contrast(
                "instance", self.instance_predictor, projections, self._target("instance_head", taught)
            )
        if weights["local_group"]:
            losses["local_group"] = self._local_group(features, taught)
        if weights["group"]:
            losses["group"] = self._group(features, taught)
        loss = sum((weights[name] * value for name, value in losses.items()), features.new_zeros(()).float())
        loss = loss / sum(weights.values())
        own = slice(len(batch.rows))
        for name, vectors in (("student", features), ("teacher", taught)):
            self.buffers_of[name].push(vectors[own].float())
        shown = {f"loss_{name}": value.detach() for name, value in losses.items()}
        return loss, {"features": features[own], "projections": projections[own], **shown}

    @torch.no_grad()
    def _target(self, head: str, x: Tensor) -> Tensor:
        return self.teacher[head](x)

    def _contrast(self, name: str, predictor: nn.Module, projections: Tensor, targets: Tensor) -> Tensor:
        """InfoNCE of predictions from every crop against the teacher's targets, which enter the queue."""
        crops = len(projections) // (len(targets) // LARGE)
        predictions = predictor(F.normalize(projections.float(), dim=1)).chunk(crops)
        keys, negatives = targets.chunk(LARGE), self.queues[name].stored()
        loss = over_crops(lambda t, s: info_nce(predictions[s], keys[t], negatives, self.params.temperature), crops)
        self.queues[name].push(F.normalize(targets.float(), dim=1))
        return loss

    def _local_group(self, features: Tensor, taught: Tensor) -> Tensor:
        """Relate crops to their neighbours in the student's and in the teacher's buffer, then contrast."""
        with torch.no_grad():
            groups = self.teacher["relation"](taught.float(), self.buffers_of["teacher"].stored())
        related = self.relation(features.float(), self.buffers_of["student"].stored())
        return self._contrast(
            "local_group", self.local_predictor, self.local_head(related), self._target("local_head", groups)
        )

    def _group(self, features: Tensor, taught: Tensor) -> Tensor:
        """Predict the teacher's assignments; the centre takes in this batch afterwards."""
        crops = len(features) // (len(taught) // LARGE)
        student = self.prototypes(self.group_head(features)).chunk(crops)
        outputs = self._target("prototypes", self._target("group_head", taught))
        teacher, centre = outputs.chunk(LARGE), self.centre.value.clone()
        own, other = self.params.student_temperature, self.params.teacher_temperature
        loss = over_crops(lambda t, s: assignment_loss(student[s], teacher[t], centre, own, other), crops)
        self.centre.update(outputs.float())
        return loss

    def after_backward(self, progress: float) -> None:
        """Clip each parameter's gradient by its norm; freeze the prototypes at first."""
        if progress < self.params.frozen_for:
            self.prototypes.weight.grad = None
        if self.params.clip:
            for parameter in self.parameters():
                if parameter.grad is not None:
                    nn.utils.clip_grad_norm_([parameter], self.params.clip)
