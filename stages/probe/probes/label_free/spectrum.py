"""Is the representation spread out, or has it collapsed? Rank and evenness of the training features, without labels.

Source: RankMe (Garrido et al. 2023), effective rank (Roy and Vetterli 2007), uniformity (Wang and Isola 2020), feature
std (Chen and He 2021). No intervals: duplicates, which a bootstrap makes, bias all of them. They compare runs only at
an equal number of images and dimensions, and a high rank is no proof of quality: random features have one, too.

Checked by: tests/stages/probe/label_free/test_label_free.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Figure, Probe, ProbeResult


class Spectrum(Probe):
    """Metrics, on train: `rankme`, `effective_rank`, `participation_ratio`, `feature_std`, `uniformity`."""

    needs_labels: ClassVar[bool] = False

    class Params(StrictModel):
        """Parameters of `spectrum`."""

        rows: Annotated[
            int,
            Field(ge=2, le=1_000_000),
            meaning("At most this many training images are used, chosen by the hash of their keys.", "images"),
        ] = 10_000

    def run(self, data: ProbeData) -> ProbeResult:
        """One pass over the training features."""
        from reprise.measures.spectrum import collapse, spectrum

        x = data.features("train", BACKBONE)[data.choose("train", self.params.rows)]
        if len(x) == 0:
            return ProbeResult({}, {"note": "not run: there is no training image"})
        found = spectrum(x)
        n, d = x.shape
        metrics = {name: Figure(value, None, None, n) for name, value in found.items() if value is not None}
        protocol = {
            "tap": BACKBONE,
            "images": f"{n} of train",
            "dimensions": f"{d}",
            "collapse": collapse(found["feature_std"], found["rankme"], n, d),
            "interval": "none: duplicates bias these figures",
        }
        return ProbeResult(metrics, protocol)
