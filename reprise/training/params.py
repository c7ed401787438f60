"""Typed parameters of training. Units: epochs of images, learning rates at batch 256, probabilities in [0, 1]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from reprise.config.params import BackboneName, StrictModel, meaning
from reprise.training.schedule import DEFAULT, ScheduleBlock, typed_block
from reprise.training.views import ViewParams, ViewsBlock
from reprise.training.watch import WatchesBlock

REFERENCE_BATCH = 256  # learning rates are stated for this global batch and scaled linearly (Goyal et al. 2017)
OptimizerName = Literal["sgd", "adamw", "adam", "lars"]


MicroBatches = Annotated[int, Field(ge=1, le=100_000)]
Share = Annotated[float, Field(gt=0, le=1)]
Processes = Annotated[int, Field(ge=1, le=4096)]
ChunkSize = Annotated[int, Field(ge=1, le=1_000_000)]
WindowBytes = Annotated[int, Field(ge=1, le=1 << 50)]
FrozenLayers = Literal["stem", "all_but_last"] | Annotated[int, Field(ge=1, le=1000)]


class LarsParams(StrictModel):
    """The forms of LARS in which the authors of methods differ; the defaults are those of SimCLR, BYOL and VICReg."""

    trust: Annotated[
        float, Field(gt=0, le=1), meaning("A step at learning rate 1 moves a weight by this share of its length.")
    ] = 0.001
    clip: Annotated[
        bool, meaning("The adapted step is never longer than a plain one at the same rate (LARC's clipping).")
    ] = False
    adapt_vectors: Annotated[
        bool, meaning("Biases and the parameters of normalisation are adapted too, as matrices always are.")
    ] = False
    separate_norms: Annotated[
        bool,
        meaning("The lengths of gradient and decay are added, instead of taking the length of their sum."),
    ] = False


class SymmetryParams(StrictModel):
    """A term of the loss that draws the backbone's kernels towards a symmetry, which they may break (PER)."""

    group: Annotated[
        Literal["c4", "d4"],
        meaning("The symmetry is quarter turns (`c4`), or these and mirror images (`d4`)."),
    ] = "c4"
    weight: Annotated[float, Field(gt=0, le=1000), meaning("The term has this weight in the loss.")] = 0.1
    channels: Annotated[
        Literal["scalar", "regular"],
        meaning(
            "A symmetry leaves hidden channels where they are (`scalar`), or moves them within fields of four or eight "
            "channels (`regular`), which keeps directed features."
        ),
    ] = "regular"


