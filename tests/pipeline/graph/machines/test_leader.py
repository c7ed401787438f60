"""What a leader makes of the answers of workers. The scheduler and DVC are played; nothing is started."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.graph.dvc_output import Outcome
from pipeline.graph.jobs.machine import Demand
from pipeline.graph.machines import leader as leading
from pipeline.graph.machines.leader import Workers
from pipeline.graph.machines.placement import WithWorkers
from pipeline.processes.commands import CommandFailed
from reprise.config.errors import GraphError, RemoteError

ENTRY = {"cmd": "x", "deps": [{"path": "in", "md5": "1"}], "outs": [{"path": "out", "md5": "2"}]}
STAGE = SimpleNamespace(name="pretrain@run0-0", entry="pretrain")
REFUSAL = {"what": "it differs", "where": "clone", "found": "torch", "fix": "Update it."}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Workers:
    """A leader of two workers, at tcp://a and tcp://b."""
    monkeypatch.setattr(leading, "Transfers", lambda root, loaded: SimpleNamespace())
    monkeypatch.setattr(leading, "common_part", lambda root: {})
    here = {address: {"resources": {"REPRISE": 1.0}} for address in ("tcp://a", "tcp://b")}
    client: Any = SimpleNamespace(scheduler=None, status="running", scheduler_info=lambda: {"workers": here})
    made = Workers(client, SimpleNamespace(), Path(), SimpleNamespace(), said.append, WithWorkers(1), None)  # type: ignore[arg-type]
    made.patience = 0.0
    return made


def answers(workers: Workers, monkeypatch: pytest.MonkeyPatch, *given: dict[str, Any] | None) -> dict[str, Any]:
    """Let workers give these answers, one after the other."""
    waiting = list(given)
    monkeypatch.setattr(workers, "_ask", lambda *arguments: waiting.pop(0))
    return workers._answer({"stage": STAGE.name}, Demand(), (print, print), threading.Event())


def refused(address: str) -> dict[str, Any]:
    return {"state": "refused", "host": f"host of {address}", "address": address, "error": REFUSAL}


DONE = {"state": "done", "host": "h", "entry": ENTRY, "outcome": "ran"}
CANCELLED = {"state": "cancelled", "host": "h"}


