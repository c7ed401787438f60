"""Parameters in words: types and ranges, what a name means, what a run may replace, and the page of the docs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from reprise.config.errors import ParameterError
from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import Name, plug_in_name, with_pattern
from stages.check.describe import text
from stages.check.description.papers_page import FILE as PAPERS
from stages.check.description.papers_page import papers_page
from stages.check.description.parameter_list import describe, find, kinds_meant, subject_named
from stages.check.description.plug_in_pages import FOLDER, pages
from stages.check.description.reference import COMMAND, page
from stages.check.description.value_words import allowed_values, default_of
from stages.pretrain.params import NAMES_IN_TRAIN, MethodParams

MINE = '''"""`kmeans`: a method that shares its name with a miner."""

from typing import Annotated

from pydantic import Field

from reprise.config.params import meaning
from stages.pretrain.method import Method
from stages.pretrain.params import NAMES_IN_TRAIN, MethodParams


class MineParams(MethodParams):
    """Parameters of the user's method."""

    radius: Annotated[int, Field(ge=1, le=9), meaning("Images within this distance belong together.", "pixels")] = 3


class Mine(Method):
    """Never run."""

    Params = MineParams
    needs = ("clusters",)
'''


class Inner(StrictModel):
    """A block."""

    rate: Annotated[float, Field(gt=0)] = 0.1


class Words(StrictModel):
    """A field for each row of the table below."""

    a: Annotated[int, Field(ge=1, le=100_000)]
    b: Annotated[float, Field(gt=0, le=1e-4)] = 1e-5
    c: Annotated[float, Field(ge=0)] | None = None
    d: Literal["auto", "cpu"] = "auto"
    e: Annotated[Literal["a"] | None, meaning("It is a letter.", "letters")] = None
    f: Literal[1, 3] = 3
    g: bool = True
    h: Annotated[list[Annotated[int, Field(lt=5)]], Field(min_length=1, max_length=9)] = Field(default_factory=list)
    i: Annotated[str, with_pattern("x+", "some letters x")] = "xx"
    j: Annotated[str, plug_in_name("extractors")] = "pixels"
    k: Name = "k"
    p: Inner = Inner()
    m: dict[str, Any] = Field(default_factory=dict)
    n: list[Inner] = Field(default_factory=list)


@pytest.mark.parametrize(
    ("field", "values", "default"),
    [
        ("a", "whole number from 1 to 100,000", "required"),
        ("b", "number above 0 and at most 0.0001", "1e-05"),
        ("c", "number at least 0 or null", "null"),
        ("d", "`auto` or `cpu`", "auto"),
        ("e", "`a` or null", "null"),
        ("f", "1 or 3", "3"),
        ("g", "true or false", "true"),
        ("h", "list of 1 to 9 values: whole number below 5", "[]"),
        ("i", "text: some letters x", "xx"),
        ("j", "name of an extractor", "pixels"),
        ("k", "name of lower-case letters, digits and underscores", "k"),
        ("p", "block", "{rate: 0.1}"),
        ("m", "block", "{}"),
        ("n", "list of blocks", "[]"),
    ],
)
def test_values_and_defaults_in_words(field: str, values: str, default: str) -> None:
    assert allowed_values(Words.model_fields[field]) == values
    assert default_of(Words.model_fields[field]) == default


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("train", ("params", "train")),
        ("runs", ("params", "runs")),  # a section of the report has that name too, and no parameters
        ("simclr", ("methods", "simclr")),
        ("method/simclr", ("methods", "simclr")),
        ("methods/simclr", ("methods", "simclr")),
        ("knn", ("probes/quality", "knn")),
        ("probes/knn", ("probes/quality", "knn")),
        ("quality/knn", ("probes/quality", "knn")),
        ("probes/quality/knn", ("probes/quality", "knn")),
        ("sections/runs", ("sections", "runs")),
        ("section/runs", ("sections", "runs")),
    ],
)
def test_a_word_means_a_section_or_a_plug_in(word: str, meant: tuple[str, str]) -> None:
    assert find(word) == meant


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("SimCLR", "Did you mean 'simclr'?"),
        ("trian", "Did you mean 'train'?"),
        ("miner/kmean", "Did you mean 'miners/kmeans'?"),
        ("methd/simclr", "Did you mean 'method'?"),
        ("$(touch x)", "lists all names"),
    ],
)
def test_a_word_that_means_nothing_gets_a_suggestion(word: str, hint: str) -> None:
    with pytest.raises(ParameterError) as caught:
        find(word)
    assert hint in caught.value.fix


def test_whole_kinds_have_words_of_their_own() -> None:
    assert kinds_meant("miners") == kinds_meant("miner") == ["miners"]
    assert kinds_meant("quality") == ["probes/quality"]
    assert set(kinds_meant("probes")) > {"probes/quality", "probes/label_free"}
    assert kinds_meant("features") == kinds_meant("simclr") == []


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's method that is called as a miner is."""
    (tmp_path / "plugins/methods").mkdir(parents=True)
    (tmp_path / "plugins/methods/kmeans.py").write_text(MINE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("users")
def test_a_name_that_kinds_share_asks_for_the_kind() -> None:
    with pytest.raises(ParameterError, match="several things are called 'kmeans'") as caught:
        find("kmeans")
    assert caught.value.found == "miners/kmeans, methods/kmeans"
    assert find("miners/kmeans") == ("miners", "kmeans")


@pytest.mark.usefixtures("users")
def test_a_users_plug_in_is_described() -> None:
    lines = list(text(describe("methods", "kmeans")))
    assert lines[0] == "kmeans (method, plugins/)"
    assert "    A method that shares its name with a miner." in lines
    assert "    It needs a label set." in lines
    start = lines.index("methods.<name>.radius")
    assert lines[start + 1 : start + 3] == [
        "    whole number from 1 to 9 (pixels); default: 3",
        "    Images within this distance belong together.",
    ]


def test_what_a_run_may_replace_of_train_is_said_on_both_sides() -> None:
    train = describe("params", "train")
    noted = {p.name.removeprefix("train.") for p in train.parameters if p.note}
    assert noted == {NAMES_IN_TRAIN.get(field, field) for field in MethodParams.model_fields}
    method = {p.name: p for p in describe("methods", "simclr").parameters}
    assert method["methods.<name>.learning_rate"].default == "train.learning_rate"
    assert method["methods.<name>.temperature"].default == "0.2"
    assert any(note.startswith("With `recipe: paper`") for note in describe("methods", "simclr").notes)


def test_blocks_inside_sections_have_dotted_names() -> None:
    names = [p.name for p in describe("params", "train").parameters]
    assert names.index("train.views.flip") > names.index("train.views")
    rows = [p.name for p in describe("params", "mines").parameters][1:]
    assert rows == ["mines[].name", "mines[].miner", "mines[].on"]
    facts = [p.name for p in describe("params", "facts").parameters]
    assert facts[:2] == ["facts.columns", "facts.columns.<name>.kind"]
    assert describe("probes/representations", "similarity").parameters[0].name.startswith("representations.probes.")


def test_the_page_of_the_documentation_is_fresh(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    written = (repository / "docs/reference/parameters.md").read_text(encoding="utf-8")
    assert COMMAND in written.splitlines()[0]
    assert written == page(), f"docs/reference/parameters.md is stale: run `{COMMAND}`"


def test_the_pages_of_plug_ins_are_fresh(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    written = {path.name: path.read_text(encoding="utf-8") for path in (repository / FOLDER).iterdir()}
    assert written == pages(), f"{FOLDER} is stale: run `{COMMAND}`"
    links = {link for text in written.values() for link in re.findall(r"\]\((.*?)\)", text)}
    assert [link for link in links if not (repository / FOLDER / link).is_file()] == []


def test_the_page_of_papers_is_fresh_and_leads_from_each_to_its_file_and_checks(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    written = (repository / PAPERS).read_text(encoding="utf-8")
    assert written == papers_page(), f"{PAPERS} is stale: run `{COMMAND}`"
    links = re.findall(r"\]\(((?:\.\./)+[^)]*)\)", written)
    assert [link for link in links if not (repository / PAPERS.parent / link).is_file()] == []
    rows = [row for row in written.splitlines() if "methods/contrastive/gsimclr.py" in row]
    assert len(rows) == 1
    assert "Gosthipaty" in rows[0]
    assert "test_golden.py" in rows[0]
    assert rows[0].endswith("explanation/g-simclr.md) |")
    assert "stages/ingest/sources/shapes.py" not in written  # it has no publication


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        ([], 0, "methods:\n    adversarial, barlow_twins, byol"),
        (["image"], 0, "image.size\n    whole number from 8 to 1,024 (pixels); required\n"),
        (["imgae"], 2, "Did you mean 'image'?"),
        (["map"], 0, "map (probe, Reprise)\n"),
    ],
)
def test_the_command_prints_or_says_why_not(repository: Path, arguments: list[str], status: int, expected: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.check.describe", *arguments],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, done.stderr
    assert expected in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("word", "first"),
    [
        ("train.schedule", "train.schedule"),
        ("train.views.blur", "train.views.blur"),
        ("methods.simclr.temperature", "methods.<name>.temperature"),
        ("methods.<name>.temperature", None),
        ("mining.dae_kmeans.clusters", "mining.<name>.clusters"),  # a row of params.yaml, which uses kmeans
        ("model_options.dae.noise", "model_options.<name>.noise"),
        ("probes.quality.few_shot.shots", "probes.quality.few_shot.shots"),
        ("summary.family", "summary.family"),
    ],
)
def test_a_dotted_name_is_one_parameter(
    word: str, first: str | None, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    if first is None:
        with pytest.raises(ParameterError, match="neither a section"):
            subject_named(word)
        return
    found = subject_named(word).parameters
    assert found[0].name == first
    assert all(p.name == first or p.name.startswith(f"{first}.") for p in found)


def test_a_dotted_name_of_nothing_names_the_nearest() -> None:
    with pytest.raises(ParameterError, match=r"train has no such parameter .* Did you mean 'train.epochs'\?"):
        subject_named("train.epoch")
