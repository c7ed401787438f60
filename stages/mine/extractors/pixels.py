"""`pixels`: principal components of the raw pixels.

The simplest features that a cluster method can have. Images with a longer side than `side` are scaled down to it first.
Components are found in float64 and in bounded memory (reprise/measures/principal.py), with signs fixed (largest loading
positive), so the same images give the same features.

Legend: n images, S their side, C channels.

Source: Pearson 1901 and Hotelling 1933 (principal components).

Checked by: tests/stages/mine/test_extractors.py; docs/explanation/mining.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from reprise.measures.principal import EXACT, Rows, principal_basis
from reprise.media.lookup import IMAGE, VOLUME
from reprise.reading.reduced import REDUCED_SIDE, reduced
from stages.mine.extractor import Extractor


class PixelParams(StrictModel):
    """Parameters of `pixels`."""

    components: Annotated[
        int,
        Field(ge=1, le=4096),
        meaning("This many principal components are kept, at most one per pixel.", "components"),
    ] = 32
    side: Annotated[
        int, Field(ge=2, le=1024), meaning("Larger images are scaled down to this side first.", "pixels")
    ] = REDUCED_SIDE


class Pixels(Extractor):
    """Projects pixels on their leading principal components."""

    Params = PixelParams
    seeded = False
    modalities = (IMAGE, VOLUME)
    params: PixelParams

    def features(self, images: np.ndarray, work: Path) -> np.ndarray:
        """(n, S, S, C) uint8 -> (n, k) float32, k at most `components`, the dimensions, and n of images scaled down.

        Volumes are (n, S, S, S, C).
        """
        small = reduced(images, self.params.side, self.compute.threads)
        rows = Rows(small, 255.0)
        fewer = small is not images and rows.count < min(rows.dimensions, EXACT)  # the same, in a fraction of the time
        return rows.projected(principal_basis(rows, self.params.components, "thin" if fewer else None))
