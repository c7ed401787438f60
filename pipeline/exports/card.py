"""The model card of an exported backbone: what it is, what it was trained on, how well it does, and where it is from.

Everything in it is read from artifacts. What is not known is left out, not guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reprise.artifacts import layout
from reprise.artifacts.results import METRICS
from reprise.config.errors import printable
from reprise.storage.provenance import revision, versions

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")
_TOLD = (
    *("labels", "epochs", "images_seen", "crops_seen", "batch_size_used"),
    *("precision", "device", "backbone_parameters", "started_from"),
)  # of config.json


@dataclass(frozen=True)
class Known:
    """What a card may say besides the run's own configuration.

    Attributes:
        run: name and seed of the run, or the folder that it was exported from.
        dataset: data/ingest/dataset.json; empty where there is no project.
        metrics: {probe: {metric: figure}} of this run and seed, figures with `value`, `low`, `high`, `n`.
        verdicts: sentences of the summary that concern this run.
        lineage: what -> value when the card is written: revision, digest of the source, version of Reprise.
        old: why the project's results are not those of its present parameters, data and code, as a clause; empty where
            they are. Scores and verdicts are left out then, because nobody can tell whose they are.
    """

    run: str
    dataset: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    verdicts: tuple[str, ...] = ()
    lineage: Mapping[str, str] = field(default_factory=dict)
    old: str = ""


def card(config: Mapping[str, Any], known: Known, form: str, usage: str, volumes: bool = False) -> str:
    """Return the text of README.md, with the front matter that the Hugging Face hub reads.

    Args:
        config: the run's config.json.
        known: what the project says of the run.
        form: name of the form of the export.
        usage: lines of Python that load the files.
        volumes: whether the backbone sees volumes in place of images.
    """
    parts = [
        _front_matter(form),
        f"# {_text(known.run)}",
        _about(config, volumes),
        "## Use it",
        f"```python\n{usage}\n```",
        _preparation(config, volumes),
        "## Trained on",
        _data(known),
        _training(config),
        "## Scores",
        _scores(known),
        "## Where it is from",
        _lineage(config, known),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(form: str) -> str:
    library = {"timm": "timm", "huggingface": "transformers", "onnx": "onnx"}.get(form, "pytorch")
    tags = ["reprise", "self-supervised-learning", *(["timm"] if form == "huggingface" else [])]
    entries = {"library_name": library, "pipeline_tag": "image-feature-extraction", "tags": tags}
    return "---\n" + "\n".join(f"{name}: {json.dumps(value)}" for name, value in entries.items()) + "\n---"


def _about(config: Mapping[str, Any], volumes: bool) -> str:
    channels = config["channels"]
    bands = {1: "grey images", 3: "colour images"}.get(channels, f"images of {channels} bands")
    if volumes:
        bands = "volumes" if channels == 1 else f"volumes of {channels} channels"
    unit = "voxels a side" if volumes else "pixels"
    return (
        f"A backbone, {_text(config['architecture'])}, that turns {bands} of {config['input_size']} {unit} into "
        f"{config['num_features']} numbers. Trained by {_text(config.get('method', 'an unknown method'))} with Reprise."
    )


def _preparation(config: Mapping[str, Any], volumes: bool) -> str:
    side, share = config["input_size"], config.get("crop_pct", 1.0)
    sides = "each side is" if config.get("crop_mode") == "squash" else "the shorter side is"
    kernel = config.get("interpolation", "bilinear")
    scaled = (
        f"Of an image, {sides} scaled to {int(side / share)} pixels ({kernel}, antialiased) and the central "
        f"{side} x {side} pixels are cut out."
    )
    if volumes:
        scaled = f"Each side of a volume is scaled on its own to {side} voxels; nothing is cut."
    return (
        f"{scaled} Values are divided by 255; then the mean {json.dumps(config['mean'])} is "
        f"subtracted from the channels, and they are divided by the standard deviation {json.dumps(config['std'])}."
    )


def _data(known: Known) -> str:
    data = known.dataset
    if not data:
        return "The export was made outside of the project, which holds the data: nothing is known of them here."
    lines = [f"**{_text(data.get('name', 'unnamed'))}**."]
    if known.old:
        lines = [f"The run may have seen other data than those of the project when this card was written: {lines[0]}"]
    if counts := data.get("counts"):
        lines.append("Images: " + ", ".join(f"{_text(split)} {n:,}" for split, n in counts.items()) + ".")
    if classes := data.get("classes"):
        shown = ", ".join(map(_text, classes[:20])) + (f" and {len(classes) - 20:,} more" if len(classes) > 20 else "")
        lines.append(f"Classes ({len(classes):,}): {shown}.")
    lines += [f"{key.capitalize()}: {_text(data[key])}." for key in ("licence", "citation") if data.get(key)]
    return " ".join(lines)


def _training(config: Mapping[str, Any]) -> str:
    told = {name: config[name] for name in _TOLD if config.get(name) is not None}
    rows = [f"| {name.replace('_', ' ')} | {_number(value)} |" for name, value in told.items()]
    notes = [f"- {_text(note)}" for note in config.get("notes") or []]
    table = "\n".join(["| | |", "|---|---|", *rows])
    return "\n\n".join([table, *(["\n".join(notes)] if notes else [])])


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _text(value)


def _scores(known: Known) -> str:
    if known.old:
        return f"Scores are left out: {_text(known.old)}. `reprise repro` computes them again."
    rows = [
        f"| {_text(probe)}.{_text(metric)} | {figure['value']:.4f} | {_interval(figure)} | {figure.get('n', '')} |"
        for probe, figures in sorted(known.metrics.items())
        for metric, figure in sorted(figures.items())
    ]
    if not rows:
        return "The backbone has not been evaluated."
    table = "\n".join(["| metric | value | 95 % interval | images |", "|---|---|---|---|", *rows])
    said = "\n".join(f"- {_text(verdict)}" for verdict in known.verdicts)
    return "\n\n".join([table, *([said] if said else [])])


def _interval(figure: Mapping[str, Any]) -> str:
    low, high = figure.get("low"), figure.get("high")
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _lineage(config: Mapping[str, Any], known: Known) -> str:
    rows = [f"| {_text(what)} | {_text(value)} |" for what, value in known.lineage.items()]
    table = "\n".join(["| when this card was written | |", "|---|---|", *rows]) if rows else ""
    whole = json.dumps(config.get("parameters", {}), indent=1, sort_keys=True)
    fold = f"<details><summary>All parameters</summary>\n\n```json\n{whole}\n```\n\n</details>"
    return "\n\n".join(part for part in (table, fold) if part)


def _text(value: object) -> str:
    """Show a text from outside in Markdown as the characters that it has, in one line."""
    return _SPECIAL.sub(r"\\\1", printable(" ".join(str(value).split())))


def known_of_project(run: str, seed: int, old: Mapping[str, str]) -> Known:
    """Read what the project in the current folder says of one run and seed; files that are not there are left out.

    Args:
        run: its name.
        seed: one of `seeds`.
        old: what `old_figures` says of the folder. An old run gets neither scores nor verdicts; others get no
            verdicts on old ones, and none at all where the summary is old ("").
    """
    reason = old.get(run, "")
    metrics: dict[str, Any] = {}
    for path in [] if reason else sorted((layout.PROBES / run / str(seed)).rglob(METRICS)):
        metrics |= _read(path)
    pairs = [] if "" in old else _read(layout.COMPARISON).get("pairs", [])
    sides = [({pair.get("a"), pair.get("b")}, pair["verdict"]) for pair in pairs]
    verdicts = tuple(verdict for names, verdict in sides if run in names and not names & old.keys())
    lock = _read(Path("source.lock.json"))
    lineage = {"git revision": revision(), **versions()}
    if lock:
        lineage["source"] = f"{lock.get('source')}, digest {lock.get('digest')}"
    doubt = f"results of {run} are not known to be those of the present parameters, data and code ({reason})"
    return Known(f"{run}, seed {seed}", _read(layout.DATASET), metrics, verdicts, lineage, doubt if reason else "")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
