"""The parts of the study of symmetries that need no training: turned images, the synthetic map, the table."""

from __future__ import annotations

import torch

from studies.symmetry import BREAKS, strengths, table, turned


def test_images_are_shown_in_all_turns():
    x = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    shown, which = turned(x)
    assert which.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for image, number, own in zip(shown, which, [0, 1] * 4, strict=True):
        assert torch.equal(torch.rot90(image, -int(number), (1, 2)), x[own])


def test_many_examples_tell_the_strengths():
    """Without noise to speak of, R is that of the true map: what is odd, over all."""
    found = strengths(0, examples=400, weight=1e-9, steps=400)
    whole = 1 + sum(strength**2 for strength in BREAKS.values())
    for name, strength in BREAKS.items():
        assert abs(found[name] - strength**2 / whole) < 0.02
    assert found["ranked"] == 1.0


def test_a_table_has_the_paired_difference():
    first = [{"knn": 3.0}, {"knn": 5.0}]
    text = table({"a": first, "b": [{"knn": 1.0}, {"knn": 2.5}]})
    assert text.splitlines()[2:] == ["| a | 2 | 4 |", "| b | 2 | 1.75 |", "| difference | 2 | +2.25 [-0.93, +5.43] |"]
    same = table({"a": first, "b": [{"knn": 1.0}, {"knn": 3.0}]})
    assert same.splitlines()[-1] == "| difference | 2 | +2.00 [no interval] |"
