"""Secrets out of text: values of secret variables and DVC credentials become `***` before anything is logged.

A stage may print its environment, and DVC may print an address with a password in it. Every line and every
text that a flow hands to Prefect passes here.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

HIDDEN = "***"
SHORTEST = 6  # a shorter value ("1", "yes") would blacken ordinary text
_SECRET_NAME = re.compile(
    r"SECRET|PASSW|PASSPHRASE|TOKEN|CREDENTIAL|(API|ACCESS|ACCOUNT|PRIVATE)_?KEY|AUTH_STRING|CONNECTION_(STRING|URL)|SAS\b"
    r"|(^|_)(KEY|PASS|PAT)(_|$)",
    re.IGNORECASE,
)
_IN_ADDRESS = re.compile(r"(?<=://)[^\s/@]+@")
_CONFIGS = (".dvc/config", ".dvc/config.local")


def redactor(root: Path, environment: Mapping[str, str] | None = None) -> Callable[[str], str]:
    """A function that hides what this environment and this folder's DVC settings hold in secret."""
    environment = os.environ if environment is None else environment
    values = {*_of_environment(environment), *_of_dvc([*(root / name for name in _CONFIGS), _global(environment)])}
    lines = {line.strip() for value in values for line in value.splitlines()}  # a key in PEM form has several
    kept = sorted((v for v in lines if len(v) >= SHORTEST), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, kept))) if kept else None

    def hide(text: str) -> str:
        shown = pattern.sub(HIDDEN, text) if pattern else text
        return _IN_ADDRESS.sub(f"{HIDDEN}@", shown)

    return hide


def _of_environment(environment: Mapping[str, str]) -> Iterable[str]:
    return (value for name, value in environment.items() if _SECRET_NAME.search(name))


def _global(environment: Mapping[str, str]) -> Path:
    """DVC's settings for this user."""
    return Path(environment.get("DVC_GLOBAL_CONFIG_DIR") or Path.home() / ".config/dvc") / "config"


def _of_dvc(files: Iterable[Path]) -> Iterable[str]:
    """Values under secret names in DVC's settings."""
    for path in files:
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
        for section in parser.sections():
            for key, value in parser.items(section):
                if _SECRET_NAME.search(key):
                    yield value.strip("'\" ")
