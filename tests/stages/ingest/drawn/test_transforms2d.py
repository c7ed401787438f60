"""The source `transforms2d`: objects, backgrounds, and transformations that do what their facts say."""

from __future__ import annotations

import colorsys
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.layout import INGEST
from stages.ingest.__main__ import main as ingest
from stages.ingest.drawn.objects import background_of, object_of
from stages.ingest.drawn.transformations import (
    EVENTS,
    FAMILIES,
    FLAGS,
    NAMES,
    RANGES,
    change_colours,
    corrupt,
    draw_values,
    expand,
    parameters_of,
    points_of_the_object,
    render,
)
from stages.ingest.scan import scan
from stages.ingest.sources.transforms2d import Transforms2d

SHOWN = dict.fromkeys(FLAGS, 1.0) | {"blur": 0.04, "rotate": 50.0, "scale": 0.5, "translate_x": 0.8}
SHOWN |= {"translate_y": -0.5, "shear_x": 25.0, "shear_y": 10.0, "hue": 90.0, "brightness": 0.5, "contrast": 0.4}


def source(**options: Any) -> Transforms2d:
    return Transforms2d(Path(), Transforms2d.Params(**options))


def rngs() -> dict[Any, np.random.Generator]:
    return {name: np.random.default_rng(i) for i, name in enumerate(NAMES)}


def painted(values: dict[str, float], strengths: dict[str, float] | None = None) -> tuple[np.ndarray, np.ndarray]:
    return render(object_of(0, 3), 48, values, rngs(), strengths or {})


def test_a_picture_is_a_function_of_the_seed_and_its_number() -> None:
    few, many = list(source(images=20).candidates()), list(source(images=30).candidates())
    assert [(c.reference, c.label) for c in many[:20]] == [(c.reference, c.label) for c in few]
    assert next(iter(source(images=20, seed=1).candidates())).reference != few[0].reference
    changed = ({}, {"seed": 1}, {"transform_seed": 5}, {"object_seed": 1}, {"first": 3}, {"strengths": {"scale": 0.5}})
    assert len({source(images=20, **options).extent().digest for options in changed}) == 6


def test_two_sets_that_differ_in_the_transform_seed_differ_in_the_transformation_alone() -> None:
    one, other = (source(images=20, transformations=["rotate"], transform_seed=seed) for seed in (1, 2))
    still = source(images=20, transformations=[], transform_seed=2)
    for i in range(20):
        (a, label, facts), (b, label_b, facts_b), (c, _, facts_c) = one.picture(i), other.picture(i), still.picture(i)
        assert (label, facts["background"]) == (label_b, facts_b["background"])
        assert facts["rotate"] != facts_b["rotate"] and "rotate" not in facts_c
        assert not np.array_equal(a, b)
        corner = np.s_[:4, :4]  # no object of ours reaches there
        assert np.array_equal(a[corner], b[corner]) and np.array_equal(a[corner], c[corner])


def test_a_transformation_takes_the_same_values_whatever_else_is_chosen() -> None:
    for name in NAMES:
        alone, among = source(images=20, transformations=[name]), source(images=20, transformations=list(FAMILIES))
        for parameter in parameters_of(name):
            assert alone.picture(7)[2][parameter] == among.picture(7)[2][parameter]


def test_classes_are_the_objects_that_the_options_name_and_two_sets_can_share_none() -> None:
    first, second = ({source(classes=5, first=f, size=16).picture(i)[1] for i in range(60)} for f in (0, 5))
    assert first == {f"object {i}" for i in range(5)} and second == {f"object {i}" for i in range(5, 10)}


def test_no_object_looks_like_another_or_like_itself_turned_or_mirrored() -> None:
    changes = ({}, {"rotate": 90.0}, {"rotate": 180.0}, {"rotate": -90.0}, {"h_flip": 1.0}, {"v_flip": 1.0})
    seen = []
    for number in range(61):
        images = [render(object_of(0, number), 24, values, rngs(), {}) for values in changes]
        over = [rgb * alpha[:, :, None] for rgb, alpha in images]
        assert 0.05 < images[0][1].mean() < 0.33
        for image in over[1:]:
            assert np.abs(image - over[0]).mean() > 0.004, number
        seen.append(over[0])
    apart = [np.abs(a - b).mean() for i, a in enumerate(seen) for b in seen[:i]]
    assert min(apart) > 0.01
    grounds = [background_of(0, number, 24) for number in range(30)]
    assert min(np.abs(a - b).mean() for i, a in enumerate(grounds) for b in grounds[:i]) > 0.03


