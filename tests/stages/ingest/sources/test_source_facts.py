"""Facts that a source gives: shapes whose facts fit their pixels, a user's source, and wrong facts as sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.artifacts.facts.sides import Sides
from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.layout import INGEST
from reprise.artifacts.manifest import read_manifest
from reprise.artifacts.shards import Shards
from reprise.config.errors import SourceError
from reprise.config.params import read_yaml
from reprise.media.image.decode import decode
from reprise.media.image.sides import decode_side
from reprise.media.text.stored import decode_captions
from stages.ingest.__main__ import main as ingest
from stages.ingest.load import load_source
from stages.ingest.scan import scan
from stages.ingest.sources.shapes import COLOURS, SHAPES, Shapes, inside
from stages.shard.__main__ import main as shard

SOURCE = """
import numpy as np
from reprise.config.facts import Fact
from reprise.media.image.encode import uncompressed_png
from stages.ingest.source import Candidate, Source, constant_extent


class Own(Source):
    title, citation, licence, reads_root = "own", "", "", False
    views = {"crop_scale_min": 0.3, "flip": False, "jitter": 0.4, "grey": 0.0, "blur": 0.0, "solarize": 0.0}

    def facts(self):
        return (DECLARED,)

    def candidates(self):
        for i in range(24):
            pixels = np.random.default_rng(i).integers(0, 255, (16, 16)).astype(np.uint8)
            yield Candidate(f"{i}.png", uncompressed_png(pixels), facts=VALUES)

    def extent(self):
        return constant_extent("own")
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(**source: Any) -> None:
    Path("params.yaml").write_text(json.dumps({"source": source, "shard": {"max_side": 24}}))


def shapes(**options: Any) -> Shapes:
    return Shapes(Path(), Shapes.Params(**options))


def test_a_picture_is_a_function_of_seed_and_number() -> None:
    few, many = list(shapes(images=20).candidates()), list(shapes(images=40).candidates())
    assert [c.reference for c in many[:20]] == [c.reference for c in few]
    assert [c.facts["caption"] for c in many[:20]] == [c.facts["caption"] for c in few]
    other = next(iter(shapes(images=20, seed=1).candidates()))
    assert other.reference != few[0].reference
    digests = {shapes(images=20, **options).extent().digest for options in ({}, {"seed": 1}, {"size": 40})}
    assert len(digests) == 3


def test_the_facts_of_a_shape_are_those_of_its_pixels() -> None:
    for candidate in shapes(images=60, size=64).candidates():
        facts, mask = candidate.facts, candidate.facts["mask"]
        pixels = decode(candidate.reference, "x", 3)  # type: ignore[arg-type]
        inner = mask.astype(bool)
        assert np.abs(pixels[inner].mean(axis=0) - np.clip(COLOURS[facts["colour"]], 4, 251)).max() < 12
        x0, y0, x1, y1 = facts["boxes"][0]
        assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0
        assert candidate.label in facts["caption"][0]
        assert facts["colour"] in facts["caption"][0]
        rows, columns = np.nonzero(mask)
        assert abs(columns.mean() / 64 - facts["x"]) < 0.07
        assert abs(rows.mean() / 64 - facts["y"]) < 0.07
        assert np.hypot(*(facts["pose"][3:])) == pytest.approx(1)


def test_every_shape_is_turned_counter_clockwise_and_none_looks_the_same_at_another_angle() -> None:
    grid = np.linspace(-1, 1, 101)
    u, v = grid[None, :], -grid[:, None]
    for shape in SHAPES:
        assert not inside(shape, *np.meshgrid([1.01, -1.01], [1.01, -1.01])).any()
        masks = []
        for degrees in (-40, -20, 0, 20, 40):
            c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
            masks.append(inside(shape, c * u + s * v, c * v - s * u))
        for i, first in enumerate(masks):
            for second in masks[i + 1 :]:
                assert (first ^ second).sum() > 0.05 * first.sum(), shape
    top = inside("arrow", 0.0 * u + v, 0.0 * v - u)  # 90 degrees: the tip, upwards before, points to the left
    assert top[:, :20].sum() < top[:, -40:].sum() + top.sum()
    assert np.nonzero(top.any(axis=0))[0][0] < 5


def test_factors_that_do_not_vary_are_the_same_in_all_pictures() -> None:
    found = [c.facts for c in shapes(images=20, vary=["rotation"]).candidates()]
    for name in ("colour", "background", "x", "y", "scale"):
        assert len({facts[name] for facts in found}) == 1, name
    assert len({facts["rotation"] for facts in found}) == 20


