"""clips: drawn clips of shapes that move, turn and pass behind each other, before a camera that may move.

A clip shows `objects` shapes for `frames` frames. Each goes along a lane of the picture and turns, under a light that
changes from the first frame to the last. With the probability `occlusion` a shape goes in the lane of a nearer one that
meets no other yet, the other way, so that it passes behind it; without occlusion no shape meets another. With the
probability `alike` a shape looks like the first of its clip, but for a slight difference of colour, size and pose. The
camera stands `still`, moves evenly (`pan`) or trembles (`shake`) over the ground; the shapes stay in its picture.

With `sample: crops` every shape of every frame is an image of its own, cut somewhat loosely, as a detector would; its
fact `identity` says which shape of which clip it is. What is hidden by more than four fifths is not detected. The
name, `clip-0003/0007_2.png`, has the number of the frame, by which `frame_matching` and `transitive_pairs` find their
way. With `sample: frames` the whole frames are images, with all boxes and masks and the flow to the next frame.

The class is the shape, of whole frames that of the nearest one. A clip is a group, so none lies in two splits. Clip i
is a function of (seed, i) and the options alone: more clips change none of the others.

Source: no publication; drawn by Reprise.

Checked by: tests/stages/ingest/sources/drawn/test_clips.py; docs/measurements/relations.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from reprise.config.facts import Fact, Use
from reprise.config.params import StrictModel, meaning
from stages.ingest.drawn.scenes import (
    WHOLE,
    Place,
    Scene,
    Thing,
    Window,
    box_of,
    draw_scene,
    flow_of,
    hidden_share,
)
from stages.ingest.drawn.shapes import COLOURS, HUELESS, SHAPES, TEXTURES
from stages.ingest.source import Candidate, Extent, Source, constant_extent

if TYPE_CHECKING:
    import numpy as np

Given = Literal[
    "identity", "frame", "occlusion", "colour", "x", "y", "scale", "rotation", "brightness", "camera_x", "camera_y",
    "mask", "boxes", "flow",
]  # fmt: skip

_VERSION = 1  # of the drawing: another one draws other clips
_HIDDEN = 0.8  # a shape of which more is hidden is not detected
_LOOSE = 1.3  # a crop reaches so far beyond the shape, as a factor of its half extent
_TURN = 45.0  # degrees to either side: a square looks the same after 90
_OTHER = 16.0  # each channel of an object's colour differs so much at most from the colour's, of 255
_ASIDE = 0.3  # shapes that meet pass at so large a share, at most, of their half extents
_PAN, _SHAKE = 0.3, 0.02  # way of the camera over a clip, and standard deviation in a frame, as shares of the side


class Clips(Source):
    """Moving shapes with all that is known of them."""

    class Params(StrictModel):
        """Options of clips."""

        clips: Annotated[int, Field(ge=3, le=100_000), meaning("So many clips are drawn.", "clips")] = 100
        frames: Annotated[int, Field(ge=2, le=256), meaning("Each clip has so many frames.", "frames")] = 8
        objects: Annotated[int, Field(ge=1, le=6), meaning("Each clip shows so many shapes.", "shapes")] = 3
        occlusion: Annotated[
            float,
            Field(ge=0, le=1),
            meaning("With this probability a shape passes behind a nearer one that meets no other."),
        ] = 0.3
        alike: Annotated[
            float,
            Field(ge=0, le=1),
            meaning("With this probability a shape looks nearly like the first of its clip."),
        ] = 0.0
        camera: Annotated[
            Literal["still", "pan", "shake"], meaning("The camera moves over the ground in this way.")
        ] = "still"
        sample: Annotated[
            Literal["crops", "frames"],
            meaning("An image is a single shape of a frame, or a whole frame."),
        ] = "crops"
        size: Annotated[int, Field(ge=16, le=512), meaning("Images are squares of this side.", "pixels")] = 32
        seed: Annotated[int, Field(ge=0, lt=2**31), meaning("Another seed draws other clips.")] = 0
        given: Annotated[
            list[Given],
            Field(max_length=14),
            meaning("These facts are given to methods that read them; all other facts are labels, for probes only."),
        ] = Field(default_factory=list)

    title: ClassVar[str] = "Drawn clips"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "made by Reprise; no rights are claimed"
    reads_root: ClassVar[bool] = False
    keeps_names: ClassVar[bool] = True
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.3,
        "flip": False,
        "jitter": 0.4,
        "grey": 0.1,
        "blur": 0.0,
        "solarize": 0.0,
    }

    def facts(self) -> Sequence[Fact]:
        """Declare what is known of a crop or of a whole frame; `given` decides what methods may read."""

        def use(name: str) -> Use:
            return "given" if name in self.options.given else "label"

        crop = self.options.sample == "crops"
        of_crops = (
            Fact("identity", "word", use("identity"), "Which shape of which clip it is."),
            Fact("colour", "word", use("colour"), "Colour of the shape, of which each differs a little."),
            Fact("x", "number", use("x"), "Centre of the shape from the left of the frame, as a share of its side."),
            Fact("y", "number", use("y"), "Centre of the shape from the top of the frame, as a share of its side."),
            Fact("scale", "number", use("scale"), "Half the extent of the shape, as a share of the frame's side."),
            Fact("rotation", "number", use("rotation"), "Degrees, counter-clockwise, from -45 to 45."),
        )
        hidden = "Share of the shape that others hide." if crop else "Share that is hidden, of the shape hidden most."
        masks = "1 for the shape, 2 and more for others." if crop else "Numbers of the shapes, the nearest first."
        boxes = "Around the whole shape, hidden or not." if crop else "Around each whole shape, the nearest first."
        return (
            *(of_crops if crop else ()),
            Fact("frame", "number", use("frame"), "Number of the frame in its clip, from 0."),
            Fact("occlusion", "number", use("occlusion"), hidden),
            Fact("brightness", "number", use("brightness"), "Factor by which the light changes all values."),
            Fact("camera_x", "number", use("camera_x"), "Way of the camera to the right, as a share of the side."),
            Fact("camera_y", "number", use("camera_y"), "Way of the camera downwards, as a share of the side."),
            Fact("mask", "mask", use("mask"), masks),
            Fact("boxes", "boxes", use("boxes"), boxes),
            *(() if crop else (Fact("flow", "flow", use("flow"), "To the next frame; unknown of the last one."),)),
        )

    def candidates(self) -> Iterator[Candidate]:
        """Draw all images, clip by clip and frame by frame."""
        of_frame = self._crops if self.options.sample == "crops" else self._whole
        for clip in range(self.options.clips):
            scene = self.scene(clip)
            for frame in range(self.options.frames):
                yield from of_frame(clip, scene, frame)

    def extent(self) -> Extent:
        """Return a digest of the options that decide the images; there are no files."""
        return constant_extent(f"clips {_VERSION} {self.options.model_dump_json()}")

    def scene(self, clip: int) -> Scene:
        """Draw what happens in a clip."""
        import numpy as np

        options = self.options
        rng = np.random.default_rng([options.seed, clip, _VERSION])
        things, colours = _things(options.objects, options.alike, rng)
        ways = _ways(things, options.frames, options.occlusion, rng)
        first, last = rng.uniform(-_TURN, _TURN, size=(2, len(things)))
        light = rng.uniform(0.6, 1.1, size=2)
        share = np.linspace(0, 1, options.frames)
        turns = first + share[:, None] * (last - first)
        places = [
            [Place(float(way[t, 0]), float(way[t, 1]), float(turns[t, k])) for k, way in enumerate(ways)]
            for t in range(options.frames)
        ]
        free = [name for name in COLOURS if name not in colours]
        base = COLOURS[free[int(rng.integers(len(free)))]]
        waves = np.stack([*rng.uniform(-3, 3, size=(2, 4)), rng.random(4), rng.uniform(5, 25, 4)], axis=1)
        return Scene(
            things,
            places,
            [tuple(at) for at in _camera(options.camera, options.frames, rng).tolist()],
            [float(light[0] + s * (light[1] - light[0])) for s in share],
            tuple(64 + 0.5 * channel for channel in base),  # type: ignore[arg-type]
            [tuple(wave) for wave in waves.tolist()],
        )

    def _crops(self, clip: int, scene: Scene, frame: int) -> Iterator[Candidate]:
        """Cut out every shape of a frame that can be seen."""
        import numpy as np

        from reprise.media.image.encode import uncompressed_png

        size = self.options.size
        for k, thing in enumerate(scene.things):
            hidden = hidden_share(scene, frame, k)
            rng = np.random.default_rng([self.options.seed, clip, frame, k, _VERSION])
            place, off = scene.places[frame][k], rng.uniform(-0.1, 0.1, size=3)
            reach = _LOOSE * thing.scale * float(1 + off[2])
            x, y = place.x + float(off[0]) * thing.scale, place.y + float(off[1]) * thing.scale
            if hidden > _HIDDEN:
                continue
            window = Window(x - reach, y - reach, 2 * reach)
            pixels, owner = draw_scene(scene, frame, window, size, rng)
            others = np.where(owner > 0, 2 + (owner.astype(np.int64) - k - 2) % len(scene.things), 0)
            mask = np.where(owner == k + 1, 1, others).astype(np.uint8)
            known = {
                "identity": f"clip-{clip:04d}/{k}",
                "colour": _named(thing),
                "x": round(place.x, 6),
                "y": round(place.y, 6),
                "scale": round(thing.scale, 6),
                "rotation": round(place.rotation, 6),
                "occlusion": round(hidden, 6),
                "mask": mask,
                "boxes": [box_of(scene, frame, k, window, size)],
                **_of_frame(scene, frame),
            }
            name = f"clip-{clip:04d}/{frame:04d}_{k}.png"
            yield Candidate(name, uncompressed_png(pixels), None, thing.shape, f"clip-{clip:04d}", known)

    def _whole(self, clip: int, scene: Scene, frame: int) -> Iterator[Candidate]:
        """Draw a whole frame."""
        import numpy as np

        from reprise.media.image.encode import uncompressed_png

        size, count = self.options.size, len(scene.things)
        rng = np.random.default_rng([self.options.seed, clip, frame, _VERSION])
        pixels, owner = draw_scene(scene, frame, WHOLE, size, rng)
        known = {
            "occlusion": round(max(hidden_share(scene, frame, k) for k in range(count)), 6),
            "mask": owner,
            "boxes": [box_of(scene, frame, k, WHOLE, size) for k in range(count)],
            **_of_frame(scene, frame),
        }
        if frame + 1 < self.options.frames:
            known["flow"] = flow_of(scene, frame, owner)
        name = f"clip-{clip:04d}/{frame:04d}.png"
        yield Candidate(name, uncompressed_png(pixels), None, scene.things[0].shape, f"clip-{clip:04d}", known)


def _of_frame(scene: Scene, frame: int) -> dict[str, float]:
    """What is known of a frame, whoever is looked at."""
    (x, y), (from_x, from_y) = scene.camera[frame], scene.camera[0]
    return {
        "frame": float(frame),
        "brightness": round(scene.brightness[frame], 6),
        "camera_x": round(x - from_x, 6),
        "camera_y": round(y - from_y, 6),
    }


def _things(count: int, alike: float, rng: np.random.Generator) -> tuple[list[Thing], set[str]]:
    """Draw the shapes of a clip, the nearest first, and the names of their colours."""
    names = [name for name in COLOURS if name not in HUELESS]
    largest = min(0.42 / count, 0.25)
    things: list[Thing] = []
    used = set()
    for _ in range(count):
        number, colour, texture, size, same = (float(value) for value in rng.random(5))
        name = names[int(colour * len(names))]
        look = SHAPES[int(number * len(SHAPES))], name, TEXTURES[int(texture * len(TEXTURES))]
        if things and same < alike:
            look = things[0].shape, _named(things[0]), things[0].texture
        used.add(look[1])
        own = tuple(float(c) for c in COLOURS[look[1]] + rng.uniform(-_OTHER, _OTHER, size=3))
        things.append(Thing(look[0], own, look[2], largest * (0.75 + 0.25 * size)))  # type: ignore[arg-type]
    return things, used


def _named(thing: Thing) -> str:
    """The name of the colour that is nearest to a thing's own."""
    names = [name for name in COLOURS if name not in HUELESS]
    return min(names, key=lambda name: sum((a - b) ** 2 for a, b in zip(COLOURS[name], thing.colour, strict=True)))


