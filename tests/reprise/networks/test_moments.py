"""Moment Probing's head: the cross-covariance, and sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reprise.networks.moments import MomentHead, cross_covariance, shrunk


def test_cross_covariance_equals_einsum() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 10, 4)), rng.normal(size=(3, 10, 4))
    expected = np.einsum("nli,nlj->nij", a, b) / 10
    assert cross_covariance(torch.from_numpy(a), torch.from_numpy(b)).numpy() == pytest.approx(expected)


@pytest.mark.parametrize("width", [7, 16, 31, 128])
@pytest.mark.parametrize("heads", [2, 4])
def test_sizes_for_any_width(width: int, heads: int) -> None:
    head = MomentHead(12, 5, heads, width)
    tokens = torch.randn(2, 9, 12)
    maps = head.moments(tokens)
    assert maps.shape == (2, heads - 1, width, width)
    assert maps.norm(dim=2).detach().numpy() == pytest.approx(np.ones((2, heads - 1, width)), abs=1e-5)
    assert head.second(head.first(maps)).shape[-1] == shrunk(width)
    assert head(tokens).shape == (2, 5)


def test_the_paper_has_2883_numbers() -> None:
    assert 3 * shrunk(128) ** 2 == 2883


def test_too_small_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match="two heads of width 7"):
        MomentHead(12, 5, 1, 128)


def test_order_of_places_does_not_matter() -> None:
    head, tokens = MomentHead(12, 5, 2, 8), torch.randn(2, 9, 12)
    assert torch.allclose(head(tokens[:, torch.randperm(9)]), head(tokens), atol=1e-5)
