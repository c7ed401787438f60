"""Replace secrets in text by `***`: the values of secret environment variables, and DVC's credentials.

A stage may print its environment, and DVC may print a URL with a password in it. Every line and every text that a
flow passes to Prefect goes through this module.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

HIDDEN = "***"
MIN_SECRET_LENGTH = 6  # hiding shorter values ("1", "yes") would damage ordinary text
_SECRET_NAME = re.compile(
    r"SECRET|PASSW|PASSPHRASE|TOKEN|CREDENTIAL|(API|ACCESS|ACCOUNT|PRIVATE)_?KEY|AUTH_STRING|CONNECTION_(STRING|URL)|SAS\b"
    r"|(^|_)(KEY|PASS|PAT)(_|$)",
    re.IGNORECASE,
)
_IN_ADDRESS = re.compile(r"(?<=://)[^\s/@]+@")
_CONFIGS = (".dvc/config", ".dvc/config.local")


def make_redactor(root: Path, environment: Mapping[str, str] | None = None) -> Callable[[str], str]:
    """Return a function that hides the secrets of an environment and of a folder's DVC settings.

    Args:
        root: the project folder.
        environment: environment variables; those of this process by default.
    """
    environment = os.environ if environment is None else environment
    configs = [*(root / name for name in _CONFIGS), _user_config(environment)]
    values = {*_environment_secrets(environment), *_dvc_secrets(configs)}
    lines = {line.strip() for value in values for line in value.splitlines()}  # a key in PEM format has several lines
    secrets = sorted((v for v in lines if len(v) >= MIN_SECRET_LENGTH), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, secrets))) if secrets else None

    def hide(text: str) -> str:
        hidden = pattern.sub(HIDDEN, text) if pattern else text
        return _IN_ADDRESS.sub(f"{HIDDEN}@", hidden)

    return hide


def _environment_secrets(environment: Mapping[str, str]) -> Iterable[str]:
    return (value for name, value in environment.items() if _SECRET_NAME.search(name))


def _user_config(environment: Mapping[str, str]) -> Path:
    """Return the path of the user's DVC settings."""
    return Path(environment.get("DVC_GLOBAL_CONFIG_DIR") or Path.home() / ".config/dvc") / "config"


def _dvc_secrets(files: Iterable[Path]) -> Iterable[str]:
    """Yield the values of settings with secret names."""
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
