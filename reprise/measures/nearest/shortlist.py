"""Find the rows that may be among the nearest by products of 8-bit integers, at a fraction of the cost of float32.

Bank and queries are turned by one random rotation and rounded to 8 bits. The products of 8-bit rows are exact in 32-bit
integers, so the only error is the rounding, and its size is known for each query. The rows with the largest products
are then compared in float32. If the last of them is nearer than anything outside of the list can be, the answer is what
float32 over the whole bank gives; the rare query without that certainty is compared with the whole bank.

Why a rotation: it spreads every feature over all axes, so that a few large entries do not coarsen the rounding of the
rest, and what is rounded away points in no direction of the data: its products cancel as a random walk does.
Why the bank's mean is taken off: it adds the same to all similarities of a query, and without it rows are shorter, so
that less is rounded away.

Legend: q queries, n rows of the bank, d dimensions, m length of the list.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 127  # 8-bit integers, symmetric
GROUP = 16  # rows whose largest product stands for them in the first cut
CERTAIN = 8.0  # standard deviations of a sum of roundings; beyond what is ever seen
_LEAST_WORK = 1 << 34  # q * n * d below which the preparation does not pay
_LEAST_DIMENSIONS = 64  # in fewer, roundings do not cancel


def multiplies_bytes() -> bool:
    """Whether this processor multiplies 8-bit integers natively; elsewhere they gain nothing over float32."""
    return torch.cpu._is_vnni_supported()  # noqa: SLF001 - no public name before 2.13


def is_faster(q: int, n: int, d: int, wanted: int) -> bool:
    """Whether this machine multiplies 8-bit integers natively and the search is large enough."""
    return multiplies_bytes() and q * n * d >= _LEAST_WORK and q >= 2 * d >= 2 * _LEAST_DIMENSIONS and n >= 64 * wanted


class Shortlist:
    """A bank prepared for searches of `wanted` nearest rows.

    Args:
        bank: (n, d) float32 rows of length one (or zero).
    """

    def __init__(self, bank: Tensor, wanted: int) -> None:
        n, d = bank.shape
        self.bank, self.wanted, self.n = bank, wanted, n
        self.length = min(n, wanted + wanted // 4 + 48)  # long enough that hardly a query is left unsure
        generator = torch.Generator().manual_seed(0)
        self.rotation = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0].float()
        self.mean = bank.mean(0)
        turned = (bank - self.mean) @ self.rotation
        self.unit = float(turned.abs().max().clamp(min=1e-30)) / LEVELS
        rounded = torch.round(turned / self.unit)
        self.lost = float((turned - rounded * self.unit).norm(dim=1).max())
        self.longest = float(turned.norm(dim=1).max())
        columns = -(-n // GROUP) * GROUP
        self.bits = torch.zeros((d, columns), dtype=torch.int8)
        self.bits[:, :n] = rounded.to(torch.int8).T

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return (q, wanted) similarities, decreasing, and rows, as float32 over the whole bank gives them.

        Args:
            queries: (q, d) float32 rows of length one (or zero).
        """
        products, unit, error = self._products(queries)
        groups = products.view(len(queries), GROUP, -1)  # row j is in group j modulo the number of groups
        count = groups.shape[2]
        best = torch.topk(groups.amax(1), min(self.length, count), dim=1, sorted=False).indices
        rows = (best[:, None, :] + count * torch.arange(GROUP)[None, :, None]).flatten(1)
        listed = torch.topk(products.gather(1, rows), self.length, dim=1, sorted=False)
        rows = rows.gather(1, listed.indices)
        value, kept = self._exactly(queries, rows)
        # a row outside of the list has at most the smallest product of the list
        outside = listed.values.amin(1).double() * unit + error + (queries @ self.mean).double()
        unsure = torch.nonzero(outside >= value[:, -1].double() - 1e-5).flatten()
        for part in unsure.split(64):
            value[part], kept[part] = torch.topk(queries[part] @ self.bank.T, self.wanted, dim=1)
        return value, kept

    def _products(self, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (q, columns) int32 products, the similarity of one unit of them (q,), and their error (q,)."""
        turned = queries @ self.rotation
        step = turned.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / LEVELS
        rounded = torch.round(turned / step)
        lost = (turned - rounded * step).norm(dim=1).double()
        products = torch._int_mm(rounded.to(torch.int8), self.bits)  # noqa: SLF001 - the one integer product there is
        products[:, self.n :] = torch.iinfo(torch.int32).min
        length = queries.norm(dim=1).double()
        error = CERTAIN * (lost * self.longest + length * self.lost) / self.bank.shape[1] ** 0.5
        return products, step[:, 0].double() * self.unit, error

    def _exactly(self, queries: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Find the `wanted` nearest of each query's list in float32, one list at a time, which stays in the cache."""
        value = torch.empty(rows.shape)
        picked = torch.empty((rows.shape[1], self.bank.shape[1]))
        for i, row in enumerate(rows):
            torch.index_select(self.bank, 0, row, out=picked)
            torch.mv(picked, queries[i], out=value[i])
        found = torch.topk(value, self.wanted, dim=1)
        return found.values, rows.gather(1, found.indices)
