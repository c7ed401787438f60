"""The source `shapes`: what it drew before, further factors, planted shortcuts, and faults of a known amount."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.layout import INGEST
from reprise.artifacts.manifest import read_manifest
from reprise.media.image.decode import decode
from stages.ingest.__main__ import main as ingest
from stages.ingest.drawn.shapes import COLOURS, HUELESS, SHAPES, TEXTURES, Drawn, captions, draw, lighting, pattern
from stages.ingest.scan import scan
from stages.ingest.source import Candidate
from stages.ingest.sources.shapes import Shapes

ALL = ["colour", "position", "scale", "rotation", "background", "texture", "hue", "light"]
OLD = ("colour", "background", "x", "y", "scale", "rotation")


def shapes(**options: Any) -> Shapes:
    return Shapes(Path(), Shapes.Params(**options))


def drawn(**options: Any) -> list[Candidate]:
    return list(shapes(**options).candidates())


def values(candidates: list[Candidate], name: str) -> list[Any]:
    return [candidate.facts.get(name) for candidate in candidates]


@pytest.mark.parametrize(
    ("options", "pictures", "extent"),
    [
        (
            {"images": 60},
            "45cd9a0c2911466b3c05b7565ace7d6758a3fada467368a66b33488515cf4b52",
            "8eb822c26164f35f605e578c58da07ebaad2a359155efc2402e5f70616d0a572",
        ),
        (
            {"images": 40, "size": 48, "seed": 3, "vary": ["rotation", "colour"], "given": ["mask", "x"]},
            "09e3f4f8fc848fa5c504a4df6b86dbc1deef39aaee4dbaad43fecd21ea9661b0",
            "455451f24c19ee26ab84ddd4ae9482d16011aac04e7e0b3c030273612e8ab164",
        ),
    ],
)
def test_options_that_are_not_used_change_no_byte_of_a_picture_or_fact(
    options: dict[str, Any], pictures: str, extent: str
) -> None:
    """The hashes were made before texture, hue, light, ties and faults existed."""
    source, digest = shapes(**options), hashlib.sha256()
    for c in source.candidates():
        assert isinstance(c.reference, bytes)
        digest.update(c.reference)
        facts = (*(c.facts[name] for name in ("caption", "pose", "boxes")), c.facts["mask"].tobytes())
        digest.update(repr((c.name, c.split, c.label, *facts, {k: c.facts[k] for k in OLD})).encode())
    assert digest.hexdigest() == pictures
    assert source.extent().digest == extent
    assert [fact.name for fact in source.facts()] == [*OLD, "caption", "pose", "mask", "boxes"]


@pytest.mark.parametrize("name", ["texture", "hue", "light"])
def test_a_further_factor_varies_and_moves_no_other(name: str) -> None:
    plain, more = drawn(images=60), drawn(images=60, vary=[*ALL[:5], name])
    for other in OLD:
        assert values(plain, other) == values(more, other)
    assert sum(a.reference != b.reference for a, b in zip(plain, more, strict=True)) > 40
    everything = drawn(images=60, vary=ALL)
    assert values(everything, name) == values(more, name)
    assert np.array_equal(everything[7].facts["mask"], plain[7].facts["mask"])
    known = [value for value in values(more, name) if value is not None]
    ranges = {"hue": 20, "light": 60}
    if name in ranges:
        assert -ranges[name] <= min(known) < -ranges[name] * 0.85
        assert ranges[name] * 0.85 < max(known) <= ranges[name]
    else:
        assert set(known) == set(TEXTURES)
    absent = {"texture": [], "hue": [], "light": ["brightness"]}[name]
    assert all(extra in more[0].facts for extra in absent)


def test_white_and_black_have_no_hue_and_all_other_shapes_do() -> None:
    for candidate in drawn(images=80, vary=["colour", "hue"]):
        assert ("hue" in candidate.facts) == (candidate.facts["colour"] not in HUELESS)


def test_the_hue_turns_the_colour_of_the_shape_by_so_many_degrees() -> None:
    import colorsys

    def seen(degrees: float) -> float:
        what = Drawn("square", "green", "white", 0.5, 0.5, 0.4, 0.0, hue=degrees)
        pixels, mask = draw(what, 64, np.random.default_rng(0), noise=0)
        return 360 * colorsys.rgb_to_hsv(*(pixels[mask > 0][:1000].mean(axis=0) / 255))[0]

    assert seen(20) - seen(0) == pytest.approx(20, abs=1)
    assert seen(0) - seen(-20) == pytest.approx(20, abs=1)


def test_textures_differ_from_each_other_and_turn_with_their_shape() -> None:
    u, v = np.meshgrid(np.linspace(-1, 1, 101), np.linspace(1, -1, 101))
    patterns = [pattern(name, u, v) for name in TEXTURES]
    assert not patterns[0].any()
    for i, first in enumerate(patterns[1:], 1):
        assert 0.2 < first.mean() < 0.8
        for second in patterns[i + 1 :]:
            assert (first ^ second).mean() > 0.2
    stripes = [
        draw(Drawn("square", "red", "white", 0.5, 0.5, 0.42, turn, "striped"), 96, np.random.default_rng(0), noise=0)[0]
        for turn in (0.0, 45.0)
    ]
    across = [picture[48, 36:60].astype(float).std(axis=0).max() for picture in stripes]
    assert across[0] < 2 < 20 < across[1]  # stripes lie flat at 0 degrees; a row crosses them at 45


@pytest.mark.parametrize(("degrees", "brighter"), [(0, "top"), (60, "left"), (-60, "right")])
def test_the_light_comes_from_the_side_that_the_fact_says(degrees: float, brighter: str) -> None:
    factors = lighting(Drawn("cross", "red", "white", 0.5, 0.5, 0.3, 0, light=degrees, brightness=0.8), 32)
    assert factors.mean() == pytest.approx(0.8)
    sides = {"top": factors[0].mean(), "left": factors[:, 0].mean(), "right": factors[:, -1].mean()}
    assert max(sides, key=lambda name: sides[name]) == brighter
    assert np.all(lighting(Drawn("cross", "red", "white", 0.5, 0.5, 0.3, 0, light=60, brightness=0.6), 8, 0.0) == 1)


def test_captions_name_texture_and_light_where_they_vary() -> None:
    what = Drawn("arrow", "red", "white", 0.5, 0.5, 0.4, 0, "striped", light=40, brightness=0.65)
    assert captions(what)[0] == "a striped arrow in red"
    assert captions(what)[1].endswith("a white picture, dimly lit from the left")
    assert captions(what._replace(texture="plain", light=None))[0] == "an arrow in red"


@pytest.mark.parametrize("factor", ALL)
def test_a_tied_factor_follows_the_class_as_often_as_asked_and_moves_no_other(factor: str) -> None:
    free = drawn(images=300, vary=ALL, size=16)
    half, whole = (drawn(images=300, vary=ALL, size=16, correlate={factor: strength}) for strength in (0.5, 1.0))
    name = "x" if factor == "position" else factor
    for other in {"colour", "background", "y", "scale", "rotation", "texture", "light", "brightness"} - {name}:
        if {factor, other} != {"colour", "background"} and (factor, other) != ("scale", "y"):
            assert values(free, other) == values(whole, other), other
    assert sum(values(whole, "aligned")) == 300
    by_chance = 1 / 5 if factor not in ("colour", "background") else 1 / 8
    assert np.mean(values(half, "aligned")) == pytest.approx(0.5 + 0.5 * by_chance, abs=0.08)
    for candidate in whole:
        assert candidate.facts["colour"] != candidate.facts["background"]
    if factor in ("colour", "background", "texture"):
        assert len({(c.label, c.facts[factor]) for c in whole}) == 5
    else:
        numbers = {label: [c.facts[name] for c in whole if c.label == label and name in c.facts] for label in SHAPES}
        means = [np.mean(numbers[label]) for label in SHAPES]
        assert np.all(np.diff(means) > 0), factor


def test_both_colours_tied_differ_in_every_class() -> None:
    for candidate in drawn(images=100, correlate={"colour": 1, "background": 0.7}):
        assert candidate.facts["colour"] != candidate.facts["background"]


def test_with_train_only_the_test_pictures_have_no_tie_tail_or_wrong_label() -> None:
    options = {"correlate": {"colour": 1.0}, "long_tail": 50.0, "label_noise": 0.4, "train_only": True}
    found, free = drawn(images=1000, **options), drawn(images=1000)
    for i, (candidate, plain) in enumerate(zip(found, free, strict=True)):
        assert candidate.split == ("test" if i % 5 == 4 else "train")
        if candidate.split == "test":
            assert (candidate.reference, candidate.label) == (plain.reference, plain.label)
            assert candidate.facts["true_class"] == candidate.label
        else:
            assert candidate.facts["aligned"] == 1
    wrong = [c.facts["true_class"] != c.label for c in found if c.split == "train"]
    assert np.mean(wrong) == pytest.approx(0.4, abs=0.06)


def test_a_long_tail_falls_by_its_ratio_and_wrong_labels_are_every_other_class() -> None:
    source = shapes(long_tail=16, label_noise=0.5)
    chosen = [source.choice(i)[0] for i in range(8000)]
    counts = Counter(choice.drawn.shape for choice in chosen)
    falls = [counts[a] / counts[b] for a, b in pairwise(SHAPES)]
    assert falls == pytest.approx([2, 2, 2, 2], rel=0.25)
    assert np.mean([choice.label != choice.drawn.shape for choice in chosen]) == pytest.approx(0.5, abs=0.02)
    even = [shapes(label_noise=0.5).choice(i)[0] for i in range(4000)]
    confused = Counter((choice.drawn.shape, choice.label) for choice in even if choice.label != choice.drawn.shape)
    assert len(confused) == 20
    assert min(confused.values()) > 60  # of 100 each


def test_availability_decides_how_much_is_seen_and_nothing_else() -> None:
    plain = drawn(images=40, vary=ALL)
    none = drawn(images=40, vary=ALL, availability={"shape": 0.0, "background": 0.0, "light": 0.0}, noise=0.0)
    for before, after in zip(plain, none, strict=True):
        assert before.facts["caption"] == after.facts["caption"]
        assert np.array_equal(before.facts["mask"], after.facts["mask"])
        pixels = decode(after.reference, "x", 3).astype(float)  # type: ignore[arg-type]
        assert np.abs(pixels - pixels[:, :, :1]).max() == 0  # a grey gradient is all that is left
        assert np.abs(np.diff(pixels, axis=0) - np.diff(pixels, axis=0)[:, :1]).max() <= 1
    means = {}
    for share in (0.0, 0.5, 1.0):
        by_colour: dict[str, list[np.ndarray]] = {}
        for c in drawn(images=200, availability={"colour": share}, noise=0.0):
            pixels = decode(c.reference, "x", 3)  # type: ignore[arg-type]
            by_colour.setdefault(c.facts["colour"], []).append(pixels[c.facts["mask"] > 0].mean(axis=0))
        means[share] = {name: np.median(found, axis=0) for name, found in by_colour.items()}
    for name, colour in COLOURS.items():
        assert means[0.5][name] == pytest.approx(128 + 0.5 * (np.array(colour) - 128), abs=12)
        assert means[0.0][name] == pytest.approx(np.full(3, 128), abs=12)


def test_noise_is_what_params_say() -> None:
    for noise in (0.0, 20.0):
        picture = drawn(images=20, size=64, vary=[], availability={"colour": 0.0}, noise=noise)[3].reference
        inner = decode(picture, "x", 3)[28:36, 28:36]  # type: ignore[arg-type]
        assert inner.std() == pytest.approx(noise, abs=0.15 * noise)  # of a grey, so nothing is clipped


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"correlate": {"texture": 0.5}}, "correlate names texture, which does not vary"),
        ({"availability": {"light": 0.5}}, "availability names light, which does not vary"),
        ({"correlate": {"colour": 1.5}}, "less than or equal to 1"),
        ({"correlate": {"shade": 0.5}}, "colour"),
        ({"label_noise": 1.0}, "less than 1"),
        ({"long_tail": 0.5}, "greater than or equal to 1"),
    ],
)
def test_options_that_nothing_would_come_of_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shapes.Params(**options)


def test_every_option_decides_the_extent() -> None:
    options = (
        {}, {"correlate": {"colour": 0.5}}, {"availability": {"colour": 0.5}}, {"noise": 7.0}, {"long_tail": 2.0},
        {"label_noise": 0.1}, {"train_only": True}, {"vary": ALL},
    )  # fmt: skip
    assert len({shapes(**one).extent().digest for one in options}) == len(options)


def test_all_of_it_goes_through_ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = {
        "images": 60, "vary": ALL, "given": ["hue", "light"], "correlate": {"texture": 0.9}, "label_noise": 0.2,
        "train_only": True,
    }  # fmt: skip
    Path("params.yaml").write_text(json.dumps({"source": {"name": "shapes", "options": options}}))
    scan()
    ingest([])
    facts, manifest = read_facts(INGEST), read_manifest()
    assert {"texture", "hue", "light", "brightness", "true_class", "aligned"} <= set(facts.columns)
    assert facts.named("flag") == ["aligned"] and set(facts.columns["aligned"]) == {0.0, 1.0}
    assert np.isnan(facts.columns["hue"]).sum() == np.isin(facts.columns["colour"], HUELESS).sum() > 0
    assert [fact.name for fact in facts.declared if fact.use == "given"] == ["hue", "light"]
    assert manifest["split"].to_pylist().count("test") == 12
