"""A map of the test images: t-SNE to two dimensions, to look at, never to measure on.

Source: van der Maaten and Hinton 2008, scikit-learn's Barnes-Hut version, started from principal components. One
thread and a fixed seed, since threads add up in changing order and small differences grow to another map. Distances
between far groups and sizes of groups on the map mean nothing.

Checked by: tests/stages/probe/label_free/test_label_free.py.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from reprise.measures.unit_vectors import unit
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Probe, ProbeResult

COMPONENTS = 32  # principal components that t-SNE sees
FEWEST = 8  # images below which the principal components themselves are the map


class Map(Probe):
    """No metrics; table: key, x, y."""

    needs_labels: ClassVar[bool] = False

    class Params(StrictModel):
        """Parameters of `map`."""

        rows: Annotated[
            int,
            Field(ge=1, le=1000),
            meaning("At most this many test images are used, chosen by the hash of their keys.", "images"),
        ] = 1000
        perplexity: Annotated[
            float, Field(gt=1, le=100), meaning("Each image keeps about this many neighbours close.", "neighbours")
        ] = 30.0
        steps: Annotated[int, Field(ge=250, le=5000), meaning("T-SNE takes this many steps.", "steps")] = 500
        seed: Annotated[int, Field(ge=0, lt=2**31), meaning("The random choices of t-SNE depend on this seed.")] = 0

    def run(self, data: ProbeData) -> ProbeResult:
        """Lay out the chosen images."""
        rows = data.choose(data.test, self.params.rows)
        points, how = layout(data.features(data.test, BACKBONE)[rows], self.params)
        table = pa.table(
            {
                "key": pa.array(data.part(data.test).keys[rows], pa.string()),
                "x": pa.array(points[:, 0].astype(np.float32)),
                "y": pa.array(points[:, 1].astype(np.float32)),
            }
        )
        return ProbeResult(
            {}, {"tap": BACKBONE, "images": f"{len(rows)} of {data.test_note}", "layout": how}, table=table
        )


def layout(x: np.ndarray, params: Map.Params) -> tuple[np.ndarray, str]:
    """(n, d) features -> (n, 2) coordinates, bit for bit the same on one machine type, and how they were made."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        components = principal_components(x, COMPONENTS)
        distinct = len(np.unique(components, axis=0))
        if distinct < FEWEST:
            return components[:, :2], "principal components (too few distinct images for t-SNE)"
        from sklearn.manifold import TSNE

        perplexity = min(params.perplexity, (distinct - 1) / 3)
        start = components[:, :2] / max(float(components[:, 0].std()), 1e-12) * 1e-4  # Kobak and Berens 2019
        points = TSNE(
            init=start.astype(np.float32),
            learning_rate="auto",
            perplexity=perplexity,
            max_iter=params.steps,
            random_state=params.seed,
            n_jobs=1,
        ).fit_transform(components.astype(np.float32))
    return points, f"t-SNE, perplexity {perplexity:g}, {params.steps} steps, seed {params.seed}, cosine"


def principal_components(x: np.ndarray, count: int) -> np.ndarray:
    """(n, max(2, count)) coordinates of l2-normalised features along their first components, zeros beyond their rank.

    A component's sign is free: its largest coordinate is made positive.
    """
    z = unit(x)
    z = z - z.mean(axis=0) if len(z) else z
    coordinates = np.zeros((len(x), max(2, count)))
    if len(x) > 1:
        u, s, _ = np.linalg.svd(z, full_matrices=False)
        kept = min(count, len(s))
        flat = u[:, :kept] * s[:kept]
        flat[:, s[:kept] <= 1e-7 * np.sqrt(len(x))] = 0.0
        signs = np.sign(flat[np.abs(flat).argmax(axis=0), np.arange(kept)])
        coordinates[:, :kept] = flat * np.where(signs == 0, 1.0, signs)
    return coordinates
