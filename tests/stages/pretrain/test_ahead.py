"""Batches that are made beside the step on a GPU are the batches that were asked for."""

from __future__ import annotations

import pytest
import torch

from stages.pretrain.ahead import Ahead


class Making:
    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, number: int):
        def make() -> list[torch.Tensor]:
            self.made.append(number)
            return [torch.full((1000,), float(number), device="cuda" if torch.cuda.is_available() else "cpu")]

        return make


def test_a_cpu_makes_each_batch_when_it_is_asked_for():
    ahead, making = Ahead(on_gpu=False), Making()
    for number in range(3):
        assert ahead.take(number, making(number))[0][0] == number
        ahead.begin(number + 1, making(number + 1))
    assert making.made == [0, 1, 2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_makes_the_next_batch_once_and_drops_one_that_is_not_wanted():
    ahead, making = Ahead(on_gpu=True), Making()
    for number in (0, 1, 2, 7, 8):  # a resumed run jumps
        batch = ahead.take(number, making(number))
        ahead.begin(number + 1, making(number + 1))
        assert torch.equal(batch[0].cpu(), torch.full((1000,), float(number)))
    assert making.made == [0, 1, 2, 3, 7, 8, 9]
