"""What several trainings at once are planned with: the estimate that `reprise check` makes of each."""

from __future__ import annotations

from pathlib import Path

from reprise.config.params import read_yaml
from reprise.training.memory import PROCESS
from stages.check.needs import training_needs


def test_each_run_has_an_estimate_which_grows_with_its_batch(repository: Path) -> None:
    raw = read_yaml(repository / "params.yaml")
    raw["runs"] = [row for row in raw["runs"] if row["name"] in ("random", "simclr")]
    needs, held = training_needs(raw), raw["cache"]["memory_bytes"]
    assert list(needs) == ["random", "simclr"]
    assert needs["random"] == {"memory": PROCESS + held, "device": "auto", "processes": 1}
    assert PROCESS + held < needs["simclr"]["memory"] < 16 << 30
    raw["runs"] = raw["runs"][1:]
    raw["methods"]["simclr"] |= {"batch_size": 2 * raw["train"]["batch_size"]}
    raw["train"]["device"] = "cpu"
    larger = training_needs(raw)["simclr"]
    assert larger["memory"] > needs["simclr"]["memory"]
    assert larger["device"] == "cpu"