def _ways(things: Sequence[Thing], frames: int, occlusion: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw the way of each thing through the picture: (frames, 2) x and y of each."""
    import numpy as np

    count, upright = len(things), bool(rng.random() < 0.5)  # whether lanes go down instead of across
    lanes = (np.arange(count)[rng.permutation(count)] + 0.5) / count
    backwards = rng.random(count) < 0.5
    chance, aim, aside = rng.random((3, count))
    starts, ends = rng.uniform(0, 0.25, count), rng.uniform(0.75, 1, count)
    ways: list[np.ndarray] = []
    alone: list[int] = []  # in their lanes
    for k, thing in enumerate(things):
        lane = float(lanes[k])
        if not alone or chance[k] >= occlusion:
            alone.append(k)
        else:
            other = alone.pop(int(aim[k] * len(alone)))
            backwards[k] = not backwards[other]
            lane = float(lanes[other]) + _ASIDE * (2 * float(aside[k]) - 1) * (things[other].scale + thing.scale)
            lanes[k] = lane = min(max(lane, thing.scale), 1 - thing.scale)
        first, last = (ends[k], starts[k]) if backwards[k] else (starts[k], ends[k])
        along = thing.scale + np.linspace(first, last, frames) * (1 - 2 * thing.scale)
        across = np.full(frames, lane)
        ways.append(np.stack([across, along] if upright else [along, across], axis=1))
    return ways


def _camera(kind: str, frames: int, rng: np.random.Generator) -> np.ndarray:
    """Draw where the picture's corner lies on the ground in each frame: (frames, 2)."""
    import numpy as np

    angle, steps = float(rng.uniform(0, 2 * np.pi)), rng.normal(0, _SHAKE, size=(frames, 2))
    if kind == "pan":
        return np.asarray(np.linspace(0, _PAN, frames)[:, None] * np.array([np.cos(angle), np.sin(angle)]))
    return np.asarray(steps) if kind == "shake" else np.zeros((frames, 2))
