"""SimMIM and MSN against loops in float64; masks; the small transformer against timm's."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from reprise.config.errors import BackboneError
from reprise.config.plug_ins.registry import load_class
from reprise.networks.backbone import build_backbone
from reprise.networks.small.small_vit import SmallViT
from stages.pretrain.method import Method
from stages.pretrain.methods.masked.msn import msn_loss
from stages.pretrain.methods.masked.simmim import masked_l1, patches_of
from stages.pretrain.parts.masking import random_mask, visible
from tests.stages.pretrain.conftest import PLAIN
from tests.stages.pretrain.methods.conftest import build, random_batch


@pytest.mark.parametrize(("share", "count"), [(0.6, 10), (0.01, 1), (0.99, 15)])
def test_masks_hide_the_same_number_everywhere(share, count):
    torch.manual_seed(0)
    mask = random_mask(200, 16, share)
    assert mask.sum(dim=1).tolist() == [count] * 200
    if count == 10:
        assert float(mask.float().mean(dim=0).min()) > 0.4
        assert float(mask.float().mean(dim=0).max()) < 0.8


def test_visible_tokens_keep_their_order():
    tokens = torch.arange(12.0).view(2, 6, 1)
    hidden = torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1]]).bool()
    assert visible(tokens, hidden).squeeze(2).tolist() == [[1, 2, 4, 5], [6, 7, 8, 9]]


def test_patches_are_in_the_order_of_the_tokens():
    x = torch.randn(2, 3, 8, 8)
    patches = patches_of(x, 4)
    network = SmallViT(size=8, patch_size=4, width=6, depth=1, heads=2)
    weight = network.patch_embed.proj.weight.flatten(1)
    torch.testing.assert_close(patches @ weight.T + network.patch_embed.proj.bias, network.patch_embed(x))


def test_masked_l1_counts_hidden_pixels_only(rng):
    predicted, pixels = torch.randn(2, 3, 5, 4, generator=rng, dtype=torch.float64).unbind()
    hidden = torch.tensor([[1, 0, 0, 1, 1], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0]]).bool()
    terms = [
        abs(float(predicted[b, n, k] - pixels[b, n, k]))
        for b in range(3)
        for n in range(5)
        if hidden[b, n]
        for k in range(4)
    ]
    assert float(masked_l1(predicted, pixels, hidden)) == pytest.approx(sum(terms) / len(terms), abs=1e-9)
    changed = torch.where(hidden[..., None], predicted, predicted + 9)
    assert float(masked_l1(changed, pixels, hidden)) == pytest.approx(sum(terms) / len(terms), abs=1e-9)
    assert float(masked_l1(predicted, pixels, torch.zeros_like(hidden))) == 0


def test_what_is_hidden_does_not_reach_the_features():
    method = build("simmim").eval()
    view = torch.randn(2, 3, 8, 8)
    hidden = torch.tensor([[True, False, False, False]] * 2)
    other = view.clone()
    other[:, :, :4, :4] += 5
    a, b = (method.backbone.encode(method.backbone.tokens(v, hidden, method.mask_token)) for v in (view, other))
    assert torch.equal(a, b)
    assert not torch.equal(method.backbone(view), method.backbone(other))
    coloured = replace(PLAIN, flip=True, jitter=1.0, grey=0.2, blur=0.5, solarize=0.2).settings
    plan = method.view_plan(coloured)
    assert [[change.params.name for change in s.changes] for s in plan] == [["crop", "flip"]]
    assert [s.cut.params.scale_min for s in plan] == [0.67]


@pytest.mark.parametrize("iterations", [0, 3])
def test_msn(rng, iterations):
    anchors = torch.rand(3, 4, 5, generator=rng, dtype=torch.float64)
    targets = torch.rand(4, 5, generator=rng, dtype=torch.float64)

    def softmax(v, t):
        e = [math.exp(float(x) / t) for x in v]
        return [x / sum(e) for x in e]

    q = [softmax(targets[b], 0.025) for b in range(4)]
    for _ in range(iterations):  # each prototype to 1 / K of all, then each image to 1 / B
        columns = [sum(row[k] for row in q) for k in range(5)]
        q = [[x / (5 * c) for x, c in zip(row, columns, strict=True)] for row in q]
        q = [[x / (4 * sum(row)) for x in row] for row in q]
    q = [[x / sum(row) for x in row] for row in q]
    cross, mean = 0.0, [0.0] * 5
    for a in range(3):
        for b in range(4):
            p = softmax(anchors[a, b], 0.1)
            cross -= sum(x * math.log(y) for x, y in zip(q[b], p, strict=True)) / 12
            mean = [m + x / 12 for m, x in zip(mean, p, strict=True)]
    spread = -sum(m * math.log(m) for m in mean)
    loss, got = msn_loss(anchors, targets, 0.1, 0.25, 1.5, iterations)
    assert float(got) == pytest.approx(spread, abs=1e-9)
    assert float(loss) == pytest.approx(cross - 1.5 * spread, abs=1e-9)
    order = torch.tensor([2, 0, 3, 1])
    permuted, _ = msn_loss(anchors[[1, 2, 0]][:, order] + 7, targets[order] - 3, 0.1, 0.25, 1.5, iterations)
    assert float(permuted) == pytest.approx(float(loss), abs=1e-8)


@pytest.mark.parametrize("share", [0.05, 0.2306, 0.6, 0.99])
def test_msn_does_not_reward_one_answer_for_all_images(share):
    """By default; without Sinkhorn such a network has a loss far below that of knowing nothing, which is 0."""
    prototypes, params = 256, load_class("methods", "msn", Method, "").Params()
    scores = torch.full((16, prototypes), params.temperature * math.log((1 - share) / (prototypes - 1)))
    scores[:, 7] = params.temperature * math.log(share)
    settings = (params.temperature, params.sharpening, params.entropy)
    loss, _ = msn_loss(scores[None], scores, *settings, params.sinkhorn)
    assert float(loss) > -1e-4
    plain, _ = msn_loss(scores[None], scores, *settings, 0)
    if share > 0.1:  # sure of one prototype once sharpened
        one = (1 - share) * (math.log((1 - share) / share) - math.log(prototypes - 1))
        assert float(plain) == pytest.approx(one, abs=1e-3)


def test_msn_edges():
    """One winner has entropy 0 and no NaN; equal assignments reach log K; targets get no gradient."""
    one = torch.zeros(1, 1, 4)
    one[..., 0] = 1000.0
    assert float(msn_loss(one, one[0], 0.1, 0.25, 1.0, 0)[1]) == 0
    loss, spread = msn_loss(one, one[0], 0.1, 0.25, 1.0, 3)
    assert math.isfinite(float(loss)) and float(spread) == 0
    even = msn_loss(torch.zeros(2, 3, 4), torch.zeros(3, 4), 0.1, 0.25, 1.0, 3)
    assert float(even[1]) == pytest.approx(math.log(4))
    targets = torch.randn(3, 4, requires_grad=True)
    msn_loss(torch.randn(2, 3, 4, requires_grad=True), targets, 0.1, 0.25, 1.0, 3)[0].backward()
    assert targets.grad is None


def test_msn_without_small_crops():
    method = build("msn", small_crops=0)
    loss, _ = method.step(random_batch(method))
    assert torch.isfinite(loss)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_the_transformer_is_timms(pool):
    from reprise.networks.torchvision_schemas import ensure_torchvision_imports

    ensure_torchvision_imports()
    from timm.models.vision_transformer import VisionTransformer

    ours = SmallViT(size=16, patch_size=4, width=24, depth=2, heads=3, pool=pool).eval()
    theirs = VisionTransformer(
        img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=0, global_pool=pool, fc_norm=False
    ).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-4)


def test_other_sides_interpolate_the_positions():
    network = build_backbone("vit_mini", 1, 32)
    assert network.patch_size == 4
    assert network(torch.randn(2, 1, 12, 12)).shape == (2, network.num_features)
    assert build_backbone("vit_mini", 3, 96).patch_size == 16
    with pytest.raises(BackboneError, match="images of 18 with patches of 4"):
        build_backbone("vit_mini", 3, 18)


@pytest.mark.parametrize("freeze", [True, False])
def test_moco_v3_leaves_a_transformers_patches_at_their_random_values(freeze):
    kind = type(build("moco_v3"))
    context = build("moco_v3").context
    network = SmallViT(size=8, patch_size=4, width=12, depth=1, heads=2)
    method = kind(network, kind.Params(hidden=16, output=8, freeze_patches=freeze), context)
    loss, _ = method.step(random_batch(method))
    loss.backward()
    assert (network.patch_embed.proj.weight.grad is None) == freeze
    assert network.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in method.teacher.parameters())
