"""digits: 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn; no download, no root.

Values 0 to 16 become 0 to 255 (x * 255 / 16, rounded half up). A mirrored digit is not the same digit, so views are not
flipped.

Source: Alpaydin and Kaynak 1998, as scikit-learn holds them.

Checked by: tests/stages/ingest/test_stage.py; docs/measurements/results.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from stages.ingest.source import Candidate, Extent, Refused, Source, constant_extent


class Digits(Source):
    """Optical recognition of handwritten digits (UCI), test part."""

    title: ClassVar[str] = "Digits (scikit-learn)"
    citation: ClassVar[str] = (
        "E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998, "
        "doi:10.24432/C50P49"
    )
    licence: ClassVar[str] = "CC BY 4.0"
    reads_root: ClassVar[bool] = False
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.3,
        "flip": False,
        "jitter": 0.4,
        "grey": 0.0,
        "blur": 0.0,
        "solarize": 0.0,
    }

    def candidates(self) -> Iterator[Candidate | Refused]:
        """Yield all digits in scikit-learn's order, read from its file: importing scikit-learn takes two seconds."""
        import importlib.metadata

        import numpy as np

        from reprise.media.image.encode import uncompressed_png

        file = importlib.metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
        table = np.loadtxt(str(file), delimiter=",")  # 64 pixels and the label a row
        pixels = np.floor(table[:, :-1].reshape(-1, 8, 8) * 255 / 16 + 0.5).astype(np.uint8)
        for i, (image, label) in enumerate(zip(pixels, table[:, -1].astype(int).tolist(), strict=True)):
            yield Candidate(name=f"digits/{i:04d}.png", reference=uncompressed_png(image), label=str(label))

    def extent(self) -> Extent:
        """Return a constant: the images are part of scikit-learn."""
        return constant_extent("digits")
