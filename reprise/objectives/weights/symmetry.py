"""How far linear layers and kernels are from being equivariant under a finite group: a term that makes them more so.

Source: Kim, Lee, Yang, Lee, "Regularizing Towards Soft Equivariance Under Mixed Symmetries", ICML 2023, arXiv
2306.00356 (PER).

A linear map W between two spaces on which a group G acts is equivariant where W in(g) = out(g) W for all g. The nearest
equivariant map is the mean over the group, and the term is the squared distance to it, as a share of the map's length:

    P W = mean over g of  out(g)^-1 W in(g),        R(W) = |W - P W|^2 / |W|^2

P is a projection, and R is 0 exactly for equivariant maps. A kernel is such a map: the group moves its pixels, and its
channels where they form fields of |G| channels that the group permutes (`regular`); scalar channels stay.

Deviations: the division by |W|^2 is ours, since |W - P W|^2 alone also falls when all weights shrink. The paper tunes
the weight of each group during training by a rule that could not be verified; here weights are constant. Its groups are
subgroups of O(3) with bases of equivariant maps; these are the finite ones whose mean can be taken element by element.

Shape legend: o rows, i columns of a map; O, I channels and K side of a kernel; |G| elements of the group.

Checked by: tests/reprise/objectives/test_equivariant_kernels.py; docs/measurements/factors.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from reprise.networks.symmetry_groups import GroupName, elements_of
from reprise.objectives.precision import full_precision

Channels = Literal["scalar", "regular"]


def averaged_map(weight: Tensor, out: Tensor, into: Tensor) -> Tensor:
    """Project a linear map on the equivariant ones.

    Args:
        weight: (o, i).
        out: (|G|, o, o), what each element does with what comes out; orthogonal matrices, such as permutations.
        into: (|G|, i, i), what it does with what goes in.
    """
    return (out.transpose(1, 2) @ weight @ into).mean(dim=0)


def averaged_kernel(weight: Tensor, group: GroupName, out: Channels, into: Channels) -> Tensor:
    """Project a kernel (O, I, K, K) on the equivariant ones.

    Args:
        weight: the kernel; channels that are `regular` are multiples of |G|, and those of a field lie together.
        group: whose elements turn and mirror it.
        out: how the channels that come out are moved.
        into: how those that go in are.
    """
    elements = elements_of(group)
    places = {element: number for number, element in enumerate(elements)}
    total = torch.zeros_like(weight)
    for element in elements:
        order = [places[element.after(other)] for other in elements]
        moved = weight
        for dim, form in ((0, out), (1, into)):
            if form == "regular":
                moved = _in_order(moved, dim, order)
        total = total + element.inverse().moved(moved)
    return total / len(elements)


def _in_order(weight: Tensor, dim: int, order: Sequence[int]) -> Tensor:
    """Put the channels of each field in this order; no tensor comes from the CPU, so that a GPU may record the step."""
    channels = weight.unflatten(dim, (-1, len(order))).unbind(dim + 1)
    return torch.stack([channels[place] for place in order], dim=dim + 1).flatten(dim, dim + 1)


def distance(weight: Tensor, projected: Tensor) -> Tensor:
    """Return R: the squared distance of a weight to its projection, as a share of its squared length."""
    return (weight - projected).square().sum() / weight.square().sum().clamp(min=torch.finfo(weight.dtype).tiny)


@full_precision
def kernel_asymmetry(kernels: Sequence[Tensor], group: GroupName, channels: Channels) -> Tensor:
    """Return the mean of R over the kernels of a network, whose first one sees scalar channels: those of images.

    Args:
        kernels: (O, I, K, K) each, from the input to the output. Channels whose number is no multiple of |G| count as
            scalar.
        group: of the symmetries.
        channels: what the hidden channels are.
    """
    size = len(elements_of(group))
    found = []
    for number, weight in enumerate(kernels):
        forms: list[Channels] = [
            channels if count % size == 0 and (dim == 0 or number) else "scalar"
            for dim, count in enumerate(weight.shape[:2])
        ]
        found.append(distance(weight, averaged_kernel(weight, group, forms[0], forms[1])))
    return torch.stack(found).mean()
