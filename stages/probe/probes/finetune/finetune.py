"""Fine-tuning: accuracy when the whole network goes on learning from labels, all of them and 10 % of them.

Where a linear probe asks what the features hold, this asks what they are a good start for. A linear layer of zeros is
put on a copy of the backbone and both are trained by SGD with Nesterov momentum and a cosine schedule; images are
shifted at random by up to an eighth of their side. The learning rate is chosen on val, each share of labels for itself.
Source: the protocol of SimCLR, appendix B.5 (Chen et al. 2020). Deviation: no crops, flips or colour changes, since not
every kind of image bears them. The backbone on disk is read and never written.

Checked by: tests/stages/probe/images/test_on_images.py.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import Seed, StrictModel, meaning
from reprise.reading.share import drawn_of_each
from stages.probe import scoring
from stages.probe.data import BACKBONE, Part, ProbeData
from stages.probe.fitting import may_choose
from stages.probe.probe import Probe, ProbeResult

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stages.probe.images.image_data import ImageData

Rate = Annotated[float, Field(gt=0, le=100)]
LARGEST_GRADIENT = 5.0  # gradients are clipped to this norm: a rate that is too high loses on val and does not blow up
Percent = Annotated[float, Field(gt=0, le=100)]


class Finetune(Probe):
    """Metrics: `top1`, `balanced_accuracy`, `top1_val` with all labels, `top1_<p>_percent` with fewer."""

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `finetune`."""

        epochs: Annotated[
            int,
            Field(ge=1, le=1000),
            meaning("Training with all labels passes over the images this many times.", "epochs"),
        ] = 10
        few_epochs: Annotated[
            int,
            Field(ge=1, le=1000),
            meaning("Training with fewer labels passes over the images this many times.", "epochs"),
        ] = 30
        percents: Annotated[
            list[Percent],
            Field(max_length=10),
            meaning("Besides all labels, these shares of each class's training images are used.", "percent"),
        ] = Field(default_factory=lambda: [10.0])
        rates: Annotated[
            list[Rate],
            Field(min_length=1, max_length=10),
            meaning("These learning rates are tried on val, and the best is taken."),
        ] = Field(default_factory=lambda: [0.1, 0.02])
        rate: Annotated[Rate, meaning("This learning rate is taken when val may not choose.")] = 0.05
        batch_size: Annotated[int, Field(ge=2, le=65_536), meaning("Each step sees this many images.", "images")] = 128
        momentum: Annotated[float, Field(ge=0, lt=1), meaning("SGD averages gradients with this momentum.")] = 0.9
        weight_decay: Annotated[float, Field(ge=0, le=1), meaning("Weights decay at this rate.")] = 1e-4
        seed: Annotated[Seed, meaning("The random choices (labels, order and shifts) depend on this seed.")] = 0

    def run(self, data: ProbeData) -> ProbeResult:
        """Train on train, choose on val, score test."""
        from stages.probe.images.image_data import ImageData

        assert isinstance(data, ImageData), "this probe belongs to a group of `checks`"
        train, _ = scoring.labelled(data, "train", BACKBONE)
        val, _ = scoring.labelled(data, "val", BACKBONE)
        test, _ = scoring.labelled(data, data.test, BACKBONE)
        names = np.unique(train.labels)
        protocol = {
            **scoring.counts_note(data),
            "trained": "the whole network and a linear layer, SGD with Nesterov momentum, cosine schedule",
            "epochs": f"{self.params.epochs}; {self.params.few_epochs} with fewer labels",
            "views": "shifted by up to an eighth of the side",
        }
        metrics = {}
        predictions = None
        for percent in [100.0, *self.params.percents]:
            rows = _drawn(train, percent, self.params.seed)
            epochs = self.params.epochs if percent == 100 else self.params.few_epochs
            network, how = self._chosen(data, train, rows, val, names, epochs)
            protocol[f"learning rate at {percent:g} %"] = how
            logits = _answers(network, data, test.keys)
            predicted = names[logits.argmax(1)]
            if percent < 100:
                word = f"{percent:g}".replace(".", "_").replace("-", "_")
                protocol[f"labels at {percent:g} %"] = f"{len(rows)} training images"
                metrics[f"top1_{word}_percent"] = scoring.top1(test, predicted, data.confidence)
                continue
            metrics["top1"] = scoring.top1(test, predicted, data.confidence)
            metrics["balanced_accuracy"] = scoring.balanced_accuracy(test, predicted, data.confidence)
            if data.test == "test" and len(val):
                answers = names[_answers(network, data, val.keys).argmax(1)]
                metrics["top1_val"] = scoring.top1(val, answers, data.confidence)
            share = np.exp(logits - logits.max(1, keepdims=True))
            predictions = scoring.predictions(
                test, predicted, (share / share.sum(1, keepdims=True)).max(1), data.classes
            )
        return ProbeResult(metrics, protocol, predictions)

    def _chosen(
        self, data: ImageData, train: Part, rows: np.ndarray, val: Part, names: np.ndarray, epochs: int
    ) -> tuple[nn.Module, str]:
        """The network of the best rate on val, and how it was found."""
        why_not = may_choose(data, len(val))
        if why_not is not None:
            rate = self.params.rate
            return self._train(data, train, rows, names, epochs, rate), f"{rate:g}, not chosen ({why_not})"
        best, kept = (-1.0, 0.0), None
        for rate in sorted(self.params.rates):
            network = self._train(data, train, rows, names, epochs, rate)
            right = float((names[_answers(network, data, val.keys).argmax(1)] == val.labels).mean())
            if right > best[0]:  # on equal accuracy the lower rate
                best, kept = (right, rate), network
        assert kept is not None
        return kept, f"{best[1]:g}, chosen on {len(val)} val images"

    def _train(
        self, data: ImageData, train: Part, rows: np.ndarray, names: np.ndarray, epochs: int, rate: float
    ) -> nn.Module:
        """A copy of the backbone with a linear layer, trained on these rows; the same seed, the same bits."""
        import torch
        from torch import nn

        from reprise.runtime.device import Compute
        from reprise.training.epochs import ShuffledEpochs
        from reprise.training.fit import fit
        from reprise.training.schedule import Rates, load_schedule, typed_block

        backbone = data.network()
        head = nn.Linear(data.config["num_features"], len(names)).to(data.device)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        network = nn.Sequential(backbone, head)
        optimizer = torch.optim.SGD(
            network.parameters(),
            rate,
            self.params.momentum,
            weight_decay=self.params.weight_decay,
            nesterov=self.params.momentum > 0,
        )
        target = torch.from_numpy(np.searchsorted(names, train.labels)).to(data.device)
        rng = np.random.default_rng([self.params.seed, 1])  # of order and shifts

        def batch(own: np.ndarray) -> tuple[Tensor, Tensor]:
            images = _shifted(data.pixels(train.keys[own]), rng)
            return images, target[torch.from_numpy(own).to(data.device)]

        size = min(self.params.batch_size, len(rows))  # 1 trains nothing: one image has no statistics to normalise by
        passes = ShuffledEpochs(epochs if size > 1 else 0, size, rows, batch, rng, drop_last=True)

        def step(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            images, classes = batch
            return nn.functional.cross_entropy(network(images), classes), {}

        def clip(progress: float) -> None:
            nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)

        fit(
            network,
            step,
            passes,
            optimizer,
            Compute(data.device, "fp32", torch.get_num_threads()),
            f"fine-tuning at {rate:g}",
            rates=Rates(load_schedule(typed_block({"name": "cosine"})), epochs * passes.batches, 0, rate),
            after_backward=clip,
            may_diverge=True,  # a rate that is too high loses on val
        )
        return copy.deepcopy(network).eval()


