"""Brightness and contrast of images of any number of bands, as a transform of albumentations."""

from __future__ import annotations

from typing import Any

import numpy as np


def band_jitter(brightness: tuple[float, float], contrast: tuple[float, float], probability: float) -> Any:
    """Build the step that changes brightness and contrast of any number of bands, in random order.

    albumentations does so for grey and RGB only. The mean about which contrast changes is that of all bands.

    Args:
        brightness, contrast: smallest and largest factor.
        probability: of the step.
    """
    import albumentations as A

    class BandJitter(A.ImageOnlyTransform):
        """Brightness and contrast of (H, W, C) uint8."""

        def get_params(self) -> dict[str, Any]:
            """Draw the two factors, and which change comes first."""
            draw = self.py_random
            return {
                "factors": (draw.uniform(*brightness), draw.uniform(*contrast)),
                "bright_first": draw.random() < 0.5,
            }

        def apply(self, img: np.ndarray, factors: tuple[float, float], bright_first: bool, **params: Any) -> np.ndarray:
            """Change one image; after each change, values are cut off at black and white."""
            x = img.astype(np.float32)
            for brightens in (bright_first, not bright_first):
                if brightens:
                    x *= factors[0]
                else:
                    level = x.mean()
                    x = (x - level) * factors[1] + level
                x = np.clip(x, 0.0, 255.0)
            return np.floor(x + 0.5).astype(np.uint8)

    return BandJitter(p=probability)
