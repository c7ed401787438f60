"""A few calls of Prefect's REST API by the standard library: the janitor asks once a minute, and Prefect's own
client takes a second and a half to import."""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any

from reprise.config.errors import GraphError

_SECONDS = 30.0
_TRIES = 6  # a busy SQLite makes the server say 503, as Prefect's own client knows


def call(address: str, method: str, path: str, body: Any = None) -> Any:
    """The answer, parsed. PREFECT_API_KEY and PREFECT_API_AUTH_STRING are used where they are set.

    Raises:
        GraphError: the server does not answer, or refuses.
    """
    headers = {"Content-Type": "application/json", **_authorization()}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data=data, method=method, headers=headers)  # noqa: S310
    attempt = 0
    while True:
        attempt += 1
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310 (Prefect's API)
                text = answer.read()
            return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                found = f"{error.code} {error.read(500).decode('utf-8', 'replace')}"
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE or attempt == _TRIES:
                raise _failure("Prefect's server did not do what it was asked", address, path, found) from error
            time.sleep(0.25 * 2**attempt)
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise _failure("Prefect's server does not answer", address, path, error) from error


def _authorization() -> dict[str, str]:
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if pair := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    return {}


def _failure(what: str, address: str, path: str, found: object) -> GraphError:
    return GraphError(
        what,
        where=f"{address}{path}",
        found=found,
        fix="See whether it runs (`make serve`) or is busy, and its log in .reprise/prefect/server.log.",
    )
