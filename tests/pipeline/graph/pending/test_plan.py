"""Which stages need DVC: it is asked once, and then the hashes in dvc.lock decide."""

from __future__ import annotations

from hashlib import md5
from pathlib import Path

from pipeline.graph.definition import Graph
from pipeline.graph.pending.plan import Need, Plan, output_bytes, output_hashes, reasons, stages_for
from pipeline.graph.pending.why import Explanation, Reason
from reprise.config.dvc_file import Stage


def stage(name: str, deps: tuple[str, ...] = (), fingerprints: bool = False) -> Stage:
    return Stage(name, name, name, (), "", f"make {name}", deps, (), (f"data/{name}",), fingerprints)


CHAIN = Graph((stage("a"), stage("b", ("data/a",)), stage("c", ("data/b",)), stage("side", ("data/a",))))


def entry(out: str, name: str, **read: str) -> dict[str, object]:
    deps = [{"path": f"data/{path}", "md5": used} for path, used in read.items()]
    return {"deps": deps, "outs": [{"path": out, "md5": name, "size": 7}]}


BEFORE = {
    "a": entry("data/a", "a0"),
    "b": entry("data/b", "b0", a="a0"),
    "c": entry("data/c", "c0", b="b0"),
    "side": entry("data/side", "s0", a="a0"),
}


def new_plan(changed: dict[str, list[object]]) -> Plan:
    return Plan(CHAIN, changed, {"a": ("parameter k: 1 -> 2",)}, BEFORE)


def test_nothing_changed_means_no_process_at_all() -> None:
    assert {new_plan({}).step(name).need for name in CHAIN.by_name} == {Need.NOTHING}


def test_other_hashes_go_on_downstream_and_the_same_ones_do_not() -> None:
    plan = new_plan({"a": []})
    first = plan.step("a")
    assert first.need is Need.DVC
    assert first.why == ("parameter k: 1 -> 2",)
    plan.finish("a", {"a": entry("data/a", "a1")})
    assert plan.step("b").need is Need.DVC
    assert plan.step("b").why == ("reads a, which changed",)
    plan.finish("b", {"b": entry("data/b", "b0", a="a1")})
    assert plan.step("c").need is Need.NOTHING
    assert plan.step("side").need is Need.DVC


def test_what_reads_a_file_of_a_folder_that_is_the_same_in_it_needs_nothing(tmp_path: Path) -> None:
    """`check` writes a folder with a fingerprint for each stage, and most of them are as before."""
    same, other = md5(b"same").hexdigest(), md5(b"before").hexdigest()
    graph = Graph((stage("code"), stage("b", ("data/code/b.json",)), stage("c", ("data/code/c.json",))))
    lock = {
        "code": entry("data/code", "0.dir"),
        "b": entry("data/b", "b0", **{"code/b.json": same}),
        "c": entry("data/c", "c0", **{"code/c.json": other}),
    }
    (tmp_path / "data/code").mkdir(parents=True)
    for name, content in (("b", "same"), ("c", "after")):
        (tmp_path / f"data/code/{name}.json").write_text(content)
    plan = Plan(graph, {"code": []}, {}, lock, tmp_path)
    plan.finish("code", {"code": entry("data/code", "1.dir")})
    assert plan.step("b").need is Need.NOTHING
    assert plan.step("c").need is Need.DVC
    (tmp_path / "data/code/b.json").unlink()
    assert plan.step("b").need is Need.DVC


def test_what_reads_a_folder_above_something_new_needs_dvc() -> None:
    graph = Graph((stage("runs/x"), stage("summary", ("data/runs",))))
    lock = {"runs/x": entry("data/runs/x", "0.dir"), "summary": entry("data/summary", "s", runs="r0.dir")}
    plan = Plan(graph, {"runs/x": []}, {}, lock)
    assert plan.step("summary").need is Need.NOTHING
    plan.finish("runs/x", {"runs/x": entry("data/runs/x", "1.dir")})
    assert plan.step("summary").need is Need.DVC


def test_what_stands_on_a_failure_is_skipped_and_names_its_root() -> None:
    plan = new_plan({"b": []})
    plan.fail("b")
    assert plan.step("c").need is Need.IMPOSSIBLE
    assert plan.step("c").why == ("b failed",)
    assert plan.step("side").need is Need.NOTHING
    assert plan.failures == ("b",)


def test_a_failure_two_floors_up_is_named_not_the_skipped_one_between() -> None:
    plan = new_plan({"a": []})
    plan.fail("a")
    assert [plan.step(name).why for name in ("b", "c", "side")] == [("a failed",)] * 3
    assert plan.failures == ("a",)


def test_a_second_try_that_works_lets_the_rest_go_on() -> None:
    plan = new_plan({"b": []})
    plan.fail("b")
    assert plan.step("b").need is Need.DVC
    plan.finish("b", {"b": entry("data/b", "b1", a="a0")})
    assert plan.failures == ()
    assert plan.step("c").need is Need.DVC


def test_targets_bring_what_they_need() -> None:
    assert [s.name for s in stages_for(CHAIN, ["c"])] == ["a", "b", "c"]
    assert [s.name for s in stages_for(CHAIN, [])] == ["a", "b", "c", "side"]


def test_entries_and_reasons() -> None:
    assert output_hashes(None) == {}
    assert output_hashes(entry("data/x", "m")) == {"data/x": "m"}
    assert (output_bytes(None), output_bytes(entry("data/x", "m"))) == (0, 7)
    explanation = Explanation((Reason("a", "A", ("x",)),), (Reason("b", "B", ("reads A",)),))
    assert reasons(explanation) == {"a": ("x",), "b": ("reads A",)}
