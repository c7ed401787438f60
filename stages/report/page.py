"""From gathered artifacts to the bytes of index.html: one self-contained page, the same bytes for the same artifacts.

Nothing that comes from the data can run: jinja2 escapes it, JSON inside <script> is escaped, and a content security
policy allows only the page's own style and script (by hash), data URIs as pictures, provenance.js, and no network.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from reprise.artifacts.manifest import SPLITS
from stages.report import between, sections_data, sections_pictures, sections_runs
from stages.report.between import Between
from stages.report.comparison import Comparison, how_tested, outcome
from stages.report.gather_data import DataPart
from stages.report.gather_runs import LabelSet, Run
from stages.report.lineage import Input
from stages.report.text import embedded_json, finalized, metric_title, number, shown
from stages.report.thumbnails import Album

TEMPLATES = Path(__file__).parent / "templates"
_CONTENTS = (
    ("data", "Data"),
    ("clusters", "Clusters"),
    ("runs", "Runs"),
    ("curves", "Training"),
    ("batches", "Guided batches"),
    ("map", "Embedding map"),
    ("neighbours", "Neighbours"),
    ("between", "Between runs"),
    ("confusion", "Confusion"),
    ("parameters", "Parameters"),
    ("lineage", "Lineage"),
)


@dataclass(frozen=True)
class Artifacts:
    """Everything that the page is made from."""

    data: DataPart
    label_sets: tuple[LabelSet, ...]
    runs: tuple[Run, ...]
    comparison: Comparison | None
    inputs: tuple[Input, ...]
    album: Album
    between: Between | None = None


def render(artifacts: Artifacts, wanted_samples: int) -> bytes:
    """The page in UTF-8."""
    script, style = (
        (TEMPLATES / "page.js").read_text(encoding="utf-8"),
        (TEMPLATES / "page.css").read_text(encoding="utf-8"),
    )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=finalized,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown, "number": number, "metric_title": metric_title}
    values = _values(artifacts, wanted_samples)
    page = environment.get_template("page.html.jinja").render(
        **values,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=policy(script, style),
        contents=_CONTENTS,
    )
    return page.encode("utf-8", "backslashreplace")


def policy(script: str, style: str) -> str:
    """The content security policy: our style and script by hash, provenance.js beside the page, no network."""
    return (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)} 'self' file:; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _values(artifacts: Artifacts, wanted_samples: int) -> dict[str, Any]:
    data, runs, comparison = artifacts.data, artifacts.runs, artifacts.comparison
    labels = data.images.labels if data.images else {}
    classes = data.images.classes if data.images else ()
    family = comparison.family if comparison else "knn.top1"
    intervals = comparison.intervals if comparison else {}
    maps = sections_pictures.maps(runs, labels, classes, artifacts.label_sets, artifacts.album)
    sprite = maps.sprite if maps else None
    checks = data.checks or ()
    metrics = sections_runs.metric_names(runs, family)
    saw_labels = sections_data.saw_labels(artifacts.label_sets, runs)
    return {
        "title": data.dataset.name if data.dataset else "Unnamed data set",
        "outcome": outcome(comparison, runs, family),
        "header_facts": header_facts(data, runs),
        "data": data,
        "size_words": sections_data.size_words(data.images),
        "refused_share": sections_data.refused_share(data),
        "balance": sections_data.balance(data.images),
        "failed_errors": sum(not c.passed and c.level == "error" for c in checks),
        "failed_warnings": sum(not c.passed and c.level != "error" for c in checks),
        "samples": sections_data.samples(data, artifacts.album, wanted_samples),
        "clusters": sections_data.cluster_sections(artifacts.label_sets, runs),
        "table": runs,
        "family": family,
        "family_chart": sections_runs.family_chart(runs, family, intervals),
        "interval_words": interval_words(runs),
        "metric_tables": [
            (title, names, sections_runs.table(runs, names, intervals, saw_labels))
            for title, names in sections_runs.metric_tables(metrics, family)
        ],
        "comparison": comparison,
        "how_tested": how_tested(comparison),
        "budgets": sections_runs.budgets(runs),
        "curves": sections_runs.curves(runs),
        "without_history": [run.name for run in runs if not any(seed.history for seed in run.seeds)],
        "batches": sections_runs.guided_batches(runs),
        "maps": maps,
        "queries": sections_pictures.queries(runs, labels, artifacts.album),
        "between": between.sections(artifacts.between),
        "confusions": sections_pictures.confusions(runs, classes),
        "parameters": sections_runs.parameter_rows(runs),
        "protocol": sections_runs.protocol_rows(runs),
        "run_names": [run.name for run in runs],
        "inputs": artifacts.inputs,
        "map_data": embedded_json(
            {
                "names": maps.names if maps else (),
                "sprite": {"uri": sprite.picture.uri, "side": sprite.side, "columns": sprite.columns}
                if sprite
                else None,
            }
        ),
    }


def header_facts(data: DataPart, runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """(title, value, remark) for the strip under the outcome."""
    images = data.images
    counts = [(split, number(images.counts.get(split, 0)), "images") for split in SPLITS] if images else []
    classes = (
        [("classes", number(len(images.classes)), "")]
        if images and images.classes
        else [("classes", "none", "no labels")]
    )
    refused = data.dataset.quarantined if data.dataset else None
    seeds = sorted({seed.seed for run in runs for seed in run.seeds})
    return [
        *counts,
        *classes,
        ("refused", number(refused), "files"),
        ("runs", number(len(runs)), ""),
        ("seeds", number(len(seeds)), ", ".join(map(str, seeds[:10]))),
    ]


def interval_words(runs: Sequence[Run]) -> str:
    """What the brackets mean here."""
    if max((len(run.seeds) for run in runs), default=0) > 1:
        return (
            "A dot is the mean over seeds, a ring one seed, a bar the interval over test examples of that mean. "
            "The bar does not hold what seeds add: only the verdicts below settle a comparison."
        )
    return (
        "One seed: a bar is the interval over test examples. It says how well this model is measured, not how much "
        "another seed would differ. Intervals that overlap do not settle a comparison: the verdicts below do."
    )
