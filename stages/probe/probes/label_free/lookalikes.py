"""Lookalikes: test images whose embedding nearly coincides with that of a training image.

A picture that was trained on and is tested on is a leak. Near-copies are found before training (stages/ingest/near). A
trained network also recognises crops and other changes that no comparison of pixels finds. How near is suspicious
depends on the network, so a distance is compared with the usual one: the median distance of a test image to its nearest
training image. Pairs that are many times nearer are listed for a person to look at; nearness does not prove a copy.

Source: Barz and Denzler 2020, "Do we train on test data?" (ciFAIR), who list nearest neighbours in the features of a
network and let people judge them. They rank all pairs; here the usual distance decides which ones are listed.

Distance is one minus the cosine similarity. Labels are not read.

Checked by: tests/stages/probe/label_free/test_label_free.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Probe, ProbeResult

COLLAPSED = 1e-6  # below this usual distance, float32 rounding decides which image is nearer


def suspicious(distances: np.ndarray, times: float) -> np.ndarray:
    """Return the queries that lie at least `times` nearer than the median, the nearest first.

    Args:
        distances: (q,) to the nearest image of the bank.
        times: how many times nearer.
    """
    near = np.flatnonzero(distances * times <= np.median(distances))
    return near[np.argsort(distances[near], kind="stable")]


class Lookalikes(Probe):
    """No metrics; table: key, neighbour_key, similarity; the nearest pair comes first."""

    needs_labels: ClassVar[bool] = False

    class Params(StrictModel):
        """Parameters of `lookalikes`."""

        queries: Annotated[
            int,
            Field(ge=1, le=1_000_000),
            meaning(
                "This many test images, chosen by the hash of their keys, are compared with all training images.",
                "images",
            ),
        ] = 5000
        times: Annotated[
            float,
            Field(ge=1, le=1000),
            meaning(
                "A pair is listed when its distance is this many times smaller than the median distance of a test "
                "image to its nearest training image."
            ),
        ] = 10.0
        pairs: Annotated[
            int, Field(ge=1, le=10_000), meaning("At most this many pairs are listed, the nearest ones.", "pairs")
        ] = 50

    def run(self, data: ProbeData) -> ProbeResult:
        """Compare test with train."""
        from reprise.measures.nearest.neighbours import top_k

        bank, test = data.part("train").keys, data.part(data.test).keys
        if data.test == "train" or not len(bank):
            return ProbeResult({}, {"note": "not run: there are no training images beside those that are tested"})
        rows = data.choose(data.test, self.params.queries)
        queries = data.features(data.test, BACKBONE)[rows]
        similarity, nearest = top_k(queries, data.features("train", BACKBONE), 1, device=data.device)
        distances = 1.0 - similarity[:, 0].astype(np.float64)
        usual = float(np.median(distances))
        if usual < COLLAPSED:
            return ProbeResult({}, {"note": "not run: the network tells hardly any images apart"})
        near = suspicious(distances, self.params.times)
        chosen = near[: self.params.pairs]
        table = pa.table(
            {
                "key": pa.array(test[rows[chosen]], pa.string()),
                "neighbour_key": pa.array(bank[nearest[chosen, 0]], pa.string()),
                "similarity": pa.array(similarity[chosen, 0], pa.float32()),
            }
        )
        protocol = {
            "tap": BACKBONE,
            "queries": f"{len(rows)} of {data.test_note}",
            "bank": f"{len(bank)} of train",
            "usual distance": f"{usual:.4g}",
            "listed": f"{len(chosen)} of {len(near)} test images that lie at least {self.params.times:g} times nearer "
            "to a training image than usual",
        }
        return ProbeResult({}, protocol, table=table)
