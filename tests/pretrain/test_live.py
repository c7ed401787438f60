"""The live log is a display: it resumes, and its failures stop nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from stages.pretrain.live import LiveLog


@pytest.fixture
def repository_without_commits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    return tmp_path


def test_a_failure_is_said_once_and_stops_nothing(repository_without_commits, capsys):
    subprocess.run(["dvc", "init", "-q"], check=True)
    log = LiveLog("simclr/0")
    for epoch in (1, 2):
        log(epoch, {"epoch": epoch, "loss": 0.5})
    assert capsys.readouterr().err.count("no live log") == 1


def test_a_resumed_run_goes_on_in_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = LiveLog("simclr/0")
    for epoch in (1, 2):
        first(epoch, {"epoch": epoch, "loss": 1.0 / epoch})
    LiveLog("simclr/0")(3, {"epoch": 3, "loss": 0.25})
    lines = Path(".reprise/live/simclr/0/plots/metrics/loss.tsv").read_text().splitlines()
    assert [line.split("\t") for line in lines[1:]] == [["0", "1.0"], ["1", "0.5"], ["2", "0.25"]]
