"""What a flow asks of the remote after its pull failed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from pipeline.flows.reproduce import GraphRun
from pipeline.flows.tasks import Tasks
from pipeline.graph.remotes import remote
from reprise.config.errors import RemoteError


class Plain(Tasks):
    """Tasks without Prefect."""

    def run(self, title: str, body: Callable[[], State], above: Any = ()) -> State:
        try:
            return body()
        except RemoteError as error:
            return self.failure(error)

    def log(self) -> Callable[[str], None]:
        return lambda line: None


@pytest.mark.parametrize(
    ("outcome", "asked"),
    [
        (SimpleNamespace(note="3 files received"), True),
        (RemoteError("the remote cannot be reached", where="s", found="f", fix="", transient=True), True),
        (RemoteError("the remote refuses these credentials", where="s", found="f", fix=""), False),
    ],
)
def test_stages_look_in_a_remote_unless_it_failed_for_good(
    monkeypatch: pytest.MonkeyPatch, outcome: Any, asked: bool
) -> None:
    def pull(root: Path, on_line: Any) -> Any:
        if isinstance(outcome, RemoteError):
            raise outcome
        return outcome

    monkeypatch.setattr(remote, "pull", pull)
    run = GraphRun(Plain(Path(), str, print, ()), remote_name="store")
    run._fetch()
    assert bool(run.remote_name) is asked
