"""The webdataset source: the samples of the package itself, columns, splits, hostile shards, and shards of a server."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.manifest import read_manifest, read_quarantine
from reprise.config.errors import MachineError, SourceError
from reprise.storage.stores import in_order
from stages.ingest.archives.open_archive import open_tar
from stages.ingest.archives.samples import group, with_contents
from stages.ingest.candidates.spool import Spool
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, LeftOut, Part, Refused
from stages.ingest.sources.webdataset import Webdataset
from tests.reprise.storage.stores import web
from tests.stages.ingest import hostile

Members = list[tuple[str, bytes]]


def png(seed: int) -> bytes:
    return hostile.encoded(hostile.photo(seed), "PNG")


def shard(path: Path, members: Members, form: int = tarfile.PAX_FORMAT, packed: bool = False) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(buffer.getvalue(), 1) if packed else buffer.getvalue())
    return path


def sample(number: int, **columns: object) -> Members:
    """A picture and the members beside it; a dictionary is written as JSON."""
    found = [(f"{number:04d}.png", png(number))]
    for extension, value in columns.items():
        data = json.dumps(value).encode() if extension == "json" else str(value).encode()
        found.append((f"{number:04d}.{extension}", data))
    return found


def of_package(paths: list[Path]) -> list[dict[str, object]]:
    """The samples that the package reads, from files that are closed at the end; it leaves its own ones open."""
    with ExitStack() as files:
        shards = [{"url": str(path), "stream": files.enter_context(path.open("rb"))} for path in paths]
        samples = list(group_by_keys(tar_file_expander(shards)))
    return [{name: value for name, value in each.items() if name != "__url__"} for each in samples]


def of_ours(paths: list[Path]) -> list[dict[str, object]]:
    found = []
    for path in paths:
        archive = open_tar(str(path))
        for one, members in with_contents(archive, group(archive.members).samples, lambda *_: True):
            data = {extension: member.read(1 << 30) for extension, member in members.items()}
            found.append({"__key__": one.key, **data})
    return found


def source(root: Path | str, **options: object) -> Webdataset:
    return Webdataset(str(root), Webdataset.Params(**options))


def listed(root: Path | str, **options: object) -> list[Candidate | Refused | LeftOut]:
    return list(source(root, **options).candidates())


def outcome(root: Path | str, **options: object) -> dict[str, str]:
    return {Path(item.name).name: getattr(item, "reason", "") for item in listed(root, **options)}


ODD = [
    ("a.jpg", b"1"), ("a.cls", b"2"), ("./a.jpg", b"3"), ("b.seg.png", b"4"), ("b.JPG", b"5"),
    ("dir.with.dots/c.jpg", b"6"),
    ("dir.with.dots/c.json", b"7"), ("no_extension", b"8"), (".hidden", b"9"), ("x/.hidden.png", b"10"),
    ("__meta__", b"11"),
    ("__meta__.json", b"12"), ("__a__/d.png", b"13"), ("x/__meta__.json", b"14"), ("e.", b"15"), ("a.jpg", b"16"),
    ("\u00e9\u00df.jpg", b"17"), ("k" * 180 + "/" + "l" * 90 + ".jpg", b"18"), ("sp ace.txt", b""),
    ("d/e/f.tar.gz", b"19"),
    ("back\\slash.jpg", b"20"), ("._f.png", b"21"), ("g/h", b"22"), ("i.j/k", b"23"),
]  # fmt: skip


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("packed", [False, True])
def test_odd_names_give_the_samples_of_the_package(tmp_path: Path, form: int, packed: bool) -> None:
    name = "odd.tar.gz" if packed else "odd.tar"
    paths = [shard(tmp_path / name, ODD, form, packed), shard(tmp_path / f"2{name}", ODD[:2], form, packed)]
    expected = of_package(paths)
    assert of_ours(paths) == expected
    assert len([each for each in expected if each["__key__"] == "a"]) == 3  # torn apart, and in two shards


NAMES = st.lists(
    st.text(st.sampled_from("ab.\u00e9/_"), min_size=1, max_size=6).filter(
        lambda name: not name.startswith("/") and not name.endswith("/") and ".." not in name.split("/")
        and name not in (".", "/") and any(part not in ("", ".") for part in name.split("/"))
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=NAMES)
def test_any_names_give_the_samples_of_the_package(tmp_path: Path, names: list[str]) -> None:
    path = shard(tmp_path / "any.tar", [(name, str(i).encode()) for i, name in enumerate(names)])
    archive = open_tar(str(path))
    if any(one.repeated is not None for one in group(archive.members).samples):
        with pytest.raises(ValueError, match="duplicate"):
            of_package([path])
    else:
        assert of_ours([path]) == of_package([path])


def test_shards_that_the_package_writes_are_read_in_place(tmp_path: Path) -> None:
    with webdataset.ShardWriter(str(tmp_path / "train-%03d.tar"), maxcount=4, verbose=0) as writer:
        for i in range(10):
            writer.write({"__key__": f"{i:03d}", "png": hostile.photo(i), "cls": i % 3, "json": {"age": i / 2}})
    facts = {"age": {"kind": "number", "column": "json.age"}}
    one = source(tmp_path / "train-{000..002}.tar", label="cls", facts=facts, shards="none")
    output = tmp_path / "out"
    output.mkdir()
    card = ingest(one, SourceParams(name="webdataset"), output, 0)
    rows = read_manifest(output / "manifest.parquet").to_pylist()
    assert card["kept"] == 10
    assert {row["path"] for row in rows} == {str(tmp_path / f"train-{n:03d}.tar") for n in range(3)}
    assert {row["label"] for row in rows} == {"0", "1", "2"}
    assert not (output / "images.tar").exists()
    assert sorted(read_facts(output).columns["age"]) == [i / 2 for i in range(10)]
    expected = {each["png"] for each in of_package(sorted(tmp_path.glob("train-*.tar")))}
    assert {Path(row["path"]).read_bytes()[row["offset"] :][: row["bytes"]] for row in rows} == expected


def test_members_become_labels_groups_splits_and_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = hostile.encoded(np.eye(24, 32, dtype=np.uint8), "PNG")
    members: Members = []
    for i in range(6):
        said = {
            "who": f"p{i % 3}",
            "part": "validation" if i == 5 else "train",
            "deep": {"x": i},
            "captions": ["a", "b"],
        }
        members += sample(i, cls=i % 2, txt=f"number {i}\n", json=said if i != 4 else {"who": "p9", "part": "train"})
        members.append((f"{i:04d}.mask.png", mask))
    path = shard(tmp_path / "all.tar.gz", members, packed=True)
    (tmp_path / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    one = source(
        path, label="cls", classes=str(tmp_path / "classes.txt"), group="json.who", split="json.part",
        facts={
            "text": {"kind": "caption", "column": "txt", "use": "given"},
            "more": {"kind": "caption", "column": "json.captions"},
            "x": {"kind": "number", "column": "json.deep.x"}, "mask": {"kind": "mask", "column": "mask.png"},
        },
    )  # fmt: skip
    with Spool(tmp_path) as spool:
        monkeypatch.setattr("stages.ingest.candidates.spool._IN_MEMORY", 0)
        items = [spool.keep(item) for item in one.candidates() if isinstance(item, Candidate)]
        spool.flush()
        assert np.array_equal(items[0].facts["mask"](), np.asarray(Image.open(io.BytesIO(mask))))
        assert all(isinstance(item.facts["mask"].encoded, Part) for item in items)
    assert [item.label for item in items] == ["cat", "dog"] * 3
    assert [item.group for item in items] == ["p0", "p1", "p2", "p0", "p9", "p2"]
    assert [item.split for item in items] == ["train"] * 5 + ["val"]
    assert items[2].facts["text"] == ("number 2",)
    assert items[2].facts["more"] == ("a", "b")
    assert [item.facts.get("x") for item in items] == [0, 1, 2, 3, None, 5]
    assert one.understood() == [
        "1 shard with 6 samples.",
        "The picture is png (6).",
        "Column cls says the class: 6 samples have it.",
        "Column json.who says the group: 6 samples have it.",
        "Column json.part says the split: 6 samples have it.",
        "Column txt says the fact text (caption): 6 samples have it.",
        "Column json.captions says the fact more (caption): 5 samples have it.",
        "Column json.deep.x says the fact x (number): 5 samples have it.",
        "Column mask.png says the fact mask (mask): 6 samples have it.",
    ]
    assert source(path).extent().digest == source(path).extent().digest


def test_what_a_sample_does_wrong_costs_that_sample(tmp_path: Path) -> None:
    members = [
        *sample(0, json={"n": 1}), *sample(1, json={"n": float("nan")}), *sample(2, json={"n": "many"}),
        ("0003.png", png(3)), ("0003.json", b"{"), ("0004.png", png(4)), ("0004.json", b"[" * 200_000),
        ("0005.png", png(5)), ("0005.json", b"\xff"), ("0006.json", b'{"n": 2}'),
        ("0007.png", png(7)), ("0007.jpg", png(8)),
        ("0008.png", png(9)), ("0008.png", png(10)), ("0009.png", png(11)), ("../0010.png", png(12)),
        ("0011.png", png(13)), ("0011.__key__", b"x"),
    ]  # fmt: skip
    path = shard(tmp_path / "bad.tar", members)
    facts = {"n": {"kind": "number", "column": "json.n"}}
    assert outcome(path, facts=facts) == {
        "0000.png": "", "0001.png": "", "0002.png": "bad_value", "0003.png": "bad_value", "0004.png": "bad_value",
        "0005.png": "not_utf8", "0006": "no_image", "0007": "several_images", "0008": "repeated_name", "0009.png": "",
        "0010.png": "unsafe_name", "0011": "repeated_name",
    }  # fmt: skip
    chosen = outcome(path, facts=facts, image=["jpg", "png"])
    assert chosen["0007.jpg"] == ""
    rules = (Path(__file__).parents[4] / "docs/reference/data-rules.md").read_text(encoding="utf-8")
    assert [reason for reason in outcome(path, facts=facts).values() if reason and f"`{reason}`" not in rules] == []


def test_a_damaged_shard_is_not_used_and_the_others_are(tmp_path: Path) -> None:
    whole = shard(tmp_path / "a.tar", sample(0) + sample(1)).read_bytes()
    (tmp_path / "b.tar").write_bytes(whole[:1500])
    (tmp_path / "c.tar").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("about")
    (tmp_path / ".hidden.tar").write_bytes(whole)
    one = source(tmp_path)
    found = {Path(item.name).name: getattr(item, "reason", "") for item in one.candidates()}
    assert found == {
        "0000.png": "", "0001.png": "", "b.tar": "damaged_archive", "c.tar": "damaged_archive",
        "notes.txt": "no_archive", ".hidden.tar": "hidden",
    }  # fmt: skip
    assert len(one.notes()) == 2
    with pytest.raises(SourceError, match="no shard can be read"):
        listed(tmp_path / "b.tar")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "clas"}, r"no sample has a member 'clas'.*png \(2\), cls \(2\), json \(2\).*'cls'"),
        ({"label": "json.labl"}, "'json.labl' is empty in every sample"),
        ({"split": "json.part"}, "no split.*elsewhere"),
        ({"image": ["webp"]}, "no sample has a member 'webp'"),
        ({"label": "cls", "classes": "missing.txt"}, "names of classes cannot be read"),
    ],
)
def test_options_that_fit_nothing_are_explained(tmp_path: Path, options: dict, message: str) -> None:
    path = shard(tmp_path / "a.tar", [m for i in range(2) for m in sample(i, cls=1, json={"part": "elsewhere"})])
    with pytest.raises(SourceError, match=message):
        listed(path, **options)


def test_a_line_of_classes_ends_where_editors_end_it(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", [m for i in range(3) for m in sample(i, cls=i)])
    (tmp_path / "classes.txt").write_bytes("a\u2028b\r\nb\x0cc\nd \n".encode())
    items = listed(path, label="cls", classes=str(tmp_path / "classes.txt"))
    assert [getattr(item, "label", None) or item.reason for item in items] == ["bad_value", "bad_value", "d"]


def test_splits_come_from_the_names_of_shards(tmp_path: Path) -> None:
    for i, name in enumerate(["cc-train-00.tar", "cc-train-01.tar", "valid/00.tar", "test-0.tar"]):
        shard(tmp_path / name, sample(i))
    items = [item for item in listed(tmp_path) if isinstance(item, Candidate)]
    assert [item.split for item in items] == ["train", "train", "test", "val"]
    shard(tmp_path / "more-00.tar", sample(9))
    with pytest.raises(SourceError, match="1 of 5 have none"):
        listed(tmp_path)
    assert {item.split for item in listed(tmp_path, shards="none") if isinstance(item, Candidate)} == {None}


def test_splits_come_from_any_folder_and_from_those_of_a_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "test-run"  # the word of a folder above all shards says nothing of them
    for i, name in enumerate(["test/part-0/0.tar", "train/part-0/0.tar"]):
        shard(home / name, sample(i))
    roots = [home, f"{home}/{{test,train}}/part-0/0.tar", "test-run/{test,train}/part-0/0.tar"]
    roots += [f"file://{home}", f"file://{home}/{{test,train}}/part-0/0.tar"]
    for root in roots:
        assert [item.split for item in listed(root) if isinstance(item, Candidate)] == ["test", "train"], root


def test_what_lies_beside_shards_of_an_address_is_said_and_costs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shard(tmp_path / "in/a.tar", sample(0))
    shard(tmp_path / "out.tar", sample(1))
    (tmp_path / "in/b.tar").symlink_to(tmp_path / "out.tar")
    (tmp_path / "in/notes.txt").write_text("about")
    found = {Path(item.name).name: getattr(item, "reason", "") for item in listed(f"file://{tmp_path}/in")}
    assert found == {"0000.png": "", "b.tar": "outside_root", "notes.txt": "no_archive"}
    shard(tmp_path / "late/a.tar", sample(0))
    asked = source(f"file://{tmp_path}/late")
    asked.extent()
    (tmp_path / "late/a.tar").write_bytes(b"")  # after it was listed
    with pytest.raises(SourceError, match="no shard can be read"):
        list(asked.candidates())


def test_missing_shards_and_roots_are_named(tmp_path: Path) -> None:
    shard(tmp_path / "a-0.tar", sample(0))
    with pytest.raises(SourceError, match=r"a shard of the pattern cannot be found.*a-1\.tar"):
        listed(tmp_path / "a-{0..1}.tar")
    with pytest.raises(SourceError, match="missing"):
        listed(tmp_path / "none.tar")
    with pytest.raises(SourceError, match="pattern of shards cannot be read"):
        listed(str(tmp_path / "a-{0..99999999}.tar"))


def test_the_digest_follows_shards_and_names_of_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shard(tmp_path / "a-0.tar", sample(0, cls=0))
    shard(tmp_path / "a-1.tar", sample(1, cls=0))
    names = tmp_path / "classes.txt"
    names.write_text("cat\n", encoding="utf-8")
    digests = []
    for root, change in [
        ("a-{0..1}.tar", ""), ("a-{0..1}.tar", "shard"), ("a-{0..1}.tar", "classes"), ("a-0.tar", "")
    ]:  # fmt: skip
        if change == "shard":
            shard(tmp_path / "a-1.tar", sample(2, cls=0))
        if change == "classes":
            names.write_text("dog\n", encoding="utf-8")
        digests.append(source(root, label="cls", classes="classes.txt").extent().digest)
    assert len(set(digests)) == 4
    assert [entry.text for entry in source("a-{0..1}.tar").files()] == ["a-0.tar", "a-1.tar"]


def test_a_file_that_is_no_tar_counts_by_its_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was left out is named in an output, so that a new file is noticed; what it holds changes nothing."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "shards"
    folder.mkdir()
    shard(folder / "a.tar", sample(0))
    alone = source(folder).extent()
    found = []
    for text in ("about", "longer than before"):
        (folder / "README.md").write_text(text)
        found += [one.extent() for one in (source(folder), source(f"file://{folder}"))]
    assert found[0] == found[2] and found[1] == found[3]
    assert alone.digest != found[0].digest
    assert {extent.bytes for extent in found} == {alone.bytes}


def test_shards_of_a_server_are_fetched_once_and_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(in_order, "_PAUSE", 0.001)
    paths = [shard(tmp_path / f"x-{n}.tar", sample(2 * n, cls=n) + sample(2 * n + 1, cls=n)) for n in range(3)]
    with web.serving() as server:
        for path in paths:
            server.files[f"/set/{path.name}"] = path.read_bytes()
        server.odd["/set/x-1.tar"] = web.failing(1)
        root = server.address + "/set/x-{0..2}.tar"
        one = source(root, label="cls")
        first = one.extent()
        assert {method for method, _ in server.asked} == {"HEAD"}
        output = tmp_path / "out"
        output.mkdir()
        ingest(one, SourceParams(name="webdataset"), output, 0, output)
        rows = read_manifest(output / "manifest.parquet").to_pylist()
        assert [row["path"] for row in rows] == [str(output / "images.tar")] * 6
        server.asked.clear()
        again = [item for item in listed(root) if isinstance(item, Candidate)]
        assert len(again) == 6
        assert all(isinstance(item.reference, Part) and item.reference.place() is None for item in again)
        assert {method for method, _ in server.asked} == {"HEAD"}
        server.files["/set/x-2.tar"] = paths[0].read_bytes()
        assert source(root).extent().digest != first.digest
        with pytest.raises(SourceError, match=r"a shard cannot be read.*x-3\.tar"):
            listed(server.address + "/set/x-{2..3}.tar")
        server.odd["/set/x-0.tar"] = web.short
        for path in Path(".reprise/remote").rglob("*"):
            if path.is_file():
                path.unlink()
        with pytest.raises(MachineError, match="ended before the length"):
            listed(root, attempts=2)


def test_a_member_that_the_options_call_the_picture_is_refused_if_it_is_none(tmp_path: Path) -> None:
    path = shard(tmp_path / "in/a.tar", [("0.bin", png(0)), ("1.bin", png(1)), ("2.bin", b"nothing")])
    (tmp_path / "out").mkdir()
    found = ingest(source(path, image=["bin"]), SourceParams(name="webdataset", root=str(path)), tmp_path / "out", 0)
    assert (found["kept"], found["refused"], found["left_out"]) == (2, {"not_an_image": 1}, {})


def test_damaged_pictures_are_refused_as_any_others(tmp_path: Path) -> None:
    path = shard(tmp_path / "a.tar", [*sample(0), *sample(1), ("0002.png", png(2)[:-50])])
    output = tmp_path / "out"
    output.mkdir()
    ingest(source(path), SourceParams(name="webdataset"), output, 0)
    (row,) = read_quarantine(output / "quarantine.parquet").to_pylist()
    assert (row["path"], row["reason"]) == (f"{path}/0002.png", "truncated")
