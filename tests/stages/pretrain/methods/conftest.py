"""A tiny backbone that takes crops of any size, and random batches, for methods without files or a loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from reprise.artifacts.facts.table import objects
from reprise.config.plug_ins.registry import load_class
from reprise.networks.weights.starting import Teacher
from stages.pretrain.method import Batch, Context, Method
from tests.stages.pretrain.conftest import PLAIN

SETTINGS = replace(PLAIN, size=8, crop_scale_min=0.3).settings
# Small heads; what is not named keeps the method's default.
SMALL = {
    "barlow_twins": {"hidden": 16, "output": 12},
    "byol": {"hidden": 16, "output": 8},
    "clip": {"output": 8, "text_width": 16, "text_depth": 1, "vocabulary": 270, "text_length": 16},
    "dcl": {"hidden": 16, "output": 8},
    "detcon": {"hidden": 16, "output": 8},
    "deepcluster_v2": {"hidden": 16, "output": 8, "prototypes": 4, "clusterings": 2, "small_crops": 2},
    "dino": {"hidden": 16, "bottleneck": 8, "outputs": 12, "small_crops": 2, "frozen_for": 0.2},
    "emp_ssl": {"hidden": 16, "output": 8, "patches": 4, "invariance": 20.0},
    "essl": {"hidden": 16, "output": 8, "flip": "predicted"},
    "interclr": {
        "hidden": 16,
        "output": 8,
        "queue": 24,
        "clusters": 4,
        "centroid_steps": 2,
        "pool": 0.5,
        "negatives": 0.2,
    },
    "lejepa": {"hidden": 16, "output": 8, "slices": 8},
    "mlc": {"hidden": 16, "output": 8, "warmup_for": 0.3},
    "moco_v2": {"hidden": 16, "output": 8, "queue": 24},
    "moco_v3": {"hidden": 16, "output": 8},
    "re_iqa": {"hidden": 16, "output": 8, "queue": 24, "copies": 2},
    "nnclr": {"hidden": 16, "output": 8, "queue": 24},
    "moment": {"moment_heads": 2, "moment_width": 7},
    "msn": {"hidden": 16, "output": 8, "prototypes": 6, "small_crops": 2, "width": 16, "depth": 1, "heads": 2},
    "nmce": {"hidden": 16, "output": 8, "clusters": 4, "features_for": 0.2, "frozen_for": 0.2},
    "obow": {"words": 40, "crop_side": 1.0, "patch_side": 0.5, "patches": 3},
    "mugs": {
        "hidden": 16,
        "output": 8,
        "queue": 24,
        "buffer": 24,
        "neighbours": 3,
        "outputs": 12,
        "small_crops": 2,
        "frozen_for": 0.2,
    },
    "odc": {"hidden": 16, "output": 8, "clusters": 4, "centroid_steps": 2},
    "proto_contrast": {"hidden": 16, "output": 8, "prototypes_from": 0.0},
    "pair_contrast": {"hidden": 16, "output": 8},
    "simlap": {"hidden": 16, "output": 8, "class_width": 6, "gate_hidden": 10},
    "sie": {"hidden": 16, "output": 12},
    "simmim": {"width": 16, "depth": 1, "heads": 2},
    "simsiam": {"hidden": 16, "output": 16, "bottleneck": 8},
    "softcon": {"hidden": 16, "output": 8, "queue": 24},
    "supcon": {"hidden": 16, "output": 8},
    "swav": {
        "hidden": 16,
        "output": 8,
        "prototypes": 6,
        "queue": 16,
        "queue_from": 0.3,
        "small_crops": 2,
        "frozen_for": 0.2,
    },
    "tcc": {"hidden": 16, "output": 8, "clusters": 4, "queue": 24, "cluster_queue": 2},
    "triplet": {"hidden": 16, "output": 8, "hardest": 2},
    "vicreg": {"hidden": 16, "output": 12},
    "w_mse": {"hidden": 16, "output": 4, "sub_batch": 8},
}


class TinyBackbone(nn.Module):
    """Convolution, batch normalisation, mean over the positions: 12 features."""

    num_features = 12

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_features(x).mean(dim=(2, 3))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.convolution(x)))


def build(name: str, images: int = 64, steps: int = 8, **options) -> Method:
    """The method called `name` with small heads, in training mode, from seed 0."""
    torch.manual_seed(0)
    kind = load_class("methods", name, Method, "")
    context = Context(
        images=images, clusters=4, steps=steps, size=8, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, seed=0
    )
    if kind.needs_teacher:
        shared = (context.mean, context.std)
        context = replace(context, teacher=Teacher(TinyBackbone(), *shared, (0.1, 0.2, 0.3), (0.5, 0.5, 1.0)))
    if "caption" in kind.reads:
        context = replace(context, facts={"caption": objects([(f"number {i % 7}",) for i in range(images)])})
    if "pose" in kind.reads:
        poses = np.random.default_rng(0).normal(size=(images, 4))
        context = replace(context, facts={"pose": poses / np.linalg.norm(poses, axis=1, keepdims=True)})
    params = kind.Params(**{**SMALL.get(name, {}), **options})
    own = kind.own_backbone(params)
    if own is None:
        backbone: nn.Module = TinyBackbone()
    else:
        from reprise.networks.backbone import build_backbone

        backbone = build_backbone(own[0], 3, 8, "small", own[1])
    return kind(backbone, params, context).train()


def without_batch_statistics(method: Method) -> Method:
    """Let the backbones of a method see each image by itself; its heads may compare them."""
    for network in method.embedding_networks():
        for part in network.modules():
            if isinstance(part, TinyBackbone):
                part.norm = nn.Identity()
    return method


def random_batch(method: Method, size: int = 8, seed: int = 0, start: int = 0) -> Batch:
    """Gaussian views of the sizes that the method plans; labels 0, 1, 2, 3, 0, ...; rows from `start` on.

    The second half of a batch of pairs are the partners of the first.
    """
    rng = torch.Generator().manual_seed(seed)
    views = [torch.randn(size, 3, s.size, s.size, generator=rng) for s in method.view_plan(SETTINGS)]
    rows = torch.arange(start, start + size) % method.context.images
    fields = {"clusters": torch.arange(size) % 4} if "clusters" in method.needs else {}
    if "given" in method.needs:
        fields["given"] = torch.arange(size) % 3 == 0
    if method.needs_pairs:
        weights = torch.linspace(0.2, 1.0, size // 2).repeat(2)
        fields |= {"partner": torch.arange(size).roll(size // 2), "weights": weights}
    facts = {}
    if "pose" in method.reads:
        facts = {"pose": torch.from_numpy(method.context.facts["pose"][rows.numpy()]).float()}
    masks = {"mask": [torch.randint(0, 3, (size, *view.shape[2:]), generator=rng).byte() for view in views]}
    return Batch(views, rows, fields, facts, masks=masks if "mask" in method.reads else {})


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)