@pytest.mark.parametrize("name", NAMES)
def test_every_transformation_changes_the_object_and_none_at_strength_0(name: Any) -> None:
    before, alpha = painted({})
    values = {parameter: SHOWN[parameter] for parameter in parameters_of(name)}
    after, alpha_after = painted(values)
    difference = np.abs(after * alpha_after[:, :, None] - before * alpha[:, :, None]).mean()
    assert difference > 0.002
    none = source(size=16, transformations=[name], strengths={name: 0.0})
    plain = source(size=16, transformations=[])
    assert all(np.array_equal(none.picture(i)[0], plain.picture(i)[0]) for i in range(10))
    if name in EVENTS:
        half = painted(values, {name: 0.5})
        assert np.abs(half[0] * half[1][:, :, None] - before * alpha[:, :, None]).mean() < difference


@pytest.mark.parametrize("name", NAMES)
def test_values_fill_their_range_and_half_of_the_strength_halves_it(name: Any) -> None:
    drawn = {
        strength: [
            draw_values([name], lambda place, i=i: np.random.default_rng([i, place]), {name: strength})[0]
            for i in range(300)
        ]
        for strength in (1.0, 0.5)
    }
    for parameter in parameters_of(name):
        full, weak = ([values[parameter] for values in drawn[strength]] for strength in (1.0, 0.5))
        if name in FLAGS:
            assert set(full) <= {0, 1} and np.mean(full) == pytest.approx(0.5, abs=0.1)
            assert np.mean(weak) == pytest.approx(0.25 if name.endswith("flip") else 0.5, abs=0.1)
            continue
        low, high, still = RANGES[parameter]
        assert low <= min(full) < low + 0.05 * (high - low) and high - 0.05 * (high - low) < max(full) <= high
        assert np.array(weak) == pytest.approx((np.array(full) + still) / 2, abs=2e-6)


def test_geometry_is_that_of_matrices_by_hand() -> None:
    """A point of the object, moved by the product of matrices, is where the sampling looks for it."""
    values = {"rotate": 30.0, "shear_x": 20.0, "shear_y": -10.0, "scale": 0.7, "translate_x": 0.5, "translate_y": 0.25}
    u, v = points_of_the_object(101, {**values, "h_flip": 1.0}, {}, {})
    point = np.array([0.3, -0.6])
    x, y = -point[0], point[1]  # mirrored
    x = x + np.tan(np.radians(20)) * y
    y = y + np.tan(np.radians(-10)) * x
    c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
    x, y = 0.32 * 0.7 * (c * x - s * y), 0.32 * 0.7 * (s * x + c * y)
    room = 0.5 - 0.32 * 0.7
    column, row = (0.5 + x + 0.5 * room) * 101 - 0.5, (0.5 - y + 0.25 * room) * 101 - 0.5
    nearest = np.unravel_index(np.argmin((u - point[0]) ** 2 + (v - point[1]) ** 2), u.shape)
    assert abs(nearest[0] - row) <= 0.75 and abs(nearest[1] - column) <= 0.75


def test_a_translated_object_stays_in_its_picture_and_goes_where_the_fact_says() -> None:
    for x, y in ((1.0, 1.0), (-1.0, 1.0), (1.0, -1.0)):
        _, alpha = painted({"translate_x": x, "translate_y": y})
        assert alpha.sum() == pytest.approx(painted({})[1].sum(), rel=0.02)
        rows, columns = np.nonzero(alpha > 0.5)
        assert np.sign(columns.mean() - 24) == x and np.sign(rows.mean() - 24) == y


