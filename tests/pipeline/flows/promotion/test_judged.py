"""After which nights the new images are done with: those that completed or were judged, and not those of an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from pipeline.compare import challenge
from pipeline.exports import promote
from pipeline.flows import reproduce
from pipeline.flows.candidate import SOURCE, Candidate
from pipeline.flows.reproduce import UNCHANGED, GraphRun, Wishes
from pipeline.flows.tasks import TRANSIENT, Tasks
from pipeline.graph import dvc
from pipeline.graph.definition import Graph
from pipeline.graph.pending.plan import Plan
from pipeline.graph.workspace import read_digest
from pipeline.processes.commands import CommandFailed
from reprise.artifacts import layout
from reprise.config.errors import GitError, GraphError, RemoteError, RepriseError

Outcome = State | Exception
MISSING = GraphError("the images of the revision are not known", where="simclr@v1.0.0", found="nothing", fix="Pull.")
UNREACHABLE = RemoteError("no connection", where="remote", found="no answer", fix="Try again.", transient=True)
REFUSED = GitError("git cannot write", where=".git", found="a full disk", fix="Free some space.")
KILLED = CommandFailed(["python"], 137, ["killed"])


PASSED = Completed()


class PlainTasks(Tasks):
    """Tasks without Prefect."""

    def run(self, title: str, body: Callable[[], State], above: Sequence[State] = ()) -> State:
        try:
            return body()
        except (CommandFailed, RepriseError) as error:
            return self.failure(error)
        except Exception as error:  # noqa: BLE001 - as in the class itself
            return Failed(message=f"a defect of Reprise: {error}")

    def log(self) -> Callable[[str], None]:
        return print

    def markdown(self, key: str, text: str, description: str) -> None:
        """Publish nothing."""


@dataclass
class Judge(Candidate):
    """A candidate whose comparisons end as the test wants.

    Attributes:
        outcomes: of the images and of the promotion.
    """

    outcomes: tuple[Outcome, Outcome] = (Completed(), Completed())

    def refuse_unknown(self, root: Path) -> None:
        """Know every run."""

    def compare_images(self, root: Path, log: Callable[[str], None]) -> State:
        return ended(self.outcomes[0])

    def promote(self, root: Path, log: Callable[[str], None]) -> State:
        return ended(self.outcomes[1])


def ended(outcome: Outcome) -> State:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[State, list[str]]]:
    """Run the flow on a graph without stages; its state and its failures."""
    empty = Graph(())
    monkeypatch.setattr(dvc, "prepare", lambda *arguments, **options: empty)
    monkeypatch.setattr(dvc, "status", lambda *arguments: {})
    monkeypatch.setattr(dvc, "sort_lock", lambda *arguments: None)
    monkeypatch.setattr(reproduce.artifacts, "lineage_markdown", lambda *arguments: "")
    monkeypatch.setattr(GraphRun, "_run_stages", lambda *arguments: Plan(empty, {}, {}, {}, tmp_path))
    monkeypatch.setattr(GraphRun, "_push", lambda run: None)
    monkeypatch.setattr(GraphRun, "_tell", lambda run, final, *arguments, **options: final)
    (tmp_path / "source.lock.json").write_text('{"digest": "new"}')
    (tmp_path / "params.yaml").write_text("train: {epochs: 2}\n")

    def run(
        images: Outcome = PASSED, promotion: Outcome = PASSED, candidate: str = "simclr", **rule: Any
    ) -> tuple[State, list[str]]:
        tasks = PlainTasks(tmp_path, lambda text: text, print, ())
        judge = Judge(candidate, outcomes=(images, promotion), **rule) if candidate else None
        flow = GraphRun(tasks, wishes=Wishes(candidate=judge))
        return flow.reproduce([], only_if_source_changed=True), flow.failures

    return run


DRIFT, HELD = Failed(name="Drift", message="darker"), Failed(name="Held", message="worse")


@pytest.mark.parametrize(
    ("images", "promotion", "name"),
    [
        (Completed(), Completed(name="Promoted"), "Completed"),
        (DRIFT, Completed(), "Drift"),
        (Completed(), HELD, "Held"),
    ],
)
def test_what_was_judged_is_not_judged_again(
    tmp_path: Path, night: Callable[..., tuple[State, list[str]]], images: Outcome, promotion: Outcome, name: str
) -> None:
    final, failures = night(images, promotion)
    assert final.name == name
    assert "could not be compared" not in f"{final.message} {failures}"
    assert night(images, promotion)[0].name == UNCHANGED
    assert (read_digest(tmp_path / SOURCE) is None) == (name == "Drift")
    plain = night(candidate="")[0].name  # after drift the graph is behind the source
    assert plain == ("Completed" if name == "Drift" else UNCHANGED)


def test_a_run_without_a_candidate_has_judged_nothing(night: Callable[..., tuple[State, list[str]]]) -> None:
    assert night(candidate="")[0].name == "Completed"
    assert night(candidate="")[0].name == UNCHANGED
    assert night(promotion=HELD)[0].name == "Held"
    assert night(candidate="byol", promotion=HELD)[0].name == "Held"
    assert night(promotion=HELD)[0].name == UNCHANGED  # the judgement of another run takes nothing away


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("params.yaml", "train: {epochs: 3}\n"),
        (str(layout.PRESENT_CODE / "pretrain.json"), '{"a.py": "1"}'),
        ("dvc.yaml", "stages: {}\n"),
        ("shifts.lock.json", '{"digest": "1"}'),
    ],
)
def test_whatever_a_judgement_depends_on_asks_for_another(
    tmp_path: Path, night: Callable[..., tuple[State, list[str]]], file: str, text: str
) -> None:
    assert night()[0].name == "Completed"
    (tmp_path / "params.yaml").write_text("# a comment\ntrain:\n  epochs: 2\n")
    assert night()[0].name == UNCHANGED
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert night(promotion=HELD)[0].name == "Held"
    assert night(promotion=HELD)[0].name == UNCHANGED


def test_another_rule_asks_for_another_judgement(night: Callable[..., tuple[State, list[str]]]) -> None:
    assert night(DRIFT)[0].name == "Drift"
    assert night(on_drift="tell", promotion=HELD)[0].name == "Held"
    assert night(on_drift="tell", margin=0.1)[0].name == "Completed"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"simclr": 3}'])
def test_a_record_that_cannot_be_read_asks_for_another_judgement(
    tmp_path: Path, night: Callable[..., tuple[State, list[str]]], text: str
) -> None:
    (tmp_path / ".reprise/flows").mkdir(parents=True)
    (tmp_path / ".reprise/flows/judged.json").write_text(text)
    assert night()[0].name == "Completed"
    assert night()[0].name == UNCHANGED


@pytest.mark.parametrize(
    "error", [MISSING, UNREACHABLE, REFUSED, KILLED, ValueError("a defect")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("place", [0, 1])
def test_after_an_error_the_next_night_tries_again(
    tmp_path: Path, night: Callable[..., tuple[State, list[str]]], error: Exception, place: int
) -> None:
    outcomes: list[Outcome] = [Completed(), Completed(name="Promoted")]
    outcomes[place] = error
    final, failures = night(*outcomes)
    assert final.is_failed()
    assert final.name == (TRANSIENT if error is UNREACHABLE else "Failed")
    assert "could not be compared" in str(final.message)
    assert "the next run tries again" in " ".join(failures)
    assert read_digest(tmp_path / SOURCE) is None
    assert night(Completed(), Completed(name="Promoted"))[0].is_completed()
    assert read_digest(tmp_path / SOURCE)


def test_a_promotion_says_what_was_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = challenge.Challenge("simclr", "simclr@v1.0.0", (0.8, 0.9))
    done = promote.Promoted("simclr", "simclr@v2.0.0", "a1", Path("promoted/simclr.md"))
    monkeypatch.setattr(challenge, "challenge", lambda *arguments, **options: found)
    monkeypatch.setattr(promote, "promote", lambda *arguments: done)
    message = str(Candidate("simclr").promote(tmp_path, print).message)
    assert "kNN on val 0.8000 (simclr@v1.0.0) -> 0.9000" in message
    assert "simclr is promoted: simclr@v2.0.0" in message
