"""Disks that are full, read-only, or change under a reader; clocks that run backwards. Nothing is lost for it."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts.labels.label_sets import SCHEMA, write_pseudo_labels
from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.checkpoints import latest_checkpoint, save_checkpoint
from reprise.config.errors import EmbeddingError, ShardError, StorageError
from reprise.config.plug_ins.registry import load_class
from reprise.config.tables import RunRow
from reprise.reading import decoded
from reprise.storage.atomic import explained_storage, write_json
from reprise.storage.work_folder import file_digest, locked
from reprise.training.params import TrainParams
from stages.pretrain.method import Method
from tests.workspace import make_shards


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses (EFBIG) to let a file of this process grow beyond `size` bytes: real, and without root."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@contextmanager
def small_disk(folder: Path, size: str, *options: str, otherwise: int = 65536) -> Iterator[str]:
    """A file system of its own at `folder`; where that takes rights that we lack, no file above `otherwise` bytes.

    Yields:
        What a full one says.
    """
    folder.mkdir(exist_ok=True)
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "reprise-test", str(folder)],
        capture_output=True, check=False,
    ).returncode == 0  # fmt: skip
    if not mounted:
        with largest_file(otherwise):
            yield "File too large"
        return
    try:
        yield "No space left on device"
    finally:
        os.chdir(folder.parent)
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shards:
    """160 digits in the current folder, with the empty label set."""
    monkeypatch.chdir(tmp_path)
    make_shards()
    opened = Shards.open()
    import pyarrow as pa

    rows = [
        {"key": key, "cluster": None, "distance": None, "confidence": None, "round": 0}
        for key in opened.keys[opened.rows("train")]
    ]
    write_pseudo_labels("data/mine/none/0/pseudo_labels.parquet", pa.Table.from_pylist(rows, SCHEMA))
    return opened


def train(out: str, epochs: int = 2) -> Path:
    from reprise.config.params import ImageParams
    from stages.pretrain.run import pretrain

    kind = load_class("methods", "simclr", Method, "runs")
    params = TrainParams(
        backbone="resnet_tiny", epochs=epochs, batch_size=40, optimizer="sgd", learning_rate=0.1, weight_decay=1e-4,
        warmup_epochs=0, device="cpu", checkpoint_steps=1,
    )  # fmt: skip
    row = RunRow(name="simclr", method="simclr", labels="none")
    pretrain(row, 0, ImageParams(size=16, channels=3), params, kind.Params(), Path(out), restart=False)
    return Path(out)


# ---- full ------------------------------------------------------------------------------------------------


def test_a_full_disk_is_a_sentence_and_leaves_what_was_there(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64k") as said:
        artifact = tmp_path / "disk/artifact.json"
        write_json(artifact, {"whole": True})
        with pytest.raises(StorageError, match=f"artifact.json.*{said}") as caught:
            write_json(artifact, {"large": "x" * (1 << 17)})
        assert caught.value.fix
        assert artifact.read_text() == '{\n  "whole": true\n}\n'
        assert [p.name for p in artifact.parent.iterdir()] == ["artifact.json"]


def test_a_run_whose_checkpoint_does_not_fit_goes_on_when_there_is_room(shards: Shards, tmp_path: Path) -> None:
    whole, earlier = train("whole"), train("data/runs/simclr/0", epochs=1)
    before = file_digest(earlier)
    with largest_file(100_000), pytest.raises(StorageError, match=r"step-\d+.*File too large.*ulimit"):
        train("data/runs/simclr/0")
    assert file_digest(earlier) == before
    assert not list(Path().rglob(".partial-*"))
    assert file_digest(train("data/runs/simclr/0")) == file_digest(whole)


def test_a_cache_that_does_not_fit_costs_time_and_nothing_else(shards: Shards) -> None:
    rows = shards.rows("train")
    want = decoded.open_decoded(shards, rows, 3).resized(16)
    shutil.rmtree(".reprise")
    with largest_file(5_000):
        without = decoded.open_decoded(shards, rows, 3)
        assert not without.cached
        np.testing.assert_array_equal(without.resized(16), want)
    assert decoded.open_decoded(shards, rows, 3).cached


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "Raise the quota"),
        (errno.ENOSPC, "Free some space"),
        (errno.EROFS, "read-only"),
        (errno.EFBIG, "ulimit -f"),
    ],
)
def test_each_way_to_fail_has_its_own_way_out(number: int, words: str) -> None:
    with pytest.raises(StorageError, match=words) as caught, explained_storage(Path("data/x")):
        raise OSError(number, os.strerror(number))
    assert "data/x" in str(caught.value)
    assert os.strerror(number) in str(caught.value)


STAGES = {
    "ingest": ("stages.ingest",),
    "shard": ("stages.shard",),
    "train_models": ("stages.models.train", "--seed", "0"),
    "pretrain": ("stages.pretrain", "--run", "random", "--seed", "0"),
}
SOME = [pytest.param(name, marks=[] if name in ("ingest", "pretrain") else pytest.mark.slow) for name in STAGES]


def fill(ballast: Path) -> None:
    """Until there is no room for another byte, or it may not grow."""
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(descriptor, bytes(4096)):
            pass
    os.close(descriptor)


@pytest.mark.parametrize("name", SOME)
def test_a_stage_on_a_full_disk_says_so(shards: Shards, tmp_path: Path, repository: Path, name: str) -> None:
    """The real command on a real small disk, which the stage's output does not fit on."""
    shutil.copy(repository / "params.yaml", "params.yaml")
    (tmp_path / "source.lock.json").write_text("{}")
    with small_disk(tmp_path / "disk", "400k", otherwise=1000):
        shutil.copytree(tmp_path / "data", tmp_path / "disk/data")
        for file in ("params.yaml", "source.lock.json"):
            shutil.copy(tmp_path / file, tmp_path / "disk" / file)
        fill(tmp_path / "disk/ballast")
        before = file_digest(tmp_path / "disk/data")
        done = subprocess.run(
            [sys.executable, "-m", *STAGES[name]],
            cwd=tmp_path / "disk",
            env={**os.environ, "PYTHONPATH": str(repository)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("error: writing failed (")
        assert "Free some space" in done.stderr or "ulimit" in done.stderr
        assert "Traceback" not in done.stderr
        assert file_digest(tmp_path / "disk/data") == before


# ---- read-only -------------------------------------------------------------------------------------------


def test_an_output_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """By permission, or for root, whom permissions do not stop, by mounting it read-only."""
    folder = tmp_path / "data"
    if os.geteuid() != 0:
        folder.mkdir(mode=0o555)
        with pytest.raises(StorageError, match="write permission"):
            write_json(folder / "x.json", 1)
        return
    with small_disk(folder, "64k", "ro") as said:
        if said != "No space left on device":
            pytest.skip("root without the right to mount")
        with pytest.raises(StorageError, match="Read-only file system.*mount it writable"):
            write_json(folder / "x.json", 1)
        with pytest.raises(StorageError, match="Read-only"), locked(folder / "work"):
            pass


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StorageError, match="There is a file where a folder is needed"):
        write_json(tmp_path / "data/x.json", 1)
    with pytest.raises(StorageError, match="There is a file where a folder is needed"), locked(tmp_path / "data/work"):
        pass


# ---- changed under a reader ------------------------------------------------------------------------------


def test_a_shard_that_shrinks_while_it_is_read_is_named(shards: Shards) -> None:
    shards.read(0)
    path = next(Path("data/shards").glob("*.tar"))
    os.truncate(path, 3000)
    with pytest.raises(ShardError, match=rf"truncated \({path}\)"):
        [shards.read(row) for row in range(len(shards))]


def test_a_table_that_shrinks_after_it_was_checked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reprise.artifacts.embeddings import read_embeddings, write_embeddings
    from reprise.artifacts.tables import parquet

    path = tmp_path / "embeddings.parquet"
    keys = np.array([f"{i:024x}" for i in range(500)], dtype=object)
    write_embeddings(
        path, keys, np.full(500, "train", dtype=object), {"features": np.random.default_rng(0).random((500, 64))}
    )
    real = parquet.pq.ParquetFile

    def shrink(*arguments, **keywords):
        os.truncate(path, 2000)
        return real(*arguments, **keywords)

    monkeypatch.setattr(parquet.pq, "ParquetFile", shrink)
    with pytest.raises(EmbeddingError, match="the file is damaged"):
        read_embeddings(path)


def test_a_cache_that_shrank_is_built_again(shards: Shards) -> None:
    rows = shards.rows("train")
    want = decoded.open_decoded(shards, rows, 3).resized(16)
    (pixels,) = Path(".reprise/decoded").rglob("pixels.bin")
    os.truncate(pixels, 1000)
    np.testing.assert_array_equal(decoded.open_decoded(shards, rows, 3).resized(16), want)


def test_a_cache_that_shrinks_under_a_reader_of_a_small_one_is_not_noticed(shards: Shards) -> None:
    rows = shards.rows("train")
    opened = decoded.open_decoded(shards, rows, 3)
    want = opened.images.copy()
    os.truncate(next(Path(".reprise/decoded").rglob("pixels.bin")), 100)
    np.testing.assert_array_equal(opened.images, want)
    np.testing.assert_array_equal(decoded.open_decoded(shards, rows, 3).images, want)  # built anew
    with pytest.raises(ValueError, match="read-only"):
        opened.images[0] = 0


def test_a_cache_that_shrinks_while_it_is_read_whole_is_built_again(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, read = shards.rows("train"), np.fromfile
    want = decoded.open_decoded(shards, rows, 3).images.copy()
    calls = []

    def shrink(path: Path, kind: type) -> np.ndarray:
        if not calls:
            os.truncate(path, 100)
        calls.append(path)
        return read(path, kind)

    monkeypatch.setattr(decoded.np, "fromfile", shrink)
    np.testing.assert_array_equal(decoded.open_decoded(shards, rows, 3).images, want)
    assert len(calls) == 2


def test_a_large_cache_that_shrinks_under_a_reader_ends_it_and_not_the_next(shards: Shards, repository: Path) -> None:
    """The kernel ends whoever reads a memory map beyond its file's end; nothing wrong is ever computed."""
    code = (
        "import os, sys, pathlib\nfrom reprise.reading import decoded\nfrom reprise.artifacts.shards import Shards\n"
        "from reprise.runtime.entry import run_stage\ndecoded.IN_MEMORY_BYTES = 1000\n"
        "def main(argv):\n    s = Shards.open()\n    d = decoded.open_decoded(s, s.rows('train'), 3)\n"
        "    if argv: os.truncate(next(pathlib.Path('.reprise/decoded').rglob('pixels.bin')), 100)\n"
        "    print(d.images.sum())\nrun_stage(main)"
    )

    def read(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": str(repository)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    want = read()
    assert want.returncode == 0
    ended = read("shrink")
    assert ended.returncode == -signal.SIGBUS
    assert "Bus error" in ended.stderr
    assert read().stdout == want.stdout


# ---- clocks ----------------------------------------------------------------------------------------------


def test_checkpoints_and_locks_do_not_look_at_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    for step, when in ((1, now + 86400), (2, 0.0), (3, now - 86400)):  # the clock was set back twice
        monkeypatch.setattr(time, "time", lambda when=when: when)
        path = save_checkpoint(tmp_path, step, {"step": step})
        os.utime(path, (when, when))
    assert latest_checkpoint(tmp_path) == {"step": 3}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000002.safetensors", "step-000000003.safetensors"]
    with locked(tmp_path / "work"):
        pass
    os.utime(tmp_path / "work/.lock", (now + 86400, now + 86400))
    with locked(tmp_path / "work"):
        pass


def test_a_clock_that_runs_backwards_changes_no_output(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    want = file_digest(train("before"))
    hours = iter(range(10_000, 0, -1))
    monkeypatch.setattr(time, "time", lambda: 3600.0 * next(hours))
    assert file_digest(train("after")) == want
    (record,) = Path(".reprise/provenance/pretrain").rglob("*.json")
    assert '"seconds": -' not in record.read_text()


def test_files_of_the_future_are_scanned_by_content(tmp_path: Path) -> None:
    """A file that changed without its time moving forward is read again."""
    from reprise.storage.listing import digest_folder

    (tmp_path / "images").mkdir()
    image = tmp_path / "images/a.png"
    image.write_bytes(b"first")
    future = time.time() + 86400
    os.utime(image, (future, future))
    before = digest_folder(tmp_path / "images", tmp_path / "cache")
    image.write_bytes(b"other")
    os.utime(image, (future, future))
    assert digest_folder(tmp_path / "images", tmp_path / "cache") != before
