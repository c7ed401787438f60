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
    made = Workers(client, SimpleNamespace(), Path(), SimpleNamespace(), said.append, None)  # type: ignore[arg-type]
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
        (Outcome.RAN, ENTRY, (Outcome.RAN, "here")),  # it had sent nothing
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
        assert bool(lines) == (did is Outcome.RAN)


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


def test_a_result_counts_although_its_checkpoints_stay(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(verb: str, arguments: list[str], cancelled: threading.Event) -> None:
        raise RemoteError("the remote refused", where="store", found="no permission to delete", fix="Ask.")

    workers._share_seconds = 1.0
    transfers: Any = SimpleNamespace(call=call, fetch_known=lambda name, cancelled: False)
    monkeypatch.setattr(workers, "_transfers", transfers)
    monkeypatch.setattr(workers, "_graph", SimpleNamespace(upstream=lambda name: []))
    monkeypatch.setattr(workers, "send", lambda names, cancelled: None)
    monkeypatch.setattr(workers, "_answer", lambda *arguments: DONE)
    monkeypatch.setattr(workers, "_restore", lambda *arguments: (Outcome.RAN, "h"))
    monkeypatch.setattr(leading, "read_lock", lambda root: {})
    monkeypatch.setattr(leading, "message_for", lambda *arguments, **options: {})
    monkeypatch.setattr(leading, "inputs_of", lambda message: "0" * 64)
    lines: list[str] = []
    done = workers.run(STAGE, Demand(), on_each_line=(print, lines.append), cancelled=threading.Event())  # type: ignore[arg-type]
    assert done == (Outcome.RAN, "h")
    assert "checkpoints in the remote were not removed: the remote refused" in lines[0]
