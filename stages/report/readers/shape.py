"""JSON artifacts of an unexpected shape raise an error that names the file and the stage that writes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reprise.artifacts.results import read_json
from reprise.config.errors import ResultError


@contextmanager
def expected_shape(path: Path, stage: str) -> Iterator[None]:
    """Turn the errors of reading JSON of another shape into a ResultError.

    Args:
        path: the file, for the message.
        stage: the stage that writes it, for the message.

    Raises:
        ResultError: a key is missing or a value is of another type.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise ResultError(
            "the file does not have the shape that this version reads",
            where=path,
            found=f"{type(error).__name__}: {error}",
            fix=f"Run `dvc repro {stage}` to write it again.",
        ) from error


def read_object(path: Path, stage: str) -> dict[str, Any]:
    """Read a JSON artifact that holds an object; a missing file reads as an empty object.

    Args:
        path: the file.
        stage: the stage that writes it, for the message.

    Raises:
        ResultError: the file does not hold a JSON object.
    """
    if not path.exists():
        return {}
    raw = read_json(path, f"Run `dvc repro {stage}` to write it again.")
    if not isinstance(raw, dict):
        raise ResultError(
            "the file does not hold a JSON object",
            where=path,
            found=type(raw).__name__,
            fix=f"Run `dvc repro {stage}` to write it again.",
        )
    return raw