def _drawn(train: Part, percent: float, seed: int) -> np.ndarray:
    """Rows of a share of every class, at least one each."""
    rng = np.random.default_rng([seed, round(percent * 1e6)])
    members = [np.flatnonzero(train.labels == name) for name in np.unique(train.labels)]
    return drawn_of_each(members, percent, rng)


def _shifted(x: Tensor, rng: np.random.Generator) -> Tensor:
    """(B, C, S, S) images moved by up to S / 8 pixels in each direction, borders reflected."""
    import torch

    size = x.shape[-1]
    reach = max(1, size // 8)
    padded = torch.nn.functional.pad(x, (reach,) * 4, mode="reflect")
    offsets = rng.integers(0, 2 * reach + 1, (len(x), 2))
    moved = [padded[i, :, a : a + size, b : b + size] for i, (a, b) in enumerate(offsets.tolist())]
    return torch.stack(moved).contiguous(memory_format=torch.channels_last)


def _answers(network: nn.Module, data: ImageData, keys: np.ndarray) -> np.ndarray:
    """(n, c) float64 logits."""
    import torch

    from reprise.runtime.memory import evaluation_batch

    batch = evaluation_batch(data.config["input_size"], data.device)
    with torch.inference_mode():
        parts = [network(data.pixels(keys[i : i + batch])).double().cpu().numpy() for i in range(0, len(keys), batch)]
    return np.concatenate(parts)
