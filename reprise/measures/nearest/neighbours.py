"""Nearest neighbours by cosine similarity, exactly and with bounded memory, and the weighted vote of Wu et al. 2018.

Similarities are first computed in float32 blocks. Large searches on a processor that multiplies 8-bit integers natively
go through `shortlist`, with the same result. Then the few best candidates of each query are computed again in float64,
with a bound that says when the candidates cannot have missed a neighbour; the rare query without that certainty is
compared with the whole bank in float64. So the answer does not depend on block sizes or on how a processor adds up.

Ties: equal similarities (as float32) go to the lowest row of the bank, equal votes to the lowest class.

Legend: q queries, n rows of the bank, d dimensions, k neighbours, c classes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits

from reprise.measures.nearest.shortlist import Shortlist, is_faster
from reprise.runtime.blocks.arrays import in_blocks
from reprise.runtime.blocks.shared import newest

BLOCK_CELLS = 1 << 24  # similarities held at once: 64 MiB of float32
GPU_TIMES = 8  # as many on a GPU, which is left waiting by small blocks
SPARE = 16  # candidates beyond k


def unit_rows(x: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Scale (n, d) rows to length one, float64; a zero row stays zero, and is equally unlike everything."""
    rows = torch.from_numpy(np.array(x, dtype=np.float64)) if isinstance(x, np.ndarray) else x.detach().double()
    return F.normalize(rows, dim=1, eps=torch.finfo(torch.float64).tiny)


