"""The kind of the samples (`source.modality`) against every plug-in that params.yaml names; each declares its kinds.

What a stage would refuse is a problem. What a stage leaves out with a note, such as changed copies for the probes of
invariance, is none.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from reprise.config.errors import RepriseError
from reprise.config.params import Problem
from reprise.config.tables import FeaturesRow
from reprise.media.lookup import IMAGE, NAMES
from reprise.training.params import TrainParams
from stages.check.plug_ins import plug_in_class
from stages.check.rows import listed_in, well_formed
from stages.check.shifts import shifts_of
from stages.check.sketches import place_of, problem_of, well_formed_runs
from stages.check.starts import as_started, rows_of_models


def modality_of_source(raw: dict[str, Any]) -> str:
    """Return `source.modality`; `image` where it is not written, or wrong, which is reported with the section."""
    block = raw.get("source")
    stated = block.get("modality", IMAGE) if isinstance(block, dict) else IMAGE
    return stated if stated in NAMES else IMAGE


def modality_problems(raw: dict[str, Any]) -> list[Problem]:
    """Find plug-ins that are not made for samples of this kind."""
    modality = modality_of_source(raw)
    found = list(_run_problems(raw, modality))
    if modality != IMAGE:
        found += _other_problems(raw, modality)
    return list({(problem.path, problem.rule): problem for problem in found}.values())


def _run_problems(raw: dict[str, Any], modality: str) -> Iterator[Problem]:
    inputs = importlib.import_module("stages.pretrain.inputs.modality")
    views = importlib.import_module("stages.pretrain.views.settings")
    try:
        shared = TrainParams.model_validate(raw.get("train"))
    except (ValidationError, RepriseError):
        return
    for row, method_class, params in well_formed_runs(raw):
        try:
            train = as_started(params.applied_to(shared), row.start, raw)
            own = method_class.own_backbone(params)
        except RepriseError:
            continue  # reported with the runs
        architecture = own[0] if own else train.backbone
        checks = [
            partial(inputs.refuse_method, row, method_class, modality),
            partial(inputs.refuse_backbone, architecture, modality),
        ]
        if not method_class.gradient_free:
            checks.append(partial(views.refuse_views, train.views, modality))
        for check in checks:
            try:
                check()
            except RepriseError as error:
                problem = problem_of(error, row.name)
                yield replace(problem, path=place_of(problem.path, row, params))
                break


def _other_problems(raw: dict[str, Any], modality: str) -> Iterator[Problem]:
    """Hold what else reads samples against their kind: extractors, trained models, corruptions, probes of images."""
    named: list[tuple[str, str, str]] = [
        (f"features[{index}].extractor", "extractors", row["extractor"])
        for index, row in well_formed(raw, "features", FeaturesRow)
    ]
    named += [
        (f"models[{n}].model", "models", str(row.model)) for n, row in rows_of_models(raw) if row.model is not None
    ]
    named += [(f"shifts: {row.name}", "shifts", row.shift) for row in shifts_of(raw) if not row.is_source]
    for where, kind, name in named:
        try:
            takes = getattr(plug_in_class(kind, name), "modalities", (IMAGE,))
        except RepriseError:
            continue  # reported with its row
        if modality not in takes:
            yield _not_for(where, name, modality)
    for index, check in enumerate(listed_in(raw, "checks")):
        if isinstance(check, dict):
            yield _not_for(f"checks[{index}].group", str(check.get("group")), modality)
    embed = raw.get("embed")
    if isinstance(embed, dict) and embed.get("bag"):
        yield Problem("embed.bag", f"{modality}s are embedded whole", embed["bag"], " Set it to null.")


def _not_for(where: str, name: str, modality: str) -> Problem:
    return Problem(where, f"this is made for images, and source.modality is {modality}", name, " Remove the row.")
