"""The archive source: the same images as from a folder, hostile members one by one, and damaged archives."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from reprise.artifacts.manifest import read_left_out, read_manifest, read_quarantine
from reprise.artifacts.shards import Shards
from reprise.config.errors import ImageRefused, ShardError, SourceError
from stages.ingest.archives import members as rules
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, Encoded, LeftOut, Refused
from stages.ingest.sources.archive import Archive
from stages.ingest.sources.folder import Folder
from stages.shard.params import ShardParams
from stages.shard.write import write_shards
from tests.stages.ingest import hostile

NAMES = ["train/cat/1.png", "train/dog/2.png", "train/dog/3.png", "test/cat/4.png", "train/cat/notes.txt"]
KINDS = ["zip", "zip stored", "tar", "tar.gz", "tar.bz2", "tar.xz", "tar.zst"]


def png(seed: int) -> bytes:
    return hostile.encoded(hostile.photo(seed), "PNG")


def contents(names: list[str] = NAMES) -> dict[str, bytes]:
    return {n: b"words" if n.endswith(".txt") else png(i) for i, n in enumerate(names)}


def make_tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def make_zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def packed(kind: str, files: dict[str, bytes]) -> bytes:
    if kind.startswith("zip"):
        return make_zip(files, zipfile.ZIP_STORED if "stored" in kind else zipfile.ZIP_DEFLATED)
    compress: Callable[[bytes], bytes] = {
        "tar": bytes,
        "tar.gz": gzip.compress,
        "tar.bz2": bz2.compress,
        "tar.xz": lzma.compress,
        "tar.zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
    }[kind]
    return compress(make_tar(files))


def source(root: Path, **options: object) -> Archive:
    return Archive(root, Archive.Params(**options))


def listed(root: Path, **options: object) -> list[Candidate | Refused | LeftOut]:
    return list(source(root, **options).candidates())


def outcome(root: Path, **options: object) -> dict[str, str]:
    """Reason of each entry by its name below the root; an empty one for candidates."""
    return {i.name.removeprefix(f"{root}/"): getattr(i, "reason", "") for i in listed(root, **options)}


def take_in(one: Archive | Folder, output: Path, workers: int = 0) -> list[dict[str, object]]:
    output.mkdir()
    ingest(one, SourceParams(name="archive"), output, workers)
    return read_manifest(output / "manifest.parquet").to_pylist()


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_gives_the_images_of_the_folder_that_it_was_made_of(tmp_path: Path, kind: str) -> None:
    for name, data in contents().items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    path = tmp_path / "images.bin"  # the content decides, not the name
    path.write_bytes(packed(kind, contents()))
    expected = take_in(Folder(tmp_path / "folder", Folder.Params()), tmp_path / "a")
    found = take_in(source(path), tmp_path / "b")
    same = ("key", "split", "label", "sha256", "pixels", "bytes")
    assert [[row[c] for c in same] for row in found] == [[row[c] for c in same] for row in expected]
    assert [r["reason"] for r in read_left_out(tmp_path / "b/left_out.parquet").to_pylist()] == ["other_file"]
    in_place = kind in ("zip stored", "tar")
    assert {row["path"] == str(path) for row in found} == {in_place}
    for row in found:
        file = path if in_place else tmp_path / "b/images.tar"
        data = file.read_bytes()[int(str(row["offset"])) :][: int(str(row["bytes"]))]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
    assert (tmp_path / "b/images.tar").exists() != in_place
    assert not (tmp_path / "b/spool").exists()


def test_a_folder_of_archives_counts_as_if_each_were_unpacked_there(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for i, name in enumerate(["train/cat.tar.gz", "train/dog.zip", "test.tar"]):
        files = {f"cat/{i}.png": png(9)} if name == "test.tar" else {f"{i}.png": png(i), f"b{i}.png": png(20 + i)}
        (tmp_path / name).write_bytes(packed(name.partition(".")[2], files))
    (tmp_path / "README.txt").write_text("about")
    (tmp_path / "stray.png").write_bytes(png(5))
    items = listed(tmp_path)
    assert {(i.split, i.label) for i in items if isinstance(i, Candidate)} == {
        ("train", "cat"), ("train", "dog"), ("test", "cat")
    }  # fmt: skip
    others = {i.name: (type(i).__name__, i.reason) for i in items if not isinstance(i, Candidate)}
    assert others == {
        str(tmp_path / "README.txt"): ("LeftOut", "no_archive"),
        str(tmp_path / "stray.png"): ("Refused", "no_archive"),
    }


def test_parts_can_be_merged_and_a_folder_inside_can_be_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "part1.zip").write_bytes(make_zip({"set/cat/1.png": png(1), "set/dog/2.png": png(2), "LICENSE": b"x"}))
    (tmp_path / "part2.zip").write_bytes(make_zip({"set/cat/3.png": png(3)}))
    one = source(tmp_path, archives="merged", inside="set")
    items = list(one.candidates())
    assert sorted(i.label for i in items if isinstance(i, Candidate)) == ["cat", "cat", "dog"]
    assert [i.reason for i in items if isinstance(i, LeftOut)] == ["outside_folder"]
    assert one.understood()[0] == "2 archives with 4 files."
    with pytest.raises(SourceError, match=r"source\.options\.inside"):
        listed(tmp_path, archives="merged")
    with pytest.raises(SourceError, match="no archive has"):
        listed(tmp_path, archives="merged", inside="sett")


def test_a_wrong_folder_inside_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    path.write_bytes(make_zip({**{f"data/part{n}/{n}.png": png(n) for n in range(7)}, "data/images/8.png": png(8)}))
    with pytest.raises(SourceError) as caught:
        listed(path, inside="data/image/")
    assert "data, data/images, data/part0, data/part1, data/part2 and 4 more" in caught.value.fix
    assert "Did you mean 'data/images'?" in caught.value.fix


def test_what_claims_to_be_no_picture_beside_splits_is_left_out(tmp_path: Path) -> None:
    files = {"train/cat/1.png": png(1), "test/cat/2.png": png(2), "README": b"of cats", "labels.csv": b"1,cat"}
    path = tmp_path / "set.zip"
    path.write_bytes(make_zip({**files, "extra.png": png(3)}))
    reasons = {i.name: i.reason for i in listed(path, layout="splits") if not isinstance(i, Candidate)}
    assert reasons == {
        f"{path}/README": "other_file",
        f"{path}/labels.csv": "other_file",
        f"{path}/extra.png": "outside_splits",
    }


def test_hostile_members_of_a_tar_are_refused_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:

        def add(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
            header = tarfile.TarInfo(name)
            header.size, header.type, header.linkname = len(data), kind, target
            tar.addfile(header, io.BytesIO(data))

        add("good.png", png(0))
        add("./also//good.png", png(1))
        add("../up.png", png(2))
        add("/etc/passwd.png", png(3))
        add("a/../../b.png", png(4))
        add("soft.png", kind=tarfile.SYMTYPE, target="/etc/passwd")
        add("hard.png", kind=tarfile.LNKTYPE, target="good.png")
        add("fifo.png", kind=tarfile.FIFOTYPE)
        add("device.png", kind=tarfile.CHRTYPE)
        add("twice.png", png(5))
        add("twice.png", png(6))
        add("Twice.png", png(7))
        add("bad\udcff.png", png(8))
        add("folder", kind=tarfile.DIRTYPE)
        add("inner.zip", make_zip({"1.png": png(9)}))
        add(".hidden/1.png", png(10))
        add("__MACOSX/1.png", png(11))
        add("l" * 300 + ".png", png(12))
        add("half.png", png(13)[:200])
    assert outcome(path, layout="flat") == {
        "good.png": "", "also/good.png": "", "../up.png": "unsafe_name", "/etc/passwd.png": "unsafe_name",
        "a/../../b.png": "unsafe_name", "soft.png": "link_in_archive", "hard.png": "link_in_archive",
        "fifo.png": "not_a_file", "device.png": "not_a_file", "twice.png": "repeated_name", "Twice.png": "",
        "bad\\xff.png": "name_not_utf8", "inner.zip": "nested_archive", ".hidden/1.png": "hidden",
        "__MACOSX/1.png": "system_file", "l" * 300 + ".png": "", "half.png": "",
    }  # fmt: skip
    take_in(source(path, layout="flat"), tmp_path / "out")
    refused = read_quarantine(tmp_path / "out/quarantine.parquet").to_pylist()
    assert {row["reason"] for row in refused} == {
        "unsafe_name", "link_in_archive", "not_a_file", "repeated_name", "name_not_utf8", "truncated"
    }  # fmt: skip
    reasons = (Path(__file__).parents[4] / "docs/reference/data-rules.md").read_text(encoding="utf-8")
    everything = {*outcome(path, layout="flat").values()} - {""}
    assert [reason for reason in everything if f"`{reason}`" not in reasons] == []


def test_hostile_members_of_a_zip_are_refused_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.png", png(0))
        archive.writestr("../up.png", png(1))
        archive.writestr("C:\\x.png", png(2))
        link = zipfile.ZipInfo("soft.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("twice.png", png(3))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("twice.png", png(4))
        archive.writestr("lzma.png", png(5), zipfile.ZIP_LZMA)
        archive.writestr("bzip2.png", png(6), zipfile.ZIP_BZIP2)
        archive.writestr("zeros.png", bytes(40 << 20))
        windows = zipfile.ZipInfo("cat\\7.png")
        windows.create_system = 0
        archive.writestr(windows, png(7))
        archive.writestr("locked.png", png(8))
        archive.writestr("\u00e9t\u00e9.png", png(9))
        archive.writestr("folder/", b"")
        archive.writestr("damaged.png", png(10))
        archive.writestr("liar.png", png(11))
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\1\2", 0, data.rfind(b"locked.png"))
    data[at + 8] |= 1
    at = data.rfind(b"PK\3\4", 0, data.find(b"damaged.png"))
    data[at + 30 + len("damaged.png") + 40] ^= 0xFF
    at = data.rfind(b"PK\1\2", 0, data.rfind(b"liar.png"))
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    path.write_bytes(data)
    assert outcome(path, layout="flat") == {
        "good.png": "", "../up.png": "unsafe_name", "C:\\x.png": "unsafe_name", "soft.png": "link_in_archive",
        "twice.png": "repeated_name", "lzma.png": "unsupported_compression", "bzip2.png": "",
        "zeros.png": "archive_bomb", "cat/7.png": "", "locked.png": "encrypted", "\u00e9t\u00e9.png": "",
        "damaged.png": "", "liar.png": "",
    }  # fmt: skip
    rows = take_in(source(path, layout="flat"), tmp_path / "out")
    assert len(rows) == 4
    quarantine = read_quarantine(tmp_path / "out/quarantine.parquet").to_pylist()
    refused = {row["path"].rpartition("/")[2]: row["reason"] for row in quarantine}
    assert refused["damaged.png"] == "undecodable"
    assert refused["liar.png"] in ("truncated", "undecodable")


def test_names_of_windows_are_folders_and_names_without_a_flag_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.zip"
    data = make_zip({"xx1.png": png(1)})
    path.write_bytes(data.replace(b"xx1.png", b"\xc3\xa91.png"))  # UTF-8 that nothing says so of, as macOS writes it
    assert outcome(path) == {"\u00e91.png": ""}
    path.write_bytes(data.replace(b"xx1.png", b"\x82x1.png"))  # the code page of DOS
    assert outcome(path) == {"\u00e9x1.png": ""}


def test_members_that_share_bytes_are_a_bomb(tmp_path: Path) -> None:
    path = tmp_path / "overlap.zip"
    data = make_zip({"1.png": png(1), "2.png": png(2), "3.png": png(3)})
    at = data.rfind(b"PK\1\2", 0, data.rfind(b"2.png"))
    path.write_bytes(data[: at + 42] + struct.pack("<I", 0) + data[at + 46 :])
    assert outcome(path) == {"1.png": "archive_bomb", "2.png": "archive_bomb", "3.png": ""}


def test_what_unpacks_to_too_much_together_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_SMALL_WHOLE", 1000)
    monkeypatch.setattr(rules, "_RATIO", 1)
    path = tmp_path / "much.zip"
    path.write_bytes(make_zip({f"{i}.bmp": bytes(30_000) for i in range(3)}))
    assert set(outcome(path).values()) == {"archive_bomb"}
    path = tmp_path / "much.tar.gz"
    path.write_bytes(gzip.compress(make_tar({f"{i}.bmp": bytes(30_000) for i in range(3)})))
    with pytest.raises(SourceError, match="too many bytes"):
        listed(path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_archive_is_not_used_at_all(tmp_path: Path, kind: str) -> None:
    whole = packed(kind, contents())
    name = f"x.{kind.split()[0]}"
    folder = tmp_path / "folder"
    folder.mkdir()
    for i, bad in enumerate((whole[: len(whole) // 3], b"", b"not an archive" * 50)):
        path = folder / name
        path.write_bytes(bad)
        with pytest.raises(SourceError, match="the archive cannot be read"):
            listed(path)
        shutil.copy(path, folder / f"{i}{name}")
        path.write_bytes(whole)
    one = source(folder, archives="merged")
    items = list(one.candidates())
    assert [i.reason for i in items if isinstance(i, Refused)] == ["damaged_archive"] * 3
    assert len([i for i in items if isinstance(i, Candidate)]) == 5
    assert len(one.notes()) == 3


def test_roots_that_are_no_archives_are_explained(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist|missing"):
        listed(tmp_path / "none.zip")
    with pytest.raises(SourceError, match="source `folder`"):
        listed(tmp_path)
    os.mkfifo(tmp_path / "fifo.zip")
    with pytest.raises(SourceError, match="FIFO"):
        listed(tmp_path / "fifo.zip")


def test_the_digest_follows_the_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.zip"
    path.write_bytes(make_zip({"1.png": png(1)}))
    first = source(path).extent()
    assert first == source(path).extent()
    assert first.bytes == path.stat().st_size
    path.write_bytes(make_zip({"1.png": png(2)}))
    assert source(path).extent().digest != first.digest


def test_a_tar_without_the_mark_of_its_end_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "cut.tar"
    data = png(1)
    path.write_bytes(make_tar({"1.png": data})[: 512 + len(data) + -len(data) % 512])
    one = source(path)
    assert len(list(one.candidates())) == 1
    assert "no mark of its end" in one.notes()[0]


def test_sparse_files_and_pax_names_are_read_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "pax.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for i, (name, extra) in enumerate([("\u00e9" * 120 + ".png", {}), ("s.png", {"GNU.sparse.major": "1"})]):
            header = tarfile.TarInfo(name)
            header.size, header.pax_headers = len(png(i)), extra
            tar.addfile(header, io.BytesIO(png(i)))
    assert outcome(path) == {"\u00e9" * 120 + ".png": "", "s.png": "unsupported_member"}


def test_shards_are_written_from_members_in_their_place_and_a_change_stops_them(tmp_path: Path) -> None:
    path = tmp_path / "images.tar"
    path.write_bytes(make_tar(contents()))
    take_in(source(path), tmp_path / "out")
    manifest = read_manifest(tmp_path / "out/manifest.parquet")
    (tmp_path / "shards").mkdir()
    params = ShardParams(max_shard_bytes=1 << 20, max_side=64)
    write_shards(manifest, params, tmp_path / "shards", 0)
    shards = Shards.open(tmp_path / "shards")
    stored = {shards.read(i) for i in range(len(shards.keys))}
    assert stored == {data for name, data in contents().items() if name.endswith(".png")}
    data = bytearray(path.read_bytes())
    data[data.find(b"\x89PNG") + 50] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match="an image changed since ingest"):
        write_shards(manifest, params, tmp_path / "shards", 0)


def test_a_zip_ends_where_its_comment_ends(tmp_path: Path) -> None:
    """Programs that take the last sign of an end for it read another archive than those that follow the comment."""
    inner, path = make_zip({"other.png": png(1)}), tmp_path / "two.zip"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mine.png", png(2))
        archive.comment = inner
    path.write_bytes(buffer.getvalue()[:-1] + b"x")
    assert outcome(path) == {"mine.png": ""}
    path.write_bytes(inner + b"more")
    with pytest.raises(SourceError, match="other data after its end"):
        listed(path)
    path.write_bytes(b"#!/bin/sh\n" + inner)  # a program in front of the archive
    assert outcome(path) == {"other.png": ""}
    (item,) = listed(path)
    assert isinstance(item, Candidate)
    assert isinstance(item.reference, Encoded)
    assert item.reference.read(1 << 20) == png(1)
    wrong = bytearray(inner)
    wrong[-14:-10] = struct.pack("<HH", 2, 2)
    path.write_bytes(wrong)
    with pytest.raises(SourceError, match="states 2 entries and has 1"):
        listed(path)


def test_a_zip_of_more_than_four_gigabytes_is_read_by_its_long_values(tmp_path: Path) -> None:
    """Python writes ZIP64 fields if it is told that a member may be long."""
    path = tmp_path / "long.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("1.png", "w", force_zip64=True) as file:
        file.write(png(1))
    data = path.read_bytes()
    at = data.rfind(b"PK\1\2")
    size, offset = struct.unpack("<I", data[at + 24 : at + 28])[0], struct.unpack("<I", data[at + 42 : at + 46])[0]
    extra = struct.pack("<HHQQQ", 1, 24, size, size, offset)
    entry = data[at : at + 20] + b"\xff" * 8 + data[at + 28 : at + 30] + struct.pack("<H", len(extra))
    entry += data[at + 32 : at + 42]
    entry += b"\xff" * 4 + b"1.png" + extra
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(entry), at)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at + len(entry), 1)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(data[:at] + entry + record + locator + end)
    (item,) = listed(path)
    assert isinstance(item, Candidate)
    assert isinstance(item.reference, Encoded)
    assert item.reference.read(1 << 20) == png(1)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("1.png") == png(1)


@pytest.mark.parametrize("kind", KINDS)
def test_any_damage_is_refused_in_a_sentence(tmp_path: Path, kind: str) -> None:
    """Bytes are changed, cut out and put in at random: members are refused, or the archive is."""
    rng, path, whole = Random(kind), tmp_path / "x", packed(kind, contents(NAMES[:3]))
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 2, 10))):
            at = rng.randrange(len(data))
            data[at : at + rng.choice((0, 1, 1, 20))] = rng.randbytes(rng.choice((0, 1, 1, 20)))
        path.write_bytes(data)
        with suppress(SourceError):
            for item in listed(path, layout="flat"):
                if isinstance(item, Candidate) and isinstance(item.reference, Encoded):
                    with suppress(ImageRefused):
                        item.reference.read(1 << 20)
