"""What lies near: the nearest training images of a few test images, for the report's grid.

Looking at neighbours shows what a representation takes for alike (colour, background, shape) before any label does.
Cosine similarity; ties go to the lower key.

Source: no publication; the nearest features by cosine.

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


class Neighbours(Probe):
    """No metrics; table: key, rank (from 1), neighbour_key, similarity."""

    needs_labels: ClassVar[bool] = False

    class Params(StrictModel):
        """Parameters of `neighbours`."""

        queries: Annotated[
            int,
            Field(ge=1, le=1000),
            meaning("Neighbours are looked for of this many test images, chosen by the hash of their keys.", "images"),
        ] = 24
        k: Annotated[
            int, Field(ge=1, le=100), meaning("Each of them is shown with this many training images.", "images")
        ] = 8

    def run(self, data: ProbeData) -> ProbeResult:
        """Queries from test, neighbours from train."""
        from reprise.measures.nearest.neighbours import top_k

        bank, test = data.part("train").keys, data.part(data.test).keys
        if len(bank) == 0:
            return ProbeResult({}, {"note": "not run: there is no training image"})
        rows = data.choose(data.test, self.params.queries)
        itself = data.test == "train"  # no other split: a query is in the bank, and is not shown as its own neighbour
        queries, k = data.features(data.test, BACKBONE)[rows], self.params.k + itself
        similarity, nearest = top_k(queries, data.features("train", BACKBONE), k, device=data.device)
        if itself:
            others = nearest != rows[:, None]
            others[others.all(axis=1), -1] = False  # more equal images than neighbours: the query is not among them
            shape = (len(rows), nearest.shape[1] - 1)
            similarity, nearest = similarity[others].reshape(shape), nearest[others].reshape(shape)
        k = nearest.shape[1]
        table = pa.table(
            {
                "key": pa.array(np.repeat(test[rows], k), pa.string()),
                "rank": pa.array(np.tile(np.arange(1, k + 1), len(rows)), pa.int32()),
                "neighbour_key": pa.array(bank[nearest.ravel()], pa.string()),
                "similarity": pa.array(similarity.ravel(), pa.float32()),
            }
        )
        protocol = {
            "tap": BACKBONE,
            "queries": f"{len(rows)} of {data.test_note}",
            "bank": f"{len(bank)} of train",
            "k": f"{k}",
        }
        return ProbeResult({}, protocol, table=table)
