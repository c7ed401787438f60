"""A small client for Prefect's REST API, built on the standard library.

Dead runs are looked for once a minute, and importing Prefect's own client takes a second and a half.
"""

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

_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 6  # the server answers 503 while SQLite is busy; Prefect's own client retries as well


def call(address: str, method: str, path: str, body: Any = None) -> Any:
    """Send one request and return the parsed answer.

    PREFECT_API_KEY and PREFECT_API_AUTH_STRING are used when they are set.

    Args:
        address: URL of the API, such as http://127.0.0.1:4200/api.
        method: HTTP method.
        path: path below the address, with a leading slash.
        body: anything that JSON can hold; None sends no body.

    Raises:
        GraphError: the server does not answer, or it refuses the request.
    """
    headers = {"Content-Type": "application/json", **_authorization()}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data=data, method=method, headers=headers)  # noqa: S310
    attempt = 0
    while True:
        attempt += 1
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 (Prefect's API)
                text = answer.read()
            return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                answer_text = f"{error.code} {error.read(500).decode('utf-8', 'replace')}"
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE or attempt == _ATTEMPTS:
                raise _failure("Prefect's server refused the request", address, path, answer_text) from error
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
        fix="Check that the server runs (`make serve`), and read its log in .reprise/prefect/server.log.",
    )
