"""Find the secrets of this machine: in environment variables, in DVC's settings, and in the files that these name.

DVC's settings are read at all of DVC's levels, with the parser that DVC itself uses (`configobj`). A value counts as
secret if the name of its variable or setting says so; the password in a URL counts under any name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from pipeline.processes.dvc_settings import leaves, parse_settings, settings_files

SECRET_NAME = re.compile(
    r"SECRET|PASSW|PASSPHRASE|PASSCODE|PASS(?![A-Z])|(^|_)PSW|PSWD|(^|_)PW(_|$)|PWD(?![A-Z])|TOKEN(?!IZ)|CREDENTIAL"
    r"|CREDS?(?![A-Z])|COOKIE|DSN(?![A-Z])|AUTH(?!OR)|AUTHORI[SZ]|BEARER|JWT|PRIVATE|KEYS?(?![A-Z])|KEY_?ID|EXTRAHEADER"
    r"|(^|_)(PAT|SAS|OTP)(_|$)|SIGNATURE|WEBHOOK|CONN(ECTION)?_?(STRING|STR|URL|URI)|KERB_TICKET",
    re.IGNORECASE,
)
_IN_QUERY = re.compile(r"(?i)sig|credential|token|key|secret|auth|passw")
_IN_COMPOUND = re.compile(r"(?i)(?:key|signature|password|passwd|pwd|secret|token)\s*=\s*([^;\s]+)")
_NAMES_A_FILE = re.compile(r"(?i)cred|key|json|file|path")
_LONG_USER = 16  # characters: a token stands where a user's name would
_WORKING_FOLDER = ("PWD", "OLDPWD")
_LARGEST_FILE = 1 << 20
_AWS_FILES = ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE")


class Secret(NamedTuple):
    """A secret value and the name that it has here.

    Attributes:
        name: of the variable or setting.
        value: the secret itself.
    """

    name: str
    value: str


def find_secrets(root: Path, environment: Mapping[str, str]) -> list[Secret]:
    """Return the secrets that a command in a folder may show.

    Args:
        root: the project folder.
        environment: environment variables.
    """
    found: list[Secret] = []
    for name, value in environment.items():
        if name.startswith("GIT_CONFIG_KEY_"):  # `git -c` for child processes: name and value in two variables
            found += _from_setting(value, environment.get(name.replace("_KEY_", "_VALUE_"), ""))
        elif name not in _WORKING_FOLDER or not value.startswith("/"):
            found += _from_setting(name, value)
    files = (settings_files(root, environment), _other_settings(root, environment), _credential_files(environment))
    for path in chain.from_iterable(files):
        found += _from_file(path)
    return found


def _other_settings(root: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the files of Prefect's settings, and the file of variables that Prefect reads in the project."""
    prefect = environment.get("PREFECT_HOME")
    yield (Path(prefect) if prefect else _home(environment) / ".prefect") / "profiles.toml"
    yield from (root / ".env", root / "prefect.toml")


def _credential_files(environment: Mapping[str, str]) -> Iterator[Path]:
    yield from (Path(environment[name]) for name in _AWS_FILES if environment.get(name))
    yield from (_home(environment) / ".aws" / name for name in ("credentials", "config"))


def _home(environment: Mapping[str, str]) -> Path:
    """Return the home folder; a user without one gets a folder that does not exist."""
    return Path(environment.get("HOME") or os.path.expanduser("~"))


def _from_setting(name: str, value: object, folder: Path | None = None) -> Iterator[Secret]:
    """Yield the secrets in one variable or setting.

    Args:
        name: of the variable or setting.
        value: a text, or a list where a setting has commas outside quotes.
        folder: of the file that holds the setting, for paths relative to it.
    """
    items = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    for text in [*items, ",".join(items), ", ".join(items)] if len(items) > 1 else items:
        yield from (Secret(name, part) for part in _from_urls(text))
        is_secret = SECRET_NAME.search(name) is not None
        place = _existing_place(text, folder) if is_secret or (folder and _NAMES_A_FILE.search(name)) else None
        if place is not None:  # a path is no secret, but the file may hold one
            yield from _from_file(place, name)
        elif is_secret:
            yield Secret(name, text)
            yield from (Secret(name, part) for part in _IN_COMPOUND.findall(text))
            if "AUTH" in name.upper() and text.count(":") == 1:  # user and password
                yield Secret(name, text.partition(":")[2])
            yield from _from_json(text)


def _existing_place(value: str, folder: Path | None) -> Path | None:
    """Return the path that a value is, if something exists there; in the environment only an absolute one counts."""
    if folder is None and not value.startswith(("/", "~/")):
        return None
    try:
        path = ((folder or Path()) / Path(value).expanduser()) if value else None
        return path if path is not None and path.exists() else None
    except (OSError, ValueError, RuntimeError):
        return None


def _from_urls(text: str) -> Iterator[str]:
    """Yield the passwords, the tokens in place of a user, and the signatures of the URLs in a text."""
    for url in re.findall(r"[\w+.-]+://[^\s\"'<>]+", text):
        try:
            parts = urlsplit(url)
            query = parse_qsl(parts.query)
        except ValueError:
            continue
        alone = parts.username if parts.password is None and len(parts.username or "") >= _LONG_USER else None
        for part in filter(None, (parts.password, alone)):
            yield from {part, unquote(part)}
        yield from (value for key, value in query if _IN_QUERY.search(key))


def _from_file(path: Path, name: str = "") -> Iterator[Secret]:
    """Yield the secrets in a file of settings or credentials: INI, TOML, JSON, a private key, or one secret alone.

    Args:
        path: the file; one that cannot be read holds no secret that this process could show.
        name: of the variable that names the file; without it, the file is one of settings.
    """
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_FILE:
            return
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except (OSError, ValueError):
        return
    if "PRIVATE KEY-----" in text and not text.lstrip().startswith("{"):
        yield Secret(name or path.name, text)
    elif text.lstrip().startswith("{"):
        yield from _from_json(text)
    elif name and len(text.split()) == 1:
        yield Secret(name, text.strip())
    else:
        for interpolate in (False, True):
            for setting, value in leaves(parse_settings(text, interpolate=interpolate)):
                yield from _from_setting(setting, value, path.parent)


def _from_json(text: str) -> Iterator[Secret]:
    if not text.lstrip().startswith("{"):
        return
    try:
        entries = list(leaves(json.loads(text)))
    except (ValueError, RecursionError):
        return
    for name, value in entries:
        if isinstance(value, str) and SECRET_NAME.search(name):
            yield Secret(name, value)
