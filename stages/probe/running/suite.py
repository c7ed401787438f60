"""Run a suite of probes on one embedding; a probe whose inputs did not change is not computed again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.artifacts.results import METRICS, write_metrics, write_predictions
from reprise.artifacts.tables.parquet import write_table
from reprise.config.errors import ProbeError
from reprise.storage.atomic import write_json
from reprise.storage.progress import track
from stages.probe.probe import ProbeResult
from stages.probe.running import cache
from stages.probe.scoring import why_not

if TYPE_CHECKING:
    from stages.probe.data import ProbeData
    from stages.probe.probe import Figure, Probe

PROTOCOL = "protocol.json"


@dataclass(frozen=True)
class SuiteResult:
    """Results of the probes of a suite.

    Args:
        results: name of the probe -> its result.
        origins: name of the probe -> `computed`, or `stored` when an earlier result could be used.
    """

    results: dict[str, ProbeResult] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def computed(self) -> list[str]:
        """Names of the probes that were computed."""
        return [name for name, origin in self.origins.items() if origin == "computed"]


def run_suite(probes: dict[str, Probe], data: ProbeData, label: str) -> SuiteResult:
    """Run each probe, or take its stored result.

    Args:
        probes: name -> probe with its parameters.
        data: the embedding of one run, joined with the manifest.
        label: text of the progress bar.

    Raises:
        ProbeError: a probe returned something that cannot be written.
    """
    suite = SuiteResult()
    for name in track(sorted(probes), label, unit="probes"):
        reason = why_not(data) if probes[name].needs_labels else None
        if probes[name].needs_augmented and not data.has_augmented:
            reason = "not run: no changed images were embedded (embed.augmented in params.yaml)"
        if probes[name].needs_shifted and not data.shift_names:
            reason = "not run: there are no shifted images (shifts in params.yaml)"
        if reason is not None:
            suite.results[name] = ProbeResult({}, {"note": reason})
            continue
        digest = cache.key(name, probes[name], data)
        result = cache.load(digest)
        suite.origins[name] = "stored" if result is not None else "computed"
        if result is None:
            result = probes[name].run(data)
            _check(name, result)
            cache.store(digest, result)
        suite.results[name] = result
    return suite


def _check(name: str, result: ProbeResult) -> None:
    if result.predictions is not None and "top1" not in result.metrics:
        raise ProbeError(
            "a probe with predictions must report the share of right ones as `top1`",
            where=f"probe {name}",
            found=f"metrics {', '.join(result.metrics) or 'none'}",
            fix="Add that metric: summary pairs runs by these predictions.",
        )


def write_suite(suite: SuiteResult, folder: Path) -> None:
    """Write metrics.json, protocol.json, and each probe's predictions and table into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    results = suite.results
    metrics = {p: {m: _written(figure) for m, figure in r.metrics.items()} for p, r in results.items()}
    write_metrics(folder / METRICS, metrics)
    write_json(folder / PROTOCOL, {probe: result.protocol for probe, result in results.items()})
    for probe, result in results.items():
        if result.predictions is not None:
            write_predictions(folder / f"predictions-{probe}.parquet", result.predictions)
        if result.table is not None:
            write_table(folder / f"{probe}.parquet", result.table)


def _written(figure: Figure) -> dict[str, Any]:
    """Round to nine significant digits: sums in another order (threads, processors) mostly give the same bytes then."""
    return {k: float(f"{v:.9g}") if isinstance(v, float) else v for k, v in vars(figure).items()}
