"""Typed parameters of training. Units: epochs of images, learning rates at batch 256, probabilities in [0, 1]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reprise.config.params import BackboneName, Probability, StrictModel, meaning
from reprise.training.schedule import DEFAULT, ScheduleBlock, typed_block

REFERENCE_BATCH = 256  # learning rates are stated for this global batch and scaled linearly (Goyal et al. 2017)


class ViewParams(StrictModel):
    """How images are changed at random; None takes what suits the source (data/ingest/views.json)."""

    crop_scale_min: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        meaning("The smallest random crop covers this share of the image's area."),
    ] = None
    flip: Annotated[bool | None, meaning("Images are mirrored left to right with probability 0.5.")] = None
    jitter: Annotated[
        Annotated[float, Field(ge=0, le=2)] | None,
        meaning("Brightness, contrast and saturation change by up to 0.8 times this, the hue by 0.2 times; 0 is off."),
    ] = None
    grey: Annotated[Probability | None, meaning("An image loses its colours with this probability.")] = None
    blur: Annotated[Probability | None, meaning("An image is blurred with this probability.")] = None
    solarize: Annotated[
        Probability | None, meaning("The bright pixels of an image are inverted with this probability.")
    ] = None


class TrainParams(StrictModel):
    """One budget for all runs."""

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
    optimizer: Annotated[Literal["sgd", "adamw", "lars"], meaning("This optimiser updates the weights.")]
    learning_rate: Annotated[
        float,
        Field(gt=0),
        meaning("This is the highest learning rate at a batch of 256 images; it is scaled linearly with the batch."),
    ]
    momentum: Annotated[
        float, Field(ge=0, lt=1), meaning("SGD and LARS average gradients with this momentum; AdamW has its own.")
    ] = 0.9
    weight_decay: Annotated[
        float, Field(ge=0), meaning("Weights decay at this rate; biases and the parameters of normalisation do not.")
    ]
    warmup_epochs: Annotated[
        int, Field(ge=0, le=100_000), meaning("The learning rate rises linearly over this many epochs.", "epochs")
    ]
    schedule: Annotated[ScheduleBlock, meaning("The learning rate follows this schedule after the warm-up.")] = Field(
        default_factory=lambda: typed_block({"name": DEFAULT})
    )
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        meaning("Networks compute in this number format; `auto` takes bf16 where the GPU has it."),
    ] = "auto"
    device: Annotated[
        Literal["auto", "cpu", "cuda"], meaning("Training runs here; `auto` takes a GPU where there is one.")
    ] = "auto"
    checkpoint_steps: Annotated[
        int,
        Field(ge=1, le=1_000_000_000),
        meaning("A checkpoint is written after every so many steps, besides after every epoch.", "steps"),
    ] = 200
    views: Annotated[
        ViewParams, meaning("Images are changed at random in these ways; null takes what suits the source.")
    ] = ViewParams()
