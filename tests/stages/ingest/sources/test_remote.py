"""The remote source over HTTP and `file`: the images of a folder, servers that fail or lie, addresses with secrets."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from reprise.artifacts.facts.names import read_names
from reprise.artifacts.manifest import read_manifest, read_quarantine
from reprise.config.errors import MachineError, ParameterError, SourceError, StorageError
from reprise.config.texts.addresses import expand_braces, problem_of
from reprise.storage.stores import in_order
from stages.ingest.ingest import ingest
from stages.ingest.load import load_source
from stages.ingest.params import SourceParams
from stages.ingest.remotes import kept
from stages.ingest.source import Candidate, LeftOut, Refused
from stages.ingest.sources.folder import Folder
from stages.ingest.sources.remote import Remote
from tests.reprise.storage.stores import web
from tests.stages.ingest import hostile

NAMES = ["train/cat/1.png", "train/dog/2.png", "train/dog/3 a%é.png", "test/cat/4.png"]


def png(seed: int) -> bytes:
    return hostile.encoded(hostile.photo(seed), "PNG")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[web.Web]:
    """A server with the images of NAMES below /set, and a list of them in names.txt of the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(in_order, "_PAUSE", 0.001)
    with web.serving() as found:
        for i, name in enumerate(NAMES):
            found.files["/set/" + name.replace("%", "%25").replace(" ", "%20").replace("é", "%C3%A9")] = png(i)
        Path("names.txt").write_text("\n".join(NAMES), encoding="utf-8")
        yield found


def source(address: str, **options: object) -> Remote:
    return Remote(address, Remote.Params(**{"threads": 3, "attempts": 3, "timeout": 5.0, **options}))


def add(server: web.Web, name: str, answer: web.Answer | None = None, data: bytes | None = None) -> None:
    """Put one more file on the server and on the list."""
    server.files[f"/set/{name}"] = png(50 + len(server.files)) if data is None else data
    if answer is not None:
        server.odd[f"/set/{name}"] = answer
    with open("names.txt", "a", encoding="utf-8") as file:
        file.write(f"\n{name}")


def outcome(one: Remote) -> dict[str, str]:
    """Reason of each entry by its name below the address; an empty one for candidates."""
    return {item.name.removeprefix(f"{one.address}/"): getattr(item, "reason", "") for item in one.candidates()}


@pytest.mark.parametrize("kind", ["http", "file"])
def test_an_address_gives_the_images_of_the_folder_that_is_there(server: web.Web, tmp_path: Path, kind: str) -> None:
    for i, name in enumerate(NAMES):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(png(i))
    one = source(server.address + "/set", names="names.txt") if kind == "http" else source(f"file://{tmp_path}/set")
    rows = []
    for number, each in enumerate((Folder(tmp_path / "set", Folder.Params()), one)):
        output = tmp_path / str(number)
        output.mkdir()
        ingest(each, SourceParams(name="x"), output, 0, output)
        same = ["key", "split", "label", "sha256"]
        rows.append(read_manifest(output / "manifest.parquet", same).to_pylist())
    assert rows[0] == rows[1]
    assert {Path(name).name for name in read_names(tmp_path / "1").values()} == {Path(name).name for name in NAMES}
    assert {row["path"] for row in read_manifest(tmp_path / "1/manifest.parquet").to_pylist()} == {
        str(tmp_path / "1/images.tar")
    }
    assert one.understood()[0].startswith("4 objects")


def test_what_a_server_does_wrong_costs_one_object_or_is_tried_again(server: web.Web, tmp_path: Path) -> None:
    address = server.address + "/set"
    add(server, "train/cat/again.png", web.failing(2))
    add(server, "train/cat/again too.png".replace(" ", "_"), web.failing(1, 429, "HEAD"))
    add(server, "train/cat/changed.png", web.changing)
    add(server, "train/cat/get.png", web.only_get)
    add(server, "train/cat/elsewhere.png", web.redirecting("https://example.org/1.png"))
    add(server, "train/cat/file.png", web.redirecting("file:///etc/passwd"))
    add(server, "train/cat/loop.png", web.redirecting("/set/train/cat/loop.png"))
    add(server, "train/cat/moved.png", web.redirecting("/set/train/cat/1.png"))
    add(server, "train/cat/forbidden.png", lambda handler, _: handler.plain(403, b""))
    add(server, "train/cat/packed.png", lambda handler, data: handler.plain(200, data, Content_Encoding="gzip"))
    add(server, "train/cat/endless.png", web.endless)
    add(server, "train/cat/large.png", data=bytes(2_000_000))
    add(server, "train/cat/notes.txt")
    add(server, "../up.png")
    add(server, "train/cat/.hidden.png")
    with open("names.txt", "a", encoding="utf-8") as file:
        file.write("\ntrain/cat/missing.png\n" + address + "/train/dog/5.png\n\n")
    server.files["/set/train/dog/5.png"] = png(5)
    one = source(address, names="names.txt")
    one.max_pixels = 1000
    assert outcome(one) == dict.fromkeys(NAMES, "") | {
        "train/cat/again.png": "", "train/cat/again_too.png": "", "train/cat/changed.png": "changed_while_reading",
        "train/cat/get.png": "", "train/cat/elsewhere.png": "redirected", "train/cat/file.png": "redirected",
        "train/cat/loop.png": "redirected", "train/cat/moved.png": "", "train/cat/forbidden.png": "unreadable",
        "train/cat/packed.png": "unreadable", "train/cat/endless.png": "too_many_bytes",
        "train/cat/large.png": "too_many_bytes", "train/cat/notes.txt": "other_file", "../up.png": "unsafe_name",
        "train/cat/.hidden.png": "hidden", "train/cat/missing.png": "unreadable", "train/dog/5.png": "",
    }  # fmt: skip
    assert server.asked["GET", "/set/train/cat/large.png"] == server.asked["GET", "/set/train/cat/notes.txt"] == 0
    assert "neither an ETag nor a time for 1 objects" in one.notes()[0]
    rules = (Path(__file__).parents[4] / "docs/reference/data-rules.md").read_text(encoding="utf-8")
    assert [reason for reason in outcome(one).values() if f"`{reason}`" not in rules and reason] == []


