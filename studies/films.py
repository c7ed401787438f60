"""Draw films in which a shape wanders: `python -m studies.films FOLDER` writes FOLDER/films/<shape>/<number>.mp4.

Each film shows one shape (disc, square, triangle, cross), brighter than its background. From frame to frame the shape
moves, turns and grows or shrinks, and the light changes; so two frames of a film show the same thing in other ways than
views do. docs/measurements/films.md was measured with them.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = ("cross", "disc", "square", "triangle")
SIDE, RATE = 48, 10  # pixels, frames a second
_NOISE = 6.0  # standard deviation, of 255


def inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Tell which points lie inside a shape of half extent 1 around the origin: booleans of the shape of x."""
    if shape == "disc":
        return x**2 + y**2 <= 1
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= 0.85
    if shape == "triangle":
        return (y <= 0.6) & (y >= 1.9 * abs(x) - 1.1)
    return ((abs(x) <= 0.3) & (abs(y) <= 1)) | ((abs(y) <= 0.3) & (abs(x) <= 1))


def frames(shape: str, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw the frames of one film: (SIDE, SIDE, 3) uint8 each."""
    dark, bright = rng.uniform(60, 100), rng.uniform(150, 190)
    place, step = rng.uniform(0.3, 0.7, 2), rng.uniform(-0.05, 0.05, 2)
    turn, spin = rng.uniform(0, 2 * math.pi), rng.uniform(-0.25, 0.25)
    size, growth = rng.uniform(0.18, 0.3), rng.uniform(0.97, 1.03)
    light, change = rng.uniform(0.8, 1.2), rng.uniform(0.97, 1.03)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    drawn = []
    for _ in range(count):
        u, v = (x - place[0]) / size, (y - place[1]) / size
        u, v = math.cos(turn) * u - math.sin(turn) * v, math.sin(turn) * u + math.cos(turn) * v
        picture = np.where(inside(shape, u, v), bright, dark) * light + rng.normal(0, _NOISE, u.shape)
        drawn.append(np.repeat(np.clip(picture, 0, 255).round().astype(np.uint8)[..., None], 3, axis=2))
        step = np.where((place + step < 0.2) | (place + step > 0.8), -step, step)
        place, turn = place + step, turn + spin
        size, light = float(np.clip(size * growth, 0.15, 0.35)), float(np.clip(light * change, 0.6, 1.4))
    return drawn


def write(path: Path, pictures: list[np.ndarray]) -> None:
    """Write an MP4 film (H.264)."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as film:
        stream: Any = film.add_stream("libx264", rate=RATE, options={"crf": "15", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for picture in pictures:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        film.mux(stream.encode(None))


def main() -> None:
    """Parse the command line, and draw."""
    parser = argparse.ArgumentParser(prog="python -m studies.films", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, default=80, help="number of films")
    parser.add_argument("--frames", type=int, default=50, help="frames of each")
    options = parser.parse_args()
    for number in range(options.films):
        shape = SHAPES[number % len(SHAPES)]
        drawn = frames(shape, options.frames, np.random.default_rng(number))
        write(options.folder / "films" / shape / f"{number:03d}.mp4", drawn)


if __name__ == "__main__":
    main()
