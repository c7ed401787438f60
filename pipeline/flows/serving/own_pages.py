"""Decide whether a request comes from a server's own pages and names, or from a foreign web page.

A browser lets any page send requests to this machine. Three headers that no page can forge tell where a request comes
from: Host (a foreign name there means that the page's own name was pointed to this machine, which is called DNS
rebinding), Origin, and Sec-Fetch-Site. https://developer.mozilla.org/docs/Glossary/Fetch_metadata_request_header
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

LOOPBACK_NAMES = frozenset({"127.0.0.1", "::1", "localhost"})
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class OwnNames:
    """What a server is called.

    Attributes:
        hosts: names and addresses that the Host header may hold, in lower case and without a port. The port is not
            compared, because a tunnel (`ssh -L`) has another one at its far end.
        origins: further origins whose pages may send requests ("https://prefect.example.org").
    """

    hosts: frozenset[str] = LOOPBACK_NAMES
    origins: frozenset[str] = field(default_factory=frozenset)

    def refusal(self, headers: Iterable[tuple[str, str]]) -> str | None:
        """Return why a request is refused, as a sentence, or None if it is not.

        Args:
            headers: names and values of all headers of the request.
        """
        values: dict[str, list[str]] = {}
        for name, value in headers:
            values.setdefault(name.lower(), []).append(value.strip())
        host = values.get("host", [])
        if len(host) != 1 or host_name(host[0]) not in self.hosts:
            return "This server does not go by the name in the Host header of the request."
        own = {f"http://{host[0].lower()}", *self.origins}
        foreign = any(origin.lower() not in own for origin in values.get("origin", []))
        if "origin" not in values and not set(values.get("sec-fetch-site", [])) <= {"same-origin", "none"}:
            # A link on another page may open a page of this server, but no page may embed or load anything from it.
            opened = values.get("sec-fetch-mode") == ["navigate"] and values.get("sec-fetch-dest") == ["document"]
            foreign = not opened
        return "This server does not answer pages of another origin." if foreign else None


def host_name(host: str) -> str | None:
    """Return the name in a Host header, in lower case and without its port, or None if the header is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if not name or parts.netloc != host or parts.username is not None:
        return None
    name = name.removesuffix(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name
