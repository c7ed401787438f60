"""CIFAR archives: a miniature one made here, damaged ones, and ones that try to run code."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprise.config.errors import SourceError
from reprise.media.image.decode import decode
from stages.ingest.archives import batch_reader, cifar_archive
from stages.ingest.archives.batch_reader import Array, Dtype
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate
from stages.ingest.sources.cifar10 import Cifar10
from stages.ingest.sources.cifar100 import Cifar100

TEN = "cifar-10-batches-py"
NAMES = [b"airplane", b"automobile", b"bird"]


def archive(path: Path, members: dict[str, Any], protocol: int = 2) -> Path:
    """A .tar.gz of pickles (bytes are taken as they are)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, value in members.items():
            data = value if isinstance(value, bytes) else pickle.dumps(value, protocol)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def batch(seed: int, n: int = 4) -> dict[bytes, Any]:
    rng = np.random.default_rng(seed)
    return {
        b"batch_label": b"x",
        b"labels": [i % 3 for i in range(n)],
        b"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
        b"filenames": [b"f.png"] * n,
    }


def cifar10(**changes: Any) -> dict[str, Any]:
    members: dict[str, Any] = {f"{TEN}/data_batch_{i}": batch(i) for i in range(1, 6)}
    members |= {f"{TEN}/test_batch": batch(6), f"{TEN}/batches.meta": {b"label_names": NAMES, b"num_vis": 3072}}
    return members | {f"{TEN}/{name}": value for name, value in changes.items()}


def source(root: Path, **options: Any) -> Cifar10:
    return Cifar10(root, Cifar10.Params(**({"md5": None} | options)))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_a_small_archive_gives_its_images(tmp_path: Path, protocol: int) -> None:
    path = archive(tmp_path / "mine.tar.gz", cifar10(), protocol)
    rows = list(source(path).candidates())
    assert len(rows) == 24
    assert [r.split for r in rows].count("test") == 4
    assert [r.label for r in rows[:4]] == ["airplane", "automobile", "bird", "airplane"]
    expected = batch(1)[b"data"][0].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(decode(rows[0].reference, "x"), expected)
    assert len({r.name for r in rows}) == 24


def test_cifar100_has_fine_and_coarse_labels(tmp_path: Path) -> None:
    part = batch(1) | {b"fine_labels": [0, 1, 2, 0], b"coarse_labels": [0, 0, 1, 0]}
    meta = {b"fine_label_names": NAMES, b"coarse_label_names": [b"vehicles", b"animals"]}
    other = part | {b"data": batch(2)[b"data"]}
    path = archive(
        tmp_path / "cifar-100-python.tar.gz",
        {"cifar-100-python/train": part, "cifar-100-python/test": other, "cifar-100-python/meta": meta},
    )
    fine = list(Cifar100(tmp_path, Cifar100.Params(md5=None)).candidates())
    coarse = list(Cifar100(path, Cifar100.Params(md5=None, labels="coarse")).candidates())
    assert [r.label for r in fine] == ["airplane", "automobile", "bird", "airplane"] * 2
    assert [r.label for r in coarse] == ["vehicles", "vehicles", "animals", "vehicles"] * 2


def test_images_reach_the_manifest_through_a_plain_tar(tmp_path: Path) -> None:
    path = archive(tmp_path / "mine.tar.gz", cifar10(data_batch_2=batch(1)))  # a batch twice: duplicates
    output = tmp_path / "out"
    output.mkdir()
    card = ingest(source(path), SourceParams(name="cifar10"), output, 1, published=output)
    assert (card["found"], card["kept"], card["quarantined"]) == (24, 20, 4)
    assert card["uniform"] == [32, 32]
    assert "without a checksum" in card["notes"][0]
    with tarfile.open(output / "images.tar") as tar:
        keys = [m.name for m in tar]
        assert keys == sorted(keys)
        assert len(keys) == 20
        assert hashlib.sha256(tar.extractfile(keys[0]).read()).hexdigest().startswith(keys[0].removesuffix(".png"))


