"""Sharding: the same bytes each time, opened by any reader, no labels inside, no image that changed."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import warnings
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from reprise.artifacts.manifest import read_manifest, write_manifest
from reprise.artifacts.shards import Shards, read_index
from reprise.config.errors import MachineError, ShardError
from reprise.media.image.decode import decode
from reprise.runtime.workers import Lost
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder
from stages.shard import write
from stages.shard.params import ShardParams
from stages.shard.write import plan, write_shards
from tests.stages.ingest import hostile

SMALL = ShardParams(max_shard_bytes=1 << 20, max_side=64)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Images of all kinds that ingest takes in, in two splits and two classes."""
    root = tmp_path_factory.mktemp("images")
    for split in ("train", "test"):
        for name, (data, reason) in hostile.FILES.items():
            if reason is None and split == "train":
                path = root / split / "secret label" / "video" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        for seed in range(12):
            path = root / split / "other" / f"{seed}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(seed + 50 * (split == "test")).integers(0, 256, (300, 200, 3), dtype=np.uint8)
            path.write_bytes(hostile.encoded(noise, "PNG" if seed % 2 else "JPEG"))
    output = tmp_path_factory.mktemp("ingest")
    ingest(Folder(root, Folder.Params(group="folder")), SourceParams(name="folder"), output, 0)
    return read_manifest(output / "manifest.parquet")


def shard(manifest: pa.Table, output: Path, params: ShardParams = SMALL, workers: int = 1) -> Shards:
    output.mkdir(parents=True)
    write_shards(manifest, params, output, workers)
    return Shards.open(output)


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_every_image_of_the_manifest_is_there_with_its_pixels(manifest: pa.Table, tmp_path: Path) -> None:
    shards = shard(manifest, tmp_path / "s", ShardParams(max_side=512))
    shards.verify()
    rows = {row["key"]: row for row in manifest.to_pylist()}
    groups = read_index(tmp_path / "s")["group"].to_pylist()
    assert set(shards.keys) == set(rows)
    for i, key in enumerate(shards.keys):
        row, data = rows[key], shards.read(i)
        original = Path(row["path"]).read_bytes()
        assert (shards.splits[i], groups[i]) == (row["split"], row["group"])
        assert np.array_equal(decode(data, key, row["channels"], plain=True), decode(original, key, row["channels"]))
        assert (data == original) == row["plain"]


def test_larger_images_are_scaled_down(manifest: pa.Table, tmp_path: Path) -> None:
    shards = shard(manifest, tmp_path / "s")
    assert shards.heights.max() == 64
    tall = np.flatnonzero(shards.heights == 64)
    assert set(shards.widths[tall]) == {43}
    pixels = decode(shards.read(tall[0]), "x", 3, plain=True)
    assert pixels.shape == (64, 43, 3)


