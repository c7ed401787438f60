"""The memory of this machine and of the control group that this process belongs to, and what fits into it."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_OWN_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_FULL_BATCH = 512  # images
_SMALL_STEM = 64  # pixels: up to this side networks keep the resolution at first (reprise/networks/backbone.py)
_FULL_SIDE_SMALL_STEM, _FULL_SIDE, _FULL_SIDE_ON_A_GPU = 32, 64, 224  # pixels


def memory_limit(meminfo: Path = _MEMINFO, own_group: Path = _OWN_GROUP, groups: Path = _GROUPS) -> int | None:
    """Return the bytes that this process can have at most: those of the machine, or of a stricter control group.

    Swap does not count: a training that swaps does not end. Limits of version 1 and 2 of control groups are read, those
    of all groups above included.

    Args:
        meminfo: the kernel's table of the machine's memory.
        own_group: names the groups of this process.
        groups: the folder of all groups.

    Returns:
        None where the system does not say.
    """
    limits = [limit for path in _limit_files(own_group, groups) if (limit := _number(path)) is not None]
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        limits += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    except (OSError, ValueError, IndexError):
        pass
    return min(limits, default=None)


def evaluation_batch(side: int, device: str) -> int:
    """Return how many images a network without gradients sees at a time.

    With a ResNet-18 that takes up to 1.4 GiB on a processor, where larger batches are no faster, and 4 GiB on a GPU.

    Args:
        side: of the images, in pixels.
        device: `cpu` or `cuda`.

    Returns:
        512 of up to 32 pixels. Up to 64 pixels as many as have the same number of pixels: 128 of 64. Beyond, as many as
        have the same number of pixels as 512 of 64: 41 of 224. On a GPU 512 of up to 224 pixels, and of larger ones as
        many as have the same number of pixels.
    """
    full = _FULL_SIDE if side > _SMALL_STEM else _FULL_SIDE_SMALL_STEM
    full = _FULL_SIDE_ON_A_GPU if device == "cuda" else full
    return max(1, _FULL_BATCH * full**2 // max(side, full) ** 2)


def gibibytes(count: int) -> str:
    """Write bytes for a person: "1.5 GiB"."""
    return f"{count / (1 << 30):.1f} GiB"


def _limit_files(own_group: Path, groups: Path) -> list[Path]:
    """List the files that may state a limit: of the own group, and of each one above it."""
    try:
        lines = own_group.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    files = [groups / "memory.max", groups / "memory" / "memory.limit_in_bytes"]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        parts = [part for part in name.split("/") if part not in ("", "..")]
        for depth in range(1, len(parts) + 1):
            inner = Path(*parts[:depth])
            if not controllers:
                files.append(groups / inner / "memory.max")
            elif "memory" in controllers.split(","):
                files.append(groups / "memory" / inner / "memory.limit_in_bytes")
    return files


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))  # "max" is no number, and no limit
    except (OSError, ValueError):
        return None
