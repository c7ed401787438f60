"""Does training without labels help for volumes? Drawn solids of four kinds, against an untrained network.

    python -m studies.volumes FOLDER [--count 300] [--side 24]

It draws the volumes into FOLDER/volumes; docs/measurements/volumes.md says how the graph is run on them, and what came
out. Place, size, direction, brightness and noise differ from solid to solid, so that only the shape tells the kinds
apart.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

KINDS = ("ball", "box", "ring", "rods")


def draw(kind: str, rng: np.random.Generator, side: int = 24) -> np.ndarray:
    """Draw a solid in noise: (side, side, side) float32.

    Args:
        kind: one of KINDS.
        rng: decides on everything but the kind.
        side: of the cube.
    """
    radius = side * rng.uniform(0.2, 0.3)
    centre = side / 2 + rng.uniform(-1, 1, 3) * (side / 2 - radius - 1)
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    x, y, z = np.einsum("ij,jdhw->idhw", turned, np.indices((side,) * 3) + 0.5 - centre[:, None, None, None]) / radius
    across = np.hypot(x, y)
    inside = {
        "ball": x**2 + y**2 + z**2 - 1,
        "box": np.max(np.abs([x, y, z]), axis=0) - 0.75,
        "ring": np.hypot(across - 0.75, z) - 0.3,
        "rods": np.min([np.hypot(x, y), np.hypot(y, z), np.hypot(x, z)], axis=0) - 0.28,
    }[kind]
    if kind == "rods":
        inside = np.maximum(inside, np.max(np.abs([x, y, z]), axis=0) - 1)
    soft = 1 / (1 + np.exp(np.clip(inside * radius * 2, -30, 30)))
    values = rng.uniform(0.1, 0.3) + rng.uniform(0.3, 0.6) * soft + rng.normal(0, 0.08, (side,) * 3)
    return values.astype(np.float32)


def write(folder: Path, count: int, side: int, seed: int = 0) -> None:
    """Write `count` volumes in folders of their kinds; the same numbers give the same files."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        place = folder / KINDS[number % len(KINDS)]
        place.mkdir(parents=True, exist_ok=True)
        np.save(place / f"{number:05d}.npy", draw(place.name, rng, side))


def main() -> None:
    """Draw the volumes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--side", type=int, default=24)
    options = parser.parse_args()
    write(options.folder / "volumes", options.count, options.side)


if __name__ == "__main__":
    main()
