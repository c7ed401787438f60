"""MLflow: a run of an experiment, by its client, on any tracking server or database. Extra `mlflow`."""

from __future__ import annotations

from pathlib import Path

from pipeline.exports.trackers.finished import Finished
from reprise.config.errors import ParameterError

_KEY = "reprise.key"
_AT_ONCE = 100  # MLflow's limit for parameters of one request; 1,000 for metrics
_LONGEST = 6000  # characters of a parameter


class MLflow:
    """Parameters, curves by epoch, figures, and both ends of their intervals as `<figure>.low` and `.high`.

    Args:
        to: tracking URI.
        experiment: its name.
    """

    def __init__(self, to: str = "sqlite:///.reprise/mlflow.db", experiment: str | None = None) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self.address, name = to, experiment or Path.cwd().name
        if to.startswith("sqlite:///"):
            Path(to.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        try:
            self.client = MlflowClient(tracking_uri=to)
            known = self.client.get_experiment_by_name(name)
            self.experiment = known.experiment_id if known else self.client.create_experiment(name)
        except MlflowException as error:
            raise ParameterError(
                "MLflow cannot be reached", where=to, found=str(error).splitlines()[0], fix="Name another --to."
            ) from error

    def holds(self, key: str) -> bool:
        """Look for a run with the key as its tag that was written to its end."""
        wanted = f"tags.`{_KEY}` = '{key}' and attributes.status = 'FINISHED'"
        return bool(self.client.search_runs([self.experiment], wanted, max_results=1))

    def write(self, finished: Finished) -> None:
        """Write a run; one that was cut short stays behind unfinished, and is written again."""
        from mlflow.entities import Metric, Param

        tags = {
            _KEY: finished.key,
            **{f"reprise.{name}".replace(" ", "_"): text for name, text in finished.origin.items()},
        }
        run = self.client.create_run(self.experiment, run_name=finished.name, tags=tags).info.run_id
        parameters = [Param(name, str(value)[:_LONGEST]) for name, value in finished.parameters.items()]
        metrics = [Metric(name, v, 0, epoch) for name, curve in finished.curves.items() for epoch, v in curve]
        for name, figure in finished.figures.items():
            ends = {"": figure.value, ".low": figure.low, ".high": figure.high}
            metrics += [Metric(f"{name}{end}", value, 0, 0) for end, value in ends.items() if value is not None]
        for start in range(0, len(parameters), _AT_ONCE):
            self.client.log_batch(run, params=parameters[start : start + _AT_ONCE])
        for start in range(0, len(metrics), _AT_ONCE):
            self.client.log_batch(run, metrics=metrics[start : start + _AT_ONCE])
        self.client.set_terminated(run)

    def place(self) -> str:
        """Say how to look at the runs."""
        return f"{self.address}: `mlflow ui --backend-store-uri {self.address}` shows them"