def test_shards_are_the_same_bytes_each_time_and_with_any_number_of_workers(
    manifest: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = ShardParams(max_shard_bytes=1 << 20, max_side=512)
    shard(manifest, tmp_path / "a", big)
    shard(manifest.take(np.random.default_rng(0).permutation(manifest.num_rows)).sort_by("key"), tmp_path / "b", big)
    monkeypatch.setattr(write, "_WORTH_PROCESSES", 0)
    shard(manifest, tmp_path / "c", big, workers=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")
    assert len(contents(tmp_path / "a")) > 4


def test_no_tar_is_larger_than_allowed_and_one_image_always_fits(manifest: pa.Table, tmp_path: Path) -> None:
    params = ShardParams(max_shard_bytes=1 << 20, max_side=512)
    shard(manifest, tmp_path / "s", params)
    assert all(p.stat().st_size <= 1 << 20 for p in (tmp_path / "s").glob("*.tar"))
    huge = manifest.slice(0, 2).to_pylist()
    for row in huge:
        row.update(bytes=5 << 20, plain=True, width=10, height=10, split="train")
    assert [len(p.rows) for p in plan(pa.Table.from_pylist(huge, schema=manifest.schema), params)] == [1, 1]


def test_labels_stay_out_of_the_shards(manifest: pa.Table, tmp_path: Path) -> None:
    rows = manifest.to_pylist()
    assert any(row["label"] == "secret label" for row in rows)
    no_groups = pa.Table.from_pylist([row | {"group": None} for row in rows], schema=manifest.schema)
    shard(no_groups, tmp_path / "s")
    for path in (tmp_path / "s").iterdir():
        assert b"secret label" not in path.read_bytes()
    other = pa.Table.from_pylist([row | {"group": None, "label": None} for row in rows], schema=manifest.schema)
    shard(other, tmp_path / "t")
    assert contents(tmp_path / "s") == contents(tmp_path / "t")


def test_tarfile_reads_what_the_index_says(manifest: pa.Table, tmp_path: Path) -> None:
    shards = shard(manifest, tmp_path / "s")
    groups = read_index(tmp_path / "s")["group"].to_pylist()
    seen = 0
    for path in sorted((tmp_path / "s").glob("*.tar")):
        with tarfile.open(path) as archive:
            names = archive.getnames()
            assert len(set(names)) == len(names)
            for member in archive:
                key, extension = member.name.split(".")
                row = shards.keys.tolist().index(key)
                data = archive.extractfile(member).read()
                if extension == "json":
                    card = json.loads(data)
                    assert card == {
                        "key": key,
                        "split": path.name.split("-")[0],
                        "width": shards.widths[row],
                        "height": shards.heights[row],
                        "channels": shards.channels[row],
                        "group": groups[row],
                    }
                else:
                    assert data == shards.read(row)
                    seen += 1
    assert seen == manifest.num_rows


def test_webdataset_reads_every_sample(manifest: pa.Table, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import webdataset

        shards = shard(manifest, tmp_path / "s")
        urls = sorted(str(p) for p in (tmp_path / "s").glob("*.tar"))
        samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode("rgb8"))
    assert sorted(s["__key__"] for s in samples) == sorted(shards.keys)
    deep = 0
    samples_of = dict(zip(manifest["key"].to_pylist(), manifest["sample"].to_pylist(), strict=True))
    for sample in samples:
        row = shards.keys.tolist().index(sample["__key__"])
        image = next(v for k, v in sample.items() if k in ("jpg", "png", "webp", "tif"))
        assert sample["json"]["key"] == sample["__key__"]
        if samples_of[sample["__key__"]] is None:
            assert np.array_equal(image, decode(shards.read(row), "x", 3))
        else:  # a reader that wants 8 bits cuts off; the values themselves are there
            values = np.asarray(Image.open(io.BytesIO(shards.read(row))))
            assert values.dtype.name == samples_of[sample["__key__"]]
            deep += 1
    assert deep == 3


def _png(seed: int) -> bytes:
    return hostile.encoded(hostile.photo(seed), "PNG")


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p.write_bytes(_png(99)),
        lambda p: p.write_bytes(p.read_bytes() + b"more"),
        lambda p: os.truncate(p, 20),
        lambda p: p.unlink(),
        lambda p: (p.unlink(), os.mkfifo(p)),
        lambda p: (p.unlink(), p.symlink_to("/dev/zero")),
    ],
)
def test_a_file_that_changed_since_ingest_is_named(tmp_path: Path, change: object) -> None:
    root, output = tmp_path / "root", tmp_path / "ingest"
    root.mkdir()
    output.mkdir()
    for seed in range(6):
        (root / f"{seed}.png").write_bytes(_png(seed))
    ingest(Folder(root, Folder.Params()), SourceParams(name="folder"), output, 0)
    change(root / "3.png")
    with pytest.raises(ShardError, match=r"changed since ingest.*3\.png.*scan"):
        shard(read_manifest(output / "manifest.parquet"), tmp_path / "s")


def test_links_inside_the_root_are_followed(tmp_path: Path) -> None:
    root, output = tmp_path / "root", tmp_path / "ingest"
    (root / "pool").mkdir(parents=True)
    output.mkdir()
    for seed in range(4):
        (root / "pool" / f"{seed}.png").write_bytes(_png(seed))
        (root / "a").mkdir(exist_ok=True)
        (root / "a" / f"{seed}.png").symlink_to(f"../pool/{seed}.png")
    ingest(Folder(root, Folder.Params(layout="flat")), SourceParams(name="folder"), output, 0)
    shards = shard(read_manifest(output / "manifest.parquet"), tmp_path / "s")
    assert len(shards) == 4
    assert {shards.read(i) for i in range(4)} == {_png(seed) for seed in range(4)}


