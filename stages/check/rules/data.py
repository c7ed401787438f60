"""Values of params.yaml against the images that ingest took in.

A rule is a problem where a stage would refuse to start on these images; the stage's own function says so. It is a
warning where the graph runs, and a probe or a figure is left out or means something else than its name says.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reprise.config.errors import RepriseError
from reprise.config.params import Problem
from reprise.config.tables import TRUTH, MineRow
from reprise.reading.share import images_in
from stages.check.plug_ins import plug_in_class
from stages.check.rows import listed_in
from stages.check.rules.relations import chosen_probes
from stages.check.shifts import data_problems_of_shifts, memory_warnings_of_shifts
from stages.check.sketches import problem_of, sketch_runs, well_formed_runs


@dataclass(frozen=True)
class Facts:
    """What is known of the images.

    Attributes:
        counts: images by split.
        labelled: images with a label, by split.
        classes: training images by class.
        targets: whether there is a targets.csv, or the source gives numbers or flags.
    """

    counts: dict[str, int]
    labelled: dict[str, int]
    classes: dict[str, int]
    targets: bool

    @property
    def train(self) -> int:
        """Return the number of training images."""
        return self.counts.get("train", 0)


def read_facts(root: Path = Path()) -> Facts:
    """Read the manifest and look for targets.csv and for facts of the source.

    Raises:
        ManifestError: the manifest, or the facts of the source, are missing or damaged.
    """
    from reprise.artifacts.facts.table import read_facts as facts_in
    from reprise.artifacts.labels.targets import TARGETS
    from reprise.artifacts.layout import INGEST, MANIFEST
    from reprise.artifacts.manifest import read_manifest

    table = read_manifest(root / MANIFEST, ["split", "label"])
    rows = list(zip(table["split"].to_pylist(), table["label"].to_pylist(), strict=True))
    return Facts(
        Counter(split for split, _ in rows),
        Counter(split for split, label in rows if label is not None),
        Counter(label for split, label in rows if split == "train" and label is not None),
        (root / TARGETS).is_file() or bool(facts_in(root / INGEST).named("number", "flag")),
    )


def data_problems(raw: dict[str, Any], facts: Facts) -> list[Problem]:
    """Find values with which a stage would refuse these images."""
    found = [*_mine_problems(raw, facts), *data_problems_of_shifts(raw, facts.counts)]
    inputs = importlib.import_module("stages.pretrain.inputs.images")
    for row, method_class, _ in well_formed_runs(raw):
        if "clusters" in method_class.needs and row.labels == TRUTH and not facts.labelled.get("train"):
            found.append(problem_of(inputs.without_labels(row), row.name))
    for sketch in sketch_runs(raw)[0]:
        row, size = sketch.row, sketch.train.batch_size
        images = images_in(sketch.train.image_share, facts.train)
        shown = images * (2 if sketch.method.needs_pairs else 1)  # at most: not every image has a partner
        try:
            inputs.refuse_few(type(sketch.method), shown, size)
            inputs.refuse_batches(row, sketch.method, shown, size, sketch.train.accumulate, sketch.train.processes)
        except RepriseError as error:
            found.append(problem_of(error, row.name))
    return list({(problem.path, problem.rule): problem for problem in found}.values())


def _mine_problems(raw: dict[str, Any], facts: Facts) -> Iterator[Problem]:
    """Ask every miner whether the training images suffice; resampling leaves some of them out."""
    blocks = raw.get("mining")
    for listed in listed_in(raw, "mines"):
        try:
            row = MineRow.model_validate(listed)
            miner: Any = plug_in_class("miners", row.miner)
            params = miner.Params.model_validate(blocks[row.name] if isinstance(blocks, dict) else None)
        except (ValidationError, RepriseError, KeyError):
            continue
        resamples = getattr(params, "resamples", 0)
        left = facts.train - (-(-facts.train // resamples) if resamples else 0)
        try:
            miner.refuse_images(params, left, f"mining.{row.name}")
        except RepriseError as error:
            yield problem_of(error, row.name)
        if miner.uses_truth and not facts.labelled.get("train"):
            yield Problem(
                f"mining.{row.name}",
                f"the miner '{row.miner}' needs labels",
                "no training image has one",
                " Use a miner that needs none, or images in folders that name their classes.",
            )


def data_warnings(raw: dict[str, Any], facts: Facts) -> list[Problem]:
    """Find probes that will be left out on these images, or mean something else than their parameters say."""
    found: list[Problem] = []
    if not facts.counts.get("test"):
        instead = "val" if facts.counts.get("val") else None
        rule = f"there is no test split, so results are reported on {instead}, on which choices are made"
        rule = rule if instead else "there is neither a test nor a val split, so probes have nothing to score"
        hint = " Set source.test_fraction above 0, or bring a folder `test`."
        found.append(Problem("source.test_fraction", rule, dict(facts.counts), hint))
    for where, probe_class, params in chosen_probes(raw):
        found += _probe_warnings(where, probe_class, params, facts)
    return [*found, *memory_warnings_of_shifts(raw, facts.counts)]


def _probe_warnings(where: str, probe_class: Any, params: Any, facts: Facts) -> Iterator[Problem]:
    if getattr(probe_class, "needs_targets", False) and not facts.targets:
        hint = " Write targets.csv (docs/reference/data-rules.md), or remove the probe."
        yield Problem(where, "this probe needs targets and is left out", "no targets.csv", hint)
    if getattr(probe_class, "needs_labels", False) and not facts.classes:
        hint = " Bring labels, or remove the probe."
        yield Problem(where, "this probe needs labels and is left out", "no training image has a label", hint)
        return
    k, shots, neighbours = (getattr(params, name, None) for name in ("k", "shots", "neighbours"))
    bank = sum(facts.classes.values()) if getattr(probe_class, "needs_labels", False) else facts.train
    for name, value in (("k", k), ("neighbours", neighbours)):
        most = max(value, default=0) if isinstance(value, list) else value
        if isinstance(most, int) and most > bank:
            rule = "there are fewer training images than this, so all of them count"
            yield Problem(f"{where}.{name}", rule, f"{most}, with {bank} images", f" Set it to at most {bank}.")
    fewest = min(facts.classes.values(), default=0)
    if isinstance(shots, list) and shots and max(shots) > fewest > 0:
        few = sum(count < max(shots) for count in facts.classes.values())
        rule = "some classes have fewer training images than shots, and give all that they have"
        yield Problem(
            f"{where}.shots", rule, f"{max(shots)} shots, {few} classes with fewer, the smallest of {fewest}",
            f" Set it to at most {fewest}.",
        )  # fmt: skip
