"""`clip`: its loss restated with loops, its temperature, its captions, and the text side that a run saves."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reprise.artifacts.facts.table import objects
from reprise.artifacts.weights.text_models import read_text_model
from reprise.config.errors import BackboneError
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import RunRow
from reprise.networks.text.encoder import text_encoder
from reprise.objectives.image_text import image_text_loss
from stages.pretrain.method import Method
from stages.pretrain.run import pretrain
from tests.known_facts import DECLARED, write_facts_of_run, write_known_facts
from tests.stages.pretrain.conftest import IMAGE, TINY
from tests.stages.pretrain.methods.conftest import SMALL, TinyBackbone, build, random_batch


def restated(images: torch.Tensor, texts: torch.Tensor, scale: float) -> float:
    """Both directions, a pair at a time, in plain Python."""

    def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a * b).sum() / (a.norm() * b.norm()))

    total = 0.0
    for i in range(len(images)):
        to_texts = [math.exp(scale * cosine(images[i], text)) for text in texts]
        to_images = [math.exp(scale * cosine(texts[i], image)) for image in images]
        total -= math.log(to_texts[i] / sum(to_texts)) + math.log(to_images[i] / sum(to_images))
    return total / (2 * len(images))


@pytest.mark.parametrize("scale", [1.0, 14.3])
def test_the_loss_is_the_mean_of_both_directions(rng: torch.Generator, scale: float) -> None:
    images, texts = (torch.randn(7, 5, generator=rng, dtype=torch.float64) for _ in range(2))
    loss = image_text_loss(images, texts, torch.tensor(scale, dtype=torch.float64))
    assert float(loss) == pytest.approx(restated(images, texts, scale), abs=1e-6)
    swapped = image_text_loss(texts, images, torch.tensor(scale, dtype=torch.float64))
    assert float(swapped) == pytest.approx(float(loss), abs=1e-12)
    longer = image_text_loss(3 * images, texts, torch.tensor(scale, dtype=torch.float64))
    assert float(longer) == pytest.approx(float(loss), abs=1e-12)


def test_a_step_pairs_each_image_with_its_own_caption() -> None:
    method = build("clip")
    batch = random_batch(method)
    loss, figures = method.step(batch)
    words = [f"number {i % 7}" for i in batch.rows.tolist()]
    tokens, cut = method.tokenizer.rows(words, 16)
    assert cut == 0
    images = method.projector(method.backbone(batch.views[0]))
    texts = method.text_projection(method.tower(torch.tensor(tokens)))
    assert loss.item() == pytest.approx(restated(images.detach(), texts.detach(), 1 / 0.07), abs=1e-5)
    assert figures["temperature"].item() == pytest.approx(0.07)


def test_the_temperature_is_learned_and_keeps_its_bound() -> None:
    method = build("clip", temperature=0.02, temperature_min=0.019)
    method.step(random_batch(method))[0].backward()
    assert method.log_scale.grad is not None
    assert method.log_scale.grad.item() != 0
    with torch.no_grad():
        method.log_scale += 5
    method.after_step(0.5)
    assert 1 / method.log_scale.exp().item() == pytest.approx(0.019)
    assert [group["weight_decay"] for group in method.parameter_groups()] == [0.0]


def clip_with(texts: list[tuple[str, ...]]) -> Method:
    like = build("clip", images=len(texts))
    context = replace(like.context, facts={"caption": objects(texts)})
    return type(like)(TinyBackbone(), like.params, context)


def test_images_without_a_caption_are_left_out_and_that_is_said() -> None:
    method = clip_with([("one",), (), ("three", "drei"), ("abcdefghijklmnopqrstuvwxyz",), *[("four",)] * 4])
    assert [note.split(" ", 1)[1] for note in method.notes] == [
        "of 8 captions have more than text_length = 16 tokens, and the rest of each is not read.",
        "of 8 training images have no caption and are left out of the loss.",
    ]
    batch = random_batch(method)
    batch = replace(batch, rows=torch.tensor([0, 1, 2, 3, 4, 5, 6, 1]))
    torch.manual_seed(0)
    loss, _ = method.step(batch)
    torch.manual_seed(0)
    other = replace(batch, views=[batch.views[0].clone()])
    kept = method.captions[batch.rows][:, 1] > 0
    assert kept.tolist() == [True, False, True, True, True, True, True, False]
    assert torch.isfinite(loss)
    empty = replace(other, rows=torch.tensor([1, 1]), views=[batch.views[0][:2]])
    nothing, _ = method.step(empty)
    nothing.backward()
    assert nothing.item() == 0


def test_every_caption_of_an_image_is_shown() -> None:
    method = clip_with([("one", "two", "three")] * 8)
    seen = set()
    method.tower.register_forward_pre_hook(lambda module, args: seen.update(map(tuple, args[0].tolist())))
    for seed in range(4):
        torch.manual_seed(seed)
        method.step(random_batch(method))
    assert len(seen) == 3


def test_a_run_saves_its_text_side_and_the_same_text_gives_the_same_vector(digits: Path) -> None:
    write_known_facts(0, [fact for fact in DECLARED if fact.use == "given"])
    write_facts_of_run("clip", ["caption"])
    kind = load_class("methods", "clip", Method, "runs")
    row = RunRow(name="clip", method="clip", labels="none")
    one = TINY.model_copy(update={"epochs": 1, "warmup_epochs": 0})
    pretrain(row, 0, IMAGE, one, kind.Params(**SMALL["clip"]), Path("a"), restart=False)
    config, weights = read_text_model(Path("a"))
    assert (config.fact, config.length, config.output) == ("caption", 16, 8)
    encoder = text_encoder(config, weights, "a")
    vectors = encoder.encode(["a picture of number 1", "A picture of  number 1", "a picture of number 2"])
    assert torch.equal(vectors[0], vectors[1])
    assert not torch.allclose(vectors[0], vectors[2])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    entries = json.loads(Path("a/text.json").read_text())
    for wrong, message in (
        ({"length": 10**9}, "damaged description"),
        ({"tokenizer": {"version": 1, "merges": [[999, 1]]}}, "tokenizer is damaged"),
        ({"depth": 2}, "do not fit their description"),
    ):
        Path("a/text.json").write_text(json.dumps(entries | wrong))
        with pytest.raises(BackboneError, match=message):
            text_encoder(*read_text_model(Path("a")), "a")
