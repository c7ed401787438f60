"""After which nights the new images are done with: those that completed or were judged, and not those of an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from pipeline.compare import challenge
from pipeline.exports import promote
from pipeline.flows import reproduce
from pipeline.flows.candidate import Candidate
from pipeline.flows.reproduce import SOURCE, UNCHANGED, GraphRun, Wishes
from pipeline.flows.tasks import TRANSIENT, Tasks
from pipeline.graph import dvc
from pipeline.graph.definition import Graph
from pipeline.graph.pending.plan import Plan
from pipeline.graph.workspace import read_digest
from pipeline.processes.commands import CommandFailed
from reprise.config.errors import GitError, GraphError, RemoteError, RepriseError

Outcome = State | Exception
MISSING = GraphError("the images of the revision are not known", where="simclr@v1.0.0", found="nothing", fix="Pull.")
UNREACHABLE = RemoteError("no connection", where="remote", found="no answer", fix="Try again.", transient=True)
REFUSED = GitError("git cannot write", where=".git", found="a full disk", fix="Free some space.")
KILLED = CommandFailed(["python"], 137, ["killed"])


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

    def run(images: Outcome, promotion: Outcome) -> tuple[State, list[str]]:
        tasks = PlainTasks(tmp_path, lambda text: text, print, ())
        flow = GraphRun(tasks, wishes=Wishes(candidate=Judge("simclr", outcomes=(images, promotion))))
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
    assert read_digest(tmp_path / SOURCE)
    assert night(images, promotion)[0].name == UNCHANGED


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
