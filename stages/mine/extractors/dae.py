"""`dae`: the code of a denoising autoencoder, as in G-SimCLR.

Source: Chakraborty et al. 2020 (network: reprise/networks/autoencoder.py). Adam, mean squared error, noise 0.01.
Deviation: a stated number of epochs instead of early stopping on a validation loss.

The state is saved after every epoch, so a killed run goes on from the last one.

Legend: n images, S their side, C channels.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from reprise.artifacts.checkpoints import latest_checkpoint, save_checkpoint
from reprise.config.errors import MiningError
from reprise.config.params import StrictModel, meaning
from reprise.networks.autoencoder import DenoisingAutoencoder
from reprise.networks.state import arrays_of, load_optimizer, tensors_of
from reprise.runtime.progress import Progress
from reprise.runtime.seeds import numpy_rng, seed_torch, torch_rng
from stages.mine.extractor import Extractor


class DAEParams(StrictModel):
    """Parameters of `dae`."""

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


class DAEFeatures(Extractor):
    """Trains the autoencoder on the images and returns their averaged codes."""

    Params = DAEParams
    params: DAEParams

    def features(self, images: np.ndarray, work: Path) -> np.ndarray:
        """(n, S, S, C) uint8 -> (n, 128) float32.

        Raises:
            MiningError: the loss is not finite.
        """
        seed_torch(self.seed, "dae")
        network = DenoisingAutoencoder(images.shape[3]).to(self.compute.device, memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(network.parameters(), lr=self.params.learning_rate)
        first = 0
        if (state := latest_checkpoint(work)) is not None:
            network.load_state_dict(tensors_of(state["network"]))
            load_optimizer(optimizer, state["optimizer"])
            first = state["epoch"]
        with Progress(
            f"autoencoder seed {self.seed}", self.params.epochs * len(images), done=first * len(images)
        ) as progress:
            for epoch in range(first, self.params.epochs):
                self._epoch(network.train(), optimizer, images, epoch, progress)
                if epoch + 1 < self.params.epochs:
                    tree = {
                        "epoch": epoch + 1,
                        "network": arrays_of(network.state_dict()),
                        "optimizer": arrays_of(optimizer.state_dict()),
                    }
                    save_checkpoint(work, epoch + 1, tree)
        return self._codes(network.eval(), images)

    def _epoch(
        self,
        network: DenoisingAutoencoder,
        optimizer: torch.optim.Optimizer,
        images: np.ndarray,
        epoch: int,
        progress: Progress,
    ) -> None:
        count = max(1, len(images) // self.params.batch_size)
        for number, rows in enumerate(
            np.array_split(numpy_rng(self.seed, "dae", epoch).permutation(len(images)), count)
        ):
            clean = self._pixels(images[rows])
            noise = torch.randn(clean.shape, generator=torch_rng(self.seed, "noise", epoch, number)).to(clean.device)
            with self.compute.autocast():
                restored = network(clean + self.params.noise * noise)
            loss = F.mse_loss(restored.float(), clean)
            if not math.isfinite(float(loss.detach())):
                raise MiningError(
                    "the autoencoder's loss is not finite",
                    where=f"epoch {epoch + 1}",
                    found=float(loss.detach()),
                    fix="Lower extractors.*.learning_rate.",
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            progress.advance(len(rows), mse=float(loss.detach()))

    def _codes(self, network: DenoisingAutoencoder, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate(
                [
                    network.code(self._pixels(images[s : s + 1024])).float().cpu().numpy()
                    for s in range(0, len(images), 1024)
                ]
            )

    def _pixels(self, images: np.ndarray) -> torch.Tensor:
        x = (
            torch.from_numpy(np.ascontiguousarray(images))
            .to(self.compute.device)
            .permute(0, 3, 1, 2)
            .float()
            .div_(255.0)
        )
        return x.contiguous(memory_format=torch.channels_last)
