"""`blur`: a Gaussian blur of random width.

Source: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020, appendix A: the kernel is a tenth of the image wide, and its standard deviation is uniform in pixels.

Checked by: tests/stages/pretrain/views/test_views.py; tests/stages/pretrain/views/test_view_parameters.py (against
OpenCV, and the distribution of both forms).

Shape legend: n images, C channels, S side, K side of the kernel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from reprise.config.params import meaning
from reprise.training.change import ByView, Change, ChangeParams, Drawn, Frame, nodes

SIGMA = (0.1, 2.0)
Sigma = Annotated[float, Field(gt=0, le=100)]


class BlurParams(ChangeParams):
    """Parameters of `blur`."""

    probability: Annotated[
        ByView, meaning("A view is blurred with this probability; a list has one for each view.")
    ] = 0.5
    sigma_min: Annotated[Sigma, meaning("The blur has at least this standard deviation.", "pixels")] = SIGMA[0]
    sigma_max: Annotated[Sigma, meaning("The blur has at most this standard deviation.", "pixels")] = SIGMA[1]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.sigma_min > self.sigma_max:
            raise ValueError(f"sigma_min, {self.sigma_min:g}, is above sigma_max, {self.sigma_max:g}")
        return self


class Blur(Change):
    """A Gaussian, cut off at the kernel's edge; edges of the image are reflected."""

    Params = BlurParams
    keeps_places = True

    def draw(self, frame: Frame, rng: torch.Generator) -> Drawn:
        """Draw `sigma` (B,) in pixels, and which images are blurred."""
        sigma = torch.zeros(frame.count).uniform_(self.params.sigma_min, self.params.sigma_max, generator=rng)
        return {"sigma": sigma, "applied": self.flags(frame.count, rng)}

    def changed(self, x: Tensor, drawn: Drawn) -> Tensor:
        """Blur each image with its own sigma."""
        return blurred(x, drawn["sigma"], kernel_of(x.shape[-1]))

    def apply_on_gpu(self, x: Tensor, ready: Drawn) -> Tensor:
        """Blur by matrix products."""
        rows = ready["rows"]
        if not len(rows):
            return x
        return x.index_copy_(0, rows, blurred_by_matrices(x[rows], ready["sigma"], kernel_of(x.shape[-1])))

    def outcomes(self, x: Tensor) -> list[tuple[float, Tensor]]:
        """Yield the images blurred by sigmas at the nodes of a quadrature."""
        kernel = kernel_of(x.shape[-1])
        limits = nodes(self.params.sigma_min, self.params.sigma_max)
        return [(share, blurred(x, x.new_full((len(x),), sigma), kernel)) for share, sigma in limits]

    def transform(self, frame: Frame) -> Any:
        """Take albumentations' own."""
        import albumentations as A

        kernel, sigma = kernel_of(frame.size), (self.params.sigma_min, self.params.sigma_max)
        return A.GaussianBlur(blur_limit=(kernel, kernel), sigma_limit=sigma, p=self.chance)

    def drawn_by(self, params: dict[str, Any], frame: Frame) -> dict[str, Any]:
        """Return sigma."""
        return {"sigma": float(params.get("sigma", 0.0))}


def kernel_of(size: int) -> int:
    """Return the side of the kernel in pixels: about a tenth of the image, odd, at least 3."""
    return max(3, size // 10 | 1)


def blurred(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Blur (n, C, S, S) images, each with its own sigma (n,) in pixels; `kernel` pixels wide, edges reflected."""
    offsets = torch.arange(kernel, device=x.device) - kernel // 2
    weight = torch.exp(-(offsets**2) / (2.0 * sigma[:, None] ** 2))
    weight = weight / weight.sum(dim=1, keepdim=True)
    margin = kernel // 2
    for dim, padding in ((2, (0, 0, margin, margin)), (3, (margin, margin, 0, 0))):
        wider, side = F.pad(x, padding, mode="reflect"), x.shape[dim]
        x = torch.zeros_like(x)
        for tap in range(kernel):
            x.addcmul_(wider.narrow(dim, tap, side), weight[:, tap].view(-1, 1, 1, 1))
    return x


def blurred_by_matrices(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Do the same by a matrix for the columns and one for the rows."""
    count, channels, size, _ = x.shape
    offsets = torch.arange(kernel, device=x.device) - kernel // 2
    weight = torch.exp(-(offsets**2) / (2.0 * sigma[:, None] ** 2))
    weight = weight / weight.sum(dim=1, keepdim=True)
    taps = _taps(size, kernel, str(x.device)).to(weight.dtype)
    matrix = (weight @ taps.flatten(1)).view(count, size, size).to(x.dtype)  # [i, j]: how much of pixel j goes into i
    along = torch.bmm(x.reshape(count, channels * size, size), matrix.transpose(1, 2)).view(x.shape)
    lines = along.transpose(2, 3).reshape(count, channels * size, size)
    return torch.bmm(lines, matrix.transpose(1, 2)).view(x.shape).transpose(2, 3)


@lru_cache(maxsize=8)
def _taps(size: int, kernel: int, device: str) -> Tensor:
    """Tell which pixel lies at each offset of a kernel, edges reflected: (K, S, S) bool."""
    position = torch.arange(size)[None] + torch.arange(kernel)[:, None] - kernel // 2
    position = position.abs()
    position = torch.where(position >= size, 2 * (size - 1) - position, position)
    return F.one_hot(position, size).bool().to(device)
