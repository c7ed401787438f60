"""How three papers change images, which many others took over; for the recipes of methods. Sizes of crops are theirs.

Colours change with probability 0.8, and blur has a standard deviation of 0.1 to 2 pixels, in all of them.
"""

from __future__ import annotations

from typing import Any

# Chen et al. 2020 (SimCLR), appendix A: strength 1.
SIMCLR: dict[str, Any] = {
    "crop_scale_min": 0.08, "crop_aspect": 4 / 3, "flip": True, "jitter": 1.0, "saturation": 0.8, "hue": 0.2,
    "grey": 0.2, "blur": 0.5, "solarize": 0.0,
}  # fmt: skip

# Chen, Fan, Girshick, He 2020 (MoCo v2), section 3 and released code: half of SimCLR's strength, larger crops.
MOCO_V2: dict[str, Any] = {**SIMCLR, "crop_scale_min": 0.2, "jitter": 0.5, "saturation": 0.4, "hue": 0.1}

# Grill et al. 2020 (BYOL), appendix B, table 6: the first branch is always blurred, the second seldom and solarised at
# times; brightness and contrast change by 0.4, saturation by 0.2, hue by 0.1.
BYOL: dict[str, Any] = {
    **SIMCLR, "jitter": 0.5, "saturation": 0.2, "hue": 0.1, "blur": [1.0, 0.1], "solarize": [0.0, 0.2],
}  # fmt: skip
