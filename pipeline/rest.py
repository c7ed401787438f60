"""A few calls of Prefect's REST API by the standard library: the janitor asks once a minute, and Prefect's own
client takes a second and a half to import."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from typing import Any

from stages.contracts.errors import GraphError

_SECONDS = 20.0


def call(address: str, method: str, path: str, body: Any = None) -> Any:
    """The answer, parsed. PREFECT_API_KEY and PREFECT_API_AUTH_STRING are used where they are set.

    Raises:
        GraphError: the server does not answer, or refuses.
    """
    headers = {"Content-Type": "application/json", **_authorization()}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data=data, method=method, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 (an address of Prefect's API)
            text = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            found = f"{error.code} {error.read(500).decode('utf-8', 'replace')}"
        raise _refused(address, path, found) from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise _refused(address, path, error) from error
    return json.loads(text) if text else None


def _authorization() -> dict[str, str]:
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _refused(address: str, path: str, found: object) -> GraphError:
    return GraphError(
        "Prefect's server did not do what it was asked",
        where=f"{address}{path}",
        found=found,
        fix="See whether it runs (`make serve`), and its log in .reprise/prefect/server.log.",
    )