def test_a_worker_that_refuses_is_left_out_and_the_next_is_asked(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    assert answers(workers, monkeypatch, refused("tcp://a"), CANCELLED, DONE) == DONE
    assert said == ["host of tcp://a is left out: it differs (clone). Found: torch. Update it."]
    assert set(workers._known_workers()) == {"tcp://b"}


def test_when_all_refuse_the_difference_is_the_error(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("tcp://a", "tcp://b"):
        workers._refuse(refused(address))
    with pytest.raises(GraphError, match="it differs"):
        workers._wait_for_workers(Demand(), threading.Event())


def test_no_worker_within_the_patience_is_an_error(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers._client, "scheduler_info", lambda: {"workers": {}})
    with pytest.raises(GraphError, match="no worker has come"):
        workers._wait_for_workers(Demand(), threading.Event())


@pytest.mark.parametrize("answer", [CANCELLED, {**DONE, "state": "cancelled"}])
def test_a_stage_that_comes_back_again_and_again_ends(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    with pytest.raises(GraphError, match="again and again"):
        answers(workers, monkeypatch, *[answer] * 20)


def test_errors_arrive_as_what_they_are(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandFailed) as failed:
        answers(workers, monkeypatch, {"state": "failed", "host": "h", "status": 3, "lines": ["error: no"]})
    assert (failed.value.status, failed.value.lines) == (3, ("error: no",))
    with pytest.raises(RemoteError, match="it differs") as passing:
        answers(workers, monkeypatch, {"state": "error", "host": "h", "error": REFUSAL, "transient": True})
    assert passing.value.transient
    with pytest.raises(GraphError, match="it differs"):
        answers(workers, monkeypatch, {"state": "error", "host": "h", "error": REFUSAL, "transient": "yes"})


@pytest.mark.parametrize(
    ("did", "entry", "result"),
    [
        (Outcome.RESTORED, ENTRY, (Outcome.RAN, "h")),
        (Outcome.RESTORED, {**ENTRY, "outs": [{"path": "out", "md5": "3"}]}, None),
        (Outcome.RESTORED, {**ENTRY, "deps": []}, None),
        (Outcome.RESTORED, {**ENTRY, "outs": "x"}, None),
    ],
)
def test_what_a_worker_says_is_compared_with_what_it_sent(
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
    did: Outcome,
    entry: dict[str, Any],
    result: tuple[Outcome, str] | None,
) -> None:
    monkeypatch.setattr(leading.dvc, "repro_stage", lambda name, loaded, **options: did)
    monkeypatch.setattr(leading, "read_lock", lambda root: {STAGE.name: ENTRY})
    lines: list[str] = []

    def restore() -> tuple[Outcome, str]:
        answer = {**DONE, "entry": entry}
        return workers._restore(STAGE, answer, (lines.append, lines.append), threading.Event())  # type: ignore[arg-type]

    if result is None:
        with pytest.raises(GraphError, match="a worker computed something else"):
            restore()
    else:
        assert restore() == result
        assert lines == []


class Unanswered:
    """A task whose worker says nothing."""

    cancelled, looks = False, 0

    def result(self, timeout: float) -> None:
        self.looks += 1
        if self.looks > 3:
            raise AssertionError("the leader waits on")
        raise TimeoutError

    def cancel(self) -> None:
        self.cancelled = True


@pytest.mark.parametrize(
    ("tokens", "allowed", "began", "result"),
    [
        ({"REPRISE": 1.0}, {"tcp://gone"}, [], CANCELLED),  # only it had not refused
        ({"REPRISE": 1.0}, {"tcp://gone"}, ["tcp://gone"], CANCELLED),
        ({"REPRISE": 1.0, "REPRISE_GPU": 1.0}, None, [], CANCELLED),  # the worker with a GPU is gone
        ({"REPRISE": 1.0}, {"tcp://a"}, [], None),
        ({"REPRISE": 1.0}, {"tcp://gone"}, ["tcp://gone", "tcp://a"], None),
    ],
)
def test_a_stage_that_nobody_can_take_any_more_is_asked_for_again(
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
    tokens: dict[str, float],
    allowed: set[str] | None,
    began: list[str],
    result: dict[str, Any] | None,
) -> None:
    monkeypatch.setattr(leading, "_COUNT_SECONDS", -1.0)
    future: Any = Unanswered()
    asked = leading._Asked(Demand(), tokens, None if allowed is None else frozenset(allowed), began)
    if result is None:
        with pytest.raises(GraphError, match="the leader waits on"):
            workers._await(future, asked, threading.Event())
    else:
        answer = workers._await(future, asked, threading.Event())
        assert answer is not None
        assert answer["state"] == result["state"]
    assert future.cancelled == (result is not None)


def test_workers_that_end_while_they_compute_are_not_waited_for_without_end(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading, "_COUNT_SECONDS", -1.0)
    monkeypatch.setattr(workers._client, "scheduler_info", lambda: {"workers": {}})
    future: Any = Unanswered()
    with pytest.raises(GraphError, match="no worker has come"):
        workers._await(future, leading._Asked(Demand(), {"REPRISE": 1.0}, None, ["tcp://a"]), threading.Event())


@pytest.fixture
def played(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the remote and the scheduler be played; returns what is done, in its order."""
    done: list[str] = []

    def call(verb: str, arguments: list[str], cancelled: threading.Event) -> None:
        done.append(verb)

    def repro(name: str, loaded: object, **options: Any) -> Outcome:
        done.append(f"repro {options.get('variables', '')}{' by force' if options.get('force') else ''}".strip())
        return Outcome.RAN if "variables" in options else Outcome.RESTORED

    transfers: Any = SimpleNamespace(call=call, fetch_known=lambda name, cancelled: True)
    monkeypatch.setattr(workers, "_transfers", transfers)
    monkeypatch.setattr(workers, "_share_seconds", 1.0)
    monkeypatch.setattr(workers, "_graph", SimpleNamespace(upstream=lambda name: []))
    monkeypatch.setattr(workers, "send", lambda names, cancelled: done.append("send"))
    monkeypatch.setattr(workers, "_answer", lambda *arguments: done.append("ask") or DONE)
    monkeypatch.setattr(leading.dvc, "repro_stage", repro)
    monkeypatch.setattr(leading, "read_lock", lambda root: {STAGE.name: ENTRY})
    monkeypatch.setattr(leading, "message_for", lambda *arguments, **options: {})
    monkeypatch.setattr(leading, "inputs_of", lambda message: "0" * 64)
    return done


def run(workers: Workers, lines: list[str], **options: Any) -> tuple[Outcome, str]:
    ways = (lines.append, lines.append)
    return workers.run(STAGE, Demand(), on_each_line=ways, cancelled=threading.Event(), **options)  # type: ignore[arg-type]


def test_checkpoints_go_once_the_result_is_here_and_before_it_is_recorded(workers: Workers, played: list[str]) -> None:
    """A leader that is killed between the two finds the stage not up to date, and comes here again."""
    assert run(workers, []) == (Outcome.RESTORED, "")
    assert played == ["drop-checkpoints", "repro"]
    played.clear()
    answers = iter([False, True])
    workers._transfers.fetch_known = lambda name, cancelled: next(answers)  # type: ignore[method-assign]
    assert run(workers, []) == (Outcome.RAN, "h")
    assert played == ["send", "ask", "drop-checkpoints", "repro"]


def test_a_stage_that_must_run_here_waits_for_a_place_among_the_jobs(
    workers: Workers, played: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers._transfers, "fetch_known", lambda name, cancelled: False)
    here = workers._here
    here.stay = frozenset({"local"})
    assert here.take("local", Demand()) == {}
    lines: list[str] = []
    results: list[tuple[Outcome, str]] = []
    waiting = threading.Thread(target=lambda: results.append(run(workers, lines)))
    waiting.start()
    while not lines:
        waiting.join(0.01)
    waiting.join(0.3)
    assert played == ["send", "ask", "drop-checkpoints"], "it has no room yet"
    assert "sent no result that fits these inputs, so the stage runs here" in lines[0]
    here.give_back("local")
    waiting.join(10)
    assert results == [(Outcome.RAN, "here")]
    assert played == ["send", "ask", "drop-checkpoints", "repro {}"]
    assert here.take("local", Demand()) == {}, "the place is free again"


def test_a_stage_that_waits_for_a_place_here_can_be_cancelled(workers: Workers) -> None:
    here, cancelled = workers._here, threading.Event()
    here.stay = frozenset({"local"})
    here.take("local", Demand())
    cancelled.set()
    with here.room_here("other", Demand(), cancelled) as variables:
        assert variables is None


def test_a_forced_result_that_differs_is_an_error_and_replaces_nothing(
    workers: Workers, played: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {**ENTRY, "outs": [{"path": "out", "md5": "9"}]}
    monkeypatch.setattr(workers, "_answer", lambda *arguments: {**DONE, "entry": other})
    with pytest.raises(GraphError, match="something else from the same inputs.*out has 9 there and 2 here"):
        run(workers, [], force=True)
    assert played == ["send", "drop-checkpoints"], "or a worker that is well would go on from them"
    monkeypatch.setattr(workers, "_answer", lambda *arguments: {**DONE, "entry": {**other, "params": {"x": 1}}})
    with pytest.raises(GraphError, match="than its results in the remote say"):
        run(workers, [], force=True)  # of other parameters, it is no comparison with what was recorded


def test_a_result_counts_although_its_checkpoints_stay(workers: Workers, played: list[str]) -> None:
    def call(verb: str, arguments: list[str], cancelled: threading.Event) -> None:
        raise RemoteError("the remote refused", where="store", found="no permission to delete", fix="Ask.")

    workers._transfers.call = call  # type: ignore[method-assign, assignment]
    lines: list[str] = []
    assert run(workers, lines) == (Outcome.RESTORED, "")
    assert "checkpoints in the remote were not removed: the remote refused" in lines[0]
