"""What follows from a comparison of images: which shards are fetched, what stops a night, and the exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.backbones import predict
from pipeline.compare import challenge, drift
from pipeline.compare.drift import Drift, data_drift
from pipeline.flows.candidate import Candidate
from reprise.artifacts.layout import MANIFEST, SHARDS

ALIKE = {"name": "area", "unit": "distance", "size": 0.0, "threshold": 0.2, "p": 1.0, "drifted": False}
DARKER = ALIKE | {"name": "brightness", "size": 0.9, "p": 0.001, "drifted": True}
COUNTS = {"new": 160, "kept": 0, "gone": 160, "relabelled": 0, "replaced": True}
SHARDS_NEEDED = COUNTS | {"findings": [ALIKE], "note": "light and embeddings were not compared"}
Judged = Callable[..., list[str]]


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judged:
    """Let the comparison say this without, and that with the earlier shards; return what was fetched."""
    for needed in (MANIFEST, SHARDS):
        (tmp_path / needed).mkdir(parents=True)
    (tmp_path / "params.yaml").write_text("seeds: [0]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(challenge, "champion_of", lambda run, root: "simclr@v1.0.0")

    def say(without: dict[str, Any], with_shards: dict[str, Any] | None = None) -> list[str]:
        fetched: list[str] = []

        def fetch(revision: str, path: str, target: Path, root: Path) -> bool:
            fetched.append(path)
            return path == str(MANIFEST) or with_shards is not None

        def run(module: str, arguments: list[str], root: Path, on_line: object) -> None:
            found = with_shards if "--earlier" in arguments else without
            Path(arguments[arguments.index("--out") + 1]).write_text(json.dumps(found))

        monkeypatch.setattr(drift, "fetch_at", fetch)
        monkeypatch.setattr(drift, "run_module", run)
        return fetched

    return say


def test_earlier_shards_are_fetched_only_where_images_were_replaced(judged: Judged) -> None:
    fetched = judged(COUNTS | {"replaced": False, "kept": 160, "findings": [ALIKE], "note": ""})
    assert not data_drift("v1").unknown
    assert fetched == [str(MANIFEST)]
    fetched = judged(SHARDS_NEEDED, COUNTS | {"findings": [ALIKE, DARKER], "note": ""})
    found = data_drift("v1")
    assert fetched == [str(MANIFEST), str(SHARDS)]
    assert (found.drifted, found.unknown) == (["brightness"], False)
    assert found.lines()[-1] == "Drift: the new images differ from the earlier ones in brightness."


@pytest.mark.parametrize("without", [SHARDS_NEEDED, COUNTS | {"findings": [], "note": "only 6 new images"}])
def test_replaced_images_that_cannot_be_compared_stop_a_night(
    tmp_path: Path, judged: Judged, without: dict[str, Any]
) -> None:
    judged(without)
    state = Candidate("simclr").compare_images(tmp_path, print)
    assert (state.name, state.is_failed()) == ("Drift", True)
    assert "nobody can tell whether those in their place are like them. Nothing was trained." in str(state.message)
    assert Candidate("simclr", "tell").compare_images(tmp_path, print).is_completed()


def test_few_new_images_beside_the_old_ones_stop_nothing(tmp_path: Path, judged: Judged) -> None:
    judged(COUNTS | {"kept": 160, "gone": 0, "replaced": False, "findings": [], "note": "only 6 new images"})
    assert Candidate("simclr").compare_images(tmp_path, print).is_completed()


@pytest.mark.parametrize(("note", "status"), [("", 0), ("light was not compared", 3)])
def test_the_command_does_not_pass_what_nobody_can_tell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], note: str, status: int
) -> None:
    found = Drift("HEAD", 160, 0, 160, 0, (ALIKE,), True, note)
    monkeypatch.setattr(drift, "data_drift", lambda *arguments, **options: found)
    monkeypatch.setattr(predict, "enter_project", lambda: None)
    monkeypatch.setattr("pipeline.images.chosen_run.chosen_run", lambda *arguments: type("R", (), CHOSEN))
    monkeypatch.setattr(sys, "argv", ["reprise", "drift", "--json"])
    with pytest.raises(SystemExit) as ended:
        predict.app(["--json"] if len(predict.app.registered_commands) == 1 else ["drift", "--json"])
    assert (ended.value.code or 0) == status
    printed = json.loads(capsys.readouterr().out)
    assert (printed["replaced"], printed["note"]) == (True, note or None)


CHOSEN = {"name": "simclr", "seed": 0}
