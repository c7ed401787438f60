"""The results as files: what programs read back is what the page shows, and names stay names."""

from __future__ import annotations

import base64
import csv
import io
import json
import re

import pytest
from pydantic import ValidationError

from stages.report.artifacts import gather
from stages.report.downloads import downloads, escape_latex, figures_csv, latex
from stages.report.params import ReportParams
from stages.report.readers.runs import Figure, Run
from tests.stages.report.conftest import Build, one_seed, rendered, seed_run


def test_a_row_holds_a_figure_and_a_formula_stays_a_name() -> None:
    runs = (Run("=1+1", tuple(seed_run("=1+1", value, seed) for seed, value in enumerate((0.5, 0.7)))),)
    (row,) = csv.DictReader(io.StringIO(figures_csv(runs, {("=1+1", "knn.top1"): (0.4, 0.8)})))
    assert row["run"] == "'=1+1"
    assert row["metric"] == "knn.top1"
    assert [float(row[name]) for name in ("value", "low", "high", "sd_over_seeds")] == [0.6, 0.4, 0.8, 0.141421]
    assert (row["seeds"], row["n"]) == ("2", "100")


def test_a_latex_table_has_a_row_for_each_run_the_highest_first() -> None:
    runs = (one_seed("a_1", 0.5), one_seed("b&c", 0.9), Run("none", (seed_run("none", None),)))
    lines = latex(runs, ["knn.top1"], {}).splitlines()
    assert lines[1] == r"\begin{tabular}{lc}"
    assert [line for line in lines if line.endswith(r"\\")] == [
        r"Run & kNN top-1 accuracy \\",
        r"b\&c & 0.900 [0.850, 0.950] \\",
        r"a\_1 & 0.500 [0.450, 0.550] \\",
        r"none & -- \\",
    ]
    assert latex((), ["knn.top1"], {}).count(r"\\") == 1


@pytest.mark.parametrize(
    ("name", "written"),
    [
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("50 % of $x^2$\n#~", r"50 \% of \$x\textasciicircum{}2\$ \#\textasciitilde{}"),
        ("\x1b[31m\u202e", "[31m"),
    ],
)
def test_names_do_nothing_in_latex(name: str, written: str) -> None:
    assert escape_latex(name) == written


def test_the_files_say_what_the_page_says(build: Build) -> None:
    build()
    texts = downloads(gather(ReportParams(title="Mine", metrics=["linear.top1"])))
    said = json.loads(texts["json"])
    assert said["title"] == "Mine"
    assert said["headline"]["sentence"].startswith("Pretraining helped: ")
    assert said["headline"]["sentence"] in rendered().decode()
    assert {point["question"]: point["care"] for point in said["trust"]}["How many seeds were trained?"] == "one seed"
    assert said["refused"] == {"not_an_image": 1, "truncated": 2}
    assert {verdict["metric"] for verdict in said["verdicts"]} == {"knn.top1", "linear.top1"}
    assert len(said["figures"]) == len(texts["csv"].splitlines()) - 1
    page = rendered(metrics=["linear.top1"]).decode()
    embedded = dict(re.findall(r'<a href="data:([\w/-]+);base64,([^"]+)" download="results', page))
    assert base64.b64decode(embedded["text/csv"]).decode() == texts["csv"]
    assert base64.b64decode(embedded["application/x-tex"]).decode() == texts["tex"]
    assert json.loads(base64.b64decode(embedded["application/json"]))["figures"] == said["figures"]


def test_a_project_without_results_has_files_all_the_same(build: Build) -> None:
    (build() / "data").rename("elsewhere")
    texts = downloads(gather(ReportParams()))
    assert json.loads(texts["json"])["figures"] == []
    assert texts["csv"].count("\n") == 1


def test_figures_of_some_seeds_are_averaged_over_those() -> None:
    first, second = seed_run("a", 0.5, 0), seed_run("a", None, 1)
    second.figures["spectrum.rankme"] = Figure(7.0, None, None, None)
    rows = list(csv.DictReader(io.StringIO(figures_csv((Run("a", (first, second)),), {}))))
    assert [(row["metric"], row["seeds"], row["n"]) for row in rows] == [
        ("knn.top1", "1", "100"),
        ("spectrum.rankme", "1", ""),
    ]


def test_a_metric_is_listed_once() -> None:
    with pytest.raises(ValidationError, match="name each metric once"):
        ReportParams(metrics=["knn.top1", "knn.top1"])


def test_files_too_large_for_the_page_lie_beside_it(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    build()
    monkeypatch.setattr("stages.report.sections.runs.DOWNLOAD_BUDGET", 3000)
    page = rendered().decode()
    assert page.count('download="results.') == 2
    assert "JSON (too large for the page: results.json lies beside it)" in page
