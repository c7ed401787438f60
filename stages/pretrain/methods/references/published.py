"""`published`: weights that others trained, as they are: the reference that pretraining must beat to be worth it.

The run's row names them (`from: models/NAME`). Nothing is trained. The network sees images as its authors prepare them:
at their side, with their normalisation, crop and interpolation.

Source: no publication; the weights are those of whoever published them.

Checked by: tests/stages/pretrain/inputs/test_starts.py; docs/measurements/worth-it.md.
"""

from __future__ import annotations

from stages.pretrain.method import Method


class Published(Method):
    """Leave the backbone as it was published."""

    gradient_free = True
    needs_start = True
    weights = "published"
