"""Find every problem in params.yaml: in tables and sections, in the block of every row, and between them.

Sections and plug-ins are found by listing folders: `params.py` of a stage holds `SECTION` and the class
`<Section>Params`; a plug-in's file holds one class with an attribute `Params`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter, ValidationError

import stages
from reprise.config.errors import ParameterError, RepriseError
from reprise.config.params import BackboneName, Problem, StrictModel, problems_of
from reprise.config.shared_sections import OPTIONAL_SECTIONS, SHARED_SECTIONS
from reprise.config.tables import NONE, TRUTH, AdaptRow, AnyRun, FeaturesRow, MineRow, RunRow, Tables
from reprise.config.texts.suggest import nearest
from stages.check.plug_ins import COMPARISON
from stages.check.rows import (
    brief,
    choices,
    find_plug_in,
    listed_in,
    params_problems,
    repeated,
    shared_problems,
    well_formed,
)
from stages.check.rules.facts import fact_problems
from stages.check.rules.modality import modality_problems
from stages.check.rules.models import OPTIONS, trained_problems
from stages.check.rules.order import circle_problems
from stages.check.rules.probes import SECTION_OF, comparison_problems, probe_problems
from stages.check.rules.relations import relation_problems
from stages.check.rules.taps import tap_problems
from stages.check.shifts import shift_problems
from stages.check.starts import model_problems, start_problems

# Table: its row class, the field that names a plug-in, the section with one block per row, the kind of plug-in.
_PLUGGED: dict[str, tuple[type[StrictModel], str, str, str]] = {
    "features": (FeaturesRow, "extractor", "extractors", "extractors"),
    "mines": (MineRow, "miner", "mining", "miners"),
    "runs": (RunRow, "method", "methods", "methods"),
    "adapt": (AdaptRow, "method", "methods", "methods"),
}
# Tables that dvc.yaml expands: they must be there, if only empty.
_NEEDED_BY_DVC = ("adapt", "checks", "shifts", "shift_suites")


def problems(raw: dict[str, Any]) -> list[Problem]:
    """Find everything that is wrong with `raw`, the content of params.yaml, in the order of its sections."""
    sections = known_sections()
    blocks = [*(section for _, _, section, _ in _PLUGGED.values()), *SECTION_OF.values(), OPTIONS]
    known = list(dict.fromkeys([*Tables.model_fields, *sections, *blocks]))
    found = [
        Problem(str(key), "unknown section", brief(raw[key]), nearest(key, known) or f" Known: {', '.join(known)}.")
        for key in raw
        if key not in (*known, "image_suites")
    ]
    found += [Problem(t, "missing table", None, f" Add `{t}: []`.") for t in _NEEDED_BY_DVC if t not in raw]
    found += problems_of(Tables, {key: raw[key] for key in Tables.model_fields if key in raw}, "")
    for name, model in sections.items():
        if name in raw:
            found += problems_of(model, raw[name], name)
        elif name not in OPTIONAL_SECTIONS:
            found.append(Problem(name, "missing section", None, " Start from the params.yaml of the repository."))
    found += _source_problems(raw.get("source"))
    found += _backbone_problems("train", raw.get("train"))
    blocks_of_runs = raw.get("methods")
    for name, block in blocks_of_runs.items() if isinstance(blocks_of_runs, dict) else ():
        found += _backbone_problems(f"methods.{name}", block)
    classes: dict[str, type] = {}
    for table in _PLUGGED:
        found += _block_problems(raw, table, classes)
    found += probe_problems(raw)
    found += comparison_problems(raw.get(COMPARISON))
    found += [*_fit_problems(raw, classes), *model_problems(raw), *trained_problems(raw, classes)]
    found += [*_start_problems(raw, classes), *shift_problems(raw), *fact_problems(raw, classes)]
    found += tap_problems(raw, classes)
    known_places = {(problem.path, problem.rule) for problem in found}
    between = [*modality_problems(raw), *relation_problems(raw)]  # may meet what a section or row has reported
    return found + [problem for problem in between if (problem.path, problem.rule) not in known_places]


def known_sections() -> dict[str, type[StrictModel]]:
    """Return the class of each section of params.yaml: those of the stages, and the shared ones.

    Raises:
        ParameterError: params.py of a stage does not name its section and class as agreed.
    """
    sections: dict[str, type[StrictModel]] = dict(SHARED_SECTIONS)
    for stage in pkgutil.iter_modules(stages.__path__):
        if not stage.ispkg:
            continue
        package = importlib.import_module(f"stages.{stage.name}")
        if "params" not in [module.name for module in pkgutil.iter_modules(package.__path__)]:
            continue
        module = importlib.import_module(f"stages.{stage.name}.params")
        name = getattr(module, "SECTION", None)
        wanted = f"{name}params".replace("_", "")
        fitting = [c for n, c in inspect.getmembers(module, inspect.isclass) if n.lower() == wanted]
        if name is None or len(fitting) != 1 or not issubclass(fitting[0], StrictModel):
            raise ParameterError(
                "params.py of a stage must hold SECTION and one StrictModel named after it",
                where=module.__name__,
                found=f"SECTION = {name!r}, {len(fitting)} fitting classes",
                fix="Name the class after the section: SECTION = 'shard' and class ShardParams.",
            )
        sections[name] = fitting[0]
    return sections


def _source_problems(block: Any) -> list[Problem]:
    if not isinstance(block, dict) or not isinstance(block.get("name"), str):
        return []
    plug_in, found = find_plug_in("sources", block["name"], "source.name")
    return found + (params_problems(plug_in, block.get("options", {}), "source.options") if plug_in else [])


def _backbone_problems(section: str, block: Any) -> list[Problem]:
    """Report an unknown backbone; timm is imported and asked only about names that no plug-in has."""
    try:
        name = TypeAdapter(BackboneName).validate_python(block.get("backbone") if isinstance(block, dict) else None)
    except ValidationError:
        return []  # reported with the section
    from reprise.networks.backbone import backbone_named

    try:
        backbone_named(name)
    except RepriseError as error:
        return [Problem(f"{section}.backbone", error.what, error.found, f" {error.fix}")]
    return []


def _block_problems(raw: dict[str, Any], table: str, classes: dict[str, type]) -> list[Problem]:
    """Check one table: repeated names, unknown plug-ins, blocks without a row, rows without a block, the blocks."""
    row_class, field, section, kind = _PLUGGED[table]
    rows = well_formed(raw, table, row_class)
    found = repeated(table, [row["name"] for _, row in rows])
    blocks = raw.get(section)
    if not isinstance(blocks, dict):
        return [*found, Problem(section, "must hold one block per row of " + table, brief(blocks), " Add it.")]
    found += _lone_blocks(raw, table, blocks)
    for index, row in rows:
        plug_in, unknown = find_plug_in(kind, row[field], f"{table}[{index}].{field}")
        found += unknown
        where = f"{section}.{row['name']}"
        if row["name"] not in blocks:
            hint = f" Add `{row['name']}: {{}}`."
            found.append(Problem(where, f"row {index} of '{table}' has no block", None, hint))
        elif plug_in:
            classes[f"{table}.{row['name']}"] = plug_in
            found += params_problems(plug_in, blocks[row["name"]], where)
        else:
            found += shared_problems(kind, blocks[row["name"]], where)
    right = [index for index, _ in rows]
    for index, row in enumerate(listed_in(raw, table)):  # also the blocks of rows that are not well formed
        name = row.get("name") if isinstance(row, dict) else None
        if index not in right and isinstance(name, str) and name in blocks:
            found += shared_problems(kind, blocks[name], f"{section}.{name}")
    return found


def _lone_blocks(raw: dict[str, Any], table: str, blocks: dict[str, Any]) -> list[Problem]:
    """Find blocks that belong to no row of the tables whose blocks stand in one section; the first table reports."""
    section = _PLUGGED[table][2]
    owners = [name for name, (_, _, other, _) in _PLUGGED.items() if other == section]
    rows = {name: well_formed(raw, name, _PLUGGED[name][0]) for name in owners}
    if table != owners[0] or any(len(found) < len(listed_in(raw, name)) for name, found in rows.items()):
        return []
    names_of_rows = [row["name"] for found in rows.values() for _, row in found]
    rule = f"this block belongs to no row of {' or '.join(repr(name) for name in owners)}"
    return [
        Problem(f"{section}.{key}", rule, brief(value), nearest(key, names_of_rows) or " Remove it.")
        for key, value in blocks.items()
        if key not in names_of_rows
    ]


def _fit_problems(raw: dict[str, Any], classes: dict[str, type]) -> list[Problem]:
    """Check the tables against each other: names exist, methods that need labels have them, there is no circle."""
    features = [row["name"] for _, row in well_formed(raw, "features", FeaturesRow)]
    mines = {row["name"]: row for _, row in well_formed(raw, "mines", MineRow)}
    trained = [
        (table, index, row)
        for table, model in (("runs", RunRow), ("adapt", AdaptRow))
        for index, row in well_formed(raw, table, model)
    ]
    runs = {row["name"]: row for _, _, row in trained}
    found: list[Problem] = []
    if isinstance(raw.get("seeds"), list):
        found += repeated("seeds", [repr(seed) for seed in raw["seeds"] if isinstance(seed, int)])
    for index, row in well_formed(raw, "mines", MineRow):
        source, name = row["on"].split("/", 1)
        known, table = (features, "features") if source == "features" else (list(runs), "runs")
        if name not in known:
            rule = f"no row of '{table}' is called '{name}'"
            found.append(Problem(f"mines[{index}].on", rule, row["on"], choices(name, known)))
    first = {row["name"]: table for table, _, row in reversed(trained)}
    for table, index, row in trained:
        where, labels = f"{table}[{index}]", row["labels"]
        if labels not in (NONE, TRUTH, *mines):
            rule = f"no row of 'mines' is called '{labels}'"
            found.append(Problem(f"{where}.labels", rule, labels, choices(labels, [NONE, TRUTH, *mines])))
        elif labels == NONE and "clusters" in getattr(classes.get(f"{table}.{row['name']}"), "needs", ()):
            rule = f"the method '{row['method']}' needs a label set and this one is empty"
            found.append(Problem(f"{where}.labels", rule, labels, f" Name `{TRUTH}`, or a label set of `mines`."))
        if table == "adapt" and first[row["name"]] == "runs":
            rule = "a row of 'runs' has this name already"
            found.append(Problem(f"{where}.name", rule, row["name"], " Rename one of them."))
        parent = row["start"].removeprefix("runs/")
        if table == "adapt" and parent not in runs:
            rule = f"no row of 'runs' or 'adapt' is called '{parent}'"
            found.append(Problem(f"{where}.from", rule, row["start"], choices(parent, list(runs))))
    return [*found, *circle_problems(runs, mines)]


def _start_problems(raw: dict[str, Any], classes: dict[str, type]) -> Iterable[Problem]:
    """Hold the runs against the weights that they start from."""
    blocks = raw.get("methods")
    runs: list[tuple[str, AnyRun, Any, Any]] = []
    for table, model in (("runs", RunRow), ("adapt", AdaptRow)):
        for index, listed in enumerate(listed_in(raw, table)):
            with suppress(ValidationError):
                row = model.model_validate(listed)
                block = blocks.get(row.name) if isinstance(blocks, dict) else None
                runs.append((f"{table}[{index}]", row, classes.get(f"{table}.{row.name}"), block))
    return start_problems(raw, runs)
