"""Views image by image, by albumentations: for large images and images of different sizes.

A batch is cut into chunks of fixed size, and each chunk has its own seed, so the result does not depend on the number
of threads. A change that has no transform of its own is applied in its batched form, to batches of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from reprise.media.image.transform import resize
from reprise.runtime.seeds import mix
from reprise.training.change import Change, Drawn, Frame
from stages.pretrain.views.draws import whole
from stages.pretrain.views.settings import ViewSettings

CHUNK = 16  # images that share a seed


class PerImageViews:
    """Random views of images of any size.

    Args:
        read: position of an image -> (H, W, C) uint8.
        settings: of a view.
        threads: how many transform images at the same time.
    """

    def __init__(self, read: Callable[[int], np.ndarray], settings: ViewSettings, threads: int) -> None:
        self.read, self.settings = read, settings
        self.pool = ThreadPoolExecutor(threads)
        cv2.setNumThreads(1)  # each of our threads would start OpenCV's own ones

    def __call__(self, rows: Sequence[int] | np.ndarray, *seed: int | str) -> Tensor:
        """Make one view of each image: (B, C, S, S) float32, normalised; a pure function of `rows` and `seed`."""
        return self.with_draws(rows, *seed, keep=False)[0]

    def with_draws(
        self, rows: Sequence[int] | np.ndarray, *seed: int | str, keep: bool = True, own: np.ndarray | None = None
    ) -> tuple[Tensor, dict[str, Drawn]]:
        """Make one view of each image, and tell what was drawn for it by the name of each change.

        Args:
            rows: positions of the images.
            seed: what the view is a function of.
            keep: whether what was drawn is wanted; it takes time.
            own: (b,) positions in `rows` whose views are wanted, rising; None for all. What was drawn is told of all.
        """
        chunks = [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]
        seeds = [mix(*seed, number) % 2**32 for number in range(len(chunks))]
        places = np.arange(len(rows))
        if own is not None and not keep:  # the other chunks share no seed with these images
            wanted = np.unique(own // CHUNK)
            chunks, seeds = [chunks[number] for number in wanted], [seeds[number] for number in wanted]
            places = places[np.isin(places // CHUNK, wanted)]
        done = list(self.pool.map(self._chunk, chunks, seeds, [keep] * len(chunks)))
        made = np.concatenate([views for views, _ in done])
        if own is not None:
            made = made[np.isin(places, own)]
        x = torch.from_numpy(made).permute(0, 3, 1, 2).float().div_(255.0)
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (self.settings.mean, self.settings.std))
        drawn = _gathered([one for _, chunk in done for one in chunk])
        return ((x - mean) / std).contiguous(memory_format=torch.channels_last), drawn

    def _chunk(
        self, rows: Sequence[int] | np.ndarray, seed: int, keep: bool
    ) -> tuple[np.ndarray, list[dict[str, dict[str, Any]]]]:
        steps = steps_of(self.settings)
        transform = composed(steps, keep)
        transform.set_random_seed(seed)
        views, drawn = [], []
        for row in rows:
            image = self.read(int(row))
            made = transform(image=image)
            view = np.asarray(made["image"])
            views.append(view if view.ndim == 3 else view[..., None])
            if keep:
                frame = Frame(1, image.shape[0], image.shape[1], self.settings.size, self.settings.channels)
                drawn.append(_drawn(steps, made["applied_transforms"], frame))
        return np.stack(views), drawn


Step = tuple[Change | None, Any]  # a change and its transform; without a change the whole image is resized


def steps_of(settings: ViewSettings) -> list[Step]:
    """Build the transform of each change that can happen."""
    frame = Frame(1, 0, 0, settings.size, settings.channels)
    first: list[Step] = [] if settings.cut else [(None, resized_whole(settings.size))]
    happening = [change for change in settings.changes if change.happens(frame)]
    return first + [(change, change.transform(frame) or one_at_a_time(change, frame)) for change in happening]


def composed(steps: list[Step], keep: bool = False) -> Any:
    """Compose the transforms of one view: (H, W, C) uint8 -> (S, S, C) uint8.

    Args:
        steps: from `steps_of`.
        keep: whether albumentations notes what was drawn.
    """
    import albumentations as A

    return A.Compose([transform for _, transform in steps], save_applied_params=keep)


def build_transform(settings: ViewSettings) -> Any:
    """Build the albumentations pipeline of one view: (H, W, C) uint8 -> (S, S, C) uint8."""
    return composed(steps_of(settings))


def resized_whole(size: int) -> Any:
    """Build the transform that shows all of an image as a square of `size` pixels."""
    import albumentations as A

    class Whole(A.ImageOnlyTransform):
        """The whole image, by the filter of the batched form and of evaluation."""

        def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
            return resize(img if img.ndim == 3 else img[:, :, None], size, size)

    return Whole(p=1.0)


def one_at_a_time(change: Change, frame: Frame) -> Any:
    """Build the transform that applies the batched form of a change to one image.

    Args:
        change: one that stands after the cut.
        frame: side and channels of the view.
    """
    import albumentations as A

    class BatchOfOne(A.ImageOnlyTransform):
        """Draws come from a torch generator that albumentations' own seeds."""

        def get_params(self) -> dict[str, Any]:
            rng = torch.Generator().manual_seed(self.py_random.getrandbits(63))
            return {"drawn": change.draw(Frame(1, frame.size, frame.size, frame.size, frame.channels), rng)}

        def apply(self, img: np.ndarray, drawn: Drawn, **params: Any) -> np.ndarray:
            pixels = np.require(img if img.ndim == 3 else img[:, :, None], requirements="W")  # Pillow's are not
            x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div_(255.0)
            x = change.apply(x, change.prepared(drawn))
            return x[0].permute(1, 2, 0).mul(255.0).add_(0.5).clamp_(0.0, 255.0).floor_().to(torch.uint8).numpy()

    return BatchOfOne(p=1.0)


def _drawn(steps: list[Step], applied: list[tuple[str, dict[str, Any]]], frame: Frame) -> dict[str, dict[str, Any]]:
    """Translate what albumentations noted of one image; it notes nothing of the steps that left the image as it was."""
    noted, found = list(applied), {}
    for change, transform in steps:
        happened = bool(noted) and noted[0][0] == type(transform).__name__
        params = noted.pop(0)[1] if happened else {}
        if change is None:
            found["whole"] = {"boxes": whole(frame)[0]}
        elif "drawn" in params:
            found[change.params.name] = {name: value[0] for name, value in params["drawn"].items()}
        else:
            own = change.drawn_by(params, frame)
            found[change.params.name] = own if "boxes" in own else {**own, "applied": happened}
    return found


def _gathered(images: list[dict[str, dict[str, Any]]]) -> dict[str, Drawn]:
    """Stack what was drawn for each image."""
    first = images[0] if images else {}
    return {
        change: {name: torch.stack([torch.as_tensor(one[change][name]) for one in images]) for name in names}
        for change, names in first.items()
    }
