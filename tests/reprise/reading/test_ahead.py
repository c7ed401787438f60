"""Batches that are read ahead: in order, before they are asked for, with their errors."""

from __future__ import annotations

import threading

import pytest

from reprise.reading.ahead import ahead


def test_batches_come_in_order() -> None:
    assert list(ahead(lambda i: i * i, range(7))) == [i * i for i in range(7)]
    assert list(ahead(lambda i: i, [])) == []


def test_the_next_batch_is_made_while_this_one_is_in_use() -> None:
    second = threading.Event()
    batches = ahead(lambda i: second.set() if i == 1 else None, range(3))
    next(batches)
    assert second.wait(10)


def test_an_error_comes_where_its_batch_is_asked_for() -> None:
    batches = ahead(lambda i: 1 // i, [1, 0, 1])
    assert next(batches) == 1
    with pytest.raises(ZeroDivisionError):
        next(batches)
