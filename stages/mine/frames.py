"""The frames of each group (a video, a scene), in order, as the manifest and the paths of the images tell them."""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np

from reprise.config.errors import MiningError
from reprise.media.video.container import claims_film
from stages.mine.miner import Images

_DIGITS = 18  # of a number at most: it and the difference of two then fit into 64 bits
FRAME = r"(\d+)(?:_\d+)?\.\w+$"  # clip/0007.png, and clip/0007_2.png where a frame has several crops


def number_pattern(value: str, of: str) -> str:
    """Return a regular expression that has a group for the number of a frame or a view.

    Args:
        value: the expression.
        of: what has the number, for the message.

    Raises:
        ValueError: it is no expression, or has no group.
    """
    try:
        groups = re.compile(value).groups
    except re.error as error:
        raise ValueError(f"should be a regular expression: {error}") from error
    if not groups:
        raise ValueError(f"should have a group in brackets, which is the number of the {of}")
    return value


def frames_of(images: Images | None, pattern: str, where: str) -> dict[str, list[np.ndarray]]:
    """List the frames of each group in order, each frame an array of the rows of its images; see `numbered_frames`."""
    return {group: list(frames.values()) for group, frames in numbered_frames(images, pattern, where).items()}


def numbered_frames(
    images: Images | None, pattern: str, where: str, option: str = "frame"
) -> dict[str, dict[int, np.ndarray]]:
    """List the frames of each group by their numbers, which ascend; each frame is an array of the rows of its images.

    Frames of films (film.mp4/shot-0003/00000012.png) are listed for each film and each shot by themselves: in another
    film the same number means another time, and behind a cut there are other things.

    Args:
        images: their paths and groups.
        pattern: a regular expression whose first group, found in an image's path, is the number of its frame.
        where: the parameter that messages name.
        option: the miner's parameter that holds the expression.

    Raises:
        MiningError: no image has a group, or a path has no frame number or one that is too large.
    """
    grouped = [] if images is None else [(i, group) for i, group in enumerate(images.groups) if group is not None]
    if images is None or not grouped:
        raise MiningError(
            "no image belongs to a group",
            where=where,
            found="a manifest without groups",
            fix="This miner needs films or scenes: the source `video` gives them; with images in folders, set "
            "source.options.group: folder.",
        )
    found: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, group in grouped:
        match = re.search(pattern, images.paths[row])
        if match is None or not match.groups() or not (match[1] or "").isdecimal():
            raise MiningError(
                "the path of an image has no frame number",
                where=f"{where}: {images.paths[row]}",
                found=f"no number by the pattern {pattern}",
                fix=f"Set mining.*.{option} to an expression whose first group is the number of the {option}.",
            )
        digits = match[1].lstrip("0") or "0"
        if len(digits) > _DIGITS:
            raise MiningError(
                "the frame number of an image is too large",
                where=f"{where}: {images.paths[row]}",
                found=f"a number of {len(digits)} digits",
                fix=f"Give the file a number of at most {_DIGITS} digits, or set mining.*.{option} to an expression "
                f"whose first group is the number of the {option}.",
            )
        found[group + _film(images.paths[row])][int(digits)].append(row)
    return {
        group: {number: np.array(frames[number]) for number in sorted(frames)}
        for group, frames in sorted(found.items())
    }


def _film(path: str) -> str:
    """Return the part of a frame's path that names its film and shot; empty for an image that is no frame of a film."""
    folders = path.split("/")[:-1]
    return next((f" {'/'.join(folders[i:])}" for i, folder in enumerate(folders) if claims_film(folder)), "")