def test_shapes_go_through_ingest_and_shards_with_all_their_facts(workspace: Path) -> None:
    configure(name="shapes", options={"images": 40, "size": 32, "given": ["caption", "pose"]})
    scan()
    ingest([])
    shard([])
    facts, manifest = read_facts(INGEST), read_manifest()
    assert facts.keys.tolist() == manifest["key"].to_pylist()
    assert [fact.name for fact in facts.declared if fact.use == "given"] == ["caption", "pose"]
    assert json.loads((INGEST / "dataset.json").read_text())["facts"]["scale"]["known"] == 40
    shards, sides = Shards.open(), Sides()
    shards.verify()
    assert sides.kinds == {"mask": "mask", "boxes": "boxes", "pose": "pose", "caption": "caption"}
    assert set(shards.widths) == {24}  # stored smaller, by shard.max_side
    at = {key: i for i, key in enumerate(facts.keys.tolist())}
    for key in shards.keys.tolist()[:5]:
        mask = decode_side("mask", sides.read(key, "mask"), key)
        x0, y0, x1, y1 = decode_side("boxes", sides.read(key, "boxes"), key)[0]
        assert mask.shape == (24, 24)
        assert mask[max(0, int(y0) - 1) : int(y1) + 2, max(0, int(x0) - 1) : int(x1) + 2].sum() == mask.sum()
        assert decode_side("pose", sides.read(key, "pose"), key)[2] == facts.columns["scale"][at[key]]
        assert decode_captions(sides.read(key, "caption"), key) == facts.captions["caption"][at[key]]


def test_captions_that_are_labels_lie_in_no_shard(workspace: Path) -> None:
    configure(name="shapes", options={"images": 20, "size": 24, "given": ["pose"]})
    scan()
    ingest([])
    shard([])
    assert sorted(Sides().kinds) == ["boxes", "mask", "pose"] and read_facts(INGEST).named("caption") == ["caption"]


def test_plain_webdataset_reads_images_and_facts_together(workspace: Path) -> None:
    import warnings

    configure(name="shapes", options={"images": 20, "size": 24})
    scan()
    ingest([])
    shard([])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset

        urls = [str(path) for path in sorted(Path("data/shards").glob("*.tar"))]
        samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("rgb8"))
    assert sorted(sample["__key__"] for sample in samples) == sorted(read_manifest()["key"].to_pylist())
    for sample in samples:
        assert sample["png"].shape == (24, 24, 3)
        assert sample["mask.png"].shape[:2] == (24, 24)
        assert (len(sample["boxes.json"]), len(sample["pose.json"])) == (1, 5)
        assert sample["caption.txt"].endswith(".\n") or len(sample["caption.txt"].splitlines()) == 2
        assert set(sample["json"]) == {"channels", "group", "height", "key", "split", "width"}  # no fact, no label


@pytest.mark.parametrize(
    ("declared", "values", "message"),
    [
        ('Fact("Age", "number")', "{}", "the name of a fact consists of lower-case letters"),
        ('Fact("key", "number")', "{}", "is not `key`"),
        ('Fact("age", "figure")', "{}", "the kind of a fact is one of"),
        ('Fact("age", "number", "secret")', "{}", "the use of a fact is one of label, given"),
        ('Fact("age", "number")', '{"size": 1}', r"declares every fact that it gives \(0.png\).*Found: size"),
        ('Fact("age", "number")', '{"age": float("nan")}', "'age' is a finite number.*Found: nan"),
        ('Fact("age", "number")', '{"age": float("inf")}', "'age' is a finite number"),
        ('Fact("age", "number")', '{"age": "3"}', "'age' is a finite number.*Found: '3'"),
        ('Fact("bold", "flag")', '{"bold": 2}', "'bold' is 0 or 1.*Found: 2"),
        ('Fact("site", "word")', '{"site": "a" * 201}', "a word of 1 to 200 characters"),
        ('Fact("site", "word")', '{"site": "a\\x1b[31m"}', "without control characters"),
        ('Fact("text", "caption")', '{"text": ["fine", ""]}', "a text of 1 to 4000 characters"),
        ('Fact("text", "caption")', '{"text": ["fine"] * 101}', "at most 100 captions"),
        ('Fact("ink", "mask")', '{"ink": np.zeros((16, 15), np.uint8)}', r"of the image's size, \(16, 16\)"),
        ('Fact("frame", "boxes")', '{"frame": [(0, 0, 17, 4)]}', "inside its image of 16 x 16 pixels"),
    ],
)
def test_wrong_facts_of_a_user_s_source_are_sentences(
    workspace: Path, declared: str, values: str, message: str
) -> None:
    file = workspace / "plugins/sources/own.py"
    file.parent.mkdir(parents=True)
    file.write_text(SOURCE.replace("DECLARED", declared).replace("VALUES", values), encoding="utf-8")
    configure(name="own")
    load_source(read_yaml())  # it loads
    scan()
    with pytest.raises(SourceError, match=message):
        ingest([])
    assert not INGEST.exists()


def test_a_user_s_source_gives_facts_and_large_ones_one_after_the_other(workspace: Path) -> None:
    file = workspace / "plugins/sources/own.py"
    file.parent.mkdir(parents=True)
    values = '{"motion": lambda: np.ones((16, 16, 2), np.float32)} if i else {}'
    file.write_text(SOURCE.replace("DECLARED", 'Fact("motion", "flow", "given")').replace("VALUES", values))
    configure(name="own")
    scan()
    ingest([])
    shard([])
    sides = Sides()
    known = [key for key in read_manifest()["key"].to_pylist() if sides.has(key, "motion")]
    assert len(known) == 23  # of one image it is not known
    assert decode_side("flow", sides.read(known[0], "motion"), "x").shape == (16, 16, 2)