def test_names_with_anything_in_them_are_read(tmp_path: Path) -> None:
    root, output = tmp_path / "root", tmp_path / "ingest"
    root.mkdir()
    output.mkdir()
    names = ["a\nb.png", "\N{SNOWMAN}.png", "$(touch x).png", '"; rm -rf.png', "\x1b[31m.png"]
    for seed, name in enumerate(names):
        (root / name).write_bytes(_png(seed))
    ingest(Folder(root, Folder.Params()), SourceParams(name="folder"), output, 0)
    assert len(shard(read_manifest(output / "manifest.parquet"), tmp_path / "s")) == len(names)


def test_tars_that_are_finished_are_taken_over(
    manifest: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params, work, output = ShardParams(max_shard_bytes=1 << 20, max_side=512), tmp_path / "work", tmp_path / "out"
    shard(manifest, tmp_path / "whole", params)
    plans = plan(manifest, params)
    work.mkdir()
    output.mkdir()
    for p in plans[:3]:
        write.write_shard(p, params, work)
    os.truncate(work / plans[1].name, 700)  # a tar without its end is no finished tar
    written, write_shard = [], write.write_shard

    def noted(p: write.Plan, *args: object) -> list:
        written.append(p.name)
        return write_shard(p, *args)

    monkeypatch.setattr(write, "write_shard", noted)
    write_shards(manifest, params, output, 1, work)
    assert written == [plans[1].name, *(p.name for p in plans[3:])]
    assert contents(output) == contents(tmp_path / "whole")
    assert list(work.iterdir()) == []


def test_a_killed_stage_goes_on_where_it_was(manifest: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("shard: {max_shard_bytes: 1048576, max_side: 512}")
    write_manifest(tmp_path / "data/ingest/manifest.parquet", manifest)
    code = (
        "import os, signal\n"
        "from stages.shard import write\n"
        "from stages.shard.__main__ import main\n"
        "original, done = write.write_shard, []\n"
        "def dying(*args):\n"
        "    done.append(original(*args))\n"
        "    if len(done) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return done[-1]\n"
        "write.write_shard = dying\n"
        "main([])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert killed.returncode == -9
    assert not (tmp_path / "data/shards").exists()
    assert len(list((tmp_path / ".reprise/work/shard").rglob("*.tar"))) == 2
    subprocess.run([sys.executable, "-m", "stages.shard"], cwd=tmp_path, env=environment, check=True)
    shard(manifest, tmp_path / "whole", ShardParams(max_shard_bytes=1 << 20, max_side=512))
    assert contents(tmp_path / "data/shards") == contents(tmp_path / "whole")
    assert not list((tmp_path / ".reprise/work").rglob("*.tar"))
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["ingest", "shards"]


def test_the_upper_bound_holds_for_groups_of_any_letters() -> None:
    row = {"plain": True, "width": 8, "height": 8, "channels": 1, "bytes": 0, "key": "0" * 24, "split": "train"}
    row["group"] = "\N{GRINNING FACE}" * 300
    assert write._upper_bound(row, 64) >= 512 + len(write.ustar.member("x.json", write._json(row)))


class Ends:
    """Stands in for the workers: the first processes end, the next one writes."""

    def __init__(self, count: int) -> None:
        self.left = count

    def alone(self, task: write.Task, seconds: float, fresh: bool) -> object:
        assert fresh
        self.left -= 1
        return Lost(-9) if self.left >= 0 else write.write_shard(*task)


def test_a_killed_writer_is_started_again_and_named_when_it_never_ends_well(manifest: pa.Table, tmp_path: Path) -> None:
    task = (plan(manifest, SMALL)[0], SMALL, tmp_path, False)
    columns = write._write_alone(Ends(3), task, Lost(-9))
    assert columns["key"] == [row["key"] for row in task[0].rows]
    with pytest.raises(MachineError, match=r"5 ends in a row; of the last, its process was ended by SIGKILL"):
        write._write_alone(Ends(4), task, Lost(-9))


def test_shards_are_written_where_no_process_can_be_started(
    manifest: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(_: SpawnProcess) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    shard(manifest, tmp_path / "a")
    monkeypatch.setattr(write, "_WORTH_PROCESSES", 0)
    monkeypatch.setattr(SpawnProcess, "start", refused)
    shard(manifest, tmp_path / "b", workers=3)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert "Resource temporarily unavailable" in capsys.readouterr().err
