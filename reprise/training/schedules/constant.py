"""`constant`: the peak rate to the end, for runs whose length is not known beforehand or that are continued later.

Source: no publication.

Checked by: tests/reprise/training/test_schedules.py.
"""

from __future__ import annotations

from reprise.training.schedule import Schedule


class Constant(Schedule):
    """The peak rate at every step after the warm-up."""

    def share(self, step: int, steps: int, warmup: int) -> float:
        """Stay at 1."""
        return 1.0