def test_colours_change_as_their_formulas_say() -> None:
    rng = np.random.default_rng(0)
    rgb, alpha = rng.uniform(0.1, 0.9, (5, 5, 3)), np.ones((5, 5))

    def changed(**values: float) -> np.ndarray:
        return change_colours(rgb, alpha, values, {})

    assert changed(brightness=0.5) == pytest.approx(rgb * 0.5)
    assert changed(contrast=0.0) == pytest.approx(np.full((5, 5, 3), rgb.mean()))
    assert changed(invert=1.0) == pytest.approx(1 - rgb)
    assert changed(posterize=1.0) == pytest.approx((rgb >= 0.5).astype(float))
    grey = changed(grayscale=1.0)
    assert grey[2, 3] == pytest.approx([0.299 * rgb[2, 3, 0] + 0.587 * rgb[2, 3, 1] + 0.114 * rgb[2, 3, 2]] * 3)
    for before, after in zip(rgb.reshape(-1, 3), changed(hue=120.0).reshape(-1, 3), strict=True):
        old, new = colorsys.rgb_to_hsv(*before), colorsys.rgb_to_hsv(*after)
        assert (new[0] - old[0]) % 1 == pytest.approx(1 / 3, abs=1e-6)
        assert new[1:] == pytest.approx(old[1:])


def test_corruptions_restated_by_loops() -> None:
    rng = np.random.default_rng(0)
    size, sigma = 12, 0.1
    rgb, alpha = rng.random((size, size, 3)), rng.random((size, size))
    blurred, opacity = corrupt(rgb, alpha, {"blur": sigma}, rngs(), {})
    weights = np.array([[np.exp(-0.5 * ((i - j) / (sigma * size)) ** 2) for j in range(size)] for i in range(size)])
    weights /= weights.sum(1, keepdims=True)
    i, k = 4, 7
    expected = sum(weights[i, j] * weights[k, m] * alpha[j, m] for j in range(size) for m in range(size))
    assert opacity[i, k] == pytest.approx(expected, abs=1e-9)
    red = sum(weights[i, j] * weights[k, m] * alpha[j, m] * rgb[j, m, 0] for j in range(size) for m in range(size))
    assert blurred[i, k, 0] == pytest.approx(red / expected, abs=1e-9)
    blocks, opacity = corrupt(rgb, np.ones((size, size)), {"pixelate": 1.0}, rngs(), {})
    assert len(np.unique(blocks.reshape(-1, 3).round(9), axis=0)) == 16  # 0.3 of 12 pixels: 4 x 4 cells
    assert blocks[:3, :3, 0] == pytest.approx(np.full((3, 3), rgb[:3, :3, 0].mean()))
    _, hidden = corrupt(rgb, np.ones((size, size)), {"erasing": 1.0}, rngs(), {})
    assert (hidden == 0).sum() == 25  # a square of 14/32 of 12 pixels: 5 x 5
    noisy, _ = corrupt(np.full((60, 60, 3), 0.5), np.ones((60, 60)), {"noise": 1.0}, rngs(), {"noise": 0.2})
    assert (noisy - 0.5).mean() == pytest.approx(0, abs=0.005)  # as much darker as brighter
    assert noisy.std() == pytest.approx(0.1, rel=0.05)


def test_families_and_names_are_expanded_once_each() -> None:
    assert expand(["corruption", "blur", "rotate"]) == ("rotate", *FAMILIES["corruption"])
    assert expand(list(FAMILIES)) == NAMES and len(NAMES) == 18
    with pytest.raises(ValueError, match="strengths names hue, which is not applied"):
        Transforms2d.Params(strengths={"hue": 0.5})


def test_without_backgrounds_all_is_grey() -> None:
    pixels = source(backgrounds=0, transformations=[]).picture(3)[0]
    assert np.all(pixels[:4] == 128)


def test_it_goes_through_ingest_with_the_values_as_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"images": 40, "size": 24, "classes": 4, "transformations": ["shear", "photometric", "erasing"]}
    Path("params.yaml").write_text(json.dumps({"source": {"name": "transforms2d", "options": options}}))
    scan()
    ingest([])
    facts = read_facts(INGEST)
    assert facts.named("number") == ["shear_x", "shear_y", "hue", "brightness"]
    assert facts.named("flag") == ["grayscale", "posterize", "invert", "sharpen", "erasing"]
    assert not any(np.isnan(facts.columns[name]).any() for name in facts.named("number"))
