"""The projection on equivariant maps against the average over the group by brute force, and the term made of it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from reprise.networks.symmetry_groups import elements_of
from reprise.objectives.weights.symmetry import averaged_kernel, averaged_map, distance, kernel_asymmetry

SIDE = 4
FORMS = [("scalar", "scalar"), ("regular", "scalar"), ("scalar", "regular"), ("regular", "regular")]


class Operations(TorchDispatchMode):
    """Notes the names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def acted(x: Tensor, element, group: str, form: str) -> Tensor:
    """What an element makes of a map (C, S, S), one channel after the other: it goes to its place in the field."""
    elements = list(elements_of(group))
    found = torch.empty_like(x)
    for channel in range(len(x)):
        field, place = divmod(channel, len(elements))
        to = channel
        if form == "regular":
            to = field * len(elements) + elements.index(element.after(elements[place]))
        found[to] = element.moved(x[channel])
    return found


def matrix(action, channels: int) -> Tensor:
    """The matrix of a linear action on maps (C, S, S), column by column."""
    basis = torch.eye(channels * SIDE**2, dtype=torch.float64).view(-1, channels, SIDE, SIDE)
    return torch.stack([action(x).reshape(-1) for x in basis], dim=1)


@pytest.mark.parametrize(("group", "out", "into"), [*(("c4", *form) for form in FORMS), ("d4", "regular", "regular")])
def test_the_projection_of_a_kernel_is_the_mean_over_the_group_by_brute_force(group, out, into):
    """As matrices on maps, whose borders are zeros: turn the input, convolve, turn the output back."""
    size = len(elements_of(group))
    weight = drawn(size, size, 3, 3)

    def convolved(kernel: Tensor) -> Tensor:
        return matrix(lambda x: F.conv2d(x[None], kernel, padding=1)[0], size)

    total = torch.zeros_like(convolved(weight))
    for element in elements_of(group):
        before = matrix(lambda x, e=element: acted(x, e, group, into), size)
        after = matrix(lambda x, e=element: acted(x, e, group, out), size)
        total += after.T @ convolved(weight) @ before
    projected = averaged_kernel(weight, group, out, into)
    torch.testing.assert_close(convolved(projected), total / size, atol=1e-6, rtol=0)
    actions = [
        torch.stack([matrix(lambda x, e=e, f=form: acted(x, e, group, f), size) for e in elements_of(group)])
        for form in (out, into)
    ]
    torch.testing.assert_close(averaged_map(convolved(weight), *actions), total / size, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("out", "into"), FORMS)
@pytest.mark.parametrize("group", ["c4", "d4"])
def test_it_projects_and_r_is_0_exactly_for_equivariant_kernels(group, out, into):
    size = len(elements_of(group))
    weight = drawn(2 * size, size, 3, 3)
    projected = averaged_kernel(weight, group, out, into)
    torch.testing.assert_close(averaged_kernel(projected, group, out, into), projected, atol=1e-12, rtol=0)
    assert float(distance(projected, averaged_kernel(projected, group, out, into))) < 1e-25
    assert float(((weight - projected) * projected).sum().abs()) < 1e-10  # orthogonally
    r = float(distance(weight, projected))
    assert 0.1 < r < 1.0
    assert float(distance(3 * weight, averaged_kernel(3 * weight, group, out, into))) == pytest.approx(r)
    x = drawn(size, SIDE, SIDE, seed=1)
    for element in elements_of(group):
        for kernel, equal in ((projected, True), (weight, element.turns == 0 and not element.mirrored)):
            first = F.conv2d(acted(x, element, group, into)[None], kernel, padding=1)[0]
            last = acted(F.conv2d(x[None], kernel, padding=1)[0], element, group, out)
            assert (float((first - last).abs().max()) < 1e-10) == equal


def gathered(weight: Tensor, group: str, out: str, into: str) -> Tensor:
    """The mean over the group with channels gathered by tensors of indices."""
    elements = list(elements_of(group))
    total = torch.zeros_like(weight)
    for element in elements:
        order = torch.tensor([elements.index(element.after(other)) for other in elements])
        moved = weight
        for dim, form in ((0, out), (1, into)):
            if form == "regular":
                fields = torch.arange(0, moved.shape[dim], len(elements))
                moved = moved.index_select(dim, (fields[:, None] + order).view(-1))
        total = total + element.inverse().moved(moved)
    return total / len(elements)


@pytest.mark.parametrize(("out", "into"), FORMS)
@pytest.mark.parametrize("group", ["c4", "d4"])
def test_the_projection_makes_no_tensor_on_the_cpu_and_is_that_of_gathered_channels(group, out, into):
    """To the bit, values and gradients. What is made of Python's numbers would end the recording of a step on a GPU."""
    weight = drawn(16, 8, 3, 3).float().requires_grad_()
    with Operations() as seen:
        found = averaged_kernel(weight, group, out, into)
    assert not {"lift_fresh", "arange", "_to_copy"} & seen.names
    want, share = gathered(weight, group, out, into), drawn(16, 8, 3, 3, seed=1).float()
    assert torch.equal(found, want)
    gradients = [torch.autograd.grad((one * share).sum(), weight)[0] for one in (found, want)]
    assert torch.equal(*gradients)


def test_the_term_is_the_mean_over_kernels_and_falls_to_0():
    kernels = [drawn(8, 3, 3, 3), drawn(16, 8, 3, 3, seed=1), drawn(6, 16, 1, 1, seed=2)]
    forms = [("regular", "scalar"), ("regular", "regular"), ("scalar", "regular")]  # 6 channels are no fields of four
    want = [distance(w, averaged_kernel(w, "c4", *form)) for w, form in zip(kernels, forms, strict=True)]
    assert float(kernel_asymmetry(kernels, "c4", "regular")) == pytest.approx(float(sum(want)) / 3)
    weights = [(w / w.norm()).requires_grad_() for w in kernels]
    optimizer = torch.optim.SGD(weights, 0.5)
    for _ in range(80):
        optimizer.zero_grad()
        loss = kernel_asymmetry(weights, "c4", "regular")
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-6
    assert min(float(w.detach().norm()) for w in weights) > 0.5  # they turned, and did not shrink
    assert torch.autograd.gradcheck(lambda w: kernel_asymmetry([w], "c4", "scalar"), drawn(2, 2, 3, 3).requires_grad_())
