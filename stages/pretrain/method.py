"""The protocol of a method: heads on a backbone, a loss for a batch of views. It never sees files or optimisers.

A method is one file in a family of stages/pretrain/methods, or in plugins/methods of the user's project; its name is
the file's. It declares which views and fields it needs and how its batches are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from reprise.media.lookup import IMAGE
from reprise.networks.heads import Assigner, Classifier, Projector
from reprise.networks.text.tokenizer import Tokenizer
from reprise.reading.order import Sampling
from reprise.runtime.world import ALONE, World
from reprise.training.batches import bounds, mapped
from reprise.training.change import Drawn
from stages.pretrain.params import MethodParams
from stages.pretrain.views.settings import ViewSettings

# What a batch may hold of each image besides views.
Field = Literal["clusters", "confidences", "given", "partner", "weights"]


@dataclass(frozen=True)
class Batch:
    """What a step gets.

    Attributes:
        views: tensors (B, C, S, S), normalised, in the order of the method's `view_plan`; row i of each comes from
            the same image.
        rows: (B,) int64 positions of the images among the training images (for per-sample state).
        fields: a (B,) tensor for each field that the method declares in `needs` or by `needs_pairs`, and no other.
        facts: a tensor for each number, flag, word or pose that the method declares in `reads`, and no other.
        draws: what was drawn for each view, for methods that declare `needs_drawn`; empty for others.
        masks: of each mask that the method declares in `reads` one for each view, (B, S, S) uint8, 0 for background:
            moved as the view was, and like `views` of this process's images only.
        world: the processes that train together. With several of them `views` hold the images of this one only, in
            their order, and everything else holds all B; `embedding_networks` return the vectors of all B.
    """

    views: list[Tensor]
    rows: Tensor
    fields: Mapping[Field, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Tensor] = field(default_factory=dict)
    draws: Sequence[Mapping[str, Drawn]] = ()
    world: World = ALONE
    masks: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """Return B."""
        return len(self.rows)

    def own(self, x: Tensor) -> Tensor:
        """Return the rows of this process's images: (B, ...) -> (b, ...). One process has them all.

        Of (V B, ...), where V rows of an image lie together, all V are returned.
        """
        if self.world.size == 1:
            return x
        each, own = len(x) // self.images, self.world.own(self.images)
        return x[each * own.start : each * own.stop]

    def whole(self, x: Tensor) -> Tensor:
        """Gather the rows of all processes, with gradients: (b, ...) -> (B, ...). One process has them all."""
        return self.world.gather(x, self.world.counts(self.images))

    def share(self) -> float:
        """Return what makes the mean over the processes of means over their images the mean over all images."""
        return self.world.weight(self.world.counts(self.images)[self.world.rank], self.images)

    def part(self, number: int, count: int) -> Self:
        """Return one of `count` micro-batches, which all processes hold together as they hold the batch."""
        if count == 1:
            return self
        cuts = [bounds(self.images, k, count) for k in range(count)]
        mine = [self.world.counts(end - first)[self.world.rank] for first, end in cuts]
        begin = sum(mine[:number])
        seen, all_of_it = slice(begin, begin + mine[number]), slice(*cuts[number])
        rest = mapped(replace(self, views=[], masks={}), lambda x: x[all_of_it])
        masks = {name: [mask[seen] for mask in views] for name, views in self.masks.items()}
        return replace(rest, views=[view[seen] for view in self.views], masks=masks)

    @property
    def drawn(self) -> Sequence[Mapping[str, Drawn]]:
        """What was drawn for each view, by the name of each change: `drawn[0]["crop"]["boxes"]`; tensors on the CPU.

        Each has one row an image. `applied` (B,) bool tells which images were changed; boxes, angles, grids and the
        like are the change's own. A change that cannot happen in a view has no entry.
        """
        if not self.draws:
            raise KeyError("this method reads batch.drawn: it must declare `needs_drawn = True`")
        return self.draws

    @property
    def clusters(self) -> Tensor:
        """(B,) int64 from the run's label set, -1 where there is none."""
        return self._field("clusters")

    @property
    def confidences(self) -> Tensor:
        """(B,) float32 in [0, 1] from the run's label set, 0 where there is none."""
        return self._field("confidences")

    @property
    def given(self) -> Tensor:
        """(B,) bool: whether the miner of the run's label set got the true label of the image."""
        return self._field("given")

    @property
    def partner(self) -> Tensor:
        """(B,) int64, where the partner of each image stands in this batch; its own partner is the image."""
        return self._field("partner", "set `needs_pairs`")

    @property
    def weights(self) -> Tensor:
        """(B,) float32 above 0 and at most 1, the weight of each image's pair, as its miner states it."""
        return self._field("weights", "set `needs_pairs`")

    def fact(self, name: str) -> Tensor:
        """Return a fact: (B,) float32 (number, flag; NaN where unknown), (B,) int64 (word, -1), or (B, d) (pose, NaN).

        Captions are texts, so they are no tensors: `Context.facts` has those of all images, by `rows`.
        """
        if name not in self.facts:
            raise KeyError(f"this method reads batch.fact('{name}'): it must declare '{name}' in `reads`")
        return self.facts[name]

    def mask(self, name: str) -> Sequence[Tensor]:
        """Return a mask in each view: (B, S, S) uint8, 0 for background, numbers of objects otherwise."""
        if name not in self.masks:
            raise KeyError(f"this method reads batch.mask('{name}'): it must declare '{name}' in `reads`")
        return self.masks[name]

    def _field(self, name: Field, declared: str = "") -> Tensor:
        if name not in self.fields:
            how = declared or f"declare '{name}' in `needs`"
            raise KeyError(f"this method reads batch.{name}: it must {how}")
        return self.fields[name]


