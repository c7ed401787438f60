"""Typed parameters of training. Units: epochs of images, learning rates at batch 256, probabilities in [0, 1]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from reprise.config.params import BackboneName, Probability, StrictModel
from reprise.training.schedule import DEFAULT, ScheduleBlock, typed_block

REFERENCE_BATCH = 256  # learning rates are stated for this global batch and scaled linearly (Goyal et al. 2017)


class ViewParams(StrictModel):
    """Augmentation; None takes what suits the source (data/ingest/views.json)."""

    crop_scale_min: Annotated[float, Field(gt=0, le=1)] | None = None  # smallest crop, as a share of the image's area
    flip: bool | None = None  # mirror left-right with probability 0.5
    jitter: Annotated[float, Field(ge=0, le=2)] | None = (
        None  # strength s: brightness, contrast, saturation 0.8 s, hue 0.2 s; 0 is off
    )
    grey: Probability | None = None
    blur: Probability | None = None
    solarize: Probability | None = None


class TrainParams(StrictModel):
    """One budget for all runs."""

    backbone: BackboneName  # a plug-in's name or timm's; never a hub's address
    stem: Literal["auto", "small", "imagenet"] = "auto"
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)]  # global, over all ranks
    optimizer: Literal["sgd", "adamw", "lars"]
    learning_rate: Annotated[float, Field(gt=0)]  # at REFERENCE_BATCH
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_epochs: Annotated[int, Field(ge=0, le=100_000)]
    schedule: ScheduleBlock = Field(default_factory=lambda: typed_block({"name": DEFAULT}))  # after the warm-up
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_steps: Annotated[int, Field(ge=1, le=1_000_000_000)] = 200
    views: ViewParams = ViewParams()
