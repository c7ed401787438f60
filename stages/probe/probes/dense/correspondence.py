"""Does a place of an image keep its features when the image is mirrored, turned or moved?

Every change maps places exactly to places: a mirror image, a quarter turn, and a shift by whole places to the right. A
place of the original is matched with the place of the changed image whose local features are the most similar (cosine),
as in dense matching by features alone. The change is known, so that no landmarks are needed. A backbone that answers by
position, as one that sees the padding of its borders does, fails on all three.
Deviations: places that the shift moves out of the image are not scored, nor are places whose features are the same
elsewhere in the original (an empty background): no feature could tell those apart.

Source: the cosine matching of local features that GEMINI (a homeomorphism prior for dense contrastive learning,
authors' code YutingHe-list/GEMINI) is compared with. The known changes are ours.

Legend: n images, D width, L = h w places.

Checked by: tests/stages/probe/images/test_local_features.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe.data import ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult

if TYPE_CHECKING:
    from torch import Tensor

    from stages.probe.images.image_data import ImageData

ALIKE = 1 - 1e-6  # cosine beyond which two places have the same features
FEWEST_PLACES = 4


class Correspondence(Probe):
    """Metrics: share of places found after each change (`flip`, `turn`, `shift`), their distance, and `chance`.

    `<change>_distance` is the mean distance between the place found and the right one, in pixels of the image.
    """

    needs_labels: ClassVar[bool] = False

    class Params(StrictModel):
        """Parameters of `correspondence`."""

        images: Annotated[
            int,
            Field(ge=1, le=100_000),
            meaning("At most this many scored images are matched, the first by the hash of their keys.", "images"),
        ] = 256

    def run(self, data: ProbeData) -> ProbeResult:
        """Match the scored images with their changed copies."""
        from reprise.measures.statistics import bootstrap_mean
        from stages.probe.images.image_data import ImageData

        assert isinstance(data, ImageData), "this probe belongs to a group of `checks`"
        local, rows, part = data.local, data.choose(data.test, self.params.images), data.part(data.test)
        if local is None:
            return ProbeResult({}, {"note": f"not run: {data.config['architecture']} has no local features"})
        places = local.places
        note = {
            "scored on": data.test_note,
            "places": f"{places.rows} x {places.columns}, {places.stride:g} pixels apart, {places.width} numbers each",
            "output of the backbone": f"{'' if places.mean_is_output else 'not '}the mean of its places",
            "interval": "bootstrap over images or groups",
        }
        if places.rows * places.columns < FEWEST_PLACES:
            return ProbeResult({}, {**note, "note": f"not run: fewer than {FEWEST_PLACES} places"})
        keys, groups = part.keys[rows], None if part.groups is None else part.groups[rows]
        metrics: dict[str, Figure] = {}
        for name, mapped in right_places(places.rows, places.stride).items():
            right, distance, scored = self.matched(data, keys, name, mapped)
            known = scored > 0
            note[f"{name}: places scored"] = f"{int(scored.sum())} of {len(keys)} images"
            if not known.any():
                continue
            of = None if groups is None else groups[known]
            for metric, values in ((name, right), (f"{name}_distance", distance)):
                mean = values[known] / scored[known]
                metrics[metric] = Figure(
                    float(mean.mean()), *bootstrap_mean(mean, of, data.confidence), int(known.sum())
                )
        metrics["chance"] = Figure(1 / (places.rows * places.columns), None, None, len(keys))
        return ProbeResult(metrics, note)

    def matched(
        self, data: ImageData, keys: np.ndarray, change: str, mapped: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Match the places of images with those of their changed copies.

        Args:
            keys: (n,).
            change: `flip`, `turn` or `shift`.
            mapped: (L,) the place to which each place moves, -1 for none.

        Returns:
            For each image, (n,) float64 each: how many of the scored places were found; the sum of the distances in
            pixels; how many places were scored.
        """
        import torch

        assert data.local is not None
        places = data.local.places
        goes, by = torch.from_numpy(mapped), round(shift_of(places.rows) * places.stride)
        rows, columns = (torch.from_numpy(v) for v in np.divmod(np.arange(len(mapped)), places.columns))
        figures = []
        for original, changed in data.local.changed(keys, lambda x: changed_pixels(x, change, by)):
            tokens = (found.flatten(2).transpose(1, 2).cpu() for found in (original, changed))
            a, b = (torch.nn.functional.normalize(local, dim=2) for local in tokens)
            own = a @ a.transpose(1, 2) - 2 * torch.eye(a.shape[1])  # a place is not compared with itself
            scored = (goes >= 0) & (own.amax(dim=2) < ALIKE) & (a != 0).any(dim=2)
            answer = (a @ b.transpose(1, 2)).argmax(dim=2)
            apart = torch.hypot((rows[answer] - rows[goes]).double(), (columns[answer] - columns[goes]).double())
            figures.append(torch.stack([(answer == goes) & scored, apart * places.stride * scored, scored]).sum(dim=2))
        right, distance, scored = torch.cat(figures, dim=1).double().numpy()
        return right, distance, scored


def shift_of(side: int) -> int:
    """Return by how many places images are moved: a quarter of their side, at least one."""
    return max(1, side // 4)


def right_places(side: int, stride: float) -> dict[str, np.ndarray]:
    """Return for each change the place to which each place moves: (L,) int64, -1 for out of the image.

    Args:
        side: places in a row and in a column.
        stride: in pixels; a shift is left out where it is no whole number.
    """
    numbers = np.arange(side * side).reshape(side, side)
    place = np.empty(side * side, np.int64)
    found = {}
    for name, moved in (("flip", numbers[:, ::-1]), ("turn", np.rot90(numbers))):
        place[moved.ravel()] = np.arange(side * side)
        found[name] = place.copy()
    if float(stride).is_integer():
        by = shift_of(side)
        shifted = np.full((side, side), -1, np.int64)
        shifted[:, : side - by] = numbers[:, by:]
        found["shift"] = shifted.ravel()
    return found


def changed_pixels(x: Tensor, change: str, by: int) -> Tensor:
    """Change (n, C, S, S) images: mirror them, turn them by 90 degrees to the left, or move them to the right.

    Args:
        change: `flip`, `turn` or `shift`.
        by: pixels by which images are moved; what comes in at the left is their reflection.
    """
    import torch

    if change == "flip":
        return x.flip(3)
    if change == "turn":
        return torch.rot90(x, 1, (2, 3))
    return torch.nn.functional.pad(x, (by, 0, 0, 0), mode="reflect")[..., : x.shape[3]]
