"""The forms in which decoded images are kept: near the training size, as squares, on the disk or on the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts.shards import Shards
from reprise.media.image.decode import decode
from reprise.media.image.image import Image
from reprise.media.image.transform import resize, resize_to_square
from reprise.reading.decoded import Decoded, Form, open_decoded
from reprise.reading.reduced import reduced
from tests import small_shards
from tests.small_shards import SIZES, make_shards, seed_of
from tests.stages.ingest.hostile import photo

PHOTOS = [(150, 200), (200, 150), (64, 64), (130, 300)]


def opened(shards: Shards, rows: np.ndarray | None = None, **options: object) -> Decoded:
    return open_decoded(shards, shards.rows() if rows is None else rows, 3, at_once=False, **options)


def test_large_images_are_kept_near_the_size_that_is_needed(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s")
    kept = opened(shards, cache=tmp_path / "cache").shrunk(20)
    for i in range(5):
        height, width = SIZES[seed_of(shards, i)]
        wanted = (height, width) if min(height, width) <= 20 else (height * 20 // 24, width * 20 // 24)
        assert kept.image(i).shape == (*wanted, 3)
        original = photo(seed_of(shards, i), height, width)
        assert np.array_equal(kept.image(i), resize(original, wanted[1], wanted[0]))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_is_decoded_on_the_way_is_what_the_cache_holds(tmp_path: Path, kind: str) -> None:
    shards = make_shards(tmp_path / "s", PHOTOS, kind=kind)
    cached, direct = opened(shards, cache=tmp_path / "cache"), opened(shards, cache=tmp_path / "none", max_bytes=100)
    small, on_the_way = cached.shrunk(60), direct.shrunk(60)
    assert small.cached
    assert not on_the_way.cached
    assert all(np.array_equal(small.image(i), on_the_way.image(i)) for i in range(len(PHOTOS)))
    squares = direct.squares(24)
    assert np.array_equal(cached.squares(24), np.asarray(squares))
    assert np.array_equal(squares[1:3], cached.squares(24)[1:3])
    assert np.array_equal(squares[np.array([3, 0])], cached.squares(24)[[3, 0]])
    assert np.array_equal(squares[2], cached.squares(24)[2])
    assert (squares.shape, len(squares), squares.ndim) == ((4, 24, 24, 3), 4, 4)
    assert np.array_equal(reduced(squares, 9), reduced(cached.squares(24), 9))
    assert not (tmp_path / "none").exists()


def test_squares_are_those_of_evaluation_and_one_entry_serves_every_split(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s")
    for rows in (shards.rows(), shards.rows("train"), shards.rows("test"), np.array([3, 1])):
        decoded = opened(shards, rows, cache=tmp_path / "cache")
        assert np.array_equal(decoded.squares(10), decoded.resized(10))
        how = {"crop_pct": 0.8, "interpolation": "bicubic"}
        assert np.array_equal(decoded.squares(10, **how), decoded.resized(10, **how))
    sizes = sorted(p.stat().st_size for p in (tmp_path / "cache").glob("*/pixels.bin"))
    assert sizes.count(5 * 10 * 10 * 3) == 2  # with and without a preparation


@pytest.mark.parametrize("sizes", [[(12, 12)] * 6, [(12, 12)] * 5 + [(12, 13)]], ids=["one size", "two sizes"])
def test_a_split_of_images_of_one_size_is_part_of_the_entry_of_all_rows(
    tmp_path: Path, sizes: list[tuple[int, int]]
) -> None:
    shards = make_shards(tmp_path / "s", sizes)
    rows = np.arange(1, 5)
    alone = opened(shards, rows, cache=tmp_path / "none", max_bytes=0)
    split = opened(shards, rows, cache=tmp_path / "cache").shrunk(20)
    assert np.array_equal(split.images, np.stack([alone.image(i) for i in range(4)]))
    assert np.array_equal(split.squares(12), alone.resized(12))
    assert len(list((tmp_path / "cache").glob("*/pixels.bin"))) == (1 if len(set(sizes)) == 1 else 2)


def test_nothing_is_decoded_before_pixels_are_asked_for(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s", spoil=2)
    decoded = opened(shards, cache=tmp_path / "cache")
    assert len(decoded) == 5
    assert not (tmp_path / "cache").exists()


def test_large_jpeg_files_are_decoded_at_a_reduced_scale_and_show_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_shards, "photo", lambda seed, h, w: resize(photo(seed, 12, 16), w, h))  # smooth
    shards, reductions, whole = make_shards(tmp_path / "s", PHOTOS, kind="JPEG"), [], Image.decode
    monkeypatch.setattr(Image, "decode", lambda *a: reductions.append(a[4]) or whole(*a))
    by_seed = {seed_of(shards, i): i for i in range(len(PHOTOS))}
    squares = opened(shards, max_bytes=0).squares(16)
    for seed, expected in enumerate((4, 4, 2, 4)):
        reductions.clear()
        found = squares[by_seed[seed]].astype(float)
        assert reductions == [expected]
        pixels = decode(shards.read(by_seed[seed]), "", 3, plain=True)
        assert np.abs(found - resize_to_square(pixels, 16)).mean() < 1
    reductions.clear()
    kept = opened(shards, max_bytes=0).shrunk(70).image(by_seed[0])
    assert (reductions, kept.shape) == ([2], (70, 93, 3))


@pytest.mark.parametrize(
    ("form", "sides", "expected"),
    [
        (Form(), (4000, 3000), 1),
        (Form(224), (3000, 4000), 4),
        (Form(224), (447, 900), 1),
        (Form(224, preparation={"crop_pct": 0.5}), (3000, 4000), 2),
        (Form(shorter=100), (199, 900), 1),
        (Form(shorter=100), (200, 900), 2),
    ],
)
def test_a_reduced_scale_always_leaves_the_pixels_that_are_needed(
    form: Form, sides: tuple[int, int], expected: int
) -> None:
    assert form.reduction(sides) == expected


def test_the_size_is_said_before_images_are_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = make_shards(tmp_path / "s", [(64, 64)] * 50, spoil=3)
    with pytest.raises(Exception, match="key"):
        opened(shards, cache=tmp_path / "cache").prepare()
    assert f"50 decoded images take 600.0 KiB of 4.0 GiB in {tmp_path / 'cache'}" in capsys.readouterr().err
    opened(shards, max_bytes=1 << 19).prepare()
    assert "more than cache.max_bytes (512.0 KiB): they are decoded on the way" in capsys.readouterr().err
    monkeypatch.setenv("REPRISE_QUIET", "1")
    opened(shards, max_bytes=1 << 19).prepare()
    assert capsys.readouterr().err == ""


def test_large_entries_are_mapped_and_small_ones_are_read(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "s", [(8, 8)] * 6)
    mapped = opened(shards, cache=tmp_path / "cache", memory_bytes=0).images
    read = opened(shards, cache=tmp_path / "cache").images
    assert isinstance(mapped.base, np.memmap)
    assert not isinstance(read.base, np.memmap)
    assert np.array_equal(mapped, read)
