"""`autoencoder`: a denoising autoencoder, as in G-SimCLR.

Source: Chakraborty et al. 2020 (network: reprise/networks/small/autoencoder.py). Adam, mean squared error, noise 0.01.
Deviations: a stated number of epochs instead of early stopping on a validation loss; images larger than `side` are
scaled down to it, since a step at 224 pixels takes 49 times the time and memory of one at 32.

The state is saved after every epoch, so a run that was killed goes on from the last one.

Shape legend: n images, B images in a batch, C channels, S side in pixels.

Checked by: tests/reprise/training/test_models.py; tests/stages/models/test_train.py; docs/explanation/mining.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from reprise.config.params import StrictModel, meaning
from reprise.networks.small.autoencoder import DenoisingAutoencoder
from reprise.reading.reduced import REDUCED_SIDE, reduced
from reprise.runtime.seeds import numpy_rng, seed_torch, torch_rng
from reprise.storage.progress import track
from reprise.training.fit import fit
from reprise.training.history.records import Checkpoints
from reprise.training.model import Model, TrainedModel

Pair = tuple[Tensor, Tensor]  # (B, C, S, S) each, in [0, 1]: with noise, and clean


class AutoencoderParams(StrictModel):
    """Parameters of `autoencoder`."""

    epochs: Annotated[
        int, Field(ge=1, le=10_000), meaning("The autoencoder passes over the images this many times.", "epochs")
    ] = 10
    batch_size: Annotated[
        int, Field(ge=2, le=65536), meaning("Each step of the autoencoder sees this many images.", "images")
    ] = 128
    noise: Annotated[
        float, Field(ge=0, le=1), meaning("The noise on pixels between 0 and 1 has this standard deviation.")
    ] = 0.01
    learning_rate: Annotated[
        float, Field(gt=0, le=1), meaning("Adam updates the autoencoder at this learning rate.")
    ] = 0.001
    side: Annotated[
        int, Field(ge=8, le=1024), meaning("Larger images are scaled down to this side first.", "pixels")
    ] = REDUCED_SIDE


@dataclass(frozen=True)
class NoisyEpoch:
    """One pass over the images with fresh noise.

    Attributes:
        number: counted from 0.
        order: the image positions of each batch.
        images: (n, S, S, C) uint8.
        noise: standard deviation.
        seed: of the noise.
        device: where batches are put.
    """

    number: int
    order: list[np.ndarray]
    images: np.ndarray
    noise: float
    seed: int
    device: str

    def batch(self, number: int) -> Pair:
        """Return noisy and clean images."""
        clean = scaled(self.images[self.order[number]], self.device)
        noise = torch.randn(clean.shape, generator=torch_rng(self.seed, "noise", self.number, number)).to(clean.device)
        return clean + self.noise * noise, clean


@dataclass(frozen=True)
class NoisyEpochs:
    """All epochs, each a pure function of its number.

    Attributes:
        count: epochs.
        batch_size: images in a batch; the remainder is spread over all batches.
        images, noise, seed, device: see NoisyEpoch.
    """

    count: int
    batch_size: int
    images: np.ndarray
    noise: float
    seed: int
    device: str

    @property
    def samples(self) -> int:
        """Images in an epoch."""
        return len(self.images)

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        return max(1, self.samples // self.batch_size)

    def epoch(self, number: int) -> NoisyEpoch:
        """Make one epoch."""
        order = np.array_split(numpy_rng(self.seed, "dae", number).permutation(self.samples), self.batches)
        return NoisyEpoch(number, order, self.images, self.noise, self.seed, self.device)


class Autoencoder(Model):
    """Learns to take noise out of images; the code of an image is the mean of the encoder's output over its places."""

    Params = AutoencoderParams
    params: AutoencoderParams

    def build(self, channels: int) -> nn.Module:
        """Build the network: (B, C, S, S) -> (B, C, S, S) in [0, 1] for images of any side."""
        return DenoisingAutoencoder(channels).to(self.compute.device, memory_format=torch.channels_last)

    def train(self, images: np.ndarray, work: Path) -> TrainedModel:
        """Train on (n, S, S, C) uint8 images.

        Raises:
            TrainingError: the loss is not finite.
        """
        device, images = self.compute.device, self.seen(images)
        seed_torch(self.seed, "dae")
        network = self.build(images.shape[3])

        def step(batch: Pair) -> tuple[Tensor, dict[str, Tensor]]:
            noisy, clean = batch
            return F.mse_loss(network(noisy).float(), clean), {}

        done = fit(
            network,
            step,
            NoisyEpochs(self.params.epochs, self.params.batch_size, images, self.params.noise, self.seed, device),
            torch.optim.Adam(network.parameters(), lr=self.params.learning_rate),
            self.compute,
            f"autoencoder seed {self.seed}",
            checkpoints=Checkpoints(work),
            advice="Lower model_options.*.learning_rate.",
        )
        return TrainedModel(network.eval(), done.history, done.notes)

    def seen(self, images: np.ndarray) -> np.ndarray:
        """Scale images above `side` down to it: (n, S, S, C) uint8 -> (n, s, s, C) uint8."""
        return reduced(images, self.params.side, self.compute.threads)

    def codes(self, network: nn.Module, images: np.ndarray) -> np.ndarray:
        """Describe images by their codes: (n, S, S, C) uint8 -> (n, 128) float32."""
        assert isinstance(network, DenoisingAutoencoder)
        return self._in_batches(network.code, self.seen(images), "autoencoder features")

    def restored(self, network: nn.Module, images: np.ndarray) -> np.ndarray:
        """Restore clean images: (n, s, s, C) uint8 -> (n, s, s, C) float32 from 0 to 1."""
        return self._in_batches(network, images, "restored images").transpose(0, 2, 3, 1)

    def _in_batches(self, compute: Callable[[Tensor], Tensor], images: np.ndarray, label: str) -> np.ndarray:
        """Compute something of every image, 1,024 of 32 pixels at a time and fewer of larger ones: float32."""
        batch = max(1, 1024 * REDUCED_SIDE**2 // max(REDUCED_SIDE, images.shape[1]) ** 2)
        with torch.inference_mode():
            starts = track(range(0, len(images), batch), label, unit="batches")
            parts = [compute(scaled(images[s : s + batch], self.compute.device)) for s in starts]
            return np.concatenate([part.float().cpu().numpy() for part in parts])


def scaled(images: np.ndarray, device: str) -> Tensor:
    """Put (B, S, S, C) uint8 images on the device: (B, C, S, S) float32 in [0, 1], channels last in memory."""
    x = torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2).float().div_(255.0)
    return x.contiguous(memory_format=torch.channels_last)
