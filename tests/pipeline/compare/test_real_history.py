"""The real graph over four revisions in which one parameter changes, compared and followed on the command line."""

from __future__ import annotations

import json

import pytest

from tests.pipeline.dvc_project import Project
from tests.pipeline.real_project import edit_params

NAME = "probes.quality.knn.k"


@pytest.mark.slow
def test_four_revisions_with_one_changed_parameter(real: Project) -> None:
    """Each revision names the change, its figures are current, and what came of it is on both pages."""
    for k in (1, 200, 5):
        edit_params(real, probes__quality__knn__k=k)
        real.reprise("repro", "probe/gsimclr", "probe/random", "summary")
        real.commit(f"{k} neighbours")
    done = real.reprise("compare", "HEAD~1", "HEAD", "--json", "--strict", "--page", "compared.html")
    told = json.loads(done.stdout)["comparisons"][0]
    assert told["notes"] == [] and told["images"] is None
    assert [(change["name"], change["old"], change["new"]) for change in told["parameters"]] == [(NAME, 200, 5)]
    figures = {(f["run"], f["metric"]): f for f in told["figures"]}
    knn = figures["gsimclr", "knn.top1"]
    assert knn["low"] <= knn["difference"] <= knn["high"] and knn["over"] == "examples"
    linear = figures["gsimclr", "linear.top1"]
    assert linear["base"] == linear["other"]
    run = next(each for each in told["flips"] if each["run"] == "gsimclr")
    assert run["became_right"] - run["became_wrong"] == round(knn["difference"] * run["images"])
    page = (real.root / "compared.html").read_text(encoding="utf-8")
    assert "<img " in page and "<path d=" in page and NAME in page

    followed = json.loads(real.reprise("history", "knn.top1", "--json", "--page", "history.html").stdout)
    points = followed["points"]
    assert [point["subject"] for point in points[1:]] == ["1 neighbours", "200 neighbours", "5 neighbours"]
    assert (
        len(points) == 4
        and points[-1]["also"]
        and points[-1]["figures"]["knn.top1"]["gsimclr"]["value"] == knn["other"]
    )
    assert [[change["new"] for change in point["parameters"]] for point in points[1:]] == [[1], [200], [5]]
    assert not any(point["images_changed"] or point["notes"] for point in points)
    text = (real.root / "history.html").read_text(encoding="utf-8")
    assert text.count('class="letter">P</text>') == 3 and 'class="letter">D' not in text
