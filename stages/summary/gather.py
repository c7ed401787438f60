"""The results of probes and runs, read for the rows that params.yaml names and for no others."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reprise.artifacts.layout import PROBES, RUNS, probes_on_shifts
from reprise.artifacts.results import METRICS, read_json, read_predictions
from reprise.config.errors import ResultError
from reprise.storage.progress import track


@dataclass(frozen=True)
class Answers:
    """The answers of one probe on one run and seed, example by example, sorted by key.

    Args:
        keys: (n,) keys of the images.
        labels: (n,) true classes.
        predicted: (n,) predicted classes.
        correct: (n,) booleans.
        groups: (n,) integers, one number for each group of images; None where images come in no groups.
    """

    keys: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    correct: np.ndarray
    groups: np.ndarray | None


Figures = dict[str, dict[str, dict[str, Any]]]  # probe -> metric -> {"value", "low", "high", "n"}


@dataclass(frozen=True)
class Results:
    """All results that are compared.

    Args:
        runs: names of the runs, in the order of params.yaml.
        seeds: the seeds, in the order of params.yaml.
        figures: (run, seed) -> probe -> metric -> figure.
        answers: probe -> (run, seed) -> answers; only probes that classify.
        histories: (run, seed) -> rows of history.csv.
        configs: (run, seed) -> config.json.
        watched: (run, seed) -> rows of watches.csv, of runs that were watched.
    """

    runs: list[str]
    seeds: list[int]
    figures: dict[tuple[str, int], Figures]
    answers: dict[str, dict[tuple[str, int], Answers]]
    histories: dict[tuple[str, int], list[dict[str, str]]]
    configs: dict[tuple[str, int], dict[str, Any]]
    watched: dict[tuple[str, int], list[dict[str, str]]] = field(default_factory=dict)

    def metrics(self) -> list[str]:
        """List every `<probe>.<metric>` that any run has, sorted."""
        return sorted(
            {f"{p}.{m}" for figures in self.figures.values() for p, metrics in figures.items() for m in metrics}
        )

    def values(self, metric: str) -> dict[str, dict[int, dict[str, Any]]]:
        """Map run and seed to the figure of a `<probe>.<metric>`; runs keep their order, runs without it are absent."""
        probe, name = metric.split(".", 1)
        by_run: dict[str, dict[int, dict[str, Any]]] = {}
        for run in self.runs:
            for seed in self.seeds:
                figure = self.figures[run, seed].get(probe, {}).get(name)
                if figure is not None:
                    by_run.setdefault(run, {})[seed] = figure
        return by_run


def gather(
    runs: list[str],
    seeds: list[int],
    suites: list[str],
    shift_suites: Sequence[str] = (),
    checks: Sequence[tuple[str, int, str]] = (),
) -> Results:
    """Read all artifacts of these rows.

    Args:
        runs: names of runs.
        seeds: of every run.
        suites: folders of results below every run and seed ("features/quality").
        shift_suites: names of suites on shifted images, each a folder with one for every run and seed.
        checks: run, seed and folder ("images/finetune") of results that some of them have.

    Raises:
        ResultError: a file is missing or damaged, two suites hold a probe of one name, runs scored different images.
    """
    figures: dict[tuple[str, int], Figures] = {}
    answers: dict[str, dict[tuple[str, int], Answers]] = {}
    for run in track(runs, "read results", unit="runs"):
        for seed in seeds:
            figures[run, seed] = {}
            own = [*suites, *(folder for name, number, folder in checks if (name, number) == (run, seed))]
            folders = [PROBES / run / str(seed) / suite for suite in own]
            folders += [probes_on_shifts(suite) / run / str(seed) for suite in shift_suites]
            for folder in folders:
                for probe, metrics in read_json(folder / METRICS).items():
                    if probe in figures[run, seed]:
                        raise ResultError(
                            f"two suites hold a probe called '{probe}'",
                            where=folder,
                            found=", ".join([*own, *shift_suites]),
                            fix="Rename one of the two files; metrics are named <run>.<probe>.<metric>.",
                        )
                    figures[run, seed][probe] = metrics
                    predictions = folder / f"predictions-{probe}.parquet"
                    if predictions.exists():
                        answers.setdefault(probe, {})[run, seed] = _answers(predictions)
    for probe, by_run in answers.items():
        _require_same_images(probe, by_run)
    folders_of = {(run, seed): RUNS / run / str(seed) for run in runs for seed in seeds}
    histories = {which: _rows(folder / "history.csv", "training history") for which, folder in folders_of.items()}
    watches = {which: path for which, folder in folders_of.items() if (path := folder / "watches.csv").exists()}
    watched = {which: _rows(path, "table of what watches saw") for which, path in watches.items()}
    configs = {which: read_json(folder / "config.json", _AGAIN) for which, folder in folders_of.items()}
    return Results(runs, seeds, figures, answers, histories, configs, watched)


_AGAIN = "Run `dvc repro pretrain` to write it again."


def _answers(path: Path) -> Answers:
    table = read_predictions(path)
    columns = {
        name: np.asarray(table[name].to_pylist(), dtype=object) for name in ("key", "label", "predicted", "group")
    }
    groups = None
    if table.num_rows and table["group"].null_count == 0:
        groups = np.unique(columns["group"].astype(str), return_inverse=True)[1]
    correct = np.asarray(table["correct"].to_pylist(), dtype=bool)
    return Answers(columns["key"], columns["label"], columns["predicted"], correct, groups)


def _require_same_images(probe: str, by_run: dict[tuple[str, int], Answers]) -> None:
    """Raise an error unless all runs answered for the same images with the same labels: tests pair them by position."""
    (first, reference), *others = by_run.items()
    for name, answers in others:
        if answers.keys.tolist() != reference.keys.tolist() or answers.labels.tolist() != reference.labels.tolist():
            raise ResultError(
                f"the predictions of '{probe}' are of different images or labels",
                where=f"{PROBES}, {name[0]} seed {name[1]} and {first[0]} seed {first[1]}",
                found=f"{len(answers.keys)} and {len(reference.keys)} images",
                fix="Run `dvc repro` so that all runs are probed on the same data.",
            )


def _rows(path: Path, what: str) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise ResultError(f"the {what} cannot be read", where=path, found=error, fix=_AGAIN) from error
