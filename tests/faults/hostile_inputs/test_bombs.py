"""Small files that stand for too much memory or time, and roots that never end: a sentence within limits for each."""

from __future__ import annotations

import gzip
import io
import os
import signal
import socket
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reprise.config.errors import ImageRefused, SourceError
from reprise.media.modality import Limits
from reprise.runtime.workers import Lost
from reprise.storage import listing, walk
from reprise.storage.listing import read_regular, sha256_of
from reprise.storage.system import pseudo_files
from reprise.storage.walk import list_entries
from stages.ingest.archives.batch_reader import read_batch
from stages.ingest.archives.tar_stream import TarStream
from stages.ingest.candidates import examine as examining
from stages.ingest.sources.cifar10 import Cifar10
from stages.ingest.sources.folder import Folder
from tests.limits import at_most
from tests.stages.ingest import hostile
from tests.stages.ingest.hostile import encoded
from tests.stages.ingest.sources.test_cifar import archive, cifar10

NESTED = b"(" * 50 + b"t" * 50  # tuples in tuples


def doubled(times: int, kind: bytes = b"\x86") -> bytes:
    """A tuple of two that holds the one before twice, and so on: 2^times values in a few bytes a time."""
    return b"\x80\x02)" + b"".join(b"q\x01h\x01" + kind for _ in range(times))


def stored_bytes(count: int) -> bytes:
    """The same text turned into new bytes again and again, all kept in a list."""
    text = b"X" + struct.pack("<I", 10_000_000) + b"a" * 10_000_000 + b"q\x01"
    names = b"c_codecs\nencode\nq\x02X\x06\0\0\0latin1q\x03"
    return b"\x80\x02]q\0(" + text + names + b"h\x02h\x01h\x03\x86R" * count + b"e."


PICKLES: dict[str, tuple[bytes, str]] = {
    "lists by the million": (b"\x80\x02](" + b"]" * 600_000 + b"e.", "more than 500000 lists"),
    "copies of a text": (stored_bytes(200), "more memory than its length explains"),
    "a key that never ends hashing": (
        b"}" + doubled(200)[2:] + b"K\x01s.",
        "a key that is neither a text nor a number",
    ),
    "a shape that never ends printing": (
        b"\x80\x02}U\x04data"
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R(K\x01"
        + doubled(200)[2:]
        + b"cnumpy\ndtype\nU\x02u1K\0K\x01\x87R\x89U\0tbsU\x06labels]s.",
        "not a table",
    ),
    "a list that holds itself": (b"\x80\x02}U\x04data]q\x01h\x01asU\x06labelsh\x01s.", "lacks data or labels"),
    "an object far away": (b"\x80\x02]r\xff\xff\xff\x7f0.", "does not end with one value"),
    "a number of megabytes": (b"\x80\x02\x8b" + struct.pack("<I", 5_000_000) + b"\x7f" * 5_000_000 + b".", "LONG4"),
    "a number of digits": (b"L" + b"9" * 4000 + b"L\n.", "a number that no batch needs"),
    "a text of 2^63 bytes": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"a.", "cannot be read"),
    "a builder": (b"\x80\x02cnumpy\nndarray\n)\x81}b.", "NEWOBJ"),
    "a persistent name": (b"P1\n.", "PERSID"),
    "an extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "a name from the stack": (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system, which no CIFAR batch needs"),
    "a call of nothing": (b"\x80\x02)R.", "where there is none"),
    "nothing": (b"", "cannot be read"),
    "half an end": (b"\x80\x02}(", "cannot be read"),
    "the end of no list": (b"\x80\x02]e.", "ends a list that it has not begun"),
    "a key alone": (b"\x80\x02}(K\x01u.", "a key without a value"),
    "a mark for a value": (b"\x80\x02](a.", "of a kind that no CIFAR batch has there"),
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_hostile_batch_is_a_sentence(tmp_path: Path, name: str) -> None:
    data, words = PICKLES[name]
    path = archive(tmp_path / "mine.tar.gz", cifar10(data_batch_3=data))
    with at_most(megabytes=600, seconds=20), pytest.raises(SourceError, match="the archive cannot be read") as told:
        list(Cifar10(path, Cifar10.Params(md5=None)).candidates())
    assert words in str(told.value)
    assert len(str(told.value)) < 1000


