"""`python -m stages.summary`: compare all runs, and write data/summary and metrics.json."""

from __future__ import annotations

import argparse

from reprise.artifacts.layout import METRICS, SUMMARY
from reprise.config.params import read_yaml, section
from reprise.config.tables import tables
from reprise.runtime.entry import run_stage
from stages.summary.params import SECTION, SummaryParams


def main(argv: list[str]) -> None:
    """Read the results, compare them and write the tables."""
    argparse.ArgumentParser(prog="python -m stages.summary", description=__doc__).parse_args(argv)
    raw = read_yaml()
    params, rows = section(raw, SECTION, SummaryParams), tables(raw)

    from reprise.storage.atomic import atomic_directory, dump_json, write_json
    from stages.summary.comparison import classification_probe, comparison
    from stages.summary.gather import gather
    from stages.summary.tables import confusion_csv, curves_csv, nested_means, table_csv, watches_csv

    suites = [f"features/{suite.name}" for suite in rows.suites]
    checks = [(check.run, check.seed, f"images/{check.group}") for check in rows.checks]
    shift_suites = [suite.name for suite in rows.shift_suites]
    results = gather([run.name for run in rows.trained], rows.seeds, suites, shift_suites, checks)
    texts = {
        "comparison.json": dump_json(comparison(results, params)),
        "table.csv": table_csv(results),
        "curves.csv": curves_csv(results),
        "confusion.csv": confusion_csv(results, classification_probe(results, params.family)),
    }
    if (watched := watches_csv(results)) is not None:  # without watches the folder is what it was
        texts["watches.csv"] = watched
    with atomic_directory(SUMMARY) as folder:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
    write_json(METRICS, nested_means(results))


if __name__ == "__main__":
    run_stage(main)
