"""A small client for Prefect's REST API, built on the standard library.

Dead runs are looked for once a minute, and importing Prefect's own client takes a second and a half.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from typing import Any

from reprise.config.errors import GraphError

_TIMEOUT_SECONDS = 30.0
_REFUSALS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_ATTEMPTS = 6  # the server answers 503 while SQLite is busy; Prefect's own client retries as well


def call(address: str, method: str, path: str, body: Any = None) -> Any:
    """Send one request and return the parsed answer.

    PREFECT_API_AUTH_STRING is used when it is set, else PREFECT_API_KEY, as Prefect's own client does.

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
    attempt = 0
    while True:
        attempt += 1
        try:
            request = urllib.request.Request(f"{address}{path}", data, headers, method=method)  # noqa: S310
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 (Prefect's API)
                text = answer.read()
            return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                answer_text = f"{error.code} {error.read(500).decode('utf-8', 'replace')}"
            if error.code in _REFUSALS:
                raise _refusal(address, error.code) from error
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE or attempt == _ATTEMPTS:
                raise _failure("Prefect's server refused the request", address, path, answer_text) from error
            time.sleep(0.25 * 2**attempt)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _failure("Prefect's server does not answer", address, path, _reason(error)) from error


def why_unreachable(address: str, seconds: float = 5.0) -> str | None:
    """Return why no Prefect API answers at an address, or None if one does. No password is sent.

    Args:
        address: URL of the API.
        seconds: how long to wait; a server that has ended refuses at once, and a busy one takes a while.
    """
    try:
        if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
            return "an address that does not start with http:// or https://"
        with urllib.request.urlopen(f"{address}/health", timeout=seconds) as answer:  # noqa: S310 (checked above)
            return None if answer.status == HTTPStatus.OK else f"status {answer.status}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return _reason(error)


def check_access(address: str) -> None:
    """Check that the server that PREFECT_API_URL names answers, and that it takes the password of this process.

    Raises:
        GraphError: it does not.
    """
    if "@" in address:
        raise GraphError(
            "an address with a password in it would be shown in logs and pages",
            where="PREFECT_API_URL",
            found=_without_password(address),
            fix="Take the name and the password out of the address, and put them into PREFECT_API_AUTH_STRING.",
        )
    reason = why_unreachable(address)
    if reason is not None:
        raise GraphError(
            "Prefect's server does not answer",
            where="PREFECT_API_URL",
            found=f"{address}: {reason}",
            fix="Start the server, correct the address, or unset the variable.",
        )
    try:
        request = urllib.request.Request(f"{address}/admin/version", headers=_authorization())  # noqa: S310
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS):  # noqa: S310 (checked above)
            return
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _REFUSALS:
            raise _refusal(address, error.code) from error
    except (OSError, http.client.HTTPException):
        return  # it answered a moment ago, and the next request will tell


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, socket.gaierror | UnicodeError):
        return f"the host name cannot be resolved ({cause})"
    return str(cause) or type(cause).__name__


def _without_password(address: str) -> str:
    scheme, separator, rest = address.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _refusal(address: str, code: int) -> GraphError:
    return GraphError(
        "Prefect's server does not take the password of this process",
        where=_without_password(address),
        found=f"status {code}",
        fix="Unset PREFECT_API_URL, so that the server of `reprise flows serve` is found with its password, or set "
        "PREFECT_API_AUTH_STRING to the password of the server that PREFECT_API_URL names.",
    )


def _authorization() -> dict[str, str]:
    if pair := os.environ.get("PREFECT_API_AUTH_STRING"):
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    if key := os.environ.get("PREFECT_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    return {}


def _failure(what: str, address: str, path: str, found: object) -> GraphError:
    return GraphError(
        what,
        where=f"{_without_password(address)}{path}",
        found=found,
        fix="Check that the server runs (`reprise flows serve`), and read its log in .reprise/prefect/server.log.",
    )
