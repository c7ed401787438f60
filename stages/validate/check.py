"""The suite of expectations, run by Great Expectations, with a verdict that is the same for the same data.

The context is ephemeral (a file context writes random ids), telemetry is off, and neither times nor ids reach
the verdict. The suite is data: stages/validate/suite.json, with thresholds (`$name`) from params.yaml.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from reprise.config.errors import ValidationFailed, listed
from reprise.storage.progress import Progress
from stages.validate.facts import EXAMPLES, Facts
from stages.validate.params import SECTION, ValidateParams

SUITE = Path(__file__).with_name("suite.json")
FAILED = Path(".reprise/validation_failed.json")
VERDICT = "validation.json"
PASSED = "passed.json"
TABLES = {"images": "key", "classes": "label", "totals": "train_images"}  # table -> the column that names a row


def load_suite(params: ValidateParams, labelled: bool) -> list[dict[str, Any]]:
    """Load the expectations that apply, with their thresholds filled in.

    Args:
        params: the thresholds.
        labelled: whether any image has a label; without labels the expectations about them are left out.
    """
    thresholds = params.model_dump()
    entries = [e for e in json.loads(SUITE.read_text(encoding="utf-8")) if labelled or e.get("needs") != "labels"]
    for entry in entries:
        entry["kwargs"] = {
            k: thresholds[v[1:]] if isinstance(v, str) and v.startswith("$") else v for k, v in entry["kwargs"].items()
        }
    return entries


def check(facts: Facts, params: ValidateParams) -> list[dict[str, Any]]:
    """Check every expectation of the suite.

    Args:
        facts: the tables that the expectations are about.
        params: the thresholds.

    Returns:
        in the suite's order, {expectation, says, table, column, severity, success, observed, threshold, examples}.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when great_expectations is imported
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_pandas("reprise")
    entries = load_suite(params, facts.labelled)
    verdicts: dict[int, dict[str, Any]] = {}
    with Progress("validate", len(entries), "expectations") as progress:
        for table in TABLES:
            chosen = {number: entry for number, entry in enumerate(entries) if entry["table"] == table}
            if not chosen:
                continue
            checkpoint = context.checkpoints.add(_checkpoint(context, source, table, chosen))
            outcome = checkpoint.run(batch_parameters={"dataframe": facts.table(table)})
            for result in next(iter(outcome.run_results.values())).results:
                number = result.expectation_config.meta["number"]
                verdicts[number] = _verdict(entries[number], result.to_json_dict(), facts)
            progress.advance(len(chosen))
    return [verdicts[number] for number in range(len(entries))]


def _checkpoint(context: Any, source: Any, table: str, chosen: dict[int, dict[str, Any]]) -> Any:
    """Make the checkpoint of one table.

    Args:
        context: of Great Expectations.
        source: its pandas data source.
        table: name of the table.
        chosen: place in the suite -> entry, for the entries about this table; results carry the place with them.
    """
    import great_expectations as gx
    from great_expectations.expectations.registry import get_expectation_impl

    expectations = [
        get_expectation_impl(entry["type"])(**entry["kwargs"], meta={"number": number, "says": entry["says"]})
        for number, entry in chosen.items()
    ]
    suite = context.suites.add(gx.ExpectationSuite(name=table, expectations=expectations))
    batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("all")
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=table, data=batch, suite=suite))
    form = {
        "result_format": "SUMMARY",
        "partial_unexpected_count": EXAMPLES,
        "unexpected_index_column_names": [TABLES[table]],
    }
    return gx.Checkpoint(name=table, validation_definitions=[definition], result_format=form)


def _verdict(entry: dict[str, Any], result: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """Reduce a result to the entries that are the same in every run on the same data."""
    problem = result["exception_info"]
    if problem.get("raised_exception"):
        raise RuntimeError(
            f"expectation {entry['type']} of {entry['kwargs']} cannot be computed: {problem.get('exception_message')}"
        )
    table, column = entry["table"], entry["kwargs"].get("column")
    details = result["result"]
    examples: list[str] = []
    if not result["success"]:
        rows = [str(row[TABLES[table]]) for row in details.get("partial_unexpected_index_list", [])]
        if table == "images":
            examples = rows[:EXAMPLES]
        elif table == "classes":
            examples = [key for label in rows for key in facts.keys_of(label)][:EXAMPLES]
        elif column == "quarantined_share":
            examples = facts.refused
    return {
        "expectation": entry["type"],
        "says": entry["says"],
        "table": table,
        "column": column,
        "severity": entry["severity"],
        "success": bool(result["success"]),
        "observed": _observed(entry, details, facts),
        "threshold": {k: v for k, v in entry["kwargs"].items() if k != "column"},
        "examples": examples,
    }


def _observed(entry: dict[str, Any], details: dict[str, Any], facts: Facts) -> Any:
    """Give the observed value: the total, the smallest class, or the number of images that do not meet it."""
    column = entry["kwargs"].get("column")
    if entry["table"] == "totals":
        value = facts.totals[column].iloc[0].item()
        return round(value, 6) if isinstance(value, float) else value
    if entry["table"] == "classes":
        smallest = facts.classes.sort_values(["train_images", "label"]).iloc[0]
        return {"label": smallest["label"], column: int(smallest[column])}
    if column is None:
        return details["observed_value"]
    return {"rows": details["element_count"], "unexpected": details["unexpected_count"]}


def require(verdicts: list[dict[str, Any]], where: Path) -> None:
    """Stop the graph when an expectation of level error fails.

    Args:
        verdicts: from `check`.
        where: the file that holds all verdicts, for the message.

    Raises:
        ValidationFailed: it names each failed expectation, the value observed, the limit, and example keys.
    """
    failed = [v for v in verdicts if v["severity"] == "error" and not v["success"]]
    if not failed:
        return
    lines = []
    thresholds = _thresholds()
    for verdict in failed:
        name = verdict["expectation"] + (f"({verdict['column']})" if verdict["column"] else "")
        examples = f"; for example {', '.join(verdict['examples'])}" if verdict["examples"] else ""
        observed, allowed = (json.dumps(verdict[k], ensure_ascii=False) for k in ("observed", "threshold"))
        lines.append(f"expected that {verdict['says']}: {name} observed {observed}, allowed {allowed}{examples}")
    raise ValidationFailed(
        f"the data do not meet {len(failed)} expectation{'s' if len(failed) > 1 else ''}",
        where=where,
        found=listed(lines),
        fix=f"{_fix([thresholds[v['says']] for v in failed if v['says'] in thresholds])}; all verdicts are in {where}.",
    )


def _thresholds() -> dict[str, str]:
    """Return what an expectation of the suite says -> the parameter that holds its limit, where one does."""
    return {
        entry["says"]: value[1:]
        for entry in json.loads(SUITE.read_text(encoding="utf-8"))
        for value in entry["kwargs"].values()
        if isinstance(value, str) and value.startswith("$")
    }


def _fix(names: list[str]) -> str:
    """Say what can be done: correct the data, or move these limits, which may not stand in params.yaml yet."""
    moves = [f"{'lower' if name.startswith('min_') else 'raise'} {SECTION}.{name}" for name in names]
    return f"Correct the data, or {' and '.join(moves)} in params.yaml" if moves else "Correct the data"
