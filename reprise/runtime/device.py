"""Device and precision: `auto` is resolved once, here, and recorded with the results."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from reprise.config.errors import ParameterError
from reprise.runtime.entry import threads

NO_CUDA = "no CUDA device is visible"


@dataclass(frozen=True)
class Compute:
    """Where and how numbers are computed.

    Attributes:
        device: `cpu` or `cuda`.
        precision: `fp32` or `bf16` (autocast; weights and optimiser stay in fp32).
        threads: CPU threads of torch.
    """

    device: str
    precision: str
    threads: int

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which forward passes run."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16")


def resolve_compute(device: str, precision: str) -> Compute:
    """Resolve `auto`, and set torch's threads and deterministic algorithms.

    `auto` takes bf16 where the processor multiplies it natively (AVX512-BF16 or AMX; CUDA from Ampere on). There it was
    measured 1.3 to 2.3 times faster than fp32; elsewhere it is slower.

    Args:
        device: `auto`, `cpu` or `cuda`.
        precision: `auto`, `fp32` or `bf16`.

    Raises:
        ParameterError: `cuda` was asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ParameterError(
            NO_CUDA,
            where="train.device",
            found="cuda",
            fix="Set train.device to auto or cpu, or check `nvidia-smi`.",
        )
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if precision == "auto":
        if chosen == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - no public name before 2.13
        precision = "bf16" if native else "fp32"
    torch.set_num_threads(threads())
    # The same as torch.use_deterministic_algorithms, which also imports the compiler: two seconds of every stage.
    torch.set_deterministic_debug_mode("warn" if chosen == "cuda" else "error")
    # The mode also fills fresh memory, so that code which reads it before writing repeats itself. Nothing here does
    # that, and filling takes 4 % of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    return Compute(chosen, precision, threads())
