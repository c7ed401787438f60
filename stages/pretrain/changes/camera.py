"""`camera`: the picture that another camera would have taken: white balance, exposure and noise of the sensor.

Source: Conde et al., "Model-Based Image Signal Processors via Learnable Dictionaries", AAAI 2022. The closed inverses
of the stages are those of Brooks et al., "Unprocessing Images for Learned Raw Denoising", CVPR 2019.

Checked by: tests/stages/pretrain/changes/test_views_as_files.py (round trip, noise against brightness).

Idea: a picture is taken back to what the sensor measured (RAW), where light adds up and noise is simple. Gains and
noise change there, and the same stages lead forward again: white balance, colour matrix, gamma, tone curve.

Deviation: no dictionaries are learned. One colour matrix stands for all cameras, and there is no mosaic of colours.

Shape legend: B images, n changed ones, S side in pixels.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.change import Change, ChangeParams, Drawn, Frame
from stages.pretrain.parts.pixels.noise import covering, draw_noise

GAMMA = 2.2
DARKEST = 1e-8  # the gamma curve has no slope at 0
GAINS = (1.9, 1.0, 1.6)  # of red, green and blue by daylight
MATRIX = (
    (1.6, -0.45, -0.15),
    (-0.2, 1.45, -0.25),
    (0.02, -0.52, 1.5),
)  # from the sensor's colours to sRGB; rows sum to 1


class CameraParams(ChangeParams):
    """Parameters of `camera`."""

    balance: Annotated[
        float, Field(ge=0, le=2), meaning("Gains of red and blue change by factors of up to e to this power.")
    ] = 0.2
    exposure: Annotated[
        float, Field(ge=0, le=3), meaning("The exposure changes by up to this many stops (factors of 2).", "stops")
    ] = 0.5
    shot: Annotated[
        float, Field(ge=0, le=0.1), meaning("The noise's variance rises by up to this much from black to white.")
    ] = 0.01
    read: Annotated[float, Field(ge=0, le=0.1), meaning("The noise has up to this variance at black.")] = 0.0005


class Camera(Change):
    """Another camera's picture."""

    Params = CameraParams
    keeps_places = True
    needs_rgb = True
    params: CameraParams

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `gains` (B, 3) by which RAW changes, variances `shot` (B,) and `read` (B,), and `noise` (B, 3, T, T)."""
        count, own = frame.count, self.params
        balance = torch.empty(count, 2).uniform_(-own.balance, own.balance, generator=rng)
        stops = torch.empty(count, 1).uniform_(-own.exposure, own.exposure, generator=rng)
        gains = torch.exp(torch.cat([balance[:, :1], torch.zeros(count, 1), balance[:, 1:]], dim=1)) * 2.0**stops
        shot, read = torch.rand(2, count, generator=rng) * torch.tensor([[own.shot], [own.read]])
        noise = draw_noise(count, 3, frame.size, rng)
        return {"gains": gains, "shot": shot, "read": read, "noise": noise, "applied": self.flags(count, rng)}

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Go back to RAW, change gains, add noise, and go forward again."""
        raw = to_raw(x.float()) * drawn["gains"].view(-1, 3, 1, 1)
        variance = drawn["shot"].view(-1, 1, 1, 1) * raw.clamp(min=0.0) + drawn["read"].view(-1, 1, 1, 1)
        raw = raw + variance.sqrt() * covering(drawn["noise"], x.shape[-1])
        return to_rgb(raw)


def to_raw(x: Tensor) -> Tensor:
    """Undo the stages of `to_rgb` from the last to the first: (n, 3, S, S) in [0, 1] -> linear light."""
    toned = 0.5 - torch.sin(torch.asin((1.0 - 2.0 * x).clamp(-1.0, 1.0)) / 3.0)  # the inverse of 3 x^2 - 2 x^3
    linear = toned.clamp(min=DARKEST) ** GAMMA
    return _mixed(linear, torch.linalg.inv(torch.tensor(MATRIX, dtype=torch.float64))) / _gains(x)


def to_rgb(raw: Tensor) -> Tensor:
    """Develop what a sensor measured: white balance, colour matrix, gamma, tone curve; (n, 3, S, S) in [0, 1]."""
    linear = _mixed(raw * _gains(raw), torch.tensor(MATRIX, dtype=torch.float64)).clamp(0.0, 1.0)
    curved = linear.clamp(min=DARKEST) ** (1.0 / GAMMA)
    return (3.0 * curved**2 - 2.0 * curved**3).clamp_(0.0, 1.0)


def _mixed(x: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("ij,njhw->nihw", matrix.to(x), x)


def _gains(x: Tensor) -> Tensor:
    return torch.tensor(GAINS).to(x).view(1, 3, 1, 1)
