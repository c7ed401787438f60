"""The stage `facts`: targets.csv and the source become one table; a run's folder holds what its method reads."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.graph.definition import load_graph
from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.layout import ALL_FACTS, READS, RUN_FACTS
from reprise.artifacts.manifest import read_manifest
from reprise.config.errors import ManifestError
from stages.facts.__main__ import main
from stages.facts.gather import gather
from stages.facts.params import FactsParams
from tests.known_facts import write_known_facts
from tests.workspace import make_shards


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Twelve digits in the current folder; their keys."""
    monkeypatch.chdir(tmp_path)
    make_shards(12)
    return list(read_manifest(columns=["key"])["key"].to_pylist())


def declared(**columns: str) -> FactsParams:
    """`name="kind use"`."""
    rows = {name: dict(zip(("kind", "use"), words.split(), strict=False)) for name, words in columns.items()}
    return FactsParams.model_validate({"columns": rows})


def write(*rows: tuple[object, ...]) -> Path:
    with open("targets.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return Path("targets.csv")


def test_columns_are_labels_unless_they_are_declared(images: list[str]) -> None:
    write(
        ("key", "age", "smiling", "site", "text"),
        (images[0], "3.5", "1", "Bern", "A photo of =1+1, é"),
        (images[1], "", "0", "", ""),
        ("f" * 24, "1", "1", "Rome", "unknown image"),
    )
    facts, said = gather(declared(site="word", text="caption given"))
    found = {fact.name: (fact.kind, fact.use, fact.origin) for fact in facts.declared}
    assert found == {
        "age": ("number", "label", "targets.csv"),
        "smiling": ("flag", "label", "targets.csv"),
        "site": ("word", "label", "targets.csv"),
        "text": ("caption", "given", "targets.csv"),
    }
    at = {key: i for i, key in enumerate(facts.keys.tolist())}
    assert facts.columns["age"][at[images[0]]] == 3.5
    assert np.isnan(facts.columns["age"]).sum() == 11
    assert facts.columns["site"][at[images[0]]] == "Bern"
    assert facts.columns["site"][at[images[1]]] is None
    assert facts.captions["text"][at[images[0]]] == ("A photo of =1+1, é",)
    assert facts.captions["text"][at[images[1]]] == ()
    assert "1 rows of targets.csv name no image" in said[-1]


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([("age",), ("=1+1",)], {}, "a target must be a finite number or empty.*=1\\+1"),
        ([("age",), ("nan",)], {}, "a target must be a finite number"),
        ([("age",), ("-inf",)], {}, "a target must be a finite number"),
        ([("bold",), ("2",)], {"bold": "flag"}, "holds flags, which are 0, 1 or empty.*Found: 2"),
        ([("site",), ("a\x00b",)], {"site": "word"}, r"CSV|character 2 is a control character \(U\+0000\)"),
        ([("site",), ("a\nb",)], {"site": "word"}, r"character 2 is a control character \(U\+000A\)"),
        ([("site",), ("a\u202eb",)], {"site": "caption"}, "turns the direction of writing round"),
        ([("site",), ("x" * 5000,)], {"site": "word"}, "it has 5,000 characters, and may have 200"),
        ([("age",), ("1",)], {"other": "word"}, "no column 'other', which facts.columns declares.*columns age"),
        ([("age", "key"), ("1", "2")], {}, "the name of a fact.*is not `key`"),
    ],
)
def test_what_is_wrong_with_a_column_is_said(
    images: list[str], rows: list[tuple[str, ...]], columns: dict[str, str], message: str
) -> None:
    head, first = rows
    write(("key", *head), (images[0], *first))
    with pytest.raises(ManifestError, match=message):
        gather(declared(**columns))


def test_a_declared_column_without_rows_is_said(images: list[str]) -> None:
    write(("key", "site"))
    with pytest.raises(ManifestError, match="no row, and facts.columns declares the column 'site'"):
        gather(declared(site="word"))
    assert gather(FactsParams())[0].declared == ()


def test_source_and_columns_may_not_give_the_same_fact(images: list[str]) -> None:
    write_known_facts()
    write(("key", "angle"), (images[0], "1"))
    with pytest.raises(ManifestError, match="given once.*angle"):
        gather(FactsParams())


def test_the_stage_gives_each_run_what_its_method_reads_of_the_training_images(images: list[str]) -> None:
    write_known_facts()
    write(("key", "age"), *((key, i) for i, key in enumerate(images)))
    READS.parent.mkdir(parents=True)
    READS.write_text(json.dumps({"plain": [], "clip": ["caption"], "wrong": ["angle"]}))
    Path("params.yaml").write_text("facts: {columns: {}}\n")
    main([])
    everything = read_facts(ALL_FACTS)
    assert len(everything.keys) == 12
    assert everything.named("number") == ["angle", "age"]
    plain, clip = read_facts(RUN_FACTS / "plain"), read_facts(RUN_FACTS / "clip")
    assert (plain.declared, len(plain.keys)) == ((), 0)
    assert [fact.name for fact in clip.declared] == ["caption"]
    assert len(clip.keys) == 6  # of train
    for secret in (b"writer", b"remark", b"angle", b"age"):
        assert all(secret not in path.read_bytes() for run in ("plain", "clip") for path in (RUN_FACTS / run).iterdir())
    before = {path: path.read_bytes() for path in Path("data/facts/runs").rglob("*.*")}
    write(("key", "age"), *((key, 100 + i) for i, key in enumerate(images)))
    write_known_facts(seed=1)
    main([])
    changed = [path for path, data in before.items() if path.read_bytes() != data]
    assert {path.parent.name for path in changed} == {"wrong"}  # the one that declares a label: DVC runs that one again


def test_captions_are_counted_and_what_is_odd_is_said(images: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    split_of = dict(zip(*(read_manifest()[name].to_pylist() for name in ("key", "split")), strict=True))
    write(("key", "text"), *((key, "A digit" if split_of[key] != "val" else "another") for key in images))
    READS.parent.mkdir(parents=True)
    READS.write_text("{}")
    Path("params.yaml").write_text("facts: {columns: {text: {kind: caption, use: given}}}\n")
    main([])
    counted = json.loads((ALL_FACTS / "captions.json").read_text())["text"]
    tested = sum(split == "test" for split in split_of.values())
    assert counted["across"] == {"test": tested, "val": 0} and counted["different"] == 2
    printed = capsys.readouterr().out
    assert f"facts: {tested} images of test have a caption that an image of train has too (text)." in printed
    write(("key", "age"), (images[0], 1))
    Path("params.yaml").write_text("facts: {columns: {}}\n")
    main([])
    assert not (ALL_FACTS / "captions.json").exists()


def test_only_probes_and_the_report_see_facts_that_are_labels(repository: Path) -> None:
    readers: dict[str, set[str]] = {}
    for stage in load_graph(repository).stages:
        for dep in stage.deps:
            if dep.startswith(("data/facts", "targets.csv")):
                readers.setdefault(dep, set()).add(stage.entry)
    runs = {f"data/facts/runs/{run}" for run in ("random", "supervised", "patch_kmeans", "simclr", "gsimclr")}
    assert readers == {
        "targets.csv": {"facts"},
        "data/facts/all": {"probe", "report"},
        **{dep: {"pretrain"} for dep in runs},
    }