@pytest.mark.parametrize(
    "answer", [web.failing(99), web.stalling(0.5), web.short, web.dripping], ids=["fails", "stalls", "short", "drips"]
)
def test_a_server_that_goes_on_failing_ends_ingest_and_what_was_fetched_is_kept(
    server: web.Web, answer: web.Answer
) -> None:
    add(server, "train/cat/bad.png", answer)
    one = source(server.address + "/set", names="names.txt", timeout=0.2)
    with pytest.raises(MachineError, match="3 times in a row"):
        list(one.candidates())
    del server.odd["/set/train/cat/bad.png"]
    server.asked.clear()
    assert set(outcome(source(server.address + "/set", names="names.txt")).values()) == {""}
    fetched = [path for method, path in server.asked if method == "GET"]
    assert "/set/train/cat/bad.png" in fetched
    assert len(fetched) < len(NAMES) + 1
    server.asked.clear()
    Path("names.txt").write_text(NAMES[0] + "\n" + NAMES[1], encoding="utf-8")
    assert len(outcome(source(server.address + "/set", names="names.txt"))) == 2
    assert [method for method, _ in server.asked] == ["HEAD", "HEAD"]
    assert len([path for path in Path(".reprise/remote").rglob("*") if path.is_file()]) == 2


def test_a_server_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(in_order, "_PAUSE", 0.001)
    Path("names.txt").write_text("1.png\n", encoding="utf-8")
    with pytest.raises(MachineError, match="the connection failed"):
        source("http://127.0.0.1:9/set", names="names.txt").extent()


def test_the_digest_follows_names_sizes_and_versions_without_reading(server: web.Web) -> None:
    def digest() -> str:
        return source(server.address + "/set", names="names.txt").extent().digest

    first = digest()
    assert digest() == first
    assert {method for method, _ in server.asked} == {"HEAD"}
    server.files["/set/train/cat/1.png"] = png(0)[::-1]
    second = digest()
    assert second != first
    add(server, "test/dog/9.png")
    assert digest() not in (first, second)


def test_what_is_described_is_what_is_fetched(server: web.Web) -> None:
    """An object that changes after the description, before it is fetched, is refused."""
    one = source(server.address + "/set", names="names.txt")
    one.extent()
    server.files["/set/train/cat/1.png"] = png(77)
    assert outcome(one)["train/cat/1.png"] == "changed_while_reading"


def test_lists_of_names_are_read_from_the_server_and_checked(server: web.Web) -> None:
    server.files["/list.txt"] = "\ufeff".encode() + b"train/cat/1.png\r\n"
    one = source(server.address + "/set", names=server.address + "/list.txt")
    assert list(outcome(one)) == ["train/cat/1.png"]
    for text, expected in [
        (b"", "is empty"), (b"\xff", "not UTF-8"), (b"a.png\na.png", "twice"), (b"https://other/a.png", "begin with"),
    ]:  # fmt: skip
        Path("names.txt").write_bytes(text)
        with pytest.raises(SourceError, match=expected):
            list(source(server.address + "/set", names="names.txt").candidates())
    with pytest.raises(SourceError, match="cannot list"):
        list(source(server.address + "/set").candidates())
    with pytest.raises(SourceError, match="cannot be read"):
        list(source(server.address + "/set", names="missing.txt").candidates())


