"""Which images of a batch of pairs may be negatives of which."""

from __future__ import annotations

from torch import Tensor


def others(rows: Tensor, partner: Tensor) -> Tensor:
    """Tell for each image of a batch which ones are neither the same image nor its partner.

    An image may stand in a batch several times, as an anchor and as the partner of others.

    Args:
        rows: (B,) int64, which image each one is.
        partner: (B,) int64, where the partner of each one stands.

    Returns:
        (B, B) bool.
    """
    return (rows[:, None] != rows) & (rows[partner][:, None] != rows)
