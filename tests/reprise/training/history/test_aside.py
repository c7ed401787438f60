"""Work in a second thread: it is done in order, its errors arrive, and waiting means that nothing of it is held."""

from __future__ import annotations

import threading
import time
import weakref

import pytest

from reprise.training.history.aside import Aside


class Held:
    """Something whose release can be seen, as that of pinned memory matters to a CUDA graph."""


@pytest.mark.parametrize("threaded", [False, True])
def test_after_waiting_all_tasks_are_done_and_their_arguments_released(threaded):
    done: list[int] = []

    def work(number: int, held: Held) -> None:
        time.sleep(0.01)
        done.append(number)

    with Aside(threaded) as aside:
        seen = []
        for number in range(3):
            held = Held()
            seen.append(weakref.ref(held))
            aside.do(work, number, held)
            del held
        aside.wait()
        assert done == [0, 1, 2]
        assert [reference() for reference in seen] == [None] * 3


def test_waiting_raises_what_a_task_raised():
    def fails() -> None:
        raise ValueError("not finite")

    with Aside(threaded=True) as aside:
        aside.do(fails)
        with pytest.raises(ValueError, match="not finite"):
            aside.wait()


def test_the_work_is_done_elsewhere():
    with Aside(threaded=True) as aside:
        names: list[str] = []
        aside.do(lambda: names.append(threading.current_thread().name))
        aside.wait()
        assert names == ["aside_0"]
