"""Corruptions: restated where that is short, stronger with the severity, the same whatever batch, order and process."""

from __future__ import annotations

import colorsys
import hashlib
import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from reprise.artifacts.embeddings import read_embeddings
from reprise.artifacts.layout import shift_embeddings, shift_images
from reprise.artifacts.shards import Shards
from reprise.artifacts.shifts import embedding_of_set, write_card
from reprise.config.errors import EmbeddingError, ParameterError
from reprise.config.params import read_yaml
from reprise.config.plug_ins.registry import load_class, names
from reprise.config.shared_sections import CacheParams
from reprise.config.shift_rows import ShiftRow
from reprise.storage.result_store import ResultStore
from stages.embed import on_shift, shifted
from stages.embed.corruption import Corruption, corrupted, length, sample, sample_grid, strength
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams
from stages.embed.shifts.blur.defocus_blur import disk
from stages.embed.shifts.blur.motion_blur import line
from stages.embed.shifts.blur.zoom_blur import ZoomBlur
from stages.embed.shifts.digital import pixelate
from stages.embed.shifts.weather.fog import height_map

OURS = (
    "brightness", "contrast", "defocus_blur", "elastic", "fog", "gaussian_noise", "impulse_noise", "jpeg",
    "motion_blur", "pixelate", "shot_noise", "zoom_blur",
)  # fmt: skip
FORMS = [(64, 3), (32, 1), (16, 3), (9, 5)]


