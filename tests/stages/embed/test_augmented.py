"""Changed copies of images: each change does what its name says, whatever the order, and is embedded by key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts.embeddings import FILE, read_embeddings, taps_in
from reprise.artifacts.shards import Shards
from stages.embed import augmented
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams

NAMES = tuple(augmented.CHANGES)


@pytest.fixture
def photo() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = np.linspace(0, 200, 24)[:, None, None] + np.linspace(0, 40, 24)[None, :, None]
    return np.clip(smooth + rng.integers(0, 16, (24, 24, 3)) * np.array([1, 2, 3]), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_kind_and_determinism(photo: np.ndarray, name: str, channels: int) -> None:
    pixels = np.ascontiguousarray(photo[:, :, :channels])
    before = pixels.copy()
    first = augmented.changed(pixels, name, "a key")
    assert (first.shape, first.dtype) == (pixels.shape, np.uint8)
    assert np.array_equal(first, augmented.changed(pixels, name, "a key"))
    assert np.array_equal(pixels, before)
    if (name, channels) != ("grey", 1):
        assert not np.array_equal(first, pixels)
    if name not in ("flip", "grey", "blur"):  # those draw nothing
        assert not np.array_equal(first, augmented.changed(pixels, name, "another key"))


def test_what_each_change_is(photo: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    assert np.array_equal(augmented.flip(augmented.flip(photo, rng), rng), photo)
    grey = augmented.grey(photo, rng)
    assert np.array_equal(grey[:, :, 0], grey[:, :, 2])
    assert np.array_equal(augmented.grey(grey, rng), grey)
    assert (
        np.abs(np.diff(augmented.blur(photo, rng).astype(int), axis=1)).mean()
        < np.abs(np.diff(photo.astype(int), axis=1)).mean()
    )
    erased = augmented.erase(photo, rng)
    assert ((erased != photo).any(axis=2)).mean() == pytest.approx((10 / 24) ** 2, abs=0.01)
    flat = np.full_like(photo, 90)
    for name in ("crop", "shift", "rotate", "blur", "erase", "grey"):
        assert np.array_equal(augmented.changed(flat, name, "key"), flat), name  # they move pixels, not values
    noise = augmented.noise(flat, rng).astype(float)
    assert noise.std() == pytest.approx(25.5, rel=0.1)
    moved = augmented.shift(photo, np.random.default_rng(3))
    assert {tuple(p) for p in moved.reshape(-1, 3)} <= {tuple(p) for p in photo.reshape(-1, 3)}


def test_rows_are_of_the_scored_split_whatever_the_order() -> None:
    keys = np.array([f"{i:03d}" for i in range(60)], dtype=object)
    splits = np.array(["train", "val", "test"] * 20, dtype=object)
    rows = augmented.chosen_rows(keys, splits, 7)
    assert len(rows) == 7
    assert set(splits[rows]) == {"test"}
    order = np.random.default_rng(0).permutation(60)
    assert set(keys[order][augmented.chosen_rows(keys[order], splits[order], 7)]) == set(keys[rows])
    assert set(splits[augmented.chosen_rows(keys, np.array(["train", "val"] * 30), 100)]) >= {"val"}
    assert len(augmented.chosen_rows(keys, np.array(["train"] * 60), 100)) == 60


def test_embedded_beside_the_embeddings(run: Path) -> None:
    embed("simclr", 0, EmbedParams(batch_size=512, augmented=9), Path("out"))
    path = Path("out") / augmented.FILE
    assert taps_in(path) == [augmented.ORIGINAL, *NAMES]
    keys, splits, original = read_embeddings(path, "original")
    assert set(splits) == {"test"}
    every, _, values = read_embeddings(Path("out") / FILE, "backbone")
    assert original == pytest.approx(values[np.searchsorted(every.astype(str), keys.astype(str))], abs=1e-5)
    assert not np.allclose(read_embeddings(path, "crop")[2], original)
    assert np.array_equal(read_embeddings(path, "grey")[2], original)  # digits are grey
    embed("simclr", 0, EmbedParams(batch_size=30, augmented=9), Path("small"))
    assert read_embeddings(Path("small") / augmented.FILE, "noise")[2] == pytest.approx(
        read_embeddings(path, "noise")[2], abs=1e-5
    )


def test_none_when_none_are_asked_for(run: Path) -> None:
    embed("simclr", 0, EmbedParams(augmented=0), Path("out"))
    assert [p.name for p in Path("out").iterdir()] == [FILE]
    embed("simclr", 0, EmbedParams(augmented=10_000), Path("all"))
    assert len(read_embeddings(Path("all") / augmented.FILE)[0]) == (Shards.open().splits == "test").sum()


def test_two_passes_are_changed_otherwise_and_repeat_themselves(run):
    from reprise.artifacts.embeddings import feature_taps_in, read_embeddings, taps_in
    from stages.embed.embedding import embed
    from stages.embed.params import EmbedParams

    embed("simclr", 0, EmbedParams(augmented=0), Path("plain"))
    for out, size in (("a", 7), ("b", 13)):
        embed("simclr", 0, EmbedParams(augmented=0, two_passes=True, batch_size=size), Path(out))
    path = Path("a/embeddings.parquet")
    assert [name for name in taps_in(path) if name not in feature_taps_in(path)] == ["pass1", "pass2"]
    first, second, plain = (read_embeddings(path, name)[2] for name in ("pass1", "pass2", "backbone"))
    assert first.shape == plain.shape
    assert not np.allclose(first, second)
    assert not np.allclose(first, plain)
    np.testing.assert_allclose(plain, read_embeddings("plain/embeddings.parquet", "backbone")[2])
    np.testing.assert_allclose(first, read_embeddings("b/embeddings.parquet", "pass1")[2], atol=1e-4)
