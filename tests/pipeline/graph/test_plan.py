"""Which stages need DVC: asked once, then by what dvc.lock says was written."""

from __future__ import annotations

from pipeline.graph.graph import Graph, Stage
from pipeline.graph.plan import Need, Walk, bytes_out, needed, reasons, written
from pipeline.graph.why import Explanation, Reason


def stage(name: str, deps: tuple[str, ...] = (), fingerprints: bool = False) -> Stage:
    return Stage(name, name, name, (), "", f"make {name}", deps, (), (f"data/{name}",), fingerprints)


CHAIN = Graph((stage("a"), stage("b", ("data/a",)), stage("c", ("data/b",)), stage("side", ("data/a",))))


def entry(md5: str) -> dict[str, object]:
    return {"outs": [{"path": "data/x", "md5": md5, "size": 7}]}


def walk(changed: dict[str, list[object]]) -> Walk:
    return Walk(CHAIN, changed, {"a": ("parameter k: 1 -> 2",)})


def test_nothing_changed_means_no_process_at_all() -> None:
    assert {walk({}).step(name).need for name in CHAIN.by_name} == {Need.NOTHING}


def test_other_hashes_go_on_downstream_and_the_same_ones_do_not() -> None:
    found = walk({"a": []})
    first = found.step("a")
    assert first.need is Need.DVC
    assert first.why == ("parameter k: 1 -> 2",)
    found.done("a", {"a": entry("old")}, {"a": entry("new")})
    assert found.step("b").need is Need.DVC
    assert found.step("b").why == ("reads a, which changed",)
    found.done("b", {"b": entry("same")}, {"b": entry("same")})
    assert found.step("c").need is Need.NOTHING
    assert found.step("side").need is Need.DVC


def test_what_stands_on_a_failure_is_skipped_and_names_its_root() -> None:
    found = walk({"b": []})
    found.failed("b")
    assert found.step("c").need is Need.IMPOSSIBLE
    assert found.step("c").why == ("b failed",)
    assert found.step("side").need is Need.NOTHING
    assert found.failures == ("b",)


def test_a_failure_two_floors_up_is_named_not_the_skipped_one_between() -> None:
    found = walk({"a": []})
    found.failed("a")
    assert [found.step(name).why for name in ("b", "c", "side")] == [("a failed",)] * 3
    assert found.failures == ("a",)


def test_a_second_try_that_works_lets_the_rest_go_on() -> None:
    found = walk({"b": []})
    found.failed("b")
    assert found.step("b").need is Need.DVC
    found.done("b", {}, {"b": entry("new")})
    assert found.failures == ()
    assert found.step("c").need is Need.DVC


def test_targets_bring_what_they_need() -> None:
    assert [s.name for s in needed(CHAIN, ["c"])] == ["a", "b", "c"]
    assert [s.name for s in needed(CHAIN, [])] == ["a", "b", "c", "side"]


def test_entries_and_reasons() -> None:
    assert written(None) == {}
    assert written(entry("m")) == {"data/x": "m"}
    assert (bytes_out(None), bytes_out(entry("m"))) == (0, 7)
    told = Explanation((Reason("a", "A", ("x",)),), (Reason("b", "B", ("reads A",)),))
    assert reasons(told) == {"a": ("x",), "b": ("reads A",)}
