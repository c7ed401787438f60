"""Deliver to the server what Prefect still holds in memory when a flow ends.

A temporary server that stopped at once would lose the last events, and the page of the run would show tasks that
never ended.
"""

from __future__ import annotations

import time

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

TIMEOUT_SECONDS = 5.0
_UNFINISHED = [StateType.PENDING, StateType.RUNNING]


def send_queued_records(seconds: float = TIMEOUT_SECONDS) -> None:
    """Send the logs and events that are queued in this process, for at most `seconds` each."""
    EventsWorker.drain_all(timeout=seconds)
    APILogWorker.drain_all(timeout=seconds)


def await_task_states(state: State) -> None:
    """Wait briefly until the server has recorded the end of every task of a run.

    Args:
        state: the final state of the run.
    """
    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    unfinished = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNFINISHED)))
    end = time.monotonic() + TIMEOUT_SECONDS
    with get_client(sync_client=True) as client:
        while time.monotonic() < end:
            if not client.read_task_runs(flow_run_filter=this_run, task_run_filter=unfinished, limit=1):
                return
            time.sleep(0.05)