def test_a_batch_as_python_2_wrote_it_is_read() -> None:
    """The form of the official archives: cPickle, protocol 2, `str` for bytes and keys."""
    raw = bytes(i % 256 for i in range(3072))
    data = (
        b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05K\x06aU\x04dataq\x06"
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\x09(K\x01K\x01M\x00\x0c"
        b"\x86cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", 3072) + raw + b"tbU\tfilenamesq\x0c]q\x0dU\x05a.pngau."
    )  # fmt: skip
    found = read_batch(data)
    assert (found[b"labels"], found[b"filenames"]) == ([6], [b"a.png"])
    assert found[b"data"].values().tobytes() == raw


def member(name: bytes, size: int, kind: bytes = b"0", content: bytes = b"", prefix: bytes = b"") -> bytes:
    """A member whose header may say anything."""
    head = bytearray(512)
    head[: len(name)], head[124:136], head[156:157] = name, b"%011o\0" % size, kind
    head[257:265], head[345 : 345 + len(prefix)] = b"ustar\x0000", prefix
    head[148:156] = b"        "
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + content + bytes(-len(content) % 512)


def pax(content: bytes) -> bytes:
    return member(b"pax", len(content), b"x", content)


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body) + 3))
    return b"%d" % length + body


FILE = member(b"a", 2, content=b"hi")
TARS: dict[str, tuple[bytes, str]] = {
    "a path of megabytes": (pax(record(b"path", b"x" * (2 << 20))) + FILE, "a header of"),
    "headers by the thousand": (pax(record(b"mtime", b"1.5")) * 5000 + FILE, "more than 8 headers of one member"),
    "a long name of megabytes": (member(b"l", 1 << 20, b"L", b"x" * (1 << 20)) + FILE, "a header of 1048576 bytes"),
    "members by the thousand": (FILE * 20, "more than 10 members"),
    "a header of a gigabyte": (member(b"x", 1 << 30, b"x"), "a header of 1073741824 bytes"),
    "a record beyond the header": (pax(b"99999 path=x\n") + FILE, "a damaged pax header"),
    "a record of nothing": (pax(b"0 path=x\n") + FILE, "a damaged pax header"),
    "digits without an end": (pax(b"1" * 60_000) + FILE, "a damaged pax header"),
    "a size below zero": (pax(record(b"size", b"-5")) + FILE, "a damaged pax header"),
    "a size of words": (member(b"a", 0)[:124] + b"x" * 388, "no tar, or a damaged one"),
    "a size in base 256": (member(b"a", 0)[:124] + b"\x80" + b"\xff" * 387, "no tar, or a damaged one"),
    "more than there is": (member(b"a", 4096, content=b"hi"), "ends too early"),
    "half a header": (FILE[:100], "ends too early"),
    "no tar": (b"no tar" * 200, "no tar, or a damaged one"),
}


def names_in(data: bytes) -> list[tuple[str, bool]]:
    return [(one.name, one.regular) for one in TarStream(io.BytesIO(data), 10)]


@pytest.mark.parametrize("name", TARS)
def test_a_hostile_tar_is_a_sentence(name: str) -> None:
    data, words = TARS[name]
    with at_most(megabytes=100, seconds=5), pytest.raises(ValueError, match=words):
        names_in(data)


