"""The step of a training, computed in faster ways: the same numbers, or a note that says why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reprise.runtime.device import Compute
from reprise.training.optimization.gradients import Acceleration, Gradients, accelerated, copied, tensors_in

CPU = Compute("cpu", "fp32", 1)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.head = nn.Linear(5, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2))

    def step(self, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self.head(self.backbone(batch)).square().sum()
        return loss, {"loss": loss}


def gradients_of(model: Small, acceleration: Acceleration) -> tuple[Gradients, Tensor, list[Tensor]]:
    gradients = Gradients(model, model.step, CPU, acceleration)
    loss, _ = gradients(torch.arange(15.0).view(3, 5))
    return gradients, loss, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_a_network_that_cannot_be_compiled_trains_as_it_is_and_says_so(monkeypatch, capsys):
    def compiled(self: nn.Module, **_: Any) -> None:
        def fails(*_: Any) -> Tensor:
            raise RuntimeError("in a process of the compiler\nTraceback\nRuntimeError: PassManager::run failed")

        self._compiled_call_impl = fails

    plain = gradients_of(Small(), Acceleration())
    monkeypatch.setattr(nn.Module, "compile", compiled)
    found = gradients_of(Small(), Acceleration(compile=True))
    assert torch.equal(found[1], plain[1])
    assert all(torch.equal(a, b) for a, b in zip(found[2], plain[2], strict=True))
    assert len(found[2]) == 4
    note = "the networks are not compiled: RuntimeError: RuntimeError: PassManager::run failed"
    assert found[0].notes == [note]
    assert note in capsys.readouterr().err


def test_a_failure_of_the_method_itself_is_not_taken_for_the_compilers(monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: None)
    model = Small()
    gradients = Gradients(model, model.step, CPU, Acceleration(compile=True))
    with pytest.raises(RuntimeError, match="shapes"):
        gradients(torch.ones(3, 7))  # no backbone of this width: the plain step fails as well
    assert gradients.proven


@pytest.mark.slow  # the compiler takes ten seconds and more
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while its compiler is imported
def test_compiled_networks_give_the_same_gradients():
    plain, found = gradients_of(Small(), Acceleration()), gradients_of(Small(), Acceleration(compile=True))
    torch.testing.assert_close(found[1], plain[1])
    torch.testing.assert_close(found[2], plain[2])
    assert found[0].notes == []  # otherwise this has compared the plain step with itself


@pytest.mark.parametrize(
    ("compile_", "graph", "device", "capturable", "want"),
    [
        ("auto", "auto", "cpu", True, (False, False, 0)),
        ("on", "on", "cpu", True, (True, False, 1)),
        ("auto", "auto", "cuda", True, (False, True, 0)),
        ("auto", "auto", "cuda", False, (False, False, 1)),
        ("off", "off", "cuda", False, (False, False, 0)),
        ("on", "on", "cuda", True, (True, True, 0)),
    ],
)
def test_what_is_asked_for_is_done_or_noted(compile_, graph, device, capturable, want):
    found = accelerated(compile_, graph, Compute(device, "fp32", 1), capturable)
    assert (found.compile, found.graph, len(found.notes)) == want


@dataclass(frozen=True)
class Nested:
    views: list[Tensor]
    fields: dict[str, Tensor]
    number: int = 3


def test_a_copied_batch_shares_no_memory_and_keeps_its_layout():
    last = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    batch = Nested([last, torch.ones(2)], {"rows": torch.arange(2)})
    copy = copied(batch)
    assert copy.number == 3
    for one, other in zip(tensors_in(batch), tensors_in(copy), strict=True):
        assert torch.equal(one, other)
        assert one.data_ptr() != other.data_ptr()
        assert one.stride() == other.stride()
    assert len(tensors_in(batch)) == 3
