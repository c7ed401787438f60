"""`python -m stages.probe.on_images --run NAME --seed N --group NAME`: probes that train on the images of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reprise.runtime.entry import run_stage
from stages.probe.stage import probe

if TYPE_CHECKING:
    from stages.probe.data import ProbeData


def opened(where: str, confidence: float, device: str) -> ProbeData:
    """Embeddings, splits, labels, images and the backbone of "RUN/SEED"."""
    from stages.probe.image_data import ImageData

    embeddings = Path("data/embed") / where / "embeddings.parquet"
    return ImageData(embeddings, Path("data/runs") / where, confidence=confidence, device=device)


def main(argv: list[str]) -> None:
    """Run the group on the run's images and its backbone."""
    probe(argv, "stages.probe.on_images", __doc__, "image_groups", opened)


if __name__ == "__main__":
    run_stage(main)