class TrainParams(StrictModel):
    """One budget for all runs; a run's own block may replace parts of it."""

    backbone: Annotated[
        BackboneName, meaning("This network is trained: a plug-in's name, or any name that timm knows.")
    ]
    stem: Annotated[
        Literal["auto", "small", "imagenet"],
        meaning(
            "Small images keep their resolution with `small` (3x3 stem, no pooling); `auto` decides by the image size."
        ),
    ] = "auto"
    epochs: Annotated[
        int, Field(ge=1, le=100_000), meaning("Training passes over the images this many times.", "epochs")
    ]
    batch_size: Annotated[
        int,
        Field(ge=2, le=1_000_000),
        meaning("Each step sees this many images, over all processes together.", "images"),
    ]
    optimizer: Annotated[OptimizerName, meaning("This optimiser updates the weights.")]
    learning_rate: Annotated[float, Field(gt=0), meaning("This is the highest learning rate at a batch of 256 images.")]
    learning_rate_scaling: Annotated[
        Literal["linear", "none"],
        meaning("The learning rate grows in proportion to the images that a batch really holds, or stays as it is."),
    ] = "linear"
    momentum: Annotated[
        float, Field(ge=0, lt=1), meaning("SGD and LARS average gradients with this momentum; Adam has its own.")
    ] = 0.9
    nesterov: Annotated[
        bool, meaning("SGD and LARS look one step ahead along their momentum, as Nesterov's does; Adam never does.")
    ] = False
    weight_decay: Annotated[float, Field(ge=0), meaning("Weights decay at this rate.")]
    weight_decay_end: Annotated[
        Annotated[float, Field(ge=0)] | None,
        meaning("Weight decay moves to this value by a cosine over the training; null leaves it as it is."),
    ] = None
    decay_vectors: Annotated[
        bool, meaning("Biases and the parameters of normalisation decay too, as matrices always do.")
    ] = False
    clip_norm: Annotated[
        float, Field(ge=0), meaning("The gradient of all weights together is cut to this length; 0 for no limit.")
    ] = 0.0
    lars: Annotated[LarsParams, meaning("LARS takes this form.")] = LarsParams()
    warmup_epochs: Annotated[
        int,
        Field(ge=0, le=100_000),
        meaning("The learning rate rises linearly over this many epochs, even where there are fewer.", "epochs"),
    ]
    warmup_start: Annotated[
        float, Field(ge=0, lt=1), meaning("The warm-up rises from this share of the highest learning rate.")
    ] = 0.0
    schedule: Annotated[ScheduleBlock, meaning("The learning rate follows this schedule after the warm-up.")] = Field(
        default_factory=lambda: typed_block({"name": DEFAULT})
    )
    schedule_stretch: Annotated[
        float,
        Field(ge=1, le=10),
        meaning("Learning rate and weight decay follow schedules for this many times the training, which ends before."),
    ] = 1.0
    freeze: Annotated[
        FrozenLayers | None,
        meaning(
            "The lowest layers of the backbone do not learn: the first one (`stem`), so many, or `all_but_last`; null "
            "lets all learn."
        ),
    ] = None
    layer_decay: Annotated[
        float,
        Field(gt=0, le=1),
        meaning("A layer of the backbone learns at this share of the rate of the layer above it; 1 for one rate."),
    ] = 1.0
    on_collapse: Annotated[
        Literal["stop", "warn"],
        meaning("A training whose features collapse stops with its last good checkpoint, or goes on with a warning."),
    ] = "stop"
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        meaning("Networks compute in this number format; `auto` takes bf16 where the GPU has it."),
    ] = "auto"
    device: Annotated[
        Literal["auto", "cpu", "cuda"], meaning("Training runs here; `auto` takes a GPU where there is one.")
    ] = "auto"
    compile: Annotated[
        Literal["auto", "off", "on"],
        meaning("The networks are compiled, which takes half a minute or more; `auto` leaves that out."),
    ] = "auto"
    graph: Annotated[
        Literal["auto", "off", "on"],
        meaning("The training step is recorded as a CUDA graph; `auto` does so on a GPU where the method allows it."),
    ] = "auto"
    deterministic: Annotated[
        bool,
        meaning(
            "A GPU takes only algorithms that repeat themselves bit by bit, so that a resumed run equals an unbroken "
            "one; a CPU always does."
        ),
    ] = False
    checkpoint_steps: Annotated[
        int,
        Field(ge=1, le=1_000_000_000),
        meaning("A checkpoint is written after every so many steps, besides after every epoch.", "steps"),
    ] = 200
    # The next seven are written to config.json only where they are set.
    image_share: Annotated[
        Share,
        Field(exclude_if=lambda value: value == 1),
        meaning("Training sees this share of the training images; smaller shares are part of larger ones."),
    ] = 1.0
    window_bytes: Annotated[
        WindowBytes | None,
        Field(exclude_if=lambda value: value is None),
        meaning(
            "Each epoch goes through whole tars in random order, and shuffles images within windows of tars of up to "
            "this size, for shards that lie in a store and do not fit on this machine; null shuffles all images.",
            "bytes",
        ),
    ] = None
    processes: Annotated[
        Processes,
        Field(exclude_if=lambda value: value == 1),
        meaning(
            "So many processes train together, each with its share of every batch, as one process would: on a CPU they "
            "divide its cores, on GPUs each has its own. torchrun may start them, on several machines too.",
            "processes",
        ),
    ] = 1
    accumulate: Annotated[
        MicroBatches,
        Field(exclude_if=lambda value: value == 1),
        meaning(
            "Each batch is cut into this many micro-batches, whose gradients are added up before the optimiser's step; "
            "a loss that compares images compares those of one micro-batch.",
            "micro-batches",
        ),
    ] = 1
    chunk_size: Annotated[
        ChunkSize | None,
        Field(exclude_if=lambda value: value is None),
        meaning(
            "The backbone takes this many views at a time, and computes them twice, while the loss compares the whole "
            "batch; null passes the batch at once.",
            "views",
        ),
    ] = None
    activation_checkpointing: Annotated[
        bool,
        Field(exclude_if=lambda value: not value),
        meaning("The backbone keeps what its blocks take in, and computes the rest again in the backward pass."),
    ] = False
    shard_weights: Annotated[
        bool,
        Field(exclude_if=lambda value: not value),
        meaning(
            "Each of several processes keeps a part of the backbone's weights, gradients and optimiser state, and the "
            "whole weights of one block at a time (FSDP2)."
        ),
    ] = False
    symmetry: Annotated[
        SymmetryParams | None,
        Field(exclude_if=lambda value: value is None),
        meaning("The kernels of convolutions are drawn towards this symmetry; null leaves them alone."),
    ] = None
    views: Annotated[
        ViewsBlock,
        meaning(
            "Images are changed at random in these ways: short settings, of which null takes what suits the source, or "
            "a list of changes."
        ),
    ] = ViewParams()
    watches: Annotated[  # written to config.json only where there are any
        WatchesBlock,
        Field(exclude_if=lambda value: not value),
        meaning(
            "These watches look at the training, at its start and after epochs, and change nothing in it: a block with "
            "a key for each."
        ),
    ] = ()

    @field_validator("deterministic")
    @classmethod
    def _without_the_compiler(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("compile") == "on":
            raise ValueError(
                "takes no compiled networks, whose kernels are found by trying: set compile to auto or off"
            )
        return value

    @field_validator("nesterov")
    @classmethod
    def _needs_momentum(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("momentum") == 0:
            raise ValueError("looks ahead along the momentum: set momentum above 0, or nesterov to false")
        return value
