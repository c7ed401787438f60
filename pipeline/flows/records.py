"""What Prefect still has in hand when a flow is over: sent to the server, and written down there, before it stops.

A temporary server that stops at once would lose the last events, and the run page would show tasks that never
ended.
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

PATIENCE_SECONDS = 5.0
_UNFINISHED = [StateType.PENDING, StateType.RUNNING]


def send() -> None:
    """Send logs and events that wait in this process."""
    EventsWorker.drain_all(timeout=PATIENCE_SECONDS)
    APILogWorker.drain_all(timeout=PATIENCE_SECONDS)


def settle(state: State) -> None:
    """Wait a little until the server has written down the end of every task of the run that ended in `state`."""
    this_run = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    unfinished = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNFINISHED)))
    end = time.monotonic() + PATIENCE_SECONDS
    with get_client(sync_client=True) as client:
        while time.monotonic() < end:
            if not client.read_task_runs(flow_run_filter=this_run, task_run_filter=unfinished, limit=1):
                return
            time.sleep(0.05)
