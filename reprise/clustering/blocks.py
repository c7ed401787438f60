"""Blocks of rows worked on side by side, one thread each: none waits for another at every product.

A block is the same work whatever the number of threads, so torch adds up a product of it in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch


def each_block(work: Callable[[int], None], starts: Iterable[int], device: str = "cpu") -> None:
    """Call `work` with every start; on a GPU one after the other.

    Args:
        work: handles the block that begins at a row; writes to places of its own. Products by torch, not numpy: only
            torch's threads are limited here.
    """
    threads = torch.get_num_threads()
    if device != "cpu":
        for start in starts:
            work(start)
        return
    torch.set_num_threads(1)
    try:
        if threads == 1:
            for start in starts:
                work(start)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, starts))
    finally:
        torch.set_num_threads(threads)
