"""Fingerprints of the code of every stage: one file a stage, or one a row of the tables that choose plug-ins.

dvc.yaml makes each stage depend on its one file, so DVC runs a stage again exactly when the code that it can run
changed: not for a comment, not for another row's plug-in.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reprise.artifacts.layout import READS
from reprise.artifacts.models import architecture_of
from reprise.config.plug_ins.registry import module_of, names
from reprise.config.tables import RANDOM
from reprise.storage.atomic import write_json
from reprise.storage.code.fingerprint import fingerprint
from reprise.training.params import TrainParams
from reprise.training.views import changes_named
from stages.check.plug_ins import plug_in_class
from stages.check.rules.modality import modality_of_source
from stages.check.rules.models import modules_of_trained
from stages.check.shifts import shifts_of
from stages.check.starts import as_started, models_of

# The module that each stage of dvc.yaml starts.
ENTRIES = {
    "ingest": "stages.ingest.__main__",
    "validate": "stages.validate.__main__",
    "shard": "stages.shard.__main__",
    "facts": "stages.facts.__main__",
    "given_labels": "stages.mine.given",
    "features": "stages.mine.features",
    "mine": "stages.mine.__main__",
    "models": "stages.models.__main__",
    "train_models": "stages.models.train",
    "pretrain": "stages.pretrain.__main__",
    "adapt": "stages.pretrain.__main__",
    "embed": "stages.embed.__main__",
    "shift_images": "stages.ingest.shift_images",
    "embed_shift": "stages.embed.on_shift",
    "probe": "stages.probe.__main__",
    "probe_images": "stages.probe.on_images",
    "probe_shifts": "stages.probe.on_shifts",
    "representations": "stages.probe.representations",
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

    for stage in ("validate", "shard", "facts", "given_labels", "summary"):
        yield stage, of(stage)
    yield "ingest", of("ingest", module_of("sources", raw["source"]["name"]))
    for row in raw["features"]:
        extractor = module_of("extractors", row["extractor"])
        yield f"features/{row['name']}", of("features", extractor, *_looked_up(raw, row))
    for row in raw["mines"]:
        yield f"mine/{row['name']}", of("mine", module_of("miners", row["miner"]))
    yield "models", of("models", *sorted({module_of("backbones", architecture_of(model)) for model in models_of(raw)}))
    yield "train_models", of("train_models", *sorted({m for found in modules_of_trained(raw).values() for m in found}))
    adapted = raw.get("adapt") or []
    backbones = {row["name"]: _backbone(raw, row) for row in (*raw["runs"], *adapted)}
    for stage, rows in (("pretrain", raw["runs"]), ("adapt", adapted)):
        for row in rows:
            method, backbone = module_of("methods", row["method"]), backbones[row["name"]]
            looked_up = [_schedule(raw, row), *_changes(raw, row), *_watches(raw, row)]
            yield f"{stage}/{row['name']}", of(stage, method, backbone, *looked_up)
            yield f"embed/{row['name']}", of("embed", backbone)
    for shift in shifts_of(raw):
        elsewhere = [module_of("sources", shift.shift)] if shift.is_source else []
        yield f"shift_images/{shift.name}", of("shift_images", *elsewhere)
        changes = [] if shift.is_source else [module_of("shifts", shift.shift)]
        yield f"embed_shift/{shift.name}", of("embed_shift", *changes, *sorted(set(backbones.values())))
    suites = [row["name"] for row in raw["suites"]]
    yield "probe", of("probe", *(module for suite in suites for module in _suite(suite, raw["probes"][suite])))
    for suite in dict.fromkeys(row["group"] for row in raw.get("checks") or []):
        trained = sorted(set(backbones.values()))  # one file for all runs
        yield f"probe_images/{suite}", of("probe_images", *_suite(suite, raw["image_probes"][suite]), *trained)
    for suite in [row["name"] for row in raw.get("shift_suites") or []]:
        yield f"probe_shifts/{suite}", of("probe_shifts", *_suite(suite, raw["shift_probes"][suite]))
    compared = (raw.get("representations") or {}).get("probes")
    yield "representations", of("representations", *_suite("representations", compared))
    yield "report", of("report", *(module_of("sections", name) for name in names("sections")))


def _suite(suite: str, probes: dict[str, Any] | None) -> list[str]:
    """The modules of the probes of a suite that params.yaml names."""
    return [module_of(f"probes/{suite}", name) for name in probes or ()]


def _looked_up(raw: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """The modules of the plug-ins of other kinds that an extractor looks up by name."""
    extractor_class: Any = plug_in_class("extractors", row["extractor"])
    params = extractor_class.Params.model_validate((raw.get("extractors") or {}).get(row["name"], {}))
    model = extractor_class.model_of(params)
    return [*extractor_class.modules(params), *(modules_of_trained(raw)[model] if model is not None else ())]


def _backbone(raw: dict[str, Any], row: dict[str, Any]) -> str:
    """The module of the backbone that a run trains: the method's own, the run's, or the one of `train`."""
    method_class: Any = plug_in_class("methods", row["method"])
    own = method_class.own_backbone(_method_params(raw, row))
    return module_of("backbones", own[0] if own else _train(raw, row).backbone)


def _method_params(raw: dict[str, Any], row: dict[str, Any]) -> Any:
    """The typed parameters of a run's method."""
    method_class: Any = plug_in_class("methods", row["method"])
    return method_class.Params.model_validate(raw["methods"][row["name"]])


def _schedule(raw: dict[str, Any], row: dict[str, Any]) -> str:
    """The module of the learning-rate schedule that a run uses: its own, its recipe's, or the one of `train`."""
    return module_of("schedules", _train(raw, row).schedule.name)


def _changes(raw: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """The modules of the changes of which a run's views are made."""
    modality = modality_of_source(raw)
    return [module_of("changes", name) for name in changes_named(_train(raw, row).views, modality)]


def _watches(raw: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """The modules of the watches that look at a run's training."""
    return [module_of("watches", params.name) for params in _train(raw, row).watches]


def _train(raw: dict[str, Any], row: dict[str, Any]) -> TrainParams:
    """The section `train` with what a run replaces of it."""
    params: TrainParams = _method_params(raw, row).applied_to(TrainParams.model_validate(raw["train"]))
    return as_started(params, row.get("from", RANDOM), raw)


def write_fingerprints(raw: dict[str, Any], folder: Path) -> None:
    """Write the fingerprint of every stage of the graph into an empty folder, and which facts each run's method reads.

    The stage `facts` chooses by the latter what a run may see, without importing any method.
    """
    for name, modules in modules_by_file(raw):
        write_json((folder / name).with_suffix(".json"), fingerprint(modules))
    write_json(
        folder / READS.name, {row["name"]: _reads(raw, row) for row in (*raw["runs"], *(raw.get("adapt") or []))}
    )


def _reads(raw: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """The names of the facts that a run's method reads."""
    method_class: Any = plug_in_class("methods", row["method"])
    return list(method_class.facts_read(_method_params(raw, row)))
