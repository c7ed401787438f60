"""Whether a run has been trained and embedded, for those who ask it about images."""

from __future__ import annotations

from pathlib import Path

from reprise.artifacts import layout
from reprise.artifacts.embeddings import FILE
from reprise.config.errors import ResultError


def embeddings_of(run: str, seed: int) -> Path:
    """Return the file with the embeddings of a trained run.

    Raises:
        ResultError: there is no backbone, or no embedding.
    """
    table = layout.embedding(run, seed) / FILE
    for needed in (layout.run(run, seed), table):
        if not needed.exists():
            raise ResultError(
                f"the run '{run}' has not been trained and embedded with seed {seed}",
                where=needed,
                found="no such file or folder",
                fix="Run `reprise repro`.",
            )
    return table