def test_a_checksum_is_demanded_by_default(tmp_path: Path) -> None:
    path = archive(tmp_path / "mine.tar.gz", cifar10())
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(SourceError, match=f"c58f30108f718f92721af3b95e74349a.*{md5}.*null"):
        list(Cifar10(path, Cifar10.Params()).candidates())
    assert len(list(source(path, md5=md5).candidates())) == 24
    assert source(path, md5=md5).notes() == []


class Evil:
    """What a hostile pickle would like to do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch pwned",))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "value",
    [
        Evil(),
        {b"data": Evil(), b"labels": [0]},
        OrderedDict(a=1),
        {b"data": np.float64(3.0)},
        eval,
        {b"x": hashlib.sha256},
    ],
    ids=["object", "object_in_batch", "ordered_dict", "numpy_scalar", "builtin", "builtin_in_batch"],
)
def test_nothing_but_the_stand_ins_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "mine.tar.gz", cifar10(data_batch_1=pickle.dumps(value, protocol)))
    with pytest.raises(SourceError, match="which no CIFAR batch needs"):
        list(source(path).candidates())
    assert not (tmp_path / "pwned").exists()


def state(shape: object, raw: object, dtype: str = "u1", fortran: object = False) -> Array:
    return Array((1, shape, Dtype(dtype), fortran, raw))


@pytest.mark.parametrize(
    "array",
    [
        state((2, 3072), b"\0" * 3072),
        state((1, 3072), b"\0" * 3072, dtype="O8"),
        state((1, 3072), b"\0" * 3072, dtype="f4"),
        state((1, 3072), b"\0" * 3072, fortran=True),
        state((1, 3072), "text"),
        state((-1, 3072), b""),
        state((3072,), b"\0" * 3072),
        state((1, 3072), b"\0" * 3072, fortran=None),
        state(("1", 3072), b"\0" * 3072),
        state("shape", b""),
        Array((1, (1, 3072), "u1", False, b"\0" * 3072)),
        Array(),
    ],
)
def test_arrays_that_do_not_add_up_are_refused(array: Array) -> None:
    with pytest.raises(ValueError, match="an array"):
        array.values()


@pytest.mark.parametrize(
    "members",
    [
        cifar10(data_batch_3={b"labels": [0]}),
        cifar10(data_batch_3=[1, 2]),
        cifar10(data_batch_3=batch(3) | {b"labels": [0, 1, 2, 99]}),
        cifar10(data_batch_3=batch(3) | {b"labels": [0]}),
        cifar10(data_batch_3=batch(3) | {b"labels": [0, 1, 2, True]}),
        cifar10(data_batch_3=batch(3) | {b"data": np.zeros((4, 100), np.uint8)}),
        cifar10(data_batch_3=batch(3) | {b"data": np.zeros((4, 3072), np.float32)}),
        cifar10(data_batch_3=b"\x80\x02garbage"),
        cifar10(data_batch_3=b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7f."),  # a string of 2^63 bytes
        cifar10(data_batch_3=b"\x80\x02]r\xff\xff\xff\x7f."),  # object 2^31 - 1 of a table that is as long as that
        cifar10(data_batch_3=b"]p2147483647\n."),
        cifar10(data_batch_3=b"\x80\x05\x96" + bytes(6) + b"\xff\x00."),  # 71 million gigabytes
        cifar10(**{"batches.meta": {}}),
        cifar10(**{"batches.meta": {b"label_names": [b"a", b"b", b"b"]}}),
        {k: v for k, v in cifar10().items() if "test" not in k},
    ],
    ids=range(15),
)
def test_archives_that_do_not_hold_cifar_are_a_sentence(tmp_path: Path, members: dict[str, Any]) -> None:
    path = archive(tmp_path / "mine.tar.gz", members)
    with pytest.raises(SourceError, match="the archive cannot be read"):
        list(source(path).candidates())


def test_a_pickle_of_more_operations_than_any_batch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each opening of a list is a byte in the archive and dozens in memory."""
    monkeypatch.setattr(batch_reader, "MOST_OPERATIONS", 1000)
    path = archive(tmp_path / "mine.tar.gz", cifar10(data_batch_3=b"(" * 2000))
    with pytest.raises(SourceError, match="more than 1000 operations"):
        list(source(path).candidates())


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:500],
        lambda d: b"",
        lambda d: b"no gzip",
        lambda d: d[:200] + b"\xff" * 50 + d[250:],
        lambda d: gzip.compress(b"no tar"),
    ],
)
def test_damaged_archives_are_a_sentence(tmp_path: Path, damage: Any) -> None:
    path = archive(tmp_path / "mine.tar.gz", cifar10())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SourceError, match="the archive cannot be read"):
        list(source(path).candidates())


