"""`python -m stages.probe --run NAME --seed N --group NAME`: a group of probes, into data/probe/NAME/N/GROUP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reprise.runtime.entry import run_stage
from stages.probe.stage import probe

if TYPE_CHECKING:
    from stages.probe.data import ProbeData


def opened(where: str, confidence: float, device: str) -> ProbeData:
    """Embeddings, splits and labels of "RUN/SEED"."""
    from stages.probe.data import ProbeData

    return ProbeData(Path("data/embed") / where / "embeddings.parquet", confidence=confidence, device=device)


def main(argv: list[str]) -> None:
    """Run the group on what the run embedded."""
    probe(argv, "stages.probe", __doc__, "groups", opened)


if __name__ == "__main__":
    run_stage(main)
