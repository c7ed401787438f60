"""mini3d: views of simple solid objects whose pose is known exactly: a quaternion, the light, object and class.

Each object is one of eight kinds (the class) with proportions and a colour of its own; each of its views shows it
turned, lit from another side, on a grey ground with a little noise. The pose (w, x, y, z) is a unit quaternion that
turns the axes of the object (x to the right, y upwards, z towards the viewer) into those of the camera, with w >= 0,
because q and -q are one rotation. It is `given`: methods such as `sie` may read it, and the numbers pose_w to pose_z,
which are labels, let probes ask what a representation keeps of it. All views of an object are one group, so no object
lies in two splits. Object i is a function of (seed, i), and view k of it one of (seed, i, k): more views change none of
the others.

Source: no publication; drawn by Reprise. The contract is that of 3DIEBench (Garrido, Najman, LeCun, "Self-supervised
learning of Split Invariant Equivariant representations", ICML 2023), whose rendered ShapeNet objects are not used.

Deviations: 3DIEBench turns objects by Euler angles of up to 90 degrees about each axis, here a rotation is uniform
among those of at most `turn` degrees; the camera is orthographic, there are no shadows, and the hues of light and
ground do not vary.

Checked by: tests/stages/ingest/sources/test_mini3d.py; docs/measurements/factors.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from reprise.config.facts import Fact, Use
from reprise.config.params import StrictModel, meaning
from stages.ingest.source import Candidate, Extent, Source

if TYPE_CHECKING:
    import numpy as np

    from stages.ingest.solids.bodies import Body

Given = Literal["pose", "pose_w", "pose_x", "pose_y", "pose_z", "light_x", "light_y", "colour", "object", "mask"]

COLOURS = {
    "red": (205, 70, 65), "green": (70, 160, 85), "blue": (75, 110, 210), "yellow": (225, 190, 70),
    "purple": (150, 90, 190), "cyan": (80, 185, 195),
}  # fmt: skip
_LIGHT = (0.4, 0.6, 0.7)  # the middle of where the light may be, in the camera's axes
_SAMPLES = 2  # a pixel is the mean of so many times so many rays
_FILLS = 0.95  # share of half the side that an object reaches at most
_GROUND = (70.0, 190.0)  # brightness of the ground, of 255
_NOISE = 4.0  # standard deviation, of 255
_VERSION = 1  # of the drawing: another one draws other views


class Solid(NamedTuple):
    """An object: its kind, its colour, and the bodies that it consists of."""

    kind: str
    colour: str
    bodies: list[Body]


class View(NamedTuple):
    """What one view shows."""

    pose: np.ndarray  # (4,) w, x, y, z
    light: np.ndarray  # (3,) of length one, towards the light, in the camera's axes
    pixels: np.ndarray  # (size, size, 3) uint8
    mask: np.ndarray  # (size, size) uint8 of 0 and 1


class Mini3d(Source):
    """Drawn objects, each seen from many sides."""

    class Params(StrictModel):
        """Options of mini3d."""

        objects: Annotated[int, Field(ge=10, le=100_000), meaning("So many objects are drawn.", "objects")] = 200
        views: Annotated[int, Field(ge=1, le=1000), meaning("Each object is seen so many times.", "views")] = 10
        size: Annotated[int, Field(ge=16, le=512), meaning("Views are squares of this side.", "pixels")] = 32
        seed: Annotated[int, Field(ge=0, lt=2**31), meaning("Another seed draws other objects and views.")] = 0
        turn: Annotated[
            float,
            Field(ge=0, le=180),
            meaning("Objects are turned by up to this angle about any axis; 180 draws from all rotations.", "degrees"),
        ] = 90.0
        light: Annotated[
            float,
            Field(ge=0, le=90),
            meaning(
                "The light comes from up to this angle beside its place above the camera, to the right.", "degrees"
            ),
        ] = 40.0
        given: Annotated[
            list[Given],
            Field(max_length=10),
            meaning("These facts are given to methods that read them; all other facts are labels, for probes only."),
        ] = Field(default_factory=lambda: list[Given](["pose"]))

    title: ClassVar[str] = "Views of drawn objects"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "made by Reprise; no rights are claimed"
    reads_root: ClassVar[bool] = False
    keeps_names: ClassVar[bool] = True  # object and number of the view, by which miners know them
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.6,
        "flip": False,  # a mirrored view has another pose
        "jitter": 0.4,
        "grey": 0.1,
        "blur": 0.0,
        "solarize": 0.0,
    }

    def facts(self) -> Sequence[Fact]:
        """Declare all that is known of a view; `source.options.given` decides what methods may read."""

        def use(name: str) -> Use:
            return "given" if name in self.options.given else "label"

        return (
            Fact("pose", "pose", use("pose"), "Unit quaternion w, x, y, z from the object's axes to the camera's."),
            *(
                Fact(f"pose_{part}", "number", use(f"pose_{part}"), f"The number {part} of the pose.")
                for part in "wxyz"
            ),
            Fact("light_x", "number", use("light_x"), "To the right, of the direction of length one to the light."),
            Fact("light_y", "number", use("light_y"), "Upwards, of the direction of length one to the light."),
            Fact("colour", "word", use("colour"), "Colour of the object."),
            Fact("object", "word", use("object"), "Name of the object."),
            Fact("mask", "mask", use("mask"), "1 where the object covers at least half of a pixel."),
        )

    def candidates(self) -> Iterator[Candidate]:
        """Draw all views of the first object, then those of the next."""
        from reprise.media.image.encode import uncompressed_png

        for i in range(self.options.objects):
            name, solid = f"{i:06d}", self.solid(i)
            for k in range(self.options.views):
                view = self.view(solid, i, k)
                pose = [round(float(value), 9) for value in view.pose]
                known = {
                    "pose": pose,
                    **{f"pose_{part}": value for part, value in zip("wxyz", pose, strict=True)},
                    "light_x": round(float(view.light[0]), 9),
                    "light_y": round(float(view.light[1]), 9),
                    "colour": solid.colour,
                    "object": name,
                    "mask": view.mask,
                }
                path = f"mini3d/{name}/{k:04d}.png"
                yield Candidate(path, uncompressed_png(view.pixels), None, solid.kind, name, known)

    def solid(self, i: int) -> Solid:
        """Draw what object i is."""
        import numpy as np

        from stages.ingest.solids.bodies import KINDS, build

        rng = np.random.default_rng([self.options.seed, 1, i])
        kinds, colours = sorted(KINDS), list(COLOURS)
        kind, colour = kinds[int(rng.integers(len(kinds)))], colours[int(rng.integers(len(colours)))]
        return Solid(kind, colour, build(kind, rng))

    def view(self, solid: Solid, i: int, k: int) -> View:
        """Draw view k of object i, which is `solid`."""
        import numpy as np

        from reprise.measures.geometry.quaternions import drawn, matrices
        from stages.ingest.solids.look import seen

        rng = np.random.default_rng([self.options.seed, 2, i, k])
        pose, aside = drawn(rng, self.options.turn), drawn(rng, self.options.light)
        light = matrices(aside) @ (np.array(_LIGHT) / np.linalg.norm(_LIGHT))
        size = self.options.size
        lit, depth = seen(solid.bodies, matrices(pose), light, size * _SAMPLES, _FILLS)
        hit = np.isfinite(depth)
        covered = _averaged(hit.astype(np.float64), size)
        coloured = _averaged(np.where(hit, lit, 0.0), size)[:, :, None] * np.array(COLOURS[solid.colour])
        ground = (1 - covered)[:, :, None] * rng.uniform(*_GROUND)
        pixels = ground + coloured + rng.normal(0, _NOISE, size=(size, size, 3))
        shown = np.clip(np.floor(pixels + 0.5), 0, 255).astype(np.uint8)
        return View(pose, light, shown, (covered >= 0.5).astype(np.uint8))

    def extent(self) -> Extent:
        """Return the number of views, and a digest of the options that decide them."""
        decides = f"mini3d {_VERSION} {self.options.model_dump_json()}"
        digest = hashlib.sha256(decides.encode()).hexdigest()
        return Extent(self.options.objects * self.options.views, 0, digest)


def _averaged(grid: np.ndarray, size: int) -> np.ndarray:
    """Average the rays of each pixel: (size * _SAMPLES, size * _SAMPLES) -> (size, size)."""
    return grid.reshape(size, _SAMPLES, size, _SAMPLES).mean(axis=(1, 3))
