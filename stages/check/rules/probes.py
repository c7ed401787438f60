"""The tables and blocks of probes: suites on features, groups on images, and the comparison of all runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from reprise.config.errors import printable
from reprise.config.params import Problem
from reprise.config.plug_ins.registry import suites
from reprise.config.tables import CheckRow, SuiteRow
from reprise.config.texts.suggest import nearest
from stages.check.plug_ins import COMPARISON, table_of_suite
from stages.check.rows import brief, choices, find_plug_in, listed_in, params_problems, repeated, well_formed

# Table: the section with one block per suite or group.
SECTION_OF = {"suites": "probes", "checks": "image_probes", "shift_suites": "shift_probes"}
ALL = "all"  # what a person may write for every run or seed; `checks` has a row for each, so the rows are spelt out


def probe_problems(raw: dict[str, Any]) -> list[Problem]:
    """Check the tables of probes: repeated rows, unknown folders, runs and seeds, and the blocks of their probes."""
    checks = well_formed(raw, "checks", CheckRow)
    rows = {"suites": [(i, row["name"]) for i, row in well_formed(raw, "suites", SuiteRow)]}
    rows["checks"] = [(i, row["group"]) for i, row in checks]
    rows["shift_suites"] = [(i, row["name"]) for i, row in well_formed(raw, "shift_suites", SuiteRow)]
    found = repeated("suites", [name for table in ("suites", "shift_suites") for _, name in rows[table]])
    found += _check_problems(raw, checks)
    for table, listed in rows.items():
        section = SECTION_OF[table]
        blocks = raw.get(section, None if table == "suites" else {})
        if not isinstance(blocks, dict):
            rule = f"must hold one block per {'group' if table == 'checks' else 'row'} of {table}"
            found.append(Problem(section, rule, brief(blocks), " Add it."))
            continue
        known = [name for _, name in listed]
        found += [
            Problem(
                f"{section}.{key}",
                f"this block belongs to no row of '{table}'",
                brief(value),
                nearest(key, known) or " Remove it.",
            )
            for key, value in blocks.items()
            if key not in known and len(known) == len(listed_in(raw, table))
        ]
        for index, name in listed:
            found += _folder_problems(table, index, name, blocks)
    return list({(problem.path, problem.rule): problem for problem in found}.values())


def _check_problems(raw: dict[str, Any], rows: list[tuple[int, dict[str, Any]]]) -> list[Problem]:
    """Check the runs and seeds that `checks` names; say how the table of before, `image_suites`, is written now."""
    found = []
    if "image_suites" in raw:
        rule = "this table became 'checks', which has a row for each run, seed and group"
        groups = [row["name"] for row in listed_in(raw, "image_suites") if isinstance(row, dict) and "name" in row]
        rows_now = [_spelt_out(raw, ALL, ALL, group) for group in groups]
        hint = f" Remove it, and write `checks: [{', '.join(rows_now)}]`."
        found.append(Problem("image_suites", rule, brief(raw["image_suites"]), hint))
    for index, row in enumerate(listed_in(raw, "checks")):
        if isinstance(row, dict) and ALL in (row.get("run"), row.get("seed")):
            hint = f" Write: {_spelt_out(raw, row.get('run'), row.get('seed'), row.get('group'))}."
            found.append(Problem(f"checks[{index}]", "each run and seed has a row of its own", ALL, hint))
    runs, seeds = _names(raw), raw.get("seeds")
    for index, row in rows:
        if row["run"] not in (*runs, ALL):
            rule = f"no row of 'runs' or 'adapt' is called '{row['run']}'"
            found.append(Problem(f"checks[{index}].run", rule, row["run"], choices(row["run"], runs)))
        if isinstance(seeds, list) and row["seed"] not in seeds:
            hint = f" Known: {', '.join(map(str, seeds))}."
            found.append(Problem(f"checks[{index}].seed", "'seeds' does not list this seed", row["seed"], hint))
    words = [f"{row['run']}, seed {row['seed']}, {row['group']}" for _, row in rows]
    return found + [
        Problem("checks", "two rows may not ask for the same", name, " Remove one.")
        for name, times in Counter(words).items()
        if times > 1
    ]


def _spelt_out(raw: dict[str, Any], run: Any, seed: Any, group: Any) -> str:
    """Write the rows of `checks` that `run: all` or `seed: all` would mean."""
    seeds = raw.get("seeds")
    all_seeds = seeds if isinstance(seeds, list) else []
    return ", ".join(
        f"{{run: {printable(name)}, seed: {printable(number)}, group: {printable(group)}}}"
        for name in (_names(raw) if run == ALL else [run])
        for number in (all_seeds if seed == ALL else [seed])
    )


def _names(raw: dict[str, Any]) -> list[str]:
    """Name all rows of `runs` and `adapt`."""
    rows = [*listed_in(raw, "runs"), *listed_in(raw, "adapt")]
    return [row["name"] for row in rows if isinstance(row, dict) and isinstance(row.get("name"), str)]


def _folder_problems(table: str, index: int, suite: str, blocks: dict[str, Any]) -> list[Problem]:
    """Check the folder that a row of a table of probes names, and the blocks of its probes."""
    section = SECTION_OF[table]
    folders = {name: table_of_suite(name) for name in suites() if name != COMPARISON}
    fitting = [name for name, place in folders.items() if place == table]
    if suite not in fitting:
        hint = nearest(suite, fitting) or f" Known: {', '.join(fitting)}."
        hint = f" It belongs in {folders[suite]}." if suite in folders else hint
        field = "group" if table == "checks" else "name"
        return [Problem(f"{table}[{index}].{field}", "no such folder of probes", suite, hint)]
    if not isinstance(blocks.get(suite), dict):
        hint = f" Add `{suite}: {{}}` with a block for each probe."
        return [Problem(f"{section}.{suite}", "must hold one block per probe", brief(blocks.get(suite)), hint)]
    found: list[Problem] = []
    for probe, block in blocks[suite].items():
        where = f"{section}.{suite}.{probe}"
        probe_class, unknown = find_plug_in(f"probes/{suite}", probe, where)
        found += unknown
        found += params_problems(probe_class, block, where) if probe_class else []
    return found


def comparison_problems(block: Any) -> list[Problem]:
    """Check the probes that compare all runs."""
    found: list[Problem] = []
    probes = block.get("probes") if isinstance(block, dict) else None
    for probe, params in probes.items() if isinstance(probes, dict) else ():
        where = f"{COMPARISON}.probes.{probe}"
        probe_class, unknown = find_plug_in(f"probes/{COMPARISON}", probe, where)
        found += unknown
        found += params_problems(probe_class, params, where) if probe_class else []
    return found
