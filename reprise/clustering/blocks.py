"""Blocks of rows, one thread each: no thread waits for the others at every product, as inside one product of torch.

A block is the same work whatever the number of threads, so torch adds up a product of it in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch


def each_block(work: Callable[[int], None], starts: Iterable[int], device: str = "cpu") -> None:
    """Call `work` with every start, on a GPU one after the other.

    Args:
        work: handles the block that begins at a row, and writes to places that no other block writes to. Its products
            must be torch's, not NumPy's: only torch's threads are limited here.
        starts: first rows of the blocks.
        device: where `work` computes.
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
                list(pool.map(work, starts))  # a list, so that an error in a thread is raised here
    finally:
        torch.set_num_threads(threads)
