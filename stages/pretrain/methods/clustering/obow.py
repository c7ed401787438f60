"""`obow`: predict from crops which visual words the whole image holds; vocabulary and head follow the training.

Source: Gidaris, Bursuc, Puy, Komodakis, Cord, Perez, "OBoW: Online Bag-of-Visual-Words Generation for Self-Supervised
Learning", CVPR 2021. Authors' code: valeoai/obow.

Idea: a slow teacher sees the whole image. Each place x of its map, one row of border left out, is a soft choice of
words, softmax over k of -(sharpness / m) |x - w_k|^2, with m a running mean of the distance to the nearest word. The
bag of an image has the largest share of each word over all places, and sums to 1. The student sees crops, and predicts
the bag by a softmax over kappa f . g(w_k): the weights of its head are made from the words by a small network g, so
words may change. Each image gives one word to the vocabulary, the mean of 3 x 3 places somewhere in its map, and the
oldest ones leave. The loss is the mean over the large crops of KL(bag, prediction), and that over the small ones.

Deviations: bags are made of the last map alone, as in the paper's plain form (full: also of the one before). The
vocabulary begins empty and grows to its length, and m begins at the first distance that is measured (release: random
words, and 0.5, which steers the first 100 steps). The number of words need not be a multiple of the batch. Small crops
are drawn anywhere, with all changes of the run (release: 5 of 9 places of a jittered grid over a crop of 60 to 100 %,
without blur). The teacher is updated after the step in place of before the next one, which is the same. Paper: 8192
words, crops of 160 and 96 pixels of images of 224, sharpness 10 and kappa 5 for ResNet-18. Not repeated from the
release: its log shows the loss of the large crops for the small ones. Words are no clusters, so nothing
is assigned: the vocabulary holds many places that look alike, and which of them is the strongest says little.

Shape legend: B images, V crops, d features, D width of places, h x w places, L of them inside, K words.

Checked by: tests/stages/pretrain/methods/test_visual_words.py; docs/measurements/learned-clusters.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.errors import TrainingError
from reprise.config.params import meaning
from reprise.networks.local_features import local_features
from reprise.objectives.precision import full_precision
from stages.pretrain.method import Batch, Context
from stages.pretrain.parts import paper_views
from stages.pretrain.parts.multi_crop import MULTIPLE, embed_crops
from stages.pretrain.parts.queue import Queue
from stages.pretrain.parts.teacher import Momentum, TeacherMethod, TeacherParams
from stages.pretrain.views.settings import ViewSettings

LEAST_SIDE = 5  # places: the border leaves 3 x 3, which are one word
DECAY = 0.99  # of the mean distance to the nearest word

Crops = Annotated[int, Field(ge=0, le=32)]
CropSide = Annotated[float, Field(gt=0, le=1)]
CropArea = Annotated[float, Field(gt=0, le=1)]


class OBoWParams(TeacherParams):
    """Parameters of `obow`."""

    PAPER: ClassVar = {  # the release's configuration for ResNet-50, whose rate ends at 3e-5 of 0.03
        "optimizer": "sgd", "optimizer_momentum": 0.9, "nesterov": False,
        "learning_rate": 0.03, "learning_rate_scaling": "linear", "warmup_epochs": 10, "warmup_start": 0.0,
        "schedule": {"name": "cosine", "end": 0.001}, "schedule_stretch": 1.0, "clip_norm": 0.0,
        "weight_decay": 1e-4, "decay_vectors": True, "views": paper_views.MOCO_V2,
        "momentum": 0.99, "momentum_end": 1.0, "sharpness": 15.0, "kappa": 8.0,
    }  # fmt: skip
    words: Annotated[
        int, Field(ge=2, le=1_000_000), meaning("The vocabulary holds this many visual words.", "words")
    ] = 2048
    sharpness: Annotated[
        float,
        Field(gt=0, le=1000),
        meaning("A place chooses words by distances times this, over the mean distance to the nearest word."),
    ] = 10.0
    kappa: Annotated[
        float, Field(gt=0, le=1000), meaning("The predicting weights have this length for every word.")
    ] = 5.0
    crops: Annotated[
        int, Field(ge=1, le=32), meaning("The student sees this many large crops of an image.", "crops")
    ] = 2
    crop_side: Annotated[
        CropSide, meaning("The side of large crops is this share of the image's side (paper: 160 of 224).")
    ] = 0.71
    crop_area_min: Annotated[CropArea, meaning("The smallest large crops cover this share of the image's area.")] = 0.08
    crop_area_max: Annotated[CropArea, meaning("The largest large crops cover this share of the image's area.")] = 0.6
    patches: Annotated[Crops, meaning("The student sees this many small crops of an image; 0 for none.", "crops")] = 5
    patch_side: Annotated[
        CropSide, meaning("The side of small crops is this share of the image's side (paper: 96 of 224).")
    ] = 0.43
    patch_area_min: Annotated[CropArea, meaning("The smallest small crops cover this share of the area.")] = 0.08
    patch_area_max: Annotated[CropArea, meaning("The largest small crops cover this share of the area.")] = 0.15
    momentum: Momentum = 0.99


class WordWeights(nn.Module):
    """The network g: a word becomes the weights, of length one, by which its share is predicted."""

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, 2 * features, bias=False)
        self.norm = nn.BatchNorm1d(2 * features)
        self.last = nn.Linear(2 * features, features)

    def forward(self, words: Tensor) -> Tensor:
        """(K, D) -> (K, d), rows of length one."""
        hidden = torch.relu(self.norm(self.first(F.normalize(words, dim=1))))
        return F.normalize(self.last(hidden).float(), dim=1)


def inside(places: Tensor) -> Tensor:
    """Leave out one row of places at each border: (B, D, h, w) -> (B, D, h - 2, w - 2)."""
    return places[:, :, 1:-1, 1:-1]


@full_precision
def squared_distances(places: Tensor, words: Tensor) -> Tensor:
    """Compare each place with each word: (B, D, h, w), (K, D) -> (B, L, K)."""
    x = places.flatten(2).transpose(1, 2)
    between = x.square().sum(dim=2, keepdim=True) + words.square().sum(dim=1) - 2.0 * (x @ words.T)
    return between.clamp_min(0.0)


@full_precision
def bags_of_words(distances: Tensor, scale: float | Tensor) -> Tensor:
    """Choose words softly at each place, take the largest share over places: (B, L, K) -> (B, K), rows sum to 1.

    Args:
        distances: squared.
        scale: sharpness over the mean distance to the nearest word.
    """
    return F.normalize(torch.softmax(-scale * distances, dim=2).amax(dim=1), p=1.0, dim=1)


@full_precision
def bag_loss(logits: Tensor, bags: Tensor) -> Tensor:
    """Average KL(bag, softmax of the logits) over crops and images.

    Args:
        logits: (V B, K), all first crops before all second ones.
        bags: (B, K), rows sum to 1.
    """
    target = bags.repeat(len(logits) // len(bags), 1)
    return F.kl_div(F.log_softmax(logits, dim=1), target, reduction="batchmean")


def perplexity(bags: Tensor) -> Tensor:
    """Return exp of the entropy of the mean bag: the number of words that (B, K) bags use together, a scalar."""
    share = bags.mean(dim=0)
    return torch.exp(torch.special.entr(share).sum())


class OBoW(TeacherMethod):
    """A teacher's map becomes a bag of words; the student's crops predict it by weights that are made of the words."""

    Params = OBoWParams
    chunkable: ClassVar[bool] = False
    smallest_batch = 2
    params: OBoWParams
    distance: Tensor

    def __init__(self, backbone: nn.Module, params: OBoWParams, context: Context) -> None:
        super().__init__(backbone, params, context)
        width = width_of_places(backbone, context)
        self.weigh = WordWeights(width, int(backbone.num_features))
        self.vocabulary = Queue(params.words, width)
        self.register_buffer("distance", torch.zeros(()))
        self.add_teacher("backbone")

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """Plan the whole image, mirrored at times, for the teacher, then the large and the small crops."""
        params, size = self.params, settings.size
        flips = tuple(change for change in settings.changes if change.params.name == "flip")
        large = settings.cropped(params.crop_area_min, params.crop_area_max, side_of(size, params.crop_side))
        small = settings.cropped(params.patch_area_min, params.patch_area_max, side_of(size, params.patch_side))
        return [replace(settings, changes=flips), *[large] * params.crops, *[small] * params.patches]

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Predict the bags from the crops, with the vocabulary from before this step."""
        whole, *crops = batch.views
        words = self.vocabulary.stored()
        features = embed_crops(self.backbone, crops)
        places = self.taught_places(whole, batch)
        figures = {"features": features[: batch.images]}
        figures["projections"] = features.new_zeros(batch.images, self.params.words, dtype=torch.float32)
        if len(words):
            bags, weights = self.bags(places, words), self.weigh(words)
            logits = predicted(features, weights, self.params.kappa)
            kinds = [count * batch.images for count in (self.params.crops, self.params.patches) if count]
            loss = torch.stack([bag_loss(part, bags) for part in logits.split(kinds)]).sum()
            figures["projections"][:, : len(words)] = logits[: batch.images].detach()
            figures["perplexity"] = perplexity(bags)
        else:  # nothing to predict yet: the loss is 0, and so is every gradient
            loss = 0.0 * features.float().sum()
            figures["perplexity"] = loss.detach()
        self.vocabulary.push(drawn_words(places))
        return loss, figures

    @torch.no_grad()
    def taught_places(self, whole: Tensor, batch: Batch) -> Tensor:
        """Pass whole images through the teacher: (b, C, S, S) -> (B, D, h - 2, w - 2) of all processes, float32."""
        places = local_features(self.teacher["backbone"], whole)
        assert places is not None, "the constructor has refused backbones without local features"
        return batch.whole(inside(places).float().contiguous())

    @torch.no_grad()
    def bags(self, places: Tensor, words: Tensor) -> Tensor:
        """Make the targets, (B, K); the mean distance to the nearest word takes in this batch first."""
        distances = squared_distances(places, words)
        nearest = distances.amin(dim=2).mean()
        self.distance.copy_(torch.where(self.distance > 0, torch.lerp(nearest, self.distance, DECAY), nearest))
        return bags_of_words(distances, self.params.sharpness / self.distance.clamp_min(1e-12))


