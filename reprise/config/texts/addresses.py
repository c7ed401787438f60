"""The addresses from which a source may read, and what they must not hold: credentials.

What stands in params.yaml goes into dvc.lock, artifacts and messages, so an address with a user, a signature or a token
is refused before anything runs. Credentials come from the environment and from the files of the stores' own tools.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from itertools import product
from urllib.parse import parse_qsl, unquote, urlsplit

from reprise.config.texts.text_forms import wrong_value

PROTOCOLS = ("file", "gcs", "gs", "http", "https", "s3")
_HARMLESS = {"alt", "dl", "download", "raw", "ref", "versionid", "version"}  # names in a query that grant nothing
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,12})\.\.(\d{1,12})")
MOST_NAMES = 1_000_000
_WAY_OUT = (
    " Credentials come from the environment or from the files of the store's own tools (AWS_PROFILE, ~/.aws, "
    "GOOGLE_APPLICATION_CREDENTIALS, ~/.netrc)."
)


@dataclass(frozen=True)
class Address:
    """A place on another machine, or a path.

    Attributes:
        protocol: s3, gs, http, https or file.
        place: what follows the protocol, without a slash at its end.
    """

    protocol: str
    place: str

    def __str__(self) -> str:
        return f"{self.protocol}://{self.place}"


def is_address(text: str) -> bool:
    """Return whether a text is a URL of any protocol, and no path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)|(?i:file|gcs|gs|https?|s3):", text) is not None


def granting_nothing(value: str) -> str:
    """Refuse an address that breaks a rule, in a parameter that holds a path or an address.

    Raises:
        ValueError: for pydantic, with the rule.
    """
    if is_address(value) and (problem := problem_of(value)):
        raise wrong_value(*problem)
    return value


def problem_of(text: str) -> tuple[str, str] | None:
    """Return the rule that an address breaks and a way out, or None."""
    if "::" in text:
        return "an address names one place; fsspec's chains of protocols (`a::b`) are not read", ""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "this is no URL", ""
    protocol = parts.scheme.casefold()
    if protocol not in PROTOCOLS:
        return f"the protocol of an address is one of {', '.join(PROTOCOLS)}", ""
    if not text[len(protocol) :].startswith("://"):
        return "an address has `://` behind its protocol", ""
    if "@" in parts.netloc:
        return "an address may not hold a user or a password", _WAY_OUT
    if parts.fragment:
        return "an address may not hold a fragment (`#...`)", _WAY_OUT
    names = {name.casefold() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    if (parts.query and not names) or names - _HARMLESS:
        allowed = ", ".join(sorted(_HARMLESS))
        rule = (
            f"the query of an address may hold only {allowed}: others may be signatures or tokens, and are written down"
        )
        return rule, _WAY_OUT
    if protocol != "file" and not host:
        return "the address names no host or bucket", ""
    if protocol == "file" and host not in (None, "", "localhost"):
        return "a `file` address has three slashes (file:///data/images)", ""
    if ".." in unquote(parts.path).split("/") or any(ord(c) < 32 or ord(c) == 127 for c in text):
        return "an address may hold no `..` and no control characters", ""
    return None


def parse_address(text: str) -> Address:
    """Read an address that `problem_of` finds nothing wrong with."""
    parts = urlsplit(text)
    protocol = {"gcs": "gs"}.get(parts.scheme.casefold(), parts.scheme.casefold())
    if protocol == "file":
        return Address(protocol, posixpath.normpath(unquote(parts.path)))
    place = parts.netloc + parts.path + (f"?{parts.query}" if parts.query else "")
    return Address(protocol, place.rstrip("/"))


def expand_braces(pattern: str) -> list[str]:
    """Write out `{000..012}` and `{a,b}`, as shells and webdataset do: the last braces change first.

    Raises:
        ValueError: braces that are not closed or nested, or more than MOST_NAMES names.
    """
    pieces = _BRACES.split(pattern)
    if any("{" in piece or "}" in piece for piece in pieces[::2]):
        raise ValueError("braces that are not closed, or nested")
    choices = [_choices(piece) if number % 2 else [piece] for number, piece in enumerate(pieces)]
    total = 1
    for choice in choices:
        total *= len(choice)
        if total > MOST_NAMES:
            raise ValueError(f"more than {MOST_NAMES:,} names")
    return ["".join(parts) for parts in product(*choices)]


def _choices(inside: str) -> list[str]:
    span = _RANGE.fullmatch(inside)
    if span is None:
        return inside.split(",") if "," in inside else ["{" + inside + "}"]
    first, last = int(span[1]), int(span[2])
    if abs(last - first) >= MOST_NAMES:
        raise ValueError(f"more than {MOST_NAMES:,} names")
    padded = any(len(text) > 1 and text.startswith("0") for text in span.groups())
    width = max(map(len, span.groups())) if padded else 0
    return [str(n).zfill(width) for n in range(first, last + (1 if last >= first else -1), 1 if last >= first else -1)]
