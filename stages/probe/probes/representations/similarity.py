"""How alike are two representations? CKA, RSA and Procrustes, on images that were not trained on.

Source: Kornblith et al. 2019 (linear CKA; debiased as Nguyen et al. 2021), Kriegeskorte et al. 2008 (RSA, Spearman's
rho of Euclidean distances), Ding et al. 2021 (orthogonal Procrustes, as a similarity). 1: alike but for rotation and
scale. `cka` rises with few images and many dimensions, for unrelated features too; `cka_debiased` does not.

Legend: `x_ND`, `y_NE` features of the same n examples; computed in float64.

Checked by: tests/stages/probe/representations/test_representation_figures.py.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from reprise.measures.similarity import centred, debiased_cka, linear_cka
from stages.probe.encoder import Encoder, Examples, RepresentationProbe


def distance_ranks(x_ND: np.ndarray) -> np.ndarray:
    """Ranks of all n (n - 1) / 2 Euclidean distances, for `rank_correlation`."""
    from scipy import stats
    from scipy.spatial.distance import pdist

    return np.asarray(stats.rankdata(pdist(centred(x_ND))))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two rank vectors (Spearman's rho of what they rank); 0 when one has no spread."""
    a, b = a - a.mean(), b - b.mean()
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else 0.0


def procrustes(x_ND: np.ndarray, y_NE: np.ndarray) -> float:
    """Orthogonal Procrustes similarity in [0, 1] (Ding et al. 2021, as 1 - half of their squared distance).

    The nuclear norm of Y'X, both centred and scaled to Frobenius norm 1: 1 when one side is a rotation of the other.
    """
    x, y = centred(x_ND), centred(y_NE)
    length = np.linalg.norm(x) * np.linalg.norm(y)
    return float(np.linalg.svd(y.T @ x, compute_uv=False).sum() / length) if length > 0 else 0.0


class Similarity(RepresentationProbe):
    """Metrics: `cka`, `cka_debiased`, `rsa`, `procrustes`."""

    symmetric: ClassVar[bool] = True
    caption: ClassVar[str] = "1: alike but for rotation and scale; 0: unrelated"

    class Params(StrictModel):
        """Parameters of `similarity`."""

        rsa_rows: Annotated[
            int,
            Field(ge=4, le=5000),
            meaning("The pairwise distances of at most this many images are ranked, the first by key.", "images"),
        ] = 500

    def prepare(self, encoder: Encoder, examples: Examples) -> dict[str, Any]:
        """Centred features and the ranks of distances."""
        return {
            "x": centred(encoder.test),
            "ranks": distance_ranks(encoder.test[: self.params.rsa_rows]),
        }

    def compare(self, a: dict[str, Any], b: dict[str, Any]) -> dict[str, float | None]:
        """All four of one pair."""
        return {
            "cka": linear_cka(a["x"], b["x"]),
            "cka_debiased": debiased_cka(a["x"], b["x"]),
            "rsa": rank_correlation(a["ranks"], b["ranks"]),
            "procrustes": procrustes(a["x"], b["x"]),
        }

    def protocol(self, examples: Examples) -> dict[str, str]:
        """Which images."""
        rows = len(examples.test_keys)
        return {
            "tap": "backbone",
            "images": f"{rows} of {examples.scored}",
            "rsa": f"{min(rows, self.params.rsa_rows)} images, Euclidean distances",
        }
