"""Find every problem in params.yaml: in tables and sections, in the block of every row, and between them.

Sections and plug-ins are found by listing folders: `params.py` of a stage holds `SECTION` and the class
`<Section>Params`; a plug-in's file holds one class with an attribute `Params`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter, ValidationError

import stages
from reprise.config.errors import ParameterError, RepriseError
from reprise.config.params import BackboneName, Problem, StrictModel, problems_of
from reprise.config.registry import names, noun, suites
from reprise.config.shared_sections import OPTIONAL_SECTIONS, SHARED_SECTIONS
from reprise.config.suggest import nearest
from reprise.config.tables import NONE, TRUTH, FeaturesRow, MineRow, RunRow, SuiteRow, Tables
from stages.check.plug_ins import COMPARISON, base_class, plug_in_class, table_of_suite
from stages.check.rules.facts import fact_problems
from stages.check.rules.models import OPTIONS, trained_problems
from stages.check.rules.relations import relation_problems
from stages.check.shifts import shift_problems
from stages.check.starts import model_problems, start_problems

# Table: its row class, the field that names a plug-in, the section with one block per row, the kind of plug-in.
_PLUGGED: dict[str, tuple[type[StrictModel], str, str, str]] = {
    "features": (FeaturesRow, "extractor", "extractors", "extractors"),
    "mines": (MineRow, "miner", "mining", "miners"),
    "runs": (RunRow, "method", "methods", "methods"),
}
# Table of suites: the section with one block per row.
_SUITES = {"suites": "probes", "image_suites": "image_probes", "shift_suites": "shift_probes"}


def problems(raw: dict[str, Any]) -> list[Problem]:
    """Find everything that is wrong with `raw`, the content of params.yaml, in the order of its sections."""
    sections = known_sections()
    blocks = [section for _, _, section, _ in _PLUGGED.values()] + [*_SUITES.values(), OPTIONS]
    known = [*Tables.model_fields, *sections, *blocks]
    found = [
        Problem(str(key), "unknown section", _brief(raw[key]), nearest(key, known) or f" Known: {', '.join(known)}.")
        for key in raw
        if key not in known
    ]
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
    found += _probe_problems(raw)
    found += _comparison_problems(raw.get(COMPARISON))
    found += [*_fit_problems(raw, classes), *model_problems(raw), *trained_problems(raw, classes)]
    found += [*_start_problems(raw, classes), *shift_problems(raw), *fact_problems(raw, classes)]
    known_places = {(problem.path, problem.rule) for problem in found}
    return found + [problem for problem in relation_problems(raw) if (problem.path, problem.rule) not in known_places]


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
    plug_in, found = _plug_in("sources", block["name"], "source.name")
    return found + (_params_problems(plug_in, block.get("options", {}), "source.options") if plug_in else [])


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
    rows = _rows(raw, table, row_class)
    found = _repeated(table, [row["name"] for _, row in rows])
    blocks = raw.get(section)
    if not isinstance(blocks, dict):
        return [*found, Problem(section, "must hold one block per row of " + table, _brief(blocks), " Add it.")]
    row_names = [row["name"] for _, row in rows]
    found += [
        Problem(
            f"{section}.{key}",
            f"this block belongs to no row of '{table}'",
            _brief(value),
            nearest(key, row_names) or " Remove it.",
        )
        for key, value in blocks.items()
        if key not in row_names and len(rows) == len(_listed(raw, table))
    ]
    for index, row in rows:
        plug_in, unknown = _plug_in(kind, row[field], f"{table}[{index}].{field}")
        found += unknown
        where = f"{section}.{row['name']}"
        if row["name"] not in blocks:
            hint = f" Add `{row['name']}: {{}}`."
            found.append(Problem(where, f"row {index} of '{table}' has no block", None, hint))
        elif plug_in:
            classes[f"{table}.{row['name']}"] = plug_in
            found += _params_problems(plug_in, blocks[row["name"]], where)
        else:
            found += _shared_problems(kind, blocks[row["name"]], where)
    well_formed = [index for index, _ in rows]
    for index, row in enumerate(_listed(raw, table)):  # also the blocks of rows that are not well formed
        name = row.get("name") if isinstance(row, dict) else None
        if index not in well_formed and isinstance(name, str) and name in blocks:
            found += _shared_problems(kind, blocks[name], f"{section}.{name}")
    return found


def _probe_problems(raw: dict[str, Any]) -> list[Problem]:
    rows = {table: _rows(raw, table, SuiteRow) for table in _SUITES}
    found = _repeated("suites", [row["name"] for listed in rows.values() for _, row in listed])
    for table, section in _SUITES.items():
        blocks = raw.get(section, None if table == "suites" else {})
        if not isinstance(blocks, dict):
            rule = f"must hold one block per row of {table}"
            found.append(Problem(section, rule, _brief(blocks), " Add it."))
            continue
        listed = [row["name"] for _, row in rows[table]]
        found += [
            Problem(
                f"{section}.{key}",
                f"this block belongs to no row of '{table}'",
                _brief(value),
                nearest(key, listed) or " Remove it.",
            )
            for key, value in blocks.items()
            if key not in listed and len(listed) == len(_listed(raw, table))
        ]
        for index, row in rows[table]:
            found += _suite_problems(table, index, row["name"], blocks)
    return found


def _suite_problems(table: str, index: int, suite: str, blocks: dict[str, Any]) -> list[Problem]:
    """Check one row of a table of suites: the folder that it names, and the blocks of its probes."""
    section = _SUITES[table]
    folders = {name: table_of_suite(name) for name in suites() if name != COMPARISON}
    fitting = [name for name, place in folders.items() if place == table]
    if suite not in fitting:
        hint = nearest(suite, fitting) or f" Known: {', '.join(fitting)}."
        hint = f" It belongs in {folders[suite]}." if suite in folders else hint
        return [Problem(f"{table}[{index}].name", "no such folder of probes", suite, hint)]
    if not isinstance(blocks.get(suite), dict):
        hint = f" Add `{suite}: {{}}` with a block for each probe."
        return [Problem(f"{section}.{suite}", "must hold one block per probe", _brief(blocks.get(suite)), hint)]
    found: list[Problem] = []
    for probe, block in blocks[suite].items():
        where = f"{section}.{suite}.{probe}"
        probe_class, unknown = _plug_in(f"probes/{suite}", probe, where)
        found += unknown
        found += _params_problems(probe_class, block, where) if probe_class else []
    return found


def _comparison_problems(block: Any) -> list[Problem]:
    found: list[Problem] = []
    probes = block.get("probes") if isinstance(block, dict) else None
    for probe, params in probes.items() if isinstance(probes, dict) else ():
        where = f"{COMPARISON}.probes.{probe}"
        probe_class, unknown = _plug_in(f"probes/{COMPARISON}", probe, where)
        found += unknown
        found += _params_problems(probe_class, params, where) if probe_class else []
    return found


def _fit_problems(raw: dict[str, Any], classes: dict[str, type]) -> list[Problem]:
    """Check the tables against each other: names exist, methods that need labels have them, there is no circle."""
    features = [row["name"] for _, row in _rows(raw, "features", FeaturesRow)]
    mines = {row["name"]: row for _, row in _rows(raw, "mines", MineRow)}
    runs = {row["name"]: row for _, row in _rows(raw, "runs", RunRow)}
    found: list[Problem] = []
    if isinstance(raw.get("seeds"), list):
        found += _repeated("seeds", [repr(seed) for seed in raw["seeds"] if isinstance(seed, int)])
    for index, row in _rows(raw, "mines", MineRow):
        source, name = row["on"].split("/", 1)
        known, table = (features, "features") if source == "features" else (list(runs), "runs")
        if name not in known:
            found.append(
                Problem(
                    f"mines[{index}].on", f"no row of '{table}' is called '{name}'", row["on"], _choices(name, known)
                )
            )
    for index, row in _rows(raw, "runs", RunRow):
        where = f"runs[{index}].labels"
        if row["labels"] not in (NONE, TRUTH, *mines):
            rule = f"no row of 'mines' is called '{row['labels']}'"
            found.append(Problem(where, rule, row["labels"], _choices(row["labels"], [NONE, TRUTH, *mines])))
        elif row["labels"] == NONE and "clusters" in getattr(classes.get(f"runs.{row['name']}"), "needs", ()):
            hint = f" Name `{TRUTH}`, or a label set of `mines`."
            found.append(
                Problem(
                    where, f"the method '{row['method']}' needs a label set and this one is empty", row["labels"], hint
                )
            )
    found += [
        Problem(
            f"runs.{name}.labels",
            "a run cannot use labels that are mined on its own results",
            circle,
            " Break the circle.",
        )
        for name, circle in _circles(runs, mines)
    ]
    return found


def _start_problems(raw: dict[str, Any], classes: dict[str, type]) -> Iterable[Problem]:
    """Hold the runs against the table of weights that they start from."""
    blocks = raw.get("methods")
    runs = []
    for index, listed in enumerate(_listed(raw, "runs")):
        with suppress(ValidationError):
            row = RunRow.model_validate(listed)
            block = blocks.get(row.name) if isinstance(blocks, dict) else None
            runs.append((index, row, classes.get(f"runs.{row.name}"), block))
    return start_problems(raw, runs)


def _circles(runs: dict[str, Any], mines: dict[str, Any]) -> list[tuple[str, str]]:
    """List each circle once, as the run that it is reported at and the runs in their order."""
    before = {}  # run -> the run on whose embedding its labels are mined
    for name, row in runs.items():
        on = mines.get(row["labels"], {}).get("on", "")
        if on.startswith("embed/") and on.removeprefix("embed/") in runs:
            before[name] = on.removeprefix("embed/")
    circles: list[tuple[str, str]] = []
    reported: set[str] = set()
    for start in before:
        path = [start]
        while (earlier := before.get(path[-1])) is not None and earlier not in path:
            path.append(earlier)
        if earlier == start and start not in reported:
            reported.update(path)
            circles.append((start, " <- ".join([*path, start])))
    return circles


def _plug_in(kind: str, name: Any, where: str) -> tuple[type | None, list[Problem]]:
    """Return the class of the plug-in called `name`, or what is wrong with it."""
    try:
        known = names(kind)
        if name not in known:
            return None, [Problem(where, f"unknown {noun(kind)}", name, _choices(name, known))]
        return plug_in_class(kind, name, where), []
    except RepriseError as error:
        return None, [Problem(where, error.what, error.found, f" {error.fix}")]


def _params_problems(plug_in: type, block: Any, where: str) -> list[Problem]:
    """Find what is wrong with the block of a plug-in, and with values that the block asks for without holding them."""
    if not isinstance(block, dict):
        return [Problem(where, "must be a block of parameters", _brief(block), " Write `{}` for the defaults.")]
    model = plug_in.Params  # type: ignore[attr-defined]
    further = getattr(model, "recipe_problems", None)  # of methods: stages.pretrain.params.MethodParams
    return problems_of(model, block, where) + (further(block, where) if further else [])


def _shared_problems(kind: str, block: Any, where: str) -> list[Problem]:
    """Find what is wrong with the block of a plug-in that does not exist: keys that its whole kind shares count."""
    base: Any = base_class(kind)
    shared = {k: v for k, v in block.items() if k in base.Params.model_fields} if isinstance(block, dict) else block
    return _params_problems(base, shared, where)


def _listed(raw: dict[str, Any], table: str) -> list[Any]:
    value = raw.get(table)
    return value if isinstance(value, list) else []


def _rows(raw: dict[str, Any], table: str, row_class: type[StrictModel]) -> list[tuple[int, dict[str, Any]]]:
    """Return the well-formed rows with their index; the problems of the others are reported with the tables."""
    rows = []
    for index, row in enumerate(_listed(raw, table)):
        try:
            rows.append((index, row_class.model_validate(row).model_dump()))
        except ValidationError:
            continue
    return rows


def _repeated(table: str, entries: Sequence[str]) -> list[Problem]:
    return [
        Problem(
            table,
            "two rows may not have the same name" if table != "seeds" else "a seed may be listed only once",
            name,
            " Rename or remove one.",
        )
        for name, times in Counter(entries).items()
        if times > 1
    ]


def _choices(name: Any, known: Iterable[str]) -> str:
    known = list(known)
    return nearest(name, known) or f" Known: {', '.join(known) or 'none'}."


def _brief(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | type(None)) else type(value).__name__