def test_extended_headers_within_their_limits_are_read() -> None:
    long = b"folder/" * 40 + b"a"
    stated = pax(record(b"path", long) + record(b"mtime", b"1.5"))
    gnu = member(b"././@LongLink", len(long) + 1, b"L", long + b"\0")
    data = stated + FILE + gnu + FILE + member(b"a", 2, b"\0", b"hi", prefix=b"folder") + bytes(1024)
    assert names_in(data) == [(long.decode(), True)] * 2 + [("folder/a", True)]
    sized = TarStream(io.BytesIO(pax(record(b"size", b"4")) + member(b"a", 0, content=b"four") + FILE), 10)
    assert [sized.read() for _ in sized] == [b"four", b"hi"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_every_form_are_read_as_tarfile_reads_them(form: int) -> None:
    buffer = io.BytesIO()
    contents = {"short": b"x", "folder/" + "n" * 90: b"y" * 700, "é" * 40: b"", "z/" * 60 + "deep": b"w" * 512}
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5 if form == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(content))
    stream = TarStream(io.BytesIO(buffer.getvalue()), 10)
    assert {one.name: stream.read() for one in stream} == contents


def test_what_unpacks_to_far_more_than_its_length_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "mine.tar.gz"
    path.write_bytes(gzip.compress(member(b"zeros", 200 << 20) + bytes(80 << 20), 1))
    assert path.stat().st_size < 600_000
    with at_most(megabytes=300, seconds=20), pytest.raises(SourceError, match="unpacks to more than 67108864 bytes"):
        list(Cifar10(path, Cifar10.Params(md5=None)).candidates())


def test_class_names_have_the_length_of_names(tmp_path: Path) -> None:
    meta = {b"label_names": [b"a", b"b" * 100_000, b"c"]}
    path = archive(tmp_path / "mine.tar.gz", cifar10(**{"batches.meta": meta}))
    with pytest.raises(SourceError, match="a name of more than 255 bytes under label_names"):
        list(Cifar10(path, Cifar10.Params(md5=None)).candidates())


@pytest.mark.parametrize("root", ["/proc", "/proc/self", "/sys", "/dev", "/dev/fd", "/dev/null"])
def test_what_the_kernel_makes_up_is_no_root(tmp_path: Path, root: str) -> None:
    for path in (Path(root), tmp_path / "link"):
        if path != Path(root):
            path.symlink_to(root)
        with at_most(megabytes=200, seconds=5), pytest.raises(SourceError, match="a folder of the system"):
            list_entries(path)
        with pytest.raises(SourceError):
            list(Cifar10(path, Cifar10.Params(md5=None)).candidates())


def test_a_folder_that_the_kernel_makes_up_below_the_root_is_one_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a copy of a whole system with /proc mounted inside."""
    (tmp_path / "root/proc/kcore").mkdir(parents=True)
    (tmp_path / "root/a.png").write_bytes(b"x")
    monkeypatch.setattr(walk, "is_pseudo", lambda path, device: path.endswith(b"/proc"))
    found = {entry.text: entry.reason for entry in list_entries(tmp_path / "root")}
    assert found == {"a.png": None, "proc": "kernel_folder"}


def test_memory_with_files_of_people_is_a_root_like_any_other() -> None:
    assert not pseudo_files.is_pseudo("/dev/shm/images", os.stat("/proc").st_dev)
    assert pseudo_files.is_pseudo("/dev/shminages", 0)
    assert not pseudo_files.is_pseudo("/processes", 0)


@pytest.mark.parametrize("path", ["/proc/kmsg", "/proc/self/mem", "/proc/version", "/dev/zero", "/sys/kernel/notes"])
def test_files_of_the_system_are_never_read(path: str) -> None:
    if not os.path.exists(path):
        pytest.skip("this system has no such file")
    with at_most(megabytes=100, seconds=5), pytest.raises(ImageRefused) as told:
        sha256_of(path)
    assert told.value.what in ("not_a_file", "unreadable")


def in_a_fork(attempt: Callable[[], object]) -> int:
    """Do something in a copy of this process; its exit status, or minus the number of the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except MemoryError:
            os._exit(3)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def scans(count: int, side: int) -> bytes:
    """A progressive JPEG that refines its pixels again and again; each scan takes bytes and goes over all of them."""
    data = encoded(np.zeros((side, side), np.uint8), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * count + data[-2:]


def test_an_image_that_keeps_the_decoder_busy_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "_CPU_SECONDS", 0.2)
    limits = Limits(50_000_000, 4)
    assert in_a_fork(lambda: examining._examine_chunk([("fine", hostile.PNG)] * 3, limits)) == 0
    busy = in_a_fork(lambda: examining._examine_chunk([("busy", scans(400, 3000))], limits))
    assert busy == -signal.SIGPROF
    assert not Lost(busy).killed


