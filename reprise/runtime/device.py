"""Device and precision: `auto` is resolved once, here, and recorded with the results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch

from reprise.config.errors import ParameterError
from reprise.runtime.entry import threads, workers

NO_CUDA = "no CUDA device is visible"


@dataclass(frozen=True)
class Compute:
    """Where and how numbers are computed.

    Attributes:
        device: `cpu` or `cuda`.
        precision: `fp32` or `bf16` (autocast; weights and optimiser stay in fp32).
        threads: CPU threads of torch.
        deterministic: the same inputs give the same bits again; always so on a CPU.
    """

    device: str
    precision: str
    threads: int
    deterministic: bool = True

    def autocast(self, cache: bool = True) -> AbstractContextManager[None]:
        """Return the context in which forward passes run.

        Args:
            cache: weights that are used twice in a pass are cast once.
        """
        enabled = self.precision == "bf16"
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=enabled, cache_enabled=cache)

    @contextmanager
    def own_stream(self) -> Iterator[None]:
        """Run the block on a stream of its own, as recording a CUDA graph asks for; nothing changes on a CPU."""
        if self.device != "cuda":
            yield
            return
        outside, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(outside)
        try:
            with torch.cuda.stream(stream):
                yield
        finally:
            outside.wait_stream(stream)


def chosen_device(device: str) -> str:
    """Resolve `auto` to `cuda` where there is a GPU, else to `cpu`."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def resolve_compute(device: str, precision: str, deterministic: bool | None = None, processes: int = 1) -> Compute:
    """Resolve `auto`, and set torch's threads and deterministic algorithms.

    `auto` takes bf16 where the processor multiplies it natively (AVX512-BF16 or AMX; CUDA from Ampere on). There it was
    measured 1.3 to 2.3 times faster than fp32; elsewhere it is slower.

    Args:
        device: `auto`, `cpu` or `cuda`.
        precision: `auto`, `fp32` or `bf16`.
        deterministic: whether a GPU takes algorithms that give the same bits again, which are slower; None takes them
            where there are any, and warns of operations without one. A CPU always takes them.
        processes: of one training on this machine, which divide the threads among them.

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
    chosen = chosen_device(device)
    if precision == "auto":
        if chosen == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - no public name before 2.13
        precision = "bf16" if native else "fp32"
    share = max(1, threads_beside(chosen) // processes)
    torch.set_num_threads(share)
    # The same as torch.use_deterministic_algorithms, which also imports the compiler: two seconds of every stage.
    if chosen == "cpu":
        torch.set_deterministic_debug_mode("error")
    elif deterministic is None:
        torch.set_deterministic_debug_mode("warn")
    else:
        choose_algorithms(deterministic)
    # The mode also fills fresh memory, so that code which reads it before writing repeats itself. Nothing here does
    # that, and filling takes 4 % of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    return Compute(chosen, precision, share, bool(deterministic) or chosen == "cpu")


def threads_beside(device: str) -> int:
    """Return the threads of all processes of one training; a GPU's results do not depend on what feeds it."""
    return threads() if device == "cpu" else workers()


def choose_algorithms(deterministic: bool) -> None:
    """Let a GPU's libraries take algorithms that give the same bits again, or try which ones are fastest.

    An operation without a deterministic algorithm is then an error: a resumed run would differ without a word.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    torch.backends.cudnn.benchmark = not deterministic
