"""What leaders and workers say to each other, and what they do with what does not fit. Nothing is started."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tarfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.graph.definition import Graph, load_graph
from pipeline.graph.jobs.machine import Demand, Machine
from pipeline.graph.machines import checkpoints
from pipeline.graph.machines import clone as cloning
from pipeline.graph.machines.answers import checked, compared
from pipeline.graph.machines.message import common_part, differences, inputs_of, message_for, name_of
from pipeline.graph.machines.placement import GPUS, MEMORY, PLACES, WithWorkers, stages_that_stay, tokens_for
from reprise.config.errors import GraphError
from tests.pipeline.dvc_project import Project

LOCK = {"shard": {"cmd": "x", "outs": [{"path": "data/shards", "md5": "a.dir"}]}}


def message(project: Project, stage: str = "pretrain@run0-0", **options: Any) -> dict[str, Any]:
    graph = load_graph(project.root)
    return message_for(graph.by_name[stage], graph, LOCK, common_part(project.root), project.root, **options)


def test_the_same_clone_has_no_differences_and_each_kind_of_difference_is_named(leader: Project) -> None:
    asked = message(leader)
    assert differences(asked, leader.root) == []
    there = {**asked, "marks": {**asked["marks"], "packages": {**asked["marks"]["packages"], "torch": "0.1"}}}
    (line,) = differences(there, leader.root)
    assert line.startswith("torch: 0.1 there, 2.")
    there = {**asked, "marks": {**asked["marks"], "processor": "Plan9 mips"}}
    assert differences(there, leader.root)[0].startswith("processor: Plan9 mips there, ")
    leader.write("stages/work.py", "# edited")
    leader.write("plugins/methods/mine.py", "")
    lines = differences(asked, leader.root)
    assert lines[0].startswith("both have ") and lines[0].endswith(", with edits")
    assert lines[1:] == ["file: plugins/methods/mine.py is missing there", "file: stages/work.py differs"]
    assert "another version of Reprise" in differences({"form": 99}, leader.root)[0]


def test_files_of_people_travel_and_others_are_compared(leader: Project) -> None:
    asked = message(leader, "shard")
    assert set(asked["travelling"]) == {"params.yaml", "source.lock.json"}
    assert set(asked["beside"]) == {"input.txt"}
    leader.write("params.yaml", "other: 1")
    assert differences(asked, leader.root) == []
    leader.write("input.txt", "other")
    assert differences(asked, leader.root)[1:] == ["file: input.txt differs"]


def test_the_same_work_has_the_same_name_and_other_inputs_another(leader: Project) -> None:
    one, same, forced = message(leader), message(leader), message(leader, force=True)
    assert name_of(one) == name_of(same) != name_of(forced)
    assert inputs_of(one) == inputs_of(forced), "a checkpoint does not depend on who asks"
    leader.replace("params.yaml", "rate: 0.1", "rate: 0.2")
    assert inputs_of(message(leader)) != inputs_of(one)
    assert inputs_of(message(leader, "pretrain@run1-0")) != inputs_of(message(leader))


def test_what_stays_takes_this_machine_and_what_goes_takes_a_worker(leader: Project) -> None:
    graph: Graph = load_graph(leader.root)
    stay = stages_that_stay(graph.stages, leader.root)
    assert stay == {"shard", "summary"}
    here = WithWorkers(1, stay=stay)
    assert here.take("shard", Demand()) == {}
    assert here.take("summary", Demand()) is None
    assert [here.take(f"pretrain@run{n}-0", Demand(gpus=1)) for n in (0, 1)] == [{}, {}]
    here.give_back("pretrain@run0-0")
    here.give_back("shard")
    assert here.take("summary", Demand()) == {}


def test_stages_ask_for_what_some_worker_has() -> None:
    small, large = {PLACES: 1.0, MEMORY: 4.0}, {PLACES: 8.0, MEMORY: 64.0, GPUS: 2.0}
    assert tokens_for(Demand(memory=8), [small, large]) == {PLACES: 1.0, MEMORY: 8.0}
    assert tokens_for(Demand(memory=8, gpus=1), [small]) == {PLACES: 1.0, MEMORY: 4.0}, "trains on a CPU, alone"
    assert tokens_for(Demand(memory=8, gpus=4, places=16), [small, large]) == {PLACES: 8.0, MEMORY: 8.0, GPUS: 2.0}
    assert 0 < tokens_for(Demand(shares_gpu=True), [small, large])[GPUS] < 1
    assert tokens_for(Demand(), []) == {PLACES: 1.0}
    assert Machine(1).take("x", Demand(memory=8)) == {}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "done",
        {"state": "done"},
        {"form": 1, "state": "done", "host": "h", "entry": [], "outcome": "ran"},
        {"form": 2, "state": "done", "host": "h", "entry": {}, "outcome": "ran"},
        {"form": 1, "state": "paid", "host": "h"},
        {"form": 1, "state": "failed", "host": "h", "status": "1", "lines": []},
    ],
)
def test_an_answer_of_another_form_is_refused(answer: object) -> None:
    with pytest.raises(GraphError, match="a worker gave an answer of another form"):
        checked(answer)


def test_hashes_that_differ_are_named() -> None:
    ours = {"deps": [{"path": "a", "md5": "1"}], "outs": [{"path": "b", "md5": "2"}]}
    assert compared(ours, ours) == []
    assert compared(ours, {**ours, "outs": [{"path": "b", "md5": "3"}]}) == ["b has 3 there and 2 here"]
    assert compared(ours, {"outs": ours["outs"]}) == ["a has None there and 1 here"]


def archive(path: Path, *members: tuple[str, bytes, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, kind, data in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(data)
            member.linkname = "/etc/passwd" if kind != tarfile.REGTYPE else ""
            tar.addfile(member, io.BytesIO(data))


KEY, OTHER = "0123456789abcdef", "fedcba9876543210"
STEP = f"{KEY}/step-000000007.safetensors"


@pytest.mark.parametrize(
    "members",
    [
        [("../escape", tarfile.REGTYPE, b"x")],
        [("/etc/escape", tarfile.REGTYPE, b"x")],
        [(f"{KEY}/../../escape", tarfile.REGTYPE, b"x")],
        [(f"{KEY}/link", tarfile.SYMTYPE, b"")],
        [(f"{KEY}/hard", tarfile.LNKTYPE, b"")],
        [(f"{KEY}/.hidden", tarfile.REGTYPE, b"x")],
        [(STEP, tarfile.REGTYPE, b"x"), (f"{OTHER}/step-000000009.safetensors", tarfile.REGTYPE, b"x")],
        [],
    ],
)
def test_a_checkpoint_that_no_stage_wrote_is_refused(tmp_path: Path, members: list[tuple[str, bytes, bytes]]) -> None:
    folder = tmp_path / "work/pretrain/a/0"
    said = receive(folder, members)
    assert "a checkpoint in the remote is refused" in said[0]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def receive(folder: Path, members: list[tuple[str, bytes, bytes]]) -> list[str]:
    """Let a remote have an archive with these members."""
    said: list[str] = []

    def call(verb: str, arguments: list[str], cancelled: threading.Event) -> None:
        assert verb == "fetch-checkpoints"
        archive(Path(arguments[1], "0.tar"), *members)

    checkpoints._receive("k" * 64, SimpleNamespace(call=call), folder, folder.parents[3], said.append)  # type: ignore[arg-type]
    return said


def test_the_later_of_two_checkpoints_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "work/pretrain/a/0"
    inputs = (f"{KEY}/inputs.json", tarfile.REGTYPE, b"{}")
    (said,) = receive(folder, [(STEP, tarfile.REGTYPE, b"seven"), inputs])
    assert said == "going on from the checkpoint of another worker, step 7"
    assert (folder / STEP).read_bytes() == b"seven"
    assert receive(folder, [(f"{KEY}/step-000000003.safetensors", tarfile.REGTYPE, b"three"), inputs]) == []
    assert receive(folder, [(f"{KEY}/step-000000009.safetensors", tarfile.REGTYPE, b"nine"), inputs]) != []
    assert sorted(path.name for path in (folder / KEY).iterdir()) == ["inputs.json", "step-000000009.safetensors"]


def test_only_the_newest_checkpoint_travels(tmp_path: Path) -> None:
    work = tmp_path / KEY
    work.mkdir()
    (work / "inputs.json").write_text("{}")
    assert checkpoints._files(work) == []
    for step in (1, 2):
        (work / f"step-{step:09d}.safetensors").write_text("x")
    (work / ".partial-step-000000003.safetensors").write_text("x")
    assert [path.name for path in checkpoints._files(work)] == ["step-000000002.safetensors", "inputs.json"]


def test_an_archive_names_nobody(tmp_path: Path) -> None:
    """Numbers of users that a directory service gives fit into no field of an old archive."""
    work = tmp_path / "work" / KEY
    work.mkdir(parents=True)
    (work / "step-000000002.safetensors").write_text("x")
    members: list[tuple[int, str]] = []

    def call(verb: str, arguments: list[str], cancelled: threading.Event) -> None:
        with tarfile.open(arguments[1]) as tar:
            members.extend((member.uid + member.gid, member.uname + member.gname) for member in tar)

    many = 3_000_000  # more than seven octal digits
    if os.getuid() == 0:
        os.chown(work / "step-000000002.safetensors", many, many)
    checkpoints._send("k" * 64, SimpleNamespace(call=call), work.parent, tmp_path)  # type: ignore[arg-type]
    assert members == [(0, "")]


def test_a_checkpoint_that_is_just_replaced_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.graph.in_dvc.transfers import checkpoints as stored

    digest = hashlib.sha256(b"later").hexdigest()
    store = tmp_path / "store"
    store.mkdir()
    (store / f"{digest}.tar").write_bytes(b"later")
    gone = str(store / f"{'0' * 64}.tar")
    monkeypatch.setattr(stored, "_files", lambda fs, folder: [gone, str(store / f"{digest}.tar")])
    monkeypatch.setattr(stored, "_in_remote", lambda key, act: act(stored.localfs, str(store)) or stored.DONE)
    here = tmp_path / "here"
    here.mkdir()
    assert stored.fetch_checkpoints("0" * 64, str(here)) == stored.DONE
    assert [path.name for path in here.iterdir()] == [f"{digest}.tar"]


def test_a_full_disk_of_a_worker_is_its_answer(leader: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an exception, the leader would take it for a lost connection and ask again and again."""
    monkeypatch.setattr(cloning, "Transfers", lambda root, loaded: SimpleNamespace())
    full = OSError(errno.ENOSPC, "No space left on device", "params.yaml")

    def fail(*arguments: object) -> None:
        raise full

    monkeypatch.setattr(cloning, "differences", fail)
    served = cloning.Clone(leader.root, SimpleNamespace(), Machine(1), "host:/clone")  # type: ignore[arg-type]
    answer = served.compute(message(leader), lambda line, aside: None, threading.Event())
    assert (answer["state"], answer["error"]["what"]) == ("error", "the disk is full")
    full.errno = errno.ENOTDIR
    answer = served.compute(message(leader), lambda line, aside: None, threading.Event())
    assert answer["error"]["where"] == "host:/clone"
