"""Do two encoders learn the same units? Correlations between single dimensions, matched four ways.

Source: Li et al. 2016 (convergent learning). Row a, column b: `one_to_one`, mean correlation when each unit of a has a
unit of b of its own (the best such matching); `semi`, when several may share one; `sparse`, share of the variance of
a's units that few units of b predict under an l1 penalty, and `sparse_units`, how many; `spectral`, modularity of a
spectral clustering of both encoders' units by absolute correlation (0: no clusters). These see single units: a rotated
copy of an encoder has the same information and other units. `chance` is `one_to_one` after the images of one encoder
were shuffled.
Deviation: on feature vectors, so a unit is a dimension and not a channel of a feature map; the `units` dimensions that
vary most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from reprise.config.params import StrictModel
from stages.probe.encoder import Encoder, Examples, RepresentationProbe

if TYPE_CHECKING:
    import numpy as np


class Matching(RepresentationProbe):
    """Metrics: `one_to_one`, `semi`, `sparse`, `sparse_units`, `spectral`, `chance`."""

    symmetric: ClassVar[bool] = False
    caption: ClassVar[str] = "units of the row matched with units of the column; chance: with shuffled images"

    class Params(StrictModel):
        """Parameters of the matching.

        Args:
            units: of each encoder at most, those that vary most.
            penalty: l1 penalty on standardised units.
            clusters: of both encoders' units together.
        """

        units: Annotated[int, Field(ge=1, le=2048)] = 256
        penalty: Annotated[float, Field(gt=0, le=10)] = 0.1
        clusters: Annotated[int, Field(ge=2, le=1000)] = 16

    def prepare(self, encoder: Encoder, examples: Examples) -> np.ndarray:
        """The units that vary most, in their own order."""
        import numpy as np

        spread = encoder.test.astype(np.float64).std(axis=0)
        kept = np.sort(np.argsort(-spread, kind="stable")[: self.params.units])
        return np.asarray(encoder.test[:, kept])

    def compare(self, a: np.ndarray, b: np.ndarray) -> dict[str, float | None]:
        """Units of a in terms of units of b."""
        import numpy as np

        from reprise.measures import matching

        c = matching.correlations(a, b)
        explained, used = matching.sparse_prediction(a, b, self.params.penalty)
        clusters = matching.spectral_clusters(c, self.params.clusters)
        order = np.random.default_rng(0).permutation(len(a))
        return {
            "one_to_one": float(matching.one_to_one(c).mean()),
            "semi": float(matching.semi_matching(c).mean()),
            "sparse": float(explained.mean()),
            "sparse_units": float(used.mean()),
            "spectral": matching.modularity(c, clusters),
            "chance": float(matching.one_to_one(matching.correlations(a, b[order])).mean()),
        }

    def protocol(self, examples: Examples) -> dict[str, str]:
        """Which images and units."""
        return {
            "tap": "backbone",
            "images": f"{len(examples.test_keys)} of {examples.scored}",
            "units": f"at most {self.params.units} of each encoder, those that vary most",
            "l1 penalty": f"{self.params.penalty:g}",
            "clusters": f"{self.params.clusters}",
        }
