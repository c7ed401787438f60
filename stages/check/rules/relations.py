"""Values of params.yaml against each other. Rules that a stage has at its start are the stage's own, called earlier.

A rule is a problem where a stage would refuse to start, whatever the images; it is a warning where the graph runs and
does something else than the words of params.yaml say. Both are pure functions of params.yaml and code.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from reprise.config.errors import RepriseError
from reprise.config.params import Problem
from reprise.config.plug_ins.registry import suites
from reprise.config.tables import NONE, TRUTH, AnyRun, MineRow
from stages.check.plug_ins import plug_in_class
from stages.check.rows import listed_in
from stages.check.rules.far import far_warnings
from stages.check.shifts import shift_warnings
from stages.check.sketches import Sketch, place_of, problem_of, sketch_runs


def relation_problems(raw: dict[str, Any]) -> list[Problem]:
    """Find values that do not fit each other, so that a stage would refuse them."""
    sketches, found = sketch_runs(raw)
    for sketch in sketches:
        found += _run_problems(sketch)
        if sketch.method.needs_pairs:
            found += _pair_problems(raw, sketch)
        if "given" in sketch.method.needs:
            found += _given_problems(raw, sketch.row)
    return [*found, *_confidence_problems(raw)]


def _confidence_problems(raw: dict[str, Any]) -> Iterator[Problem]:
    """Find label sets that tell how sure they are by changed copies which nobody makes."""
    confidences = importlib.import_module("stages.mine.label_sets.confidences")
    for row in listed_in(raw, "mines"):
        name, on = str(row.get("name")), str(row.get("on"))
        block = raw["mining"].get(name) if isinstance(raw.get("mining"), dict) else None
        if not isinstance(block, dict) or block.get("confidence") != "two_views":
            continue
        where = f"mining.{name}.confidence"
        if not on.startswith("embed/") or _value(raw, "embed", "two_passes") is not True:
            found = on if not on.startswith("embed/") else "embed.two_passes: false"
            problem = problem_of(confidences.no_passes(on, found), name)
            yield replace(problem, path=where)


def _run_problems(sketch: Sketch) -> Iterator[Problem]:
    """Hold a run against its label set and its batches."""
    inputs = importlib.import_module("stages.pretrain.inputs.images")
    row, size = sketch.row, sketch.train.batch_size
    if sketch.params.backbone and type(sketch.method).own_backbone(sketch.params):
        yield Problem(
            f"methods.{row.name}.backbone",
            f"the method '{row.method}' brings its own network, so this one would never be trained",
            sketch.params.backbone,
            " Remove it.",
        )
    if "confidences" in sketch.method.needs and row.labels in (NONE, TRUTH):
        yield problem_of(inputs.without_confidences(row), row.name)
    by_parameters = "clusters" in sketch.method.needs and "clusters" not in type(sketch.method).needs
    if by_parameters and row.labels == NONE:  # what a class always needs is checked with the tables
        yield problem_of(inputs.without_labels(row), row.name)
    try:
        inputs.refuse_truth(row, type(sketch.method))
        inputs.refuse_batches(row, sketch.method, size, size, sketch.train.accumulate, sketch.train.processes)
        inputs.refuse_passes(row, sketch.method, sketch.train)
    except RepriseError as error:
        problem = problem_of(error, row.name)
        yield replace(problem, path=place_of(problem.path, row, sketch.params))


def _pair_problems(raw: dict[str, Any], sketch: Sketch) -> Iterator[Problem]:
    """Hold a run whose method trains on pairs against its label set, and against its batches."""
    pairing = importlib.import_module("stages.pretrain.inputs.pairing")
    row = sketch.row
    found = {NONE: "is empty", TRUTH: "holds classes and no pairs"}.get(row.labels)
    for name, miner in _miners_of(raw, row.labels):
        if not miner.makes_pairs:
            found = f"is mined by '{name}', which finds no pairs"
    if found:
        yield problem_of(pairing.without_pairs(row, found), row.name)
    try:
        pairing.refuse_parted_pairs(row, sketch.train)
    except RepriseError as error:
        yield problem_of(error, row.name)


def _given_problems(raw: dict[str, Any], row: AnyRun) -> Iterator[Problem]:
    """Hold a run whose method learns from given labels against the miner of its label set."""
    if row.labels == TRUTH or any(not miner.uses_truth for _, miner in _miners_of(raw, row.labels)):
        yield problem_of(importlib.import_module("stages.pretrain.inputs.images").without_given_labels(row), row.name)


def _miners_of(raw: dict[str, Any], labels: str) -> Iterator[tuple[str, Any]]:
    """Yield name and class of the miner of a label set; none where its row is not well formed."""
    for mine in listed_in(raw, "mines"):
        with suppress(ValidationError, RepriseError):  # a row that is not well formed is reported with its table
            mined = MineRow.model_validate(mine)
            miner: Any = plug_in_class("miners", mined.miner) if mined.name == labels else None
            if miner is not None:
                yield mined.miner, miner


def relation_warnings(raw: dict[str, Any]) -> list[Problem]:
    """Find values that work, but not together as their words say."""
    by_runs = [problem for sketch in sketch_runs(raw)[0] for problem in _run_warnings(sketch)]
    found = list({(problem.path, problem.rule): problem for problem in by_runs}.values())
    found += [*_image_warnings(raw), *shift_warnings(raw), *far_warnings(raw)]
    chosen = list(chosen_probes(raw))
    for where, probe_class, _ in chosen:
        if getattr(probe_class, "needs_augmented", False) and _value(raw, "embed", "augmented") == 0:
            rule = "this probe needs embeddings of changed images, and there will be none: it is left out"
            found.append(Problem(where, rule, "embed.augmented: 0", " Set embed.augmented to 256, for example."))
    family = _value(raw, "summary", "family")
    known = {where.rsplit(".", 1)[-1] for where, _, _ in chosen}
    if isinstance(family, str) and family.partition(".")[0] not in known:
        rule = "no suite has this probe, so no difference between runs is tested"
        found.append(Problem("summary.family", rule, family, f" Known: {', '.join(sorted(known)) or 'none'}."))
    metrics = _value(raw, "report", "metrics")
    for metric in metrics if isinstance(metrics, list) else []:
        if isinstance(metric, str) and metric.partition(".")[0] not in known:
            rule = "no suite has this probe, so the report has no verdicts on it"
            found.append(Problem("report.metrics", rule, metric, f" Known: {', '.join(sorted(known)) or 'none'}."))
    return found


def _run_warnings(sketch: Sketch) -> Iterator[Problem]:
    train, where = sketch.train, f"methods.{sketch.row.name}"
    if sketch.method.gradient_free:
        return
    if train.warmup_epochs >= train.epochs:
        yield Problem(
            place_of("train.warmup_epochs", sketch.row, sketch.params),
            "the warm-up takes the whole training, so the schedule after it never begins",
            f"{train.warmup_epochs} of {train.epochs} epochs",
            " Lower warmup_epochs, or raise train.epochs.",
        )
    decay = getattr(train.schedule, "decay", None)
    if isinstance(decay, float) and train.warmup_epochs < train.epochs < decay * train.epochs + train.warmup_epochs:
        yield Problem(
            place_of("train.schedule", sketch.row, sketch.params),
            "the warm-up and the decay together are longer than the training, so the decay is shortened",
            f"{train.warmup_epochs} epochs of warm-up and {decay:g} of {train.epochs} epochs",
            " Lower one of them.",
        )
    queue = getattr(sketch.params, "queue", None)
    if isinstance(queue, int) and 0 < queue < train.batch_size:
        yield Problem(
            f"{where}.queue",
            "the queue holds less than one batch, so the rest of every batch is never in it",
            f"{queue} places, train.batch_size {train.batch_size}",
            f" Set it to at least {train.batch_size}.",
        )


def _image_warnings(raw: dict[str, Any]) -> Iterator[Problem]:
    size, side = _value(raw, "image", "size"), _value(raw, "shard", "max_side")
    if isinstance(size, int) and isinstance(side, int) and size > side:
        yield Problem(
            "shard.max_side",
            "images are stored smaller than networks see them, and scaled up again",
            f"{side} pixels, image.size {size}",
            f" Set it to at least {size}.",
        )


def chosen_probes(raw: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted name, class and typed parameters of each probe that params.yaml chooses and that is well formed."""
    tables = (
        ("probes", "suites", "name"),
        ("image_probes", "checks", "group"),
        ("shift_probes", "shift_suites", "name"),
    )
    for section, table, field in tables:
        rows = raw.get(table)
        listed = {row.get(field) for row in rows if isinstance(row, dict)} if isinstance(rows, list) else set()
        blocks = raw.get(section)
        for suite, probes in blocks.items() if isinstance(blocks, dict) else ():
            if suite not in listed or suite not in suites() or not isinstance(probes, dict):
                continue
            for name, block in probes.items():
                try:
                    probe_class: Any = plug_in_class(f"probes/{suite}", name)
                    yield f"{section}.{suite}.{name}", probe_class, probe_class.Params.model_validate(block)
                except (ValidationError, RepriseError):
                    continue


def _value(raw: dict[str, Any], section: str, name: str) -> Any:
    """Return a value of a section as params.yaml or its class gives it; None where the section is wrong."""
    from stages.check.parameters import known_sections

    try:
        return getattr(known_sections()[section].model_validate(raw.get(section)), name)
    except ValidationError:
        return None
