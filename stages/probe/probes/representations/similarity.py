"""How alike are two representations? CKA, RSA and Procrustes, on images that were not trained on.

Source: Kornblith et al. 2019 (linear CKA; debiased as Nguyen et al. 2021), Kriegeskorte et al. 2008 (RSA, Spearman's
rho of Euclidean distances), Ding et al. 2021 (orthogonal Procrustes, as a similarity). 1: alike but for rotation and
scale. `cka` rises with few images and many dimensions, for unrelated features too; `cka_debiased` does not.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from reprise.config.params import StrictModel
from stages.probe.encoder import Encoder, Examples, RepresentationProbe


class Similarity(RepresentationProbe):
    """Metrics: `cka`, `cka_debiased`, `rsa`, `procrustes`."""

    symmetric: ClassVar[bool] = True
    caption: ClassVar[str] = "1: alike but for rotation and scale; 0: unrelated"

    class Params(StrictModel):
        """rsa_rows: images whose pairwise distances are ranked; the first by key."""

        rsa_rows: Annotated[int, Field(ge=4, le=5000)] = 500

    def prepare(self, encoder: Encoder, examples: Examples) -> dict[str, Any]:
        """Centred features and the ranks of distances."""
        from reprise.measures import similarity

        return {
            "x": similarity.centred(encoder.test),
            "ranks": similarity.distance_ranks(encoder.test[: self.params.rsa_rows]),
        }

    def compare(self, a: dict[str, Any], b: dict[str, Any]) -> dict[str, float | None]:
        """All four of one pair."""
        from reprise.measures import similarity

        return {
            "cka": similarity.linear_cka(a["x"], b["x"]),
            "cka_debiased": similarity.debiased_cka(a["x"], b["x"]),
            "rsa": similarity.rank_correlation(a["ranks"], b["ranks"]),
            "procrustes": similarity.procrustes(a["x"], b["x"]),
        }

    def protocol(self, examples: Examples) -> dict[str, str]:
        """Which images."""
        rows = len(examples.test_keys)
        return {
            "tap": "backbone",
            "images": f"{rows} of {examples.scored}",
            "rsa": f"{min(rows, self.params.rsa_rows)} images, Euclidean distances",
        }