def test_folders_by_address_follow_the_rules_of_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set/deep/__MACOSX").mkdir(parents=True)
    (tmp_path / "set/1.png").write_bytes(png(1))
    (tmp_path / "set/.git").mkdir()
    (tmp_path / "set/link.png").symlink_to("1.png")
    (tmp_path / "set/loop").symlink_to("..")
    (tmp_path / "set/out.png").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "set/fifo.png")
    one = source(f"file://{tmp_path}/set")
    assert outcome(one) == {
        "1.png": "", "link.png": "", "fifo.png": "not_a_file", "loop": "outside_root", "out.png": "outside_root",
        ".git": "hidden", "deep/__MACOSX": "system_file",
    }  # fmt: skip
    later = source(f"file://{tmp_path}/set")
    later.extent()
    shutil.rmtree(".reprise")  # what was fetched is still what was described
    (tmp_path / "set/1.png").write_bytes(png(2))
    assert outcome(later)["1.png"] == "changed_while_reading"
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="nothing at this address"):
        list(source(f"file://{tmp_path}/empty").candidates())
    for place, expected in (("nothing", "missing"), ("/proc", "system|kernel")):
        with pytest.raises(SourceError, match=expected):
            list(source(f"file://{tmp_path / place}").candidates())


SECRETS = [
    "https://user:hunter2@host/x", "s3://AKIA123:hunter2@bucket/x", "https://host/x?X-Amz-Signature=hunter2",
    "https://host/" + "long/" * 60 + "x.tar?a=b&X-Amz-Credential=me&X-Amz-Signature=" + "hunter2" * 9,
    "https:/user:hunter2@host/x", "https:user:hunter2@host/x", "https://host/x?token=hunter2",
    "https://host/x#hunter2", "https://host/x?hunter2",
]  # fmt: skip


@pytest.mark.parametrize("address", SECRETS)
@pytest.mark.parametrize("place", ["root", "names", "endpoint"])
def test_an_address_with_a_secret_is_refused_and_not_shown(address: str, place: str) -> None:
    block = {"name": "remote", "root": "s3://bucket/x", "options": {place: address}}
    if place == "root":
        block = {"name": "remote", "root": address}
    with pytest.raises(ParameterError) as refused:
        load_source({"source": block})
    assert "hunter2" not in str(refused.value)
    assert place in str(refused.value)


@pytest.mark.parametrize(
    "address",
    ["ftp://host/x", "sftp://host/x", "simplecache::s3://b/x", "s3::https://h/x", "memory://x", "s3://", "http://h/../x",
     "file://host/x", "http://[x/"],
)  # fmt: skip
def test_other_addresses_are_refused(address: str) -> None:
    assert problem_of(address)
    with pytest.raises(ParameterError):
        load_source({"source": {"name": "remote", "root": address}})


@pytest.mark.parametrize(
    "address", ["s3://b", "gs://b/x", "gcs://b", "https://h:1/x?download=1", "file:///x", "http://h"]
)
def test_plain_addresses_are_not(address: str) -> None:
    assert problem_of(address) is None


def test_a_root_that_is_no_address_is_explained() -> None:
    with pytest.raises(SourceError, match="protocol of an address"):
        source("data/images").extent()


def test_items_are_what_sources_yield(server: web.Web) -> None:
    kinds = {type(item) for item in source(server.address + "/set", names="names.txt").candidates()}
    assert kinds <= {Candidate, Refused, LeftOut}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{000..002}.tar", ["a-000.tar", "a-001.tar", "a-002.tar"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}{1..2}", ["a1", "a2", "b1", "b2"]),
        ("plain", ["plain"]),
        ("{x}", ["{x}"]),
    ],
)
def test_braces_are_written_out_as_webdataset_does(pattern: str, names: list[str]) -> None:
    import braceexpand

    assert expand_braces(pattern) == names == list(braceexpand.braceexpand(pattern))


@pytest.mark.parametrize("pattern", ["{1..", "a}", "{{1..2}}", "{0..9999999}"])
def test_braces_that_cannot_be_read_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="braces|names"):
        expand_braces(pattern)


def test_quarantine_and_card_hold_the_addresses_of_objects(server: web.Web, tmp_path: Path) -> None:
    add(server, "train/cat/broken.png", data=png(9)[:-40])
    output = tmp_path / "out"
    output.mkdir()
    card = ingest(source(server.address + "/set", names="names.txt"), SourceParams(name="remote"), output, 0)
    (row,) = read_quarantine(output / "quarantine.parquet").to_pylist()
    assert (row["path"], row["reason"]) == (f"{server.address}/set/train/cat/broken.png", "truncated")
    assert json.dumps(card)


def test_a_full_disk_is_no_fault_of_the_network(server: web.Web, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = kept.atomic_file

    @contextmanager
    def full(path: Path) -> Iterator[object]:
        with opened(path) as file:

            def write(_: bytes) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            yield SimpleNamespace(write=write, seek=file.seek, truncate=file.truncate)

    monkeypatch.setattr(kept, "atomic_file", full)
    with pytest.raises(StorageError, match="No space left|disk"):
        list(source(server.address + "/set", names="names.txt").candidates())
    assert max(server.asked.values()) == 1