def test_a_decoder_gets_the_memory_of_permitted_images_and_no_more() -> None:
    def ask() -> None:
        examining.prepare_worker(Limits(1_000_000, 4))
        try:
            bytearray(1 << 30)
        except MemoryError:
            os._exit(4)
        bytearray(12 << 30)

    assert in_a_fork(ask) == 3


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind(str(path))


@pytest.mark.parametrize("make", [os.mkfifo, _socket, Path.touch], ids=["fifo", "socket", "file"])
def test_a_root_that_is_no_folder_is_a_sentence_and_not_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("root"))
    for source in (Folder(Path("root"), Folder.Params()), Cifar10(Path("root"), Cifar10.Params(md5=None))):
        with at_most(megabytes=100, seconds=5), pytest.raises(SourceError):
            list(source.candidates())
        if isinstance(source, Folder):
            with pytest.raises(SourceError, match="not a folder"):
                source.extent()


def test_a_root_with_a_name_that_no_system_takes_is_a_sentence(tmp_path: Path) -> None:
    root = tmp_path / ("x" * 300)
    for source in (Folder(root, Folder.Params()), Cifar10(root, Cifar10.Params(md5=None))):
        with pytest.raises(SourceError):
            list(source.candidates())


def test_a_file_that_grows_as_fast_as_it_is_read_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "grows"
    path.write_bytes(b"x" * 100)
    real = os.read

    def read(descriptor: int, size: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"x" * 100)
        return real(descriptor, min(size, 100))

    monkeypatch.setattr(os, "read", read)
    for attempt in (lambda: sha256_of(path), lambda: read_regular(path, 10_000)):
        with at_most(megabytes=100, seconds=5), pytest.raises(ImageRefused, match="changed_while_reading"):
            attempt()


def test_more_entries_than_memory_can_list_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MOST_ENTRIES", 50)
    (tmp_path / "root").mkdir()
    for number in range(49):
        (tmp_path / f"root/{number}").touch()
    assert len(list_entries(tmp_path / "root")) == 49
    (tmp_path / "root/one more").touch()
    with pytest.raises(SourceError, match="more than memory can list"):
        list_entries(tmp_path / "root")


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"a": 1}', "{"])
def test_a_cache_of_digests_that_is_no_cache_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "cache.json").write_text(text, encoding="utf-8")
    assert listing._load(tmp_path / "cache.json") == {}


def test_no_file_of_ours_opens_a_pickle_of_others(repository: Path) -> None:
    """Neither by the module nor through a library.

    A pipe between two of our own processes is another matter, and so are blocks that Dask's scheduler hands to workers,
    whose messages it pickles itself (docs/trust.md).
    """
    words = (
        "import pickle\n",
        "pickle.load",
        "torch.load(",
        "allow_pickle=True",
        "joblib.load",
        "dill.",
        "cloudpickle",
    )
    found = {
        str(path.relative_to(repository))
        for folder in ("reprise", "stages", "pipeline")
        for path in (repository / folder).rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in words)
    }
    blocks = {"reprise/runtime/blocks/cluster.py", "reprise/runtime/blocks/at_worker.py"}
    assert found <= {"reprise/runtime/workers.py", "stages/models/weight_files.py"} | blocks
    loading = (repository / "stages/models/weight_files.py").read_text(encoding="utf-8")
    assert loading.count("torch.load(") == 2, "once in its documentation, once in use"
    assert loading.count("weights_only=True)") == 2