def picture(side: int, bands: int) -> np.ndarray:
    """A smooth scene with edges and texture, as a photograph has."""
    rng = np.random.default_rng(side)
    x = gaussian_filter(rng.normal(size=(side, side, bands)), (side / 12, side / 12, 0))
    x = (x - x.min()) / (x.max() - x.min())
    x[side // 4 : side // 2, side // 3 :] *= 0.4
    return np.rint(np.clip(x * 0.8 + 0.1 + 0.03 * rng.normal(size=x.shape), 0, 1) * 255).astype(np.uint8)


def of(name: str) -> Corruption:
    kind = load_class("shifts", name, Corruption, "test")
    return kind(kind.Params())


def change(name: str, severity: int, pixels: np.ndarray, key: str = "a") -> np.ndarray:
    return corrupted(of(name), name, severity, pixels, key)


def moved(name: str, severity: int, pixels: np.ndarray) -> float:
    return float(np.abs(change(name, severity, pixels).astype(float) - pixels).mean())


def test_twelve_corruptions_are_found_by_their_files() -> None:
    assert tuple(names("shifts")) == OURS


@pytest.mark.parametrize("name", OURS)
def test_every_form_is_kept_and_severe_is_more_than_slight(name: str) -> None:
    for side, bands in FORMS:
        pixels = picture(side, bands)
        before = pixels.copy()
        changed = change(name, 5, pixels)
        assert changed.shape == pixels.shape
        assert changed.dtype == np.uint8
        assert (pixels == before).all()
        assert moved(name, 5, pixels) > moved(name, 1, pixels) or (name, side) == ("pixelate", 9)


@pytest.mark.parametrize("name", [name for name in OURS if name not in ("fog", "motion_blur", "pixelate")])
def test_each_severity_is_more_than_the_one_before(name: str) -> None:
    """Of the three others two severities are published with nearly the same strength."""
    pixels = picture(64, 3)
    strengths = [moved(name, severity, pixels) for severity in range(1, 6)]
    assert all(slight < severe for slight, severe in pairwise(strengths)), strengths


@pytest.mark.parametrize("name", OURS)
def test_the_key_alone_decides_on_the_random_numbers(name: str) -> None:
    first, second = picture(32, 3), np.ascontiguousarray(picture(32, 3)[::-1])
    alone = change(name, 3, first, "a")
    change(name, 5, second, "b")  # whatever was made before
    assert (change(name, 3, first, "a") == alone).all()
    drawn = {"gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "fog", "elastic"}
    assert ((change(name, 3, first, "b") != alone).any()) == (name in drawn)


def test_noise_restated() -> None:
    pixels = picture(32, 3)
    seed = int.from_bytes(hashlib.sha256(b"a gaussian_noise").digest()[:8], "big")
    noise = np.random.default_rng(seed).standard_normal(pixels.shape)
    naive = np.clip(np.rint((pixels / 255 + 0.08 * noise) * 255), 0, 255)  # severity 3 at 32 pixels
    assert np.abs(change("gaussian_noise", 3, pixels) - naive).max() <= 1
    half = np.full((64, 64, 3), 128, np.uint8)
    seen = [change("shot_noise", 2, half, str(i)).astype(float) for i in range(8)]
    grains = strength([500**-0.5, 250**-0.5], [60**-0.5, 25**-0.5], 2, 64) ** -2
    assert np.std(seen) == pytest.approx(255 * np.sqrt(128 / 255 / grains), rel=0.03)
    replaced = change("impulse_noise", 5, np.full((64, 64, 3), 77, np.uint8))
    share = strength([0, 0, 0, 0, 0.07], [0, 0, 0, 0, 0.27], 5, 64)
    assert (replaced != 77).mean() == pytest.approx(share, abs=0.02)
    assert set(np.unique(replaced)) == {0, 77, 255}


def test_contrast_and_brightness_restated() -> None:
    pixels = picture(32, 3)
    x = pixels / 255
    naive = x.mean((0, 1)) + 0.3 * (x - x.mean((0, 1)))
    assert np.abs(change("contrast", 4, pixels) / 255 - naive).max() <= 1 / 255
    bright = change("brightness", 3, pixels)
    for row, column in ((0, 0), (10, 20), (31, 5)):
        hue, saturation, value = colorsys.rgb_to_hsv(*x[row, column])
        expected = colorsys.hsv_to_rgb(hue, saturation, min(1.0, value + 0.15))
        assert np.abs(bright[row, column] / 255 - expected).max() <= 1 / 255
    assert (change("brightness", 3, np.zeros((8, 8, 3), np.uint8)) == round(0.15 * 255)).all()


def test_jpeg_is_pillows() -> None:
    pixels = picture(32, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=50)
    assert (change("jpeg", 4, pixels) == np.asarray(Image.open(buffer))).all()


def test_kernels_and_fields() -> None:
    for radius in (0.2, 1.0, 3.0, 10.0):
        kernel = disk(radius)
        assert kernel.sum() == pytest.approx(1)
        assert np.allclose(kernel, kernel[::-1, ::-1])
    reach = np.arange(disk(10.0).shape[0]) - disk(10.0).shape[0] // 2
    assert (disk(10.0).sum(0) * reach**2).sum() == pytest.approx(25, rel=0.05)  # a disk's: radius squared over four
    ahead = line(12.0, 3.0, 0.0)
    centre = ahead.shape[0] // 2
    assert ahead[centre].sum() == pytest.approx(1)  # a line to the right
    assert ahead[:, :centre].sum() == pytest.approx(0)
    clouds = height_map(33, 2.0, np.random.default_rng(0))
    assert clouds.shape == (64, 64)
    assert (clouds.min(), clouds.max()) == (0.0, 1.0)
    slopes = [np.abs(np.diff(height_map(64, f, np.random.default_rng(1)), axis=0)).mean() for f in (1.5, 2.0, 3.0)]
    assert slopes == sorted(slopes, reverse=True)  # detail fades faster


def test_reading_between_pixels() -> None:
    x = picture(9, 2) / 255
    rows, columns = np.array([0.25, 3.0, -1.5, 9.5]), np.array([0.5, 7.0, 2.0, 8.0])
    found = sample(x, rows, columns)
    assert found[1] == pytest.approx(x[3, 7])
    assert found[0] == pytest.approx(0.75 * (x[0, 0] + x[0, 1]) / 2 + 0.25 * (x[1, 0] + x[1, 1]) / 2)
    assert found[2] == pytest.approx((x[1, 2] + x[2, 2]) / 2)  # mirrored at the border
    assert found[3] == pytest.approx((x[7, 8] + x[6, 8]) / 2)
    grid = sample_grid(x, rows, columns)
    for i, row in enumerate(rows):
        assert grid[i] == pytest.approx(sample(x, np.full(4, row), columns))
    middle = np.zeros((9, 9, 1), np.uint8)
    middle[4, 4] = 255
    assert ZoomBlur(None).apply(middle, 5, np.random.default_rng(0))[4, 4, 0] == 255  # the centre stays


def test_pixels_become_squares_of_their_mean() -> None:
    weights = pixelate.areas(8, 3)
    assert weights.sum(1) == pytest.approx(np.ones(3))
    assert weights[0] == pytest.approx([3 / 8, 3 / 8, 1 / 4, 0, 0, 0, 0, 0])
    changed = change("pixelate", 5, picture(224, 1))
    assert len(np.unique(changed[:, 0, 0])) <= 56  # a quarter of the side is left
    assert changed.mean() == pytest.approx(picture(224, 1).mean(), abs=1)


def test_strengths_between_the_published_sides() -> None:
    small, large = (1.0,) * 5, (3.0,) * 5
    assert [strength(small, large, 1, side) for side in (8, 32, 224, 500)] == [1, 1, 3, 3]
    assert strength(small, large, 1, round((32 * 224) ** 0.5)) == pytest.approx(2, abs=0.01)
    assert [length(small, large, 1, side) for side in (16, 32, 224, 448)] == pytest.approx([0.5, 1, 3, 6])


class Wrong(Corruption):
    """Returns numbers in place of pixels."""

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        return pixels / 2


def test_a_corruption_that_returns_no_image_is_refused() -> None:
    with pytest.raises(EmbeddingError, match="must return an image"):
        corrupted(Wrong(None), "wrong", 2, picture(8, 3), "a")


# ---- a row of the table, embedded ----------------------------------------------------------------------------

FOG = ShiftRow(name="fog", shift="fog", severity=[1, 4])
ROOMY, NONE = CacheParams(), CacheParams(memory_bytes=0)


def embedded(folder: Path, row: ShiftRow = FOG, batch: int = 512, cache: CacheParams = ROOMY) -> dict[str, bytes]:
    shifted.embed_shift(row, [("simclr", 0)], EmbedParams(batch_size=batch, device="cpu"), folder, cache)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def test_only_the_scored_split_is_changed_and_no_cache_alters_a_byte(run: Path, tmp_path: Path) -> None:
    first = embedded(tmp_path / "a")
    assert list(first) == ["simclr/0/fog1.parquet", "simclr/0/fog4.parquet"]
    (tmp_path / ".reprise/shifted").rename(tmp_path / "store")
    assert embedded(tmp_path / "b", cache=NONE) == first  # changed on the way
    keys, splits, values = read_embeddings(tmp_path / "a/simclr/0/fog4.parquet")
    shards = Shards.open()
    assert keys.tolist() == sorted(shards.keys[shards.splits == "test"])
    assert set(splits) == {"test"}
    embed("simclr", 0, EmbedParams(augmented=0, device="cpu"), Path("data/embed/simclr/0"))
    clean = read_embeddings("data/embed/simclr/0/embeddings.parquet", split="test")[2]
    slight = read_embeddings(tmp_path / "a/simclr/0/fog1.parquet")[2]
    assert 0 < np.abs(slight - clean).mean() < np.abs(values - clean).mean()
    few = embedded(tmp_path / "c", batch=4)
    other = read_embeddings(tmp_path / "c/simclr/0/fog4.parquet")[2]
    assert few.keys() == first.keys()
    assert other == pytest.approx(values, abs=1e-4)


def test_a_run_that_was_embedded_before_is_not_embedded_again(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = embedded(tmp_path / "a")
    computed = []
    real = shifted.embed_run
    monkeypatch.setattr(shifted, "embed_run", lambda *a: (computed.append(a[0].name), real(*a)))
    assert embedded(tmp_path / "b") == first
    assert computed == []
    embedded(tmp_path / "c", ShiftRow(name="fog", shift="fog", severity=[1, 5]))
    weights = run / "config.json"
    weights.write_text(json.dumps(json.loads(weights.read_text()) | {"note": "trained again"}))
    embedded(tmp_path / "d")
    assert computed == ["fog", "fog"]
    assert ResultStore(shifted.STORE, 1).folder.is_dir()


def test_the_stage_reads_its_row_and_images_from_elsewhere(run: Path) -> None:
    params = {"seeds": [0], "features": [], "mines": [], "suites": [{"name": "quality"}], "embed": {"device": "cpu"}}
    params |= {"runs": [{"name": "simclr", "method": "random", "labels": "none"}]}
    params |= {"shifts": [{"name": "site_b", "shift": "folder", "root": "../b"}, {"name": "jpeg", "shift": "jpeg"}]}
    Path("params.yaml").write_text(json.dumps(params))
    images = shift_images("site_b")
    images.parent.mkdir(parents=True)
    Path("data/shards").rename(images)
    write_card(images, ShiftRow(**params["shifts"][0]), ["Seen."], {"kept": 60})
    on_shift.main(["--name", "site_b", "--shift", "folder", "--root", "../b"])
    keys, splits, _ = read_embeddings(embedding_of_set("site_b", "simclr", 0, "site_b"))
    assert len(keys) == 60
    assert set(splits) == {"train", "val", "test"}
    assert [p.name for p in shift_embeddings("site_b").iterdir()] == ["simclr"]
    with pytest.raises(ParameterError, match="no row is called 'other'"):
        on_shift.main(["--name", "other"])
    assert read_yaml()["shifts"][1]["name"] == "jpeg"


# ---- a user's own ----------------------------------------------------------------------------------------------

OWN = '''"""Night: everything becomes dark.

Source: no publication; my own cameras.
"""
import numpy as np
from pydantic import Field
from typing import Annotated
from reprise.config.params import StrictModel, meaning
from stages.embed.corruption import Corruption


class Night(Corruption):
    """Divides values."""

    class Params(StrictModel):
        """Of night."""

        floor: Annotated[int, Field(ge=0, le=255), meaning("No value becomes darker than this.")] = 0

    def apply(self, pixels: np.ndarray, severity: int, rng: np.random.Generator) -> np.ndarray:
        """Darken."""
        return np.maximum(pixels // (severity + 1), self.params.floor)
'''


def test_a_corruption_of_the_user_lies_in_one_file(run: Path, tmp_path: Path) -> None:
    Path("plugins/shifts").mkdir(parents=True)
    Path("plugins/shifts/night.py").write_text(OWN)
    assert "night" in names("shifts")
    row = ShiftRow(name="night2", shift="night", severity=2, options={"floor": 9})
    assert list(embedded(tmp_path / "a", row)) == ["simclr/0/night2.parquet"]
    one = row.sets[0]
    assert (shifted.change_of(row, one)(np.array([[[60, 10, 255]]], np.uint8), "k") == [[[20, 9, 85]]]).all()
    Path("plugins/shifts/night.py").unlink()
    assert tuple(names("shifts")) == OURS  # and nothing else notices
    with pytest.raises(ParameterError, match="unknown shift 'night'"):
        embedded(tmp_path / "b", row)
