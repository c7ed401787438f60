"""May a new model answer queries from a gallery that an old one embedded, without embedding it again?

Source: Biondi et al. 2023/2024 (CL2R; stationary representations): the cross-test. Row a, column b: queries (the scored
split) embedded by a, gallery (train) by b, cosine similarity as it is: nothing is trained in between. `retrieval`
answers with the label of the most similar gallery image, `class_mean` with that of the most similar class mean, which
the authors' code calls 1:N search. Encoders of different dimensions cannot be compared. Overall, with the encoders
taken as versions in their order: AC, the share of pairs where the newer model's queries on the older gallery beat the
older model on itself, and AM, the mean of the lower triangle. Models that were trained apart are not compatible; the
probe is meant for versions of one model (`reprise compare-representations`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from reprise.config.params import StrictModel
from stages.probe.encoder import Encoder, Examples, RepresentationProbe

if TYPE_CHECKING:
    import numpy as np


class Compatibility(RepresentationProbe):
    """Metrics: `retrieval`, `class_mean`; overall `ac_...` and `am_...` of each."""

    symmetric: ClassVar[bool] = False
    caption: ClassVar[str] = "accuracy of the row's queries on the column's gallery; the diagonal is each on itself"
    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """None."""

    def prepare(self, encoder: Encoder, examples: Examples) -> dict[str, Any]:
        """Labelled gallery and queries."""
        known, scored = examples.train_labels >= 0, examples.test_labels >= 0
        return {
            "gallery": encoder.train[known],
            "gallery_labels": examples.train_labels[known],
            "queries": encoder.test[scored],
            "labels": examples.test_labels[scored],
        }

    def compare(self, a: dict[str, Any], b: dict[str, Any]) -> dict[str, float | None]:
        """a's queries on b's gallery."""
        from reprise.measures.compatibility import nearest_example, nearest_mean

        if a["queries"].shape[1] != b["gallery"].shape[1]:
            return {"retrieval": None, "class_mean": None}
        found = {
            name: answer(a["queries"], b["gallery"], b["gallery_labels"])
            for name, answer in (("retrieval", nearest_example), ("class_mean", nearest_mean))
        }
        return {name: float((answers == a["labels"]).mean()) for name, answers in found.items()}

    def overall(self, matrices: dict[str, np.ndarray]) -> dict[str, float]:
        """AC and AM, where all encoders have equal dimensions and there are two or more."""
        import numpy as np

        from reprise.measures.compatibility import average_compatibility, average_matrix

        whole = {name: m for name, m in matrices.items() if len(m) > 1 and np.isfinite(m).all()}
        return {
            f"{short}_{name}": figure(m)
            for name, m in whole.items()
            for short, figure in (("ac", average_compatibility), ("am", average_matrix))
        }

    def protocol(self, examples: Examples) -> dict[str, str]:
        """Which images."""
        train, test = int((examples.train_labels >= 0).sum()), int((examples.test_labels >= 0).sum())
        return {
            "tap": "backbone",
            "gallery": f"{train} labelled images of train",
            "queries": f"{test} labelled images of {examples.scored}",
            "similarity": "cosine",
        }
