"""A group of probes on one embedding, into one folder; probes whose inputs did not change are not run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.artifacts.results import METRICS, write_metrics, write_predictions
from reprise.artifacts.tables import write_table
from reprise.config.errors import ProbeError
from reprise.runtime.progress import track
from reprise.storage.atomic import atomic_directory, write_json
from stages.probe import cache
from stages.probe.probe import ProbeResult
from stages.probe.scoring import why_not

if TYPE_CHECKING:
    from stages.probe.data import ProbeData
    from stages.probe.probe import Figure, Probe

PROTOCOL = "protocol.json"


def run_group(probes: dict[str, Probe], data: ProbeData, output: str | Path, label: str) -> list[str]:
    """Run each probe, or take its stored result, and write the group's folder.

    Args:
        probes: name -> probe, with its parameters. label: what the progress bar says.

    Returns:
        Names of the probes that were really run, the others were stored.

    Raises:
        ProbeError: a probe returned something that cannot be written.
    """
    results, ran = {}, []
    for name in track(sorted(probes), label, unit="probes"):
        reason = why_not(data) if probes[name].needs_labels else None
        if probes[name].needs_augmented and not data.has_augmented:
            reason = "not run: no changed images were embedded (embed.augmented in params.yaml)"
        if reason is not None:
            results[name] = ProbeResult({}, {"note": reason})
            continue
        digest = cache.key(name, probes[name], data)
        stored = cache.load(digest)
        if stored is None:
            stored = probes[name].run(data)
            ran.append(name)
            _check(name, stored)
            cache.store(digest, stored)
        results[name] = stored
    _write(results, Path(output))
    return ran


def _check(name: str, result: ProbeResult) -> None:
    if result.predictions is not None and "top1" not in result.metrics:
        raise ProbeError(
            "a probe with predictions must report the share of right ones as `top1`",
            where=f"probe {name}",
            found=f"metrics {', '.join(result.metrics) or 'none'}",
            fix="Add that metric: summary pairs runs by these predictions.",
        )


def _write(results: dict[str, ProbeResult], output: Path) -> None:
    with atomic_directory(output) as folder:
        metrics = {p: {m: _written(figure) for m, figure in r.metrics.items()} for p, r in results.items()}
        write_metrics(folder / METRICS, metrics)
        write_json(folder / PROTOCOL, {probe: result.protocol for probe, result in results.items()})
        for probe, result in results.items():
            if result.predictions is not None:
                write_predictions(folder / f"predictions-{probe}.parquet", result.predictions)
            if result.table is not None:
                write_table(folder / f"{probe}.parquet", result.table)


def _written(figure: Figure) -> dict[str, Any]:
    """Nine significant digits: sums in another order (threads, processors) mostly still give the same bytes."""
    return {k: float(f"{v:.9g}") if isinstance(v, float) else v for k, v in vars(figure).items()}