def test_links_and_paths_inside_an_archive_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, target in (("../../escape", None), ("/absolute", None), (f"{TEN}/data_batch_1", "/etc/passwd")):
            info = tarfile.TarInfo(name)
            if target:
                info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info, io.BytesIO(b""))
    with pytest.raises(SourceError, match=f"no {TEN}"):
        list(source(path).candidates())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.tar.gz"]


@pytest.mark.parametrize("kind", ["LNKTYPE", "CHRTYPE", "BLKTYPE", "FIFOTYPE", "DIRTYPE"])
def test_only_regular_members_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A hard link, device, FIFO or folder by the name of a batch is no batch, and the real one after it counts."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(f"{TEN}/data_batch_1")
        info.type, info.linkname = getattr(tarfile, kind), "/etc/passwd"
        tar.addfile(info)
        for name, value in cifar10().items():
            data = pickle.dumps(value, 2)
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert len(list(source(path).candidates())) == 24
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.tar.gz"]


@pytest.mark.parametrize(
    ("limit", "value", "says"), [("_MAX_MEMBERS", 3, "more than 3 members"), ("_MAX_BATCH", 999, "of \\d+ bytes")]
)
def test_archives_of_too_much_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, says: str
) -> None:
    monkeypatch.setattr(cifar_archive, limit, value)
    with pytest.raises(SourceError, match=says):
        list(source(archive(tmp_path / "mine.tar.gz", cifar10())).candidates())


def test_compression_bombs_are_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar_archive, "_MAX_UNPACKED", 1 << 20)
    path = archive(tmp_path / "mine.tar.gz", {"zeros": b"\0" * (8 << 20)} | cifar10())
    assert path.stat().st_size < 1 << 20
    with pytest.raises(SourceError, match="unpacks to more than"):
        list(source(path).candidates())


def test_without_an_archive_nothing_is_fetched_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("urllib.request.urlopen", forbidden)
    for ask in (lambda s: list(s.candidates()), lambda s: s.extent()):
        with pytest.raises(SourceError, match=r"cifar-10-python\.tar\.gz.*download"):
            ask(Cifar10(tmp_path / "none", Cifar10.Params()))
    with pytest.raises(SourceError, match="does not hold the archive"):
        list(Cifar10(tmp_path, Cifar10.Params(download=True)).candidates())


class Answer(io.BytesIO):
    headers: dict[str, str] = {}  # noqa: RUF012


def test_a_download_is_verified_before_it_lands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive(tmp_path / "server.tar.gz", cifar10()).read_bytes()
    asked = []

    def answer(url: str, timeout: float) -> Answer:
        asked.append(url)
        return Answer(data)

    monkeypatch.setattr("urllib.request.urlopen", answer)
    root = tmp_path / "root"
    with pytest.raises(SourceError, match="not the official one"):
        list(source(root, md5="0" * 32, download=True).candidates())
    assert not list(root.glob("*.tar.gz"))
    root.rmdir()
    good = source(root, md5=hashlib.md5(data).hexdigest(), download=True)
    before = good.extent()
    assert len(list(good.candidates())) == 24
    assert good.extent() == before
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"] * 2


def test_a_network_that_is_away_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.error

    def away(url: str, timeout: float) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", away)
    with pytest.raises(SourceError, match=r"cannot be downloaded.*no route to host.*source\.root"):
        list(source(tmp_path / "root", download=True).candidates())
    assert all(isinstance(c, Candidate) for c in source(archive(tmp_path / "a.tgz", cifar10())).candidates())
