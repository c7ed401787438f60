"""Which stages need DVC: it is asked once, and then the hashes in dvc.lock decide."""

from __future__ import annotations

from pipeline.graph.definition import Graph
from pipeline.graph.pending.plan import Need, Plan, output_bytes, output_hashes, reasons, stages_for
from pipeline.graph.pending.why import Explanation, Reason
from reprise.config.dvc_file import Stage


def stage(name: str, deps: tuple[str, ...] = (), fingerprints: bool = False) -> Stage:
    return Stage(name, name, name, (), "", f"make {name}", deps, (), (f"data/{name}",), fingerprints)


CHAIN = Graph((stage("a"), stage("b", ("data/a",)), stage("c", ("data/b",)), stage("side", ("data/a",))))


def entry(md5: str) -> dict[str, object]:
    return {"outs": [{"path": "data/x", "md5": md5, "size": 7}]}


def new_plan(changed: dict[str, list[object]]) -> Plan:
    return Plan(CHAIN, changed, {"a": ("parameter k: 1 -> 2",)})


def test_nothing_changed_means_no_process_at_all() -> None:
    assert {new_plan({}).step(name).need for name in CHAIN.by_name} == {Need.NOTHING}


def test_other_hashes_go_on_downstream_and_the_same_ones_do_not() -> None:
    plan = new_plan({"a": []})
    first = plan.step("a")
    assert first.need is Need.DVC
    assert first.why == ("parameter k: 1 -> 2",)
    plan.finish("a", {"a": entry("old")}, {"a": entry("new")})
    assert plan.step("b").need is Need.DVC
    assert plan.step("b").why == ("reads a, which changed",)
    plan.finish("b", {"b": entry("same")}, {"b": entry("same")})
    assert plan.step("c").need is Need.NOTHING
    assert plan.step("side").need is Need.DVC


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
    plan.finish("b", {}, {"b": entry("new")})
    assert plan.failures == ()
    assert plan.step("c").need is Need.DVC


def test_targets_bring_what_they_need() -> None:
    assert [s.name for s in stages_for(CHAIN, ["c"])] == ["a", "b", "c"]
    assert [s.name for s in stages_for(CHAIN, [])] == ["a", "b", "c", "side"]


def test_entries_and_reasons() -> None:
    assert output_hashes(None) == {}
    assert output_hashes(entry("m")) == {"data/x": "m"}
    assert (output_bytes(None), output_bytes(entry("m"))) == (0, 7)
    explanation = Explanation((Reason("a", "A", ("x",)),), (Reason("b", "B", ("reads A",)),))
    assert reasons(explanation) == {"a": ("x",), "b": ("reads A",)}
