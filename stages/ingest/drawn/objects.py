"""Objects and backgrounds of random form and colour, each of them a function of its number.

An object is a closed outline with a pattern of three colours in it. Neither has a symmetry, so that every turn and
mirror image of an object looks different. A background is smooth and colourful, and never the same for two numbers.

Legend: `u`, `v` to the right and upwards from the object's centre, whose outline reaches at most to 1; `x`, `y` to the
right and downwards, as shares of the picture's side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_LOBES = 6  # of an outline: Fourier series up to this order
_WAVES = 7  # of a pattern and of a background
_OBJECTS, _BACKGROUNDS = 1, 2  # keep the random numbers of the two apart


@dataclass(frozen=True)
class Object:
    """One object.

    Attributes:
        outline: (2, _LOBES) cosine and sine amplitudes of the radius over the angle.
        waves: (_WAVES, 4) of the pattern: two frequencies, phase and amplitude.
        colours: (3, 3) RGB in [0, 1].
    """

    outline: np.ndarray
    waves: np.ndarray
    colours: np.ndarray

    def paint(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the colour of each point, (..., 3) in [0, 1] and 0 outside, and whether it lies in the object."""
        import numpy as np

        radius = np.sqrt(u * u + v * v)
        near = radius <= 1  # the rest is outside anyway
        inside = np.zeros(u.shape, dtype=bool)
        inside[near] = radius[near] <= self._reach(np.arctan2(v[near], u[near])) / self._farthest()
        height = _sum_of_waves(self.waves, u[inside], v[inside])
        colour = np.zeros((*u.shape, 3))
        colour[inside] = self.colours[(height > -0.35).astype(int) + (height > 0.35)]
        return colour, inside

    def _reach(self, angle: np.ndarray) -> np.ndarray:
        """The radius at an angle, before it is scaled to reach 1 at its farthest."""
        import numpy as np

        orders = np.arange(1, _LOBES + 1)
        phase = angle[..., None] * orders
        return np.asarray(1 + np.cos(phase) @ self.outline[0] + np.sin(phase) @ self.outline[1])

    def _farthest(self) -> float:
        import numpy as np

        return float(self._reach(np.linspace(0, 2 * math.pi, 181)).max())


def object_of(seed: int, number: int) -> Object:
    """Return object `number` of the family `seed`."""
    import numpy as np

    rng = np.random.default_rng([seed, number, _OBJECTS])
    orders = np.arange(1, _LOBES + 1)
    outline = rng.normal(size=(2, _LOBES)) * 0.3 / np.sqrt(orders)
    outline *= min(1.0, 0.75 / np.abs(outline).sum())  # the radius stays positive: there is one outline
    waves = np.stack(
        [*rng.uniform(-1.1, 1.1, (2, _WAVES)), rng.uniform(0, 2 * math.pi, _WAVES), rng.normal(0, 0.6, _WAVES)], axis=1
    )
    return Object(outline, waves, rng.uniform(0.05, 0.95, (3, 3)))


def background_of(seed: int, number: int, size: int) -> np.ndarray:
    """Return background `number` of the family `seed`: (size, size, 3) in [0, 1]."""
    import numpy as np

    rng = np.random.default_rng([seed, number, _BACKGROUNDS])
    place = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(place, place)
    channels = []
    for level in rng.uniform(0.25, 0.75, 3):
        frequencies = rng.normal(0, 1.0, (2, _WAVES))
        waves = np.stack([*frequencies, rng.uniform(0, 2 * math.pi, _WAVES), rng.normal(0, 0.1, _WAVES)], axis=1)
        channels.append(level + _sum_of_waves(waves, x, y))
    return np.clip(np.stack(channels, axis=2), 0, 1)


def _sum_of_waves(waves: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The sum of plane waves at points: amplitude x cos(2 pi (frequency . point) + phase)."""
    import numpy as np

    total = np.zeros(np.broadcast_shapes(u.shape, v.shape))
    for across, up, phase, amplitude in waves:
        total += amplitude * np.cos(2 * math.pi * (across * u + up * v) + phase)
    return total