@dataclass(frozen=True)
class Context:
    """Facts a method may need to build its heads.

    Attributes:
        images: n, training images.
        clusters: number of clusters, 0 without labels.
        steps: of the whole training.
        size: side of the input in pixels.
        channels: of the input.
        mean, std: the normalisation of the input, per channel, on the 0..1 scale.
        seed: of the run, for gradient-free fits.
        teacher: the frozen network of a method that needs one; it takes the method's own views, (B, C, S, S) to (B, d).
        facts: what the method declares in `reads`, of the n training images in the order of `Batch.rows`; words are
            objects (None where unknown), captions tuples of texts, and poses (n, d).
    """

    images: int
    clusters: int
    steps: int
    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    teacher: nn.Module | None = None
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)


class Method(nn.Module):
    """Base of all methods.

    Attributes:
        Params: the typed parameter class, a subclass of MethodParams.
        views: random views of each image in a batch.
        modalities: the kinds of samples that it takes. A method that only passes views to its backbone takes volumes
            too, whose views are (B, C, S, S, S); `reprise check` refuses other kinds.
        needs: fields that every batch must hold. `clusters` refuses a label set without labels, `confidences` one
            that states none, and `given` one whose miner got no true labels. A method may decide on it by its
            parameters, in its constructor.
        reads: names of facts that the method is trained with, besides the pixels. Each must be `given`, or the run's
            labels the truth; docs/how-to/facts.md.
        mined_only: it needs classes, and only mined ones keep it self-supervised: `labels: truth` is refused.
        needs_pairs: batches hold images beside their partners (`batch.partner`, `batch.weights`), which the run's label
            set must state; images without a partner are not shown.
        gradient_free: no loop; `fit` sees plain images instead.
        architecture: the backbone that this method brings itself, or None for train.backbone.
        trainable: the backbone that it leaves has weights that learn by gradients, so another run may go on from it.
        takes_few: where there are fewer images than train.batch_size, they are one batch instead of an error.
        needs_start: it shows the weights that the run's row names in `from` as they are.
        needs_teacher: it learns from the frozen network that the row names as `teacher`: `context.teacher`.
        needs_drawn: every batch tells what was drawn for its views: `batch.drawn`. Such a step is never recorded.
        weights: which weights become the backbone (`student`, `teacher`).
        taps: it learns clusters, and embedding writes these of its `heads()` beside the features: `assigner`, the
            memberships of each image, which the miner `assigned` turns into a label set; or `codes`, vectors whose
            products say which images belong together, for the miner `spectral_membership`.
        capturable: the step is a function of its batch and of tensors, so a GPU may record it once and repeat it: it
            changes nothing but tensors, never branches on a tensor's value, and draws nothing on the CPU.
        views_by_image: a step passes the views of an image one after the other through its networks, instead of all
            first views before all second ones.
        chunkable: it passes whole images through its networks by calling them, and through no part of them, so that a
            batch may pass in chunks (`train.chunk_size`).
        smallest_batch: images that every batch must hold; a smaller one is refused before the first step.
        notes: sentences about what the method does otherwise than its parameters say; its constructor adds to them.
    """

    Params: ClassVar[type[MethodParams]] = MethodParams
    views: ClassVar[int] = 2
    modalities: ClassVar[tuple[str, ...]] = (IMAGE,)
    reads: ClassVar[tuple[str, ...]] = ()
    taps: ClassVar[tuple[str, ...]] = ()
    gradient_free: ClassVar[bool] = False
    capturable: ClassVar[bool] = False
    chunkable: ClassVar[bool] = True
    views_by_image: ClassVar[bool] = False
    trainable: ClassVar[bool] = True
    takes_few: ClassVar[bool] = False
    needs_start: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = False
    needs_drawn: ClassVar[bool] = False
    mined_only: ClassVar[bool] = False
    needs_pairs: ClassVar[bool] = False
    weights: str = "student"
    smallest_batch: int = 1
    needs: tuple[Field, ...] = ()

    backbone: nn.Module
    projector: Projector | None

    def __init__(self, backbone: nn.Module, params: MethodParams, context: Context) -> None:
        super().__init__()
        self.backbone, self.params, self.context = backbone, params, context
        self.projector = None
        self.notes: list[str] = []
        self.frozen: list[nn.Module] = []  # modules that stay in evaluation mode, since they do not learn

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation; frozen modules stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    @classmethod
    def own_backbone(cls, params: MethodParams) -> tuple[str, dict[str, int]] | None:
        """Architecture and options of a backbone that belongs to the method itself; None: the run's, or `train`'s."""
        return None

    @classmethod
    def facts_read(cls, params: MethodParams) -> tuple[str, ...]:
        """Name the facts that a run with these parameters is trained with: `reads`, unless the parameters choose."""
        return cls.reads

    @classmethod
    def refuse_size(cls, params: MethodParams, size: int) -> None:
        """Refuse parameters that do not fit images of this side; `reprise check` calls it before anything runs.

        Args:
            params: of the run.
            size: image.size, in pixels.

        Raises:
            TrainingError: saying what does not fit; none here.
        """

    @classmethod
    def chosen_images(cls, params: MethodParams, clusters: np.ndarray, seed: int) -> np.ndarray | None:
        """Choose the images that the method is trained on, before they are counted and cut into batches.

        Args:
            params: of the run.
            clusters: (n,) int64 from the run's label set, -1 where there is none.
            seed: of the run.

        Returns:
            Their positions (int64, ascending); None for all.
        """
        return None

    @property
    def sampling(self) -> Sampling:
        """How batches are drawn: `random`, `guided` (clusters kept apart), `rank` (G-SimCLR as published), `partners`.

        A method with `needs_pairs` gets `partners`, and no other does.
        """
        return "partners" if self.needs_pairs else "random"

    @property
    def upright(self) -> tuple[int, ...]:
        """Numbers of the views, from 0, that no change may turn: the method learns from how their images stand."""
        return ()

    def view_plan(self, settings: ViewSettings) -> list[ViewSettings]:
        """What each view of an image is made of: `views` times the run's own settings.

        Multi-crop methods add smaller ones (`settings.cropped`), and others leave changes out (`settings.without`).
        """
        return [settings] * self.views

    def crops_of_an_image(self, settings: ViewSettings) -> int:
        """How many crops of an image a step sees: its views, unless the method cuts others from them."""
        return len(self.view_plan(settings))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameters that are optimised in their own way; all others follow `train`.

        Each group names `params`, and may set `weight_decay`, `weight_decay_end` (reached by a cosine at the last
        step), `constant_rate` (True: the scaled learning rate without warm-up and decay) and `rate_factor` (times the
        learning rate). Without `weight_decay` its matrices and vectors decay as `train` says.
        """
        return []

    def limited(self, name: str, asked: int, most: int, why: str) -> int:
        """Return `asked`, or `most` with a note where it is more than that.

        Args:
            name: of the parameter.
            asked: its value.
            most: the largest value that makes sense here.
            why: what the limit is, a clause ("the number of training images").
        """
        if asked > most:
            self.notes.append(f"`{name}` is {most} instead of {asked}: {why}.")
        return min(asked, most)

    def clipped_parameters(self) -> list[nn.Parameter]:
        """Parameters whose gradient is cut to train.clip_norm, taken together: all that learn."""
        return [p for p in self.parameters() if p.requires_grad]

    def step(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss (a scalar to differentiate) and figures for the log.

        `features` (B, d) and `projections` (B, d), of the same view of each image, feed the collapse checks.
        """
        raise TypeError(f"{type(self).__name__} is gradient-free and has no step")

    def after_backward(self, progress: float) -> None:
        """Called between the backward pass and the optimiser's step, with progress in [0, 1): clipping, freezing."""

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step with progress in (0, 1]: moving averages, queues, centres."""

    def fit(self, images: np.ndarray) -> None:
        """Gradient-free methods learn here.

        Args:
            images: (n, S, S, C) uint8, the training images as embedding will see them.
        """

    def embedding_networks(self) -> list[nn.Module]:
        """The networks that turn images into vectors, (n, C, S, S) to (n, d), the backbone first."""
        return [self.backbone]

    def trained_backbone(self) -> nn.Module:
        """The network that is saved: the student, or the teacher where `weights` says so."""
        return self.backbone

    def text_model(self) -> tuple[Tokenizer, dict[str, nn.Module], dict[str, Any]] | None:
        """The text side that is saved beside the backbone: tokenizer, `tower` and `projection`, and their sizes.

        None for methods that read no texts; see reprise/artifacts/weights/text_models.py.
        """
        return None

    def heads(self) -> dict[str, Projector | Classifier | Assigner]:
        """Heads that are saved beside the backbone; a projector can be tapped, and those that `taps` names are."""
        return {"projector": self.projector} if self.projector is not None else {}


def embed_views(backbone: nn.Module, views: list[Tensor]) -> Tensor:
    """All views through the backbone in one pass, so that batch normalisation sees them together: (V B, d)."""
    return backbone(torch.cat(views) if len(views) > 1 else views[0])
