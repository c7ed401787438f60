"""Whether views can be made by the kernels of kernels.py on this machine."""

from __future__ import annotations

import sys
from functools import lru_cache
from types import ModuleType

import torch

WIDEST = 16_384  # pixels of a row that one program of a kernel holds


@lru_cache(maxsize=1)
def kernels() -> ModuleType | None:
    """Return the module of the kernels where there is a GPU that takes them; else None, and torch does the same.

    A GPU that cannot take them is said once: the views are the same up to rounding, and take longer.
    """
    if not torch.cuda.is_available():
        return None
    try:
        from stages.pretrain.parts.pixels import kernels as found

        if found.works("cuda"):
            return found
        reason = "a trial gave a wrong number"
    except Exception as error:  # noqa: BLE001 - no Triton, no C compiler, a GPU that it does not know
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0] if lines else 'without a reason'}"
    print(f"note: views are made without Triton, which takes longer: {reason}", file=sys.stderr, flush=True)
    return None
