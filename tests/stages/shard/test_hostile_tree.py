"""A tree of hostile names and files from ingest through validation into shards, of which every image can be read."""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from reprise.artifacts.manifest import read_left_out, read_manifest, read_quarantine
from reprise.artifacts.shards import Shards
from reprise.media.image.decode import decode
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder
from stages.shard.params import ShardParams
from stages.shard.write import write_shards
from stages.validate.bands import require_bands
from stages.validate.check import check, require
from stages.validate.facts import gather
from stages.validate.page import render_page
from stages.validate.params import ValidateParams
from tests.stages.ingest import hostile

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:great_expectations")
EMPTY = 2000  # folders


def build(root: Path) -> dict[str, str | None]:
    """The tree of hostile files, and shapes of folders around it; name -> reason, None for what is taken in."""
    expected = hostile.build(root)
    ordinary = root / "ordinary"
    (ordinary / "x.jpg").mkdir(parents=True)  # a folder that is called like an image
    for seed in range(60, 100):
        name = f"ordinary/{'x.jpg/' if seed < 70 else ''}{seed}.png"
        (root / name).write_bytes(hostile.encoded(hostile.photo(seed), "PNG"))
        expected[name] = None
    for number in range(EMPTY):
        (root / "ordinary" / f"empty{number}").mkdir()
    (ordinary / "loop").mkdir()
    (ordinary / "loop" / "a").symlink_to("b")
    (ordinary / "loop" / "b").symlink_to("a")
    (ordinary / "zero.png").symlink_to("/dev/zero")
    (ordinary / "up").symlink_to("..", target_is_directory=True)
    return expected | {
        "ordinary/loop/a": "link_loop",
        "ordinary/loop/b": "link_loop",
        "ordinary/zero.png": "outside_root",
        "ordinary/up": "link_to_folder",
    }


def test_every_image_of_a_hostile_tree_comes_through_and_nothing_is_lost(tmp_path: Path) -> None:
    root, output, packed = tmp_path / "root", tmp_path / "out", tmp_path / "shards"
    expected = build(root)
    output.mkdir()
    packed.mkdir()
    params = SourceParams(name="folder", max_pixels=1_000_000, min_side=4, near_copies="report")
    card = ingest(Folder(root, Folder.Params(labels="folders")), params, output, 0)
    manifest, quarantine = (
        read_manifest(output / "manifest.parquet"),
        read_quarantine(output / "quarantine.parquet"),
    )
    left_out = read_left_out(output / "left_out.parquet")
    assert card["classes"] == ["ordinary", "things"]
    assert Counter(quarantine["reason"].to_pylist()) + Counter(left_out["reason"].to_pylist()) == Counter(
        reason for reason in expected.values() if reason
    )
    assert len(manifest) == sum(reason is None for reason in expected.values())

    thresholds = ValidateParams(min_train_images=10, min_images_per_class=2, max_quarantined=0.4)
    verdicts = check(gather(manifest, quarantine), thresholds)
    require(verdicts, output)
    require_bands(manifest, 3)
    assert b"<script>" not in render_page(verdicts)

    write_shards(manifest, ShardParams(max_shard_bytes=1 << 20, max_side=64), packed, 0)
    shards = Shards.open(packed)
    assert sorted(shards.keys) == sorted(manifest["key"].to_pylist())
    for row, key in enumerate(shards.keys):
        data = shards.read(row)
        assert decode(data, key, 3).shape[2] == 3
    for path in packed.glob("*.tar"):
        with tarfile.open(path) as tar:  # no name of a file of theirs is a member's
            assert all(re.fullmatch(r"[0-9a-f]{24}\.[a-z]+", name) for name in tar.getnames())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "outside", "root", "shards"]
