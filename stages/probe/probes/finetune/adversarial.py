"""What does a change too small to see do to the features?

Each test image is changed by at most `epsilon` a channel, so that its features move as far as they can (projected
gradient ascent on their squared distance, no labels). Beside it the same budget spent on random signs: a backbone that
noise does not move and an attack does is smooth on average and brittle in the worst case.
Source: Cianfarani et al. 2022 ("Understanding robust learning through the lens of representation
similarities") compare benign and adversarial inputs by linear CKA; Madry et al. 2018 for the ascent.
Deviations: features of the last layer only (their maps are over all layers), the attack aims at the features and not at
a classifier's loss, CKA is the debiased one. The backbone's weights never change. No interval for CKA: copies, as a
bootstrap draws them, are alike.

Checked by: tests/stages/probe/images/test_adversarial.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import Seed, StrictModel, meaning
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult

if TYPE_CHECKING:
    from torch import Tensor, nn


class Adversarial(Probe):
    """Metrics: `cka`, `distance` under the attack, `cka_noise`, `distance_noise` under random signs."""

    needs_labels: ClassVar[bool] = False

    class Params(StrictModel):
        """Parameters of `adversarial`."""

        epsilon: Annotated[
            float, Field(gt=0, le=1), meaning("A channel, between 0 and 1, changes by at most this.")
        ] = 2 / 255
        steps: Annotated[
            int,
            Field(ge=1, le=1000),
            meaning("The ascent takes this many steps, each 2.5 epsilon / steps long.", "steps"),
        ] = 10
        images: Annotated[
            int,
            Field(ge=4, le=100_000),
            meaning("At most this many scored images are attacked, the first by the hash of their keys.", "images"),
        ] = 256
        batch_size: Annotated[
            int, Field(ge=1, le=65_536), meaning("This many images are attacked at a time.", "images")
        ] = 64
        seed: Annotated[Seed, meaning("The random choices (the ascent's start and the noise) depend on this seed.")] = 0

    def run(self, data: ProbeData) -> ProbeResult:
        """Attack the scored images and compare the features."""
        from reprise.measures.invariance import apart, moved, normalised_distance
        from reprise.measures.similarity import debiased_cka
        from reprise.measures.statistics import bootstrap_mean
        from stages.probe.images.image_data import ImageData

        assert isinstance(data, ImageData), "this probe belongs to a group of `checks`"
        rows, part = data.choose(data.test, self.params.images), data.part(data.test)
        groups = None if part.groups is None else part.groups[rows]
        note = {
            "scored on": data.test_note,
            "tap": BACKBONE,
            "images": f"{len(rows)}",
            "budget": f"{self.params.epsilon:.5g} a channel of 0 to 1, {self.params.steps} steps, no labels",
            "interval": "bootstrap over images or groups for distances, none for CKA",
        }
        if len(rows) < 4:
            return ProbeResult({}, {**note, "note": "not run: needs four images"})
        found = self.features(data, part.keys[rows])
        if found is None:
            return ProbeResult({}, {**note, "note": "not run: this backbone has no gradient to its input"})
        clean, attacked, noisy = found
        metrics = {}
        for name, changed in (("", attacked), ("_noise", noisy)):
            metrics["cka" + name] = Figure(debiased_cka(clean, changed), None, None, len(rows))
            try:
                value, contributions = normalised_distance(moved(clean, changed), apart(clean))
            except ValueError as reason:
                return ProbeResult({}, {**note, "note": f"not run: {reason}"})
            metrics["distance" + name] = Figure(
                value, *bootstrap_mean(contributions, groups, data.confidence), len(rows)
            )
        return ProbeResult(metrics, note)

    def features(self, data: ProbeData, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """(n, d) of the images as they are, attacked, and with random signs; None where there is no gradient."""
        import torch

        from stages.probe.images.image_data import ImageData

        assert isinstance(data, ImageData)
        network = data.network().requires_grad_(False).eval()
        mean, std = (torch.tensor(data.config[name], device=data.device).view(1, -1, 1, 1) for name in ("mean", "std"))
        generator = torch.Generator().manual_seed(self.params.seed)
        parts = []
        for start in range(0, len(keys), self.params.batch_size):
            x = data.pixels(keys[start : start + self.params.batch_size]) * std + mean  # from 0 to 1
            budget = self.params.epsilon
            noise = torch.randint(0, 2, x.shape, generator=generator).to(x).mul_(2).sub_(1)
            begin = torch.rand(x.shape, generator=generator).to(x).mul_(2).sub_(1)
            attacked = self.attack(network, x, (x + budget * begin).clamp(0, 1), mean, std)
            if attacked is None:
                return None
            with torch.no_grad():
                versions = (x, attacked, (x + budget * noise).clamp(0, 1))
                parts.append([network((v - mean) / std).double().cpu().numpy() for v in versions])
        clean, attacked_all, noisy = (np.concatenate(p) for p in zip(*parts, strict=True))
        return clean, attacked_all, noisy

    def attack(self, network: nn.Module, x: Tensor, start: Tensor, mean: Tensor, std: Tensor) -> Tensor | None:
        """Images within epsilon of (n, C, H, W) `x` in 0 to 1 whose features lie far from those of `x`."""
        import torch

        from reprise.objectives.ascent import ascend

        with torch.no_grad():
            goal = network((x - mean) / std)

        def distance(changed: Tensor) -> Tensor:
            return (network((changed - mean) / std) - goal).square().sum()

        return ascend(distance, x, start, self.params.epsilon, self.params.steps)