@full_precision
def predicted(features: Tensor, weights: Tensor, kappa: float) -> Tensor:
    """Compute the logits of every word: (V B, d), (K, d) -> (V B, K)."""
    return kappa * (features @ weights.T)


@torch.no_grad()
def drawn_words(places: Tensor) -> Tensor:
    """Average 3 x 3 places around one that is drawn for each image: (B, D, h, w) -> (B, D)."""
    means = F.avg_pool2d(places, 3, stride=1).flatten(2)
    chosen = torch.randint(means.shape[2], (len(means),)).to(means.device)
    return means[torch.arange(len(means), device=means.device), :, chosen]


def side_of(size: int, share: float) -> int:
    """Return the side of crops in pixels: a multiple of MULTIPLE, and at most the image's."""
    return min(size, max(MULTIPLE, MULTIPLE * round(size * share / MULTIPLE)))


def width_of_places(backbone: nn.Module, context: Context) -> int:
    """Return the width of a place of the backbone's map of a whole image.

    Raises:
        TrainingError: the backbone has no map, or one of fewer than 5 x 5 places.
    """
    trained = backbone.training
    with torch.no_grad():
        places = local_features(backbone.eval(), torch.zeros(1, context.channels, context.size, context.size))
    backbone.train(trained)
    rows, columns = (0, 0) if places is None else places.shape[2:]
    if places is None or min(rows, columns) < LEAST_SIDE:
        raise TrainingError(
            f"the method 'obow' needs a map of at least {LEAST_SIDE} x {LEAST_SIDE} local features",
            where="image.size",
            found=f"{rows} x {columns} from images of {context.size} pixels" if rows else "a backbone without a map",
            fix="Raise image.size (24 is enough for resnet_tiny and resnet20), or choose another train.backbone.",
        )
    return int(places.shape[1])
