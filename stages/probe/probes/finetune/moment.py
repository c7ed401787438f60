"""Moment Probing: what can be read off local features if their second moments count as well as their mean?

The backbone is frozen; a small head is trained on its local features (before pooling): a linear layer on their mean,
and one on cross-covariances between projected channels. Beside `linear` it shows what pooling throws away.
Source: Gao et al. 2023 (networks/moments.py says what is as in the authors' code: moments are not centred).
Deviation: features of one centred view; features standardised by their mean and deviation over train; AdamW's learning
rate chosen on val. Of an architecture without local features the protocol says so.

Checked by: tests/stages/probe/images/test_on_images.py; tests/reprise/networks/test_moments.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import Seed, StrictModel, meaning
from reprise.training.optimization.annealing import half_cosine
from reprise.training.schedule import Rates, Schedule, ScheduleParams
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import may_choose
from stages.probe.probe import Probe, ProbeResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    Tokens = Callable[[np.ndarray], Tensor]  # rows -> (n, L, D)

Rate = Annotated[float, Field(gt=0, le=1)]


class Moment(Probe):
    """Metrics: `top1`, `balanced_accuracy`, `top1_val`."""

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `moment`."""

        heads: Annotated[
            int, Field(ge=2, le=64), meaning("Local features are projected to this many heads.", "heads")
        ] = 4
        width: Annotated[int, Field(ge=7, le=1024), meaning("Each head has this width.", "units")] = 32
        epochs: Annotated[
            int, Field(ge=1, le=1000), meaning("Training passes over the images this many times.", "epochs")
        ] = 30
        batch_size: Annotated[int, Field(ge=1, le=65_536), meaning("Each step sees this many images.", "images")] = 128
        rates: Annotated[
            list[Rate],
            Field(min_length=1, max_length=10),
            meaning("These learning rates are tried on val, and the best is taken."),
        ] = Field(default_factory=lambda: [3e-3, 1e-3])
        rate: Annotated[Rate, meaning("This learning rate is taken when val may not choose.")] = 1e-3
        weight_decay: Annotated[float, Field(ge=0, le=10), meaning("AdamW lets weights decay at this rate.")] = 0.05
        seed: Annotated[Seed, meaning("The random choices (the head and the order) depend on this seed.")] = 0

    def run(self, data: ProbeData) -> ProbeResult:
        """Train the head on train, choose on val, score test."""
        from reprise.runtime.memory import evaluation_batch
        from stages.probe.images.image_data import ImageData

        assert isinstance(data, ImageData), "this probe belongs to a group of `checks`"
        if data.local is None:
            return ProbeResult({}, {"note": f"not run: {data.config['architecture']} has no local features"})
        tokens = data.local.tokens
        (train, _), (val, _), (test, _) = (scoring.labelled(data, s, BACKBONE) for s in ("train", "val", data.test))
        names, batch = np.unique(train.labels), evaluation_batch(data.config["input_size"], data.device)
        target = np.searchsorted(names, train.labels)
        why_not = may_choose(data, len(val))
        best, head, how = (-1.0, 0.0), None, f"{self.params.rate:g}, not chosen ({why_not})"
        for rate in sorted(self.params.rates) if why_not is None else [self.params.rate]:
            fitted = self.train_head(lambda rows: tokens(train.keys[rows]), target, len(names), rate, data.device)
            if why_not is None:
                right = float((names[_answers(fitted, tokens, val.keys, batch).argmax(1)] == val.labels).mean())
                if right <= best[0]:  # on equal accuracy the lower rate
                    continue
                best, how = (right, rate), f"{rate:g}, chosen on {len(val)} val images"
            head = fitted
        assert head is not None
        logits = _answers(head, tokens, test.keys, batch)
        predicted = names[logits.argmax(1)]
        metrics = {
            "top1": scoring.top1(test, predicted, data.confidence),
            "balanced_accuracy": scoring.balanced_accuracy(test, predicted, data.confidence),
        }
        if data.test == "test" and len(val):
            answers = names[_answers(head, tokens, val.keys, batch).argmax(1)]
            metrics["top1_val"] = scoring.top1(val, answers, data.confidence)
        share = np.exp(logits - logits.max(1, keepdims=True))
        share = (share / share.sum(1, keepdims=True)).max(1)
        protocol = {
            **scoring.counts_note(data),
            "features": "local ones, before pooling, of the frozen backbone",
            "moments": f"not centred, {self.params.heads} heads of {self.params.width}",
            "learning rate": how,
            "epochs": f"{self.params.epochs}",
        }
        return ProbeResult(metrics, protocol, scoring.predictions(test, predicted, share, data.classes))

    def train_head(
        self, tokens: Tokens, target: np.ndarray, classes: int, rate: float, device: str = "cpu"
    ) -> nn.Module:
        """A head on standardised local features, in evaluation mode.

        Args:
            tokens: rows -> (n, L, D) local features. target: (n,) classes from 0.
        """
        import torch
        from torch import nn

        from reprise.networks.moments import MomentHead, Standardise
        from reprise.runtime.device import Compute
        from reprise.training.epochs import ShuffledEpochs
        from reprise.training.fit import fit

        n, size = len(target), self.params.batch_size
        first = second = torch.zeros(())
        for start in range(0, n, size):
            part = tokens(np.arange(start, min(start + size, n))).double()
            weight = len(part) / n
            first, second = first + weight * part.mean((0, 1)).cpu(), second + weight * (part * part).mean((0, 1)).cpu()
        std = (second - first * first).clamp(min=0).sqrt()
        std = torch.where(std > 1e-6 * first.abs().clamp(min=1e-6), std, torch.ones_like(std))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.params.seed)
            head = MomentHead(len(first), classes, self.params.heads, self.params.width)
        network = nn.Sequential(Standardise(first.float(), std.float()), head).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=self.params.weight_decay)
        labels = torch.from_numpy(target).to(device)

        def batch(rows: np.ndarray) -> tuple[Tensor, Tensor]:
            return tokens(rows), labels[torch.from_numpy(rows).to(device)]

        rng = np.random.default_rng(self.params.seed)
        passes = ShuffledEpochs(self.params.epochs, size, np.arange(n), batch, rng)

        def step(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            features, classes = batch
            return nn.functional.cross_entropy(network(features), classes), {}

        fit(
            network,
            step,
            passes,
            optimizer,
            Compute(device, "fp32", torch.get_num_threads()),
            f"moment probing at {rate:g}",
            rates=Rates(_RisingCosine(), self.params.epochs * passes.batches, 0, rate),
            may_diverge=True,  # a rate that is too high loses on val
        )
        return network.eval()


class _RisingCosine(Schedule):
    """Half a cosine over the whole training, cut off by a line over its first tenth."""

    def __init__(self) -> None:
        super().__init__(ScheduleParams(name="rising_cosine"))

    def share(self, step: int, steps: int, warmup: int) -> float:
        """Rise to the cosine, then follow it down to 0."""
        return min((step + 1) / max(1, steps // 10), half_cosine(step, steps))


def _answers(head: nn.Module, tokens: Tokens, keys: np.ndarray, batch: int) -> np.ndarray:
    """(n, c) float64 logits."""
    import torch

    with torch.no_grad():
        parts = [head(tokens(keys[i : i + batch])).double().cpu().numpy() for i in range(0, len(keys), batch)]
    return np.concatenate(parts)