def top_k(
    queries: np.ndarray | torch.Tensor,
    bank: np.ndarray | torch.Tensor,
    k: int,
    ordered: bool = True,
    cells: int = BLOCK_CELLS,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k rows of the bank with the highest cosine similarity to each query.

    Args:
        queries: (q, d).
        bank: (n, d).
        k: at least 1; with k > n all n rows are returned.
        ordered: whether rows come in the order of their float64 similarity, ties by lowest row. False gives the same
            rows in an order that rounding may change: enough for sums over them, and several times faster at large k.
        cells: similarities held at once.
        device: where they are computed, `cpu` or `cuda`.

    Returns:
        similarity (q, min(k, n)) float32, decreasing; row (q, min(k, n)) int64.

    Raises:
        ValueError: k < 1, an empty bank, or dimensions that differ.
    """
    if k < 1 or bank.shape[0] < 1 or queries.shape[1] != bank.shape[1]:
        raise ValueError(f"need k >= 1, a filled bank and equal dimensions, got k {k}, {queries.shape}, {bank.shape}")
    bank64 = unit_rows(bank).to(device)
    query64 = bank64 if queries is bank else unit_rows(queries).to(device)
    cells = cells if device == "cpu" else GPU_TIMES * cells
    (n, d), q = bank64.shape, len(query64)
    k, threads = min(k, n), torch.get_num_threads()
    step = max(1, min(cells // n, cells // (min(n, k + SPARE) * d)) if ordered else cells // n)
    apart = device == "cpu" and (threads == 1 or len(range(0, q, step)) >= 2 * threads)  # one thread for each block
    similarities, rows = np.empty((q, k), dtype=np.float32), np.empty((q, k), dtype=np.int64)
    if apart:
        arrays = _as_arrays(query64, bank64)
        options = {"queries": q, "k": k, "ordered": ordered, "cells": cells, "step": step}
        blocks = in_blocks(_search_rows, arrays, q, q * n * d, step, 12 * k, options)
        if blocks is not None:
            for part, found in blocks:
                similarities[part], rows[part] = found
            return similarities, rows
    search_here = _Search(bank64, k, q, ordered, cells)

    def work(start: int) -> None:
        value, row = search_here.nearest(query64[start : start + step])
        similarities[start : start + step] = value.cpu().numpy()
        rows[start : start + step] = row.cpu().numpy()

    starts = range(0, q, step)
    if not apart or threads == 1:
        for start in starts:
            work(start)
    else:  # blocks side by side, one thread each: no thread waits for another at every product
        torch.set_num_threads(1)
        try:
            with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, starts))
        finally:
            torch.set_num_threads(threads)
    return similarities, rows


def _as_arrays(queries: torch.Tensor, bank: torch.Tensor) -> list[np.ndarray]:
    """Return both as arrays, one object where they are one: it is written to a file once."""
    rows = bank.numpy()
    return [rows if queries is bank else queries.numpy(), rows]


def _search_rows(
    query64: np.ndarray,
    bank64: np.ndarray,
    start: int,
    stop: int,
    queries: int,
    k: int,
    ordered: bool,
    cells: int,
    step: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Answer some queries at a Dask worker, whose blocks of one call share the prepared bank; see `top_k`.

    Args:
        query64, bank64: unit rows, (q, d) and (n, d) float64.
        start, stop: queries of this block.
        queries: q, which decides how the bank is searched.
        k, ordered, cells: as for `top_k`.
        step: queries at a time.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        call = "nearest", getattr(bank64, "filename", None), queries, k, ordered, cells
        search = newest(call, lambda: _Search(torch.from_numpy(bank64), k, queries, ordered, cells))
        parts = (torch.from_numpy(query64[first : min(first + step, stop)]) for first in range(start, stop, step))
        found = [search.nearest(part) for part in parts]
    finally:
        torch.set_num_threads(threads)
    return torch.cat([value for value, _ in found]).numpy(), torch.cat([row for _, row in found]).numpy()


class _Search:
    """One bank and one k; blocks of queries are answered independently of each other."""

    def __init__(self, bank64: torch.Tensor, k: int, queries: int, ordered: bool, cells: int) -> None:
        self.bank64, self.bank32, self.k, self.ordered, self.cells = bank64, bank64.float(), k, ordered, cells
        n, d = bank64.shape
        self.wanted = min(n, k + SPARE)
        # |float32 dot - exact dot| of unit vectors, 8 sqrt(d) units of rounding: roundings cancel as a random walk
        # does, and 8 is beyond what is ever seen (Higham and Mary 2019, theorem 2.4); the worst case is d units
        self.error = 4 * (d + 4) ** 0.5 * float(np.finfo(np.float32).eps)
        listed = bank64.device.type == "cpu" and is_faster(queries, n, d, self.wanted)
        self.shortlist = Shortlist(self.bank32, self.wanted) if listed else None

    def nearest(self, block: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (b, k) float32 similarities and (b, k) rows for (b, d) float64 queries."""
        n, d = self.bank64.shape
        if self.shortlist is not None:
            rough, candidates = self.shortlist.nearest(block.float())
        else:
            rough, candidates = torch.topk(block.float() @ self.bank32.T, self.wanted, dim=1)
        value, row = rough[:, : self.k].clone(), candidates[:, : self.k].clone()
        open_queries = torch.arange(len(block), device=block.device)
        if not self.ordered:  # the set of k rows is certain where the next candidate is clearly farther
            if self.k < n:
                open_queries = open_queries[rough[:, self.k - 1] - rough[:, self.k] <= 2 * self.error]
            else:
                open_queries = open_queries[:0]
        for part in open_queries.split(max(1, self.cells // (self.wanted * d))):
            exact = torch.bmm(self.bank64[candidates[part]], block[part].unsqueeze(2)).squeeze(2)
            value[part], row[part] = _ordered(exact, candidates[part], self.k)
            if self.wanted == n:
                continue
            # a row left out is at most the last rough value + error; it must be below the k-th kept one
            unsure = part[rough[part, -1].double() + 2 * self.error >= value[part, -1].double()]
            for i in unsure.tolist():
                whole = self.bank64 @ block[i]
                everything = torch.arange(n, device=block.device)[None]
                value[i], row[i] = (t[0] for t in _ordered(whole[None], everything, self.k))
        return value, row


def _ordered(exact: torch.Tensor, rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k best of (q, m) similarities as float32, decreasing, ties by lowest row."""
    by_row = rows.argsort(dim=1)
    rows, value = rows.gather(1, by_row), exact.gather(1, by_row).float()
    best = value.argsort(dim=1, descending=True, stable=True)[:, :k]
    return value.gather(1, best), rows.gather(1, best)


def vote(
    similarities: np.ndarray, labels: np.ndarray, classes: int, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Let each neighbour vote for its class with weight exp(similarity / temperature).

    Source: Wu et al. 2018 (instance discrimination), as used by DINO (k 20, temperature 0.07).

    Args:
        similarities: (q, k).
        labels: (q, k) class of each neighbour, in 0..c-1.
        classes: c.
        temperature: > 0.

    Returns:
        predicted (q,) int64, the lowest class on equal votes; share (q,) float64 of the votes that it got.
    """
    scaled = similarities.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))  # a common factor changes no vote and no share
    q = len(similarities)
    cell = np.arange(q)[:, None] * classes + labels
    votes = np.bincount(cell.ravel(), weights=weights.ravel(), minlength=q * classes).reshape(q, classes)
    predicted = votes.argmax(axis=1)
    return predicted, votes[np.arange(q), predicted] / votes.sum(axis=1)


def classify(
    queries: np.ndarray,
    bank: np.ndarray,
    labels: np.ndarray,
    classes: int,
    k: int,
    temperature: float,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Classify queries by their nearest neighbours: `top_k`, then `vote`.

    Args:
        queries: (q, d).
        bank: (n, d).
        labels: (n,) class of each row of the bank, in 0..c-1.
        classes: c.
        k: neighbours that vote.
        temperature: of the votes, > 0.
        device: where similarities are computed, `cpu` or `cuda`.

    Returns:
        predicted (q,) int64 and its share of the votes (q,) float64.
    """
    similarities, rows = top_k(queries, bank, k, ordered=False, device=device)
    return vote(similarities, np.asarray(labels)[rows], classes, temperature)
