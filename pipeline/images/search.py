"""Which images of the data set lie nearest to a picture from anywhere. The stages have the maths, in two processes."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.graph.stage_modules import run_module
from pipeline.images.chosen_run import ChosenRun
from reprise.artifacts.weights.trained import embeddings_of
from reprise.config.errors import ParameterError

FOUND = ("rank", "similarity", "path")


def rows_of(found: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return a row of FOUND for each image."""
    return [
        [str(image["rank"]), f"{image['similarity']:.4f}", image["path"] + " (the same file)" * image["is_the_image"]]
        for image in found
    ]


def search(image: Path, run: ChosenRun, top: int, page: Path | None) -> list[dict[str, Any]]:
    """Find the images nearest to one.

    Args:
        image: the file, anywhere.
        run: whose backbone embeds it.
        top: number of images.
        page: an HTML page to write.

    Returns:
        For each image, nearest first, what `stages.embed.search.nearest_images` says of it.

    Raises:
        ParameterError: there is no such file.
        ResultError: the run has not been trained and embedded.
        CommandFailed: the image is refused, or a file is damaged; the process has explained it.
    """
    if not image.exists():
        raise ParameterError(
            "there is no such image", where=image, found="no file of this name", fix="Name the file of an image."
        )
    embeddings_of(run.name, run.seed)
    with tempfile.TemporaryDirectory() as scratch:
        taken_in, table = Path(scratch) / "image", Path(scratch) / "found.json"
        # An absolute path, so that a name that begins with a dash is no option.
        run_module("stages.ingest.single", [os.path.abspath(image), "--out", str(taken_in)], Path(), None)
        arguments = ["--run", run.name, "--seed", str(run.seed), "--image", str(taken_in), "--top", str(top)]
        arguments += [f"--name={image.name}", "--out", str(table)]
        arguments += ["--page", os.path.abspath(page)] if page else []
        run_module("stages.embed.search", arguments, Path(), None)
        found: list[dict[str, Any]] = json.loads(table.read_text(encoding="utf-8"))
    return found
