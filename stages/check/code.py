"""Fingerprints of the code of every stage: one file a stage, or one a row of the tables that choose plug-ins.

dvc.yaml makes each stage depend on its one file, so DVC runs a stage again exactly when the code that it can run
changed: not for a comment, not for another row's plug-in.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reprise.config.registry import module_of, names
from reprise.storage.atomic import write_json
from reprise.storage.fingerprint import fingerprint
from reprise.training.schedule import DEFAULT

# The module that each stage of dvc.yaml starts.
ENTRIES = {
    "ingest": "stages.ingest.__main__",
    "validate": "stages.validate.__main__",
    "shard": "stages.shard.__main__",
    "given_labels": "stages.mine.given",
    "features": "stages.mine.features",
    "mine": "stages.mine.__main__",
    "pretrain": "stages.pretrain.__main__",
    "embed": "stages.embed.__main__",
    "probe": "stages.probe.__main__",
    "probe_images": "stages.probe.on_images",
    "between": "stages.probe.between",
    "summary": "stages.summary.__main__",
    "report": "stages.report.__main__",
}


def modules_by_file(raw: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Name each file below data/code without its suffix, and the modules that the stage starts or looks up by name.

    Args:
        raw: the content of params.yaml, which has been checked.
    """

    def of(stage: str, *plug_ins: str) -> list[str]:
        return [ENTRIES[stage], *plug_ins]

    for stage in ("validate", "shard", "given_labels", "summary"):
        yield stage, of(stage)
    yield "ingest", of("ingest", module_of("sources", raw["source"]["name"]))
    for row in raw["features"]:
        yield f"features/{row['name']}", of("features", module_of("extractors", row["extractor"]))
    for row in raw["mines"]:
        yield f"mine/{row['name']}", of("mine", module_of("miners", row["miner"]))
    for row in raw["runs"]:
        yield f"pretrain/{row['name']}", of("pretrain", module_of("methods", row["method"]), _schedule(raw, row))
        yield f"embed/{row['name']}", of("embed")
    for table, stage in (("groups", "probe"), ("image_groups", "probe_images")):
        for row in raw.get(table) or []:
            suite = f"probes/{row['name']}"
            yield f"{stage}/{row['name']}", of(stage, *(module_of(suite, name) for name in raw["probes"][row["name"]]))
    between = (raw.get("between") or {}).get("probes") or {}
    yield "between", of("between", *(module_of("probes/between", name) for name in between))
    yield "report", of("report", *(module_of("sections", name) for name in names("sections")))


def _schedule(raw: dict[str, Any], row: dict[str, Any]) -> str:
    """The module of the learning-rate schedule that a run uses: its own, or the one of `train`."""
    own = (raw["methods"][row["name"]] or {}).get("schedule")
    return module_of("schedules", (own or raw["train"].get("schedule") or {"name": DEFAULT})["name"])


def write_fingerprints(raw: dict[str, Any], folder: Path) -> None:
    """Write the fingerprint of every stage of the graph into an empty folder."""
    for name, modules in modules_by_file(raw):
        write_json((folder / name).with_suffix(".json"), fingerprint(modules))
