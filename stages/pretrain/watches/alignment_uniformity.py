"""`alignment_uniformity`: how near the views of an image lie to each other, and how evenly images fill the sphere.

Source: Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the
Hypersphere", ICML 2020. Authors' code: SsnL/align_uniform.

Idea: with vectors of length 1, alignment is the mean squared distance of two views of an image (0: equal, 4: opposite),
uniformity the logarithm of the mean over pairs of images of exp(-2 |x - y|^2) (0: all equal, lower: more even). A
contrastive loss lowers both; where only one falls, it does so at the cost of the other.

Deviations: the network is in evaluation mode. The images are those of one batch, the same at every look, in the two
views that the method made of them first. A method that trains on pairs is asked about an image and its partner. Where a
method has a single view of each image, only uniformity is there.

Figures: `features.alignment` and `features.uniformity` of the backbone, `projections.alignment` and
`projections.uniformity` where the method has a projector that takes the backbone's features.

Checked by: tests/stages/pretrain/monitoring/test_watches.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from reprise.measures.invariance import alignment
from reprise.measures.spectrum import uniformity
from reprise.training.watch import Look, Watch


class AlignmentUniformity(Watch):
    """Two figures of the features, and two of the projections."""

    def look(self, look: Look) -> dict[str, float]:
        """Embed the batch and measure."""
        look.method.eval()
        views = views_of(look.batch)
        with torch.no_grad(), look.compute.autocast():
            vectors = {"features": [look.backbone(view) for view in views]}
            projector: Any = getattr(look.method, "projector", None)
            if projector is not None and projector.widths[0] == vectors["features"][0].shape[1]:
                vectors["projections"] = [projector(features) for features in vectors["features"]]
        found = {}
        for name, embedded in vectors.items():
            arrays = [array(x) for x in embedded]
            if len(arrays) == 2:
                found[f"{name}.alignment"] = float(alignment(*arrays).mean())
            if len(arrays[0]) > 1:
                found[f"{name}.uniformity"] = uniformity(arrays[0])
        return found


def views_of(batch: Any) -> list[Tensor]:
    """Return two views of the images of a batch, or images and their partners; one where there is no second one."""
    views = batch.views
    if "partner" in batch.fields:
        half = len(views[0]) // 2
        return [views[0][:half], views[0][batch.partner[:half]]]
    alike = len(views) > 1 and views[1].shape == views[0].shape
    return list(views[:2]) if alike else [views[0]]


def array(vectors: Tensor) -> np.ndarray:
    """Return vectors as a NumPy array of float64."""
    return vectors.double().cpu().numpy()
