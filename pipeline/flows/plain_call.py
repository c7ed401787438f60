"""Let a flow that is called as a plain Python function say in a sentence that it has no Prefect API.

Prefect connects before the body of a flow begins, so a missing or wrong API would end in a traceback of Prefect's.
Runs that a worker starts do not come through here: they know their API.
"""

from __future__ import annotations

from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.settings import (
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
    temporary_settings,
)

from reprise.config.errors import GraphError, listed

_START_SECONDS = 180  # Prefect waits 20 seconds, in which a busy machine does not create the database


class CalledFlow(Flow):
    """A flow that looks for its API when it is called."""

    def __call__(self, *arguments: Any, **parameters: Any) -> Any:
        """Run the flow in this process.

        Raises:
            GraphError: there is no Prefect API that could record the run.
        """
        if FlowRunContext.get() is None:  # a flow inside a flow has the API of the outer one
            require_api()
        return super().__call__(*arguments, **parameters)


def callable_flow(flow: Flow) -> CalledFlow:
    """Return the same flow, which looks for its API when it is called as a function."""
    return CalledFlow(flow.fn, name=flow.name, validate_parameters=flow.should_validate_parameters)


def require_api() -> None:
    """Connect to the Prefect API of this process; start Prefect's temporary server where its settings allow that.

    Raises:
        GraphError: no API is configured, or the one that is does not answer or refuses this process.
    """
    settings = get_current_settings()
    address = settings.api.url
    if not address and not settings.server.ephemeral.enabled:
        raise GraphError(
            "this flow has no Prefect API that could record the run",
            where="PREFECT_API_URL",
            found="no address, and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE forbids a temporary server",
            fix="Run it with `reprise flows run`, which brings its own server, or set PREFECT_API_URL.",
        )
    temporary = {
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: _START_SECONDS,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }
    try:
        with temporary_settings({} if address else temporary), get_client(sync_client=True) as client:
            client.read_flows(limit=1)  # needs the password too, where the server asks for one
    except Exception as error:  # whatever Prefect's client or the start of its server raises
        raise GraphError(
            "Prefect's API cannot be used" if address else "Prefect's temporary server did not start",
            where=f"PREFECT_API_URL={address}" if address else f"PREFECT_HOME={settings.home}",
            found=listed(f"| {line}" for line in f"{type(error).__name__}: {error}".splitlines()),
            fix="Check that the server runs (`reprise flows serve`) and that PREFECT_API_AUTH_STRING is its password."
            if address
            else "Read Prefect's text; `reprise flows run` starts a server of its own in .reprise/prefect.",
        ) from error
