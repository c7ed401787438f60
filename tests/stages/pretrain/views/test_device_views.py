"""Views in the form that a GPU makes them, on the CPU: the same draws give the same pixels as the other form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from stages.pretrain.changes import colour
from stages.pretrain.parts.pixels import ready
from stages.pretrain.views import batched, device
from stages.pretrain.views.draws import draw_views
from stages.pretrain.views.settings import by_view
from tests.stages.pretrain.conftest import PLAIN

ALL = replace(PLAIN, crop_scale_min=0.08, flip=True, jitter=1.0, grey=0.2, blur=0.5, solarize=0.3)


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """(48, 40, 56, 3) uint8, smooth and coloured."""
    coarse = np.random.default_rng(0).integers(0, 256, (48, 5, 7, 3), dtype=np.uint8)
    return torch.from_numpy(np.stack([np.asarray(Image.fromarray(c).resize((56, 40), 3)) for c in coarse]))


def rng(view: int) -> torch.Generator:
    return torch.Generator().manual_seed(view)


def both(images, plan, where="cpu"):
    """The views by either path, in steps of a pixel value."""
    plan = by_view([s.settings for s in plan])
    rngs = [rng(v) for v in range(len(plan))]
    draws = draw_views(len(images), *images.shape[1:3], plan, rngs)
    want = torch.cat([batched.made_view(images, s, drawn) for s, drawn in zip(plan, draws, strict=True)])
    found = torch.cat(device.views_on_device(images.to(where), plan, draws)).cpu()
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.dtype == torch.float32
    std = torch.tensor(plan[0].std).view(1, -1, 1, 1)
    return want * std * 255, found * std * 255


@pytest.mark.parametrize(
    "plan",
    [
        [ALL, ALL],
        [replace(ALL, blur=(1.0, 0.1), solarize=(0.0, 0.2))] * 2,
        [replace(ALL, jitter=0.0), ALL, replace(ALL, grey=0.0, flip=False)],
        [replace(PLAIN, crop_scale_min=0.3)],
    ],
    ids=["alike", "as in byol", "changes that some views lack", "crops alone"],
)
def test_small_views_are_those_of_the_cpu(photos, plan):
    want, found = both(photos, plan)
    torch.testing.assert_close(found, want, atol=0.01, rtol=0)


def test_grey_images_have_the_same_views(photos):
    plan = [replace(ALL, channels=1, mean=(0.4,), std=(0.2,))] * 2
    want, found = both(photos[..., :1].contiguous(), plan)
    torch.testing.assert_close(found, want, atol=0.01, rtol=0)


def test_large_views_differ_by_the_rounding_of_half_precision(photos):
    want, found = both(photos[:16], [replace(ALL, size=96)] * 2)
    off = (found - want).abs()
    assert float((off <= 1.0).float().mean()) > 0.998  # the rest: hues of almost grey pixels, the edge of solarising
    assert float(off.mean()) < 0.15


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("with_kernels", [True, False])
def test_a_gpu_makes_the_views_of_the_cpu(photos, with_kernels, monkeypatch):
    if with_kernels:
        assert ready.kernels() is not None
    else:
        for module in (device, colour):
            monkeypatch.setattr(module, "kernels", lambda: None)
    want, found = both(photos, [ALL, replace(ALL, blur=(1.0, 0.1), solarize=(0.0, 0.2))], "cuda")
    torch.testing.assert_close(found, want, atol=0.02, rtol=0)
    want, found = both(photos[:16], [replace(ALL, size=96)] * 2, "cuda")
    off = (found - want).abs()
    assert float((off <= 1.0).float().mean()) > 0.998
    assert float(off.mean()) < 0.15
