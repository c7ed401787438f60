"""Finished runs in TensorBoard, MLflow and Weights & Biases, read back by what each of them reads with."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.compare.freshness import refuse_old_figures
from pipeline.exports.trackers import publish as module
from pipeline.exports.trackers.finished import CURVES, finished_runs
from pipeline.exports.trackers.publish import publish
from pipeline.exports.trackers.wandb import WandB
from reprise.artifacts import layout
from reprise.config.errors import ParameterError, ResultError
from tests.pipeline.dvc_project import new_project
from tests.pipeline.exports.test_export import CONFIG

TABLE = """run,seed,probe,metric,value,low,high,n
simclr,0,knn,top1,0.91234,0.9,0.93,373
simclr,0,spectrum,rankme,12.5,,,
simclr,1,knn,top1,0.9,0.88,0.92,373
random,0,knn,top1,0.5,0.45,0.55,373
"""
CURVES_TEXT = """run,seed,epoch,step,loss,feature_std
simclr,0,1,5,2.5,0.1
simclr,0,2,10,1.25,
simclr,1,1,5,nan,0.1
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("exit", "excepthook"):  # W&B replaces them, and not always puts them back
        monkeypatch.setattr(sys, name, getattr(sys, name))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module, "refuse_old_figures", lambda runs, root: {})
    layout.SUMMARY.mkdir(parents=True)
    Path(layout.TABLE).write_text(TABLE)
    CURVES.write_text(CURVES_TEXT)
    folder = layout.run("simclr", 0)
    folder.mkdir(parents=True)
    parameters = {"temperature": 0.2, "views": {"flip": True}, "hidden": [128, 64]}
    config = {**CONFIG, "options": {}, "stem": "small", "heads": {}, "parameters": parameters}
    (folder / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_what_is_published_is_read_from_the_outputs(project: Path) -> None:
    first, second, floor = finished_runs()
    assert [f.name for f in (first, second, floor)] == ["simclr/0", "simclr/1", "random/0"]
    assert first.curves == {"feature_std": [(1, 0.1)], "loss": [(1, 2.5), (2, 1.25)]}
    assert second.curves == {"feature_std": [(1, 0.1)]}  # a loss that is no number is no point
    assert first.figures["knn.top1"] == (0.91234, 0.9, 0.93)
    assert first.parameters["parameters.views.flip"] is True
    assert first.parameters["parameters.hidden"] == "[128, 64]"
    assert floor.parameters == {}
    assert len({f.key for f in (first, second, floor)}) == 3
    assert finished_runs(["random"]) == [floor]
    with pytest.raises(ResultError, match="'byol' has no results"):
        finished_runs(["byol"])
    Path(layout.TABLE).unlink()
    with pytest.raises(ResultError, match="no results yet"):
        finished_runs()


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_run_is_written_once_until_it_changes(project: Path, name: str) -> None:
    done = publish(name)
    assert (done.written, done.there) == (["simclr/0", "simclr/1", "random/0"], [])
    again = publish(name)
    assert (again.written, len(again.there)) == ([], 3)
    Path(layout.TABLE).write_text(TABLE.replace("0.91234", "0.92"))
    assert publish(name).written == ["simclr/0"]


GRAPH = """stages:
  pretrain:
    matrix: {run: "${runs}", seed: [0]}
    cmd: "true"
    params: ["rate.${item.run}"]
  summary:
    cmd: "true"
    params: [family]
"""


def test_runs_that_changed_since_the_summary_are_left_out(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run with another rate is not published, and named; with another summary nothing is."""

    def edited(rate: float, family: str) -> None:
        content = {"runs": ["simclr", "random"], "rate": {"simclr": rate, "random": 1}, "family": family}
        Path("params.yaml").write_text(json.dumps(content))

    def told(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reprise", "track", "tensorboard", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    monkeypatch.setattr(module, "refuse_old_figures", refuse_old_figures)
    dvc = new_project(project)
    dvc.write("dvc.yaml", GRAPH)
    edited(1, "a")
    dvc.dvc("repro")
    edited(2, "a")
    status, out, err = told("--json")
    done = json.loads(out)
    assert (status, done["written"], done["left_out"]) == (0, ["random/0"], ["simclr/0", "simclr/1"])
    assert "simclr/0, simclr/1" in err
    status, _, err = told("--run", "simclr")
    assert status == 1 and "simclr: " in err and "figures are older" in err
    edited(1, "b")
    assert told()[0] == 1
    edited(1, "a")
    assert json.loads(told("--json")[1])["written"] == ["simclr/0", "simclr/1"]


def test_tensorboard_reads_curves_figures_and_parameters(project: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    publish("tensorboard", only=["simclr"])
    (folder,) = Path(".reprise/tensorboard/simclr").glob("0-*")
    events = EventAccumulator(str(folder)).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 2.5), (2, 1.25)]
    (figure,) = events.Scalars("knn/top1")
    assert (figure.step, figure.value) == (2, pytest.approx(0.91234))
    session = metadata.parse_session_start_info_plugin_data(
        events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    )
    assert session.hparams["parameters.temperature"].number_value == 0.2


def test_mlflow_reads_curves_figures_and_parameters(project: Path) -> None:
    from mlflow.tracking import MlflowClient

    assert "mlflow ui" in publish("mlflow", only=["simclr"]).place
    client = MlflowClient("sqlite:///.reprise/mlflow.db")
    experiment = client.get_experiment_by_name(project.name)
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"simclr/0", "simclr/1"}
    run = runs["simclr/0"]
    assert run.data.params["parameters.temperature"] == "0.2"
    assert run.data.metrics["knn.top1.low"] == 0.9
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")] == [(1, 2.5), (2, 1.25)]
    with pytest.raises(ParameterError, match="cannot be reached"):
        publish("mlflow", "nosuch://place")


def records(path: Path) -> Iterator[bytes]:
    """The records of a .wandb file, which has the form of LevelDB's log: blocks of 32 KiB, records in fragments."""
    data, whole = path.read_bytes(), b""
    place = 7  # the file's own header
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


def test_wandb_reads_curves_figures_and_parameters(project: Path) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    assert "wandb sync" in publish("wandb", "team/project", only=["simclr"]).place
    found: dict[str, Any] = {}
    curve = []
    (file,) = Path(".reprise/wandb").glob(f"offline-run-*/run-{finished_runs()[0].key}.wandb")
    for raw in records(file):
        record = Record()
        record.ParseFromString(raw)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            assert (record.run.entity, record.run.project, record.run.display_name) == ("team", "project", "simclr/0")
            found |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            curve.append((row["_step"], row["loss"]))
        elif kind == "summary":
            found |= {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.summary.update}
    assert found["parameters.temperature"] == 0.2
    assert found["knn.top1"] == 0.91234
    assert found["knn.top1.high"] == 0.93
    assert curve == [(1, 2.5), (2, 1.25)]


@pytest.mark.parametrize(
    ("netrc", "variables", "offline"),
    [
        ("", {}, True),
        ("machine github.com login me password secret", {}, True),
        ("default login me password secret", {}, True),
        ("machine api.wandb.ai login user password", {}, True),  # cannot be read
        ("machine api.wandb.ai login user password secret", {}, False),
        ("machine api.wandb.ai login user password secret", {"WANDB_MODE": "offline"}, True),
        ("machine api.wandb.ai login user password secret", {"WANDB_BASE_URL": "https://w.example.org"}, True),
        ("machine w.example.org login user password secret", {"WANDB_BASE_URL": "https://w.example.org"}, False),
        ("", {"WANDB_API_KEY": "secret"}, False),
        ("", {"WANDB_API_KEY": "secret", "WANDB_MODE": "dryrun"}, True),
        ("", {"WANDB_MODE": "online"}, False),
    ],
)
def test_wandb_is_offline_without_a_key_for_its_server(
    project: Path, monkeypatch: pytest.MonkeyPatch, netrc: str, variables: dict[str, str], offline: bool
) -> None:
    (project / ".netrc").write_text(netrc)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert WandB().offline is offline


def test_what_wandb_refuses_is_a_sentence_and_written_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    def refused(**options: object) -> None:
        raise wandb.errors.CommError("permission denied")

    with monkeypatch.context() as broken:
        broken.setattr(wandb, "init", refused)
        with pytest.raises(ParameterError, match=r"took no run(.|\n)*permission denied(.|\n)*wandb login"):
            publish("wandb", only=["random"])
    assert publish("wandb", only=["random"]).written == ["random/0"]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(ParameterError, match="writes no runs"):
        publish("wandb", only=["random"])


def test_a_package_that_is_missing_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(**options: object) -> None:
        raise ModuleNotFoundError("No module named 'mlflow'", name="mlflow")

    monkeypatch.setitem(module.TRACKERS, "mlflow", missing)
    with pytest.raises(ParameterError, match="the package of mlflow is not installed"):
        publish("mlflow")
