"""Symmetry: what do features do when the image is turned or mirrored: stay, follow by a linear map, or neither?

Quarter turns, half turns and mirror images move every pixel to a pixel, so that no figure is about interpolation. Three
questions for each of them, g, on frozen features f and local features p:

    <g>           |f(gx) - f(x)| over the distance of two images: 0 is invariant, 1 is as far as another image
    <g>_follows   R2 of f(gx) predicted from f(x) by one linear map, fitted on training images: 1 is equivariant, 0 is
                  no better than the mean; <g>_same is the R2 of f(x) itself as the prediction
    <g>_places    |p(gx) - g p(x)| over the distance of the places of two images: 0 where local features are moved and
                  not changed

A high `_follows` with a low `_same` says that the features keep the orientation in a form that can be read and undone.

Source: the distance is that of Speicher et al. 2024 (see `invariance`); predicting moved features by a linear map
follows Lenc, Vedaldi, "Understanding Image Representations by Measuring their Equivariance and Equivalence", CVPR 2015.

Deviations: the map is ridge regression on standardised features with a fixed penalty, from one split to the other; the
paper learns sparse maps of convolutional layers. Distances are over all pairs of different images.

Legend: n images, D width, h x w places.

Checked by: tests/stages/probe/factors/test_symmetry.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult

if TYPE_CHECKING:
    from reprise.networks.symmetry_groups import Element
    from stages.probe.images.image_data import ImageData

BATCH = 256  # images
FEWEST = 10  # images on each side


class Symmetry(Probe):
    """Metrics: `turn`, `half_turn` and, with `d4`, `flip`; of each also `_follows`, `_same` and `_places`."""

    needs_labels: ClassVar[bool] = False

    class Params(StrictModel):
        """Parameters of `symmetry`."""

        group: Annotated[Literal["c4", "d4"], meaning("Images are turned (`c4`), or turned and mirrored (`d4`).")] = (
            "c4"
        )
        images: Annotated[
            int,
            Field(ge=FEWEST, le=100_000),
            meaning("At most this many images of each split are moved, the first by the hash of their keys.", "images"),
        ] = 512
        penalty: Annotated[
            float, Field(gt=0, le=1000), meaning("The linear map is kept small by this penalty on its squared length.")
        ] = 0.1

    def run(self, data: ProbeData) -> ProbeResult:
        """Move the images of both splits; fit on train, score the other one."""
        from reprise.measures import invariance
        from reprise.measures.statistics import bootstrap_mean
        from stages.probe.images.image_data import ImageData

        if not isinstance(data, ImageData):
            return ProbeResult({}, {"note": "not run: it moves images, so it belongs to a group of `checks`"})
        chosen = {split: data.choose(split, self.params.images) for split in ("train", data.test)}
        if data.test == "train" or min(map(len, chosen.values())) < FEWEST:
            return ProbeResult({}, {"note": f"not run: fewer than {FEWEST} images in train or in a split to score"})
        part, rows = data.part(data.test), chosen[data.test]
        groups = None if part.groups is None else part.groups[rows]
        x_train, x = (features(data, data.part(split).keys[rows]) for split, rows in chosen.items())
        if not (apart := invariance.apart(x)).any():
            return ProbeResult({}, {"note": "not run: all images have the same features"})
        metrics: dict[str, Figure] = {}
        for name, element in moves(self.params.group).items():
            y_train, y = (features(data, data.part(split).keys[rows], element) for split, rows in chosen.items())
            value, contributions = invariance.normalised_distance(invariance.moved(x, y), apart)
            low, high = bootstrap_mean(contributions, groups, data.confidence)
            metrics[name] = Figure(max(value, 0.0), low, high, len(x))
            for suffix, predicted in (("follows", linear(x_train, y_train, self.params.penalty)(x)), ("same", x)):
                metrics[f"{name}_{suffix}"] = explained(y, predicted, groups, data.confidence)
            if data.local is not None:
                places = moved_places(data, part.keys[rows], element)
                low, high = bootstrap_mean(places, groups, data.confidence)
                metrics[f"{name}_places"] = Figure(float(places.mean()), low, high, len(x))
        protocol = {
            "tap": BACKBONE,
            "scored on": data.test_note,
            "images": f"{len(x_train)} to fit the linear maps, {len(x)} scored",
            "interval": "bootstrap over images or groups, the maps stay",
        }
        return ProbeResult(metrics, protocol)


def explained(y: np.ndarray, predicted: np.ndarray, groups: np.ndarray | None, confidence: float) -> Figure:
    """Return R2 over all numbers of (n, D) features together, resampled over images or groups."""
    from reprise.measures.statistics import bootstrap

    wrong, spread = np.square(predicted - y).sum(axis=1), np.square(y - y.mean(axis=0)).sum(axis=1)
    low, high = bootstrap(lambda w: 1 - (w @ wrong) / (w @ spread), len(y), groups, confidence)
    return Figure(float(1 - wrong.sum() / spread.sum()), low, high, len(y))


def moves(group: Literal["c4", "d4"]) -> dict[str, Element]:
    """Return the elements that are looked at, by name; the others are made of them."""
    from reprise.networks.symmetry_groups import Element

    turns = {"turn": Element(1, False), "half_turn": Element(2, False)}
    return turns | ({"flip": Element(0, True)} if group == "d4" else {})


def features(data: ImageData, keys: np.ndarray, element: Element | None = None) -> np.ndarray:
    """Embed images, moved or as they are: (n, D) float64."""
    import torch

    network = data.network().requires_grad_(False).eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(keys), BATCH):
            x = data.pixels(keys[start : start + BATCH])
            found.append(network(x if element is None else element.moved(x)).double().cpu())
    return torch.cat(found).numpy()


def linear(x: np.ndarray, y: np.ndarray, penalty: float) -> Linear:
    """Fit a ridge regression with a free intercept: (n, D) -> (n, D)."""
    mean, std = x.mean(axis=0), x.std(axis=0)
    std = np.where(std <= 1e-9 * max(float(np.abs(x).max()), 1e-300), 1.0, std)
    standard = (x - mean) / std
    gram = standard.T @ standard / len(x) + penalty * np.eye(x.shape[1])
    return Linear(mean, std, np.linalg.solve(gram, standard.T @ (y - y.mean(axis=0)) / len(x)), y.mean(axis=0))


class Linear:
    """A fitted map: (n, D) -> (n, D)."""

    def __init__(self, mean: np.ndarray, std: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
        self.mean, self.std, self.weight, self.bias = mean, std, weight, bias

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Predict."""
        return np.asarray((x - self.mean) / self.std @ self.weight + self.bias)


def moved_places(data: ImageData, keys: np.ndarray, element: Element) -> np.ndarray:
    """Return how far the places of each moved image lie from its moved places, over the distance of two images: (n,).

    The distance of two images is that of each place to the same place of the next image of a batch. A last batch of one
    image has no next one, and adds nothing.
    """
    import torch

    assert data.local is not None
    wrong, apart = [], []
    for original, changed in data.local.changed(keys, element.moved):
        wrong.append((changed - element.moved(original)).double().flatten(1).norm(dim=1))
        if len(changed) > 1:
            apart.append((changed - changed.roll(1, 0)).double().flatten(1).norm(dim=1))
    scale = torch.cat(apart).mean()
    return np.asarray((torch.cat(wrong) / scale.clamp(min=1e-12)).cpu().numpy())
