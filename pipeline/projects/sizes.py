"""Sizes of a preset that few images cannot meet, made smaller for a new project: the batch, and the fewest images.

What `reprise init` knows are names of files. How many of them are usable, and in which split they fall, is known only
after ingest; so the numbers here leave room, and each line of params.yaml says where its number comes from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ruamel.yaml import YAML

from pipeline.projects.presets import Preset

SMALLEST_BATCH = 8
FEWEST_BY_DEFAULT = 100  # validate.min_train_images
TRAIN_OF_ALL, TRAIN_OF_NAMED = 0.72, 0.9  # what source.test_fraction and source.val_fraction leave by default


def expected_train_images(preset: Preset, shown: Mapping[str, Any]) -> int | None:
    """Return how many files will be in train, about; None where names of files do not tell.

    Args:
        preset: the preset.
        shown: what `stages.ingest.look` prints.
    """
    source = YAML(typ="safe").load(preset.text)["source"]
    if source["name"] != "folder":
        return None
    kind = "volumes" if source.get("modality") == "volume" else "pictures"
    expected = shown[kind] * TRAIN_OF_ALL
    if shown["named_train"]:
        expected = min(expected, shown["named_train"] * TRAIN_OF_NAMED)
    return int(expected) or None


def fit_to_images(preset: Preset, expected: int | None) -> tuple[Preset, list[str]]:
    """Return the preset with sizes that this many images of train can meet, and sentences that say what changed.

    The batch is the largest power of two up to a quarter of them, at least 8, and never above the preset's own. Half
    of them are the fewest that validation accepts, where that is below its default.
    """
    if expected is None:
        return preset, []
    text, changed = preset.text, []
    batch = max(SMALLEST_BATCH, 1 << max(expected // 4, 1).bit_length() - 1)
    found = re.search(r"(?m)^  batch_size: (\d+)[^\n]*$", text)
    if found and batch < int(found[1]):
        least = f"but {SMALLEST_BATCH} or more"
        why = f"{found[1]} in the preset; at most a quarter of the {expected} images expected in train, {least}"
        text = text[: found.start()] + f"  batch_size: {batch:<17} # {why}" + text[found.end() :]
        changed.append(f"train.batch_size is {batch}")
    fewest = max(1, expected // 2)
    if fewest < FEWEST_BY_DEFAULT and "validate" not in YAML(typ="safe").load(text):
        why = f"{FEWEST_BY_DEFAULT} by default; half of the {expected} images expected in train"
        text = text.rstrip("\n") + f"\n\nvalidate:\n  min_train_images: {fewest:<11} # {why}\n"
        changed.append(f"validate.min_train_images is {fewest}")
    said = [f"about {expected} images are expected in train, so {' and '.join(changed)}"] if changed else []
    return replace(preset, text=text), said
