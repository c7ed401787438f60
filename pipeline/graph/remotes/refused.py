"""Read from the output of DVC's process which objects it refused (pipeline/graph/in_dvc), and explain it."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.graph.lock_file import REFUSED
from reprise.config.errors import ObjectError, listed


def refusals(lines: Sequence[str]) -> list[str]:
    """Return what DVC's process said of the objects that it refused."""
    return [line.removeprefix(REFUSED) for line in lines if line.startswith(REFUSED)]


def refused_objects(lines: Sequence[str], where: object) -> ObjectError:
    """Make the error for objects that were refused.

    Args:
        lines: what was said of each.
        where: the remote, or what was asked for.
    """
    return ObjectError(
        "objects are not what their names say; nothing of them was used",
        where=where,
        found=listed(lines),
        fix="Delete these objects where they were altered, find out who can write there, and send the right ones again "
        "with `reprise push` from a folder that has them; `reprise repro` computes what is missing.",
    )
