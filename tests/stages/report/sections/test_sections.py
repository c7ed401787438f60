"""The sections: sample choice, label sets, tables of figures, curves, batches, neighbours, parameters."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from stages.report.drawing.thumbnails import Album
from stages.report.readers.images.ingest import Images
from stages.report.readers.images.words import CHANGES, REASONS, reason_words
from stages.report.readers.label_sets import LabelSet, sets_with_true_labels
from stages.report.readers.runs import Figure, Run, SeedRun
from stages.report.sections.batches import batches_of
from stages.report.sections.clusters import clusters_of
from stages.report.sections.curves import MOST_POINTS, curves_of
from stages.report.sections.data import sample_keys
from stages.report.sections.neighbours import MOST_QUERIES, queries_of
from stages.report.sections.parameters import flatten
from stages.report.sections.runs import metric_names, table
from tests.stages.report.conftest import Build, one_seed, rendered, seed_run

RUNS = (one_seed("random", 0.5), one_seed("a", 0.9), one_seed("b", 0.51), one_seed("c", 0.3))


def test_label_sets_and_runs_that_true_labels_reached_are_marked_however_they_came() -> None:
    """All labels, some labels, and labels mined on what a run learned from them, over any number of rounds."""
    qualities = {
        "truth": {"uses_truth": True, "on": "features/pixels", "accuracy": 1.0},
        "semi": {"uses_truth": True, "on": "features/pixels", "accuracy": 0.5, "accuracy_new": 0.25, "given": 1200},
        "plain": {"uses_truth": False, "on": "features/pixels", "accuracy": 0.5},
        "later": {"uses_truth": False, "on": "embed/from_semi"},
        "latest": {"uses_truth": False, "on": "embed/from_later"},
        "other": {"uses_truth": False, "on": "embed/from_plain"},
    }
    sets = [LabelSet(name, 0, quality, {"key": 0}) for name, quality in qualities.items()]
    runs = tuple(Run(f"from_{name}", (seed_run(f"from_{name}", 0.5, labels=name),)) for name in qualities)
    seen = sets_with_true_labels(sets, runs)
    assert seen == {"truth", "semi", "later", "latest"}
    marked = {row.name for row in table(runs, ("knn.top1",), {}, seen) if "has seen true labels" in row.labels}
    assert marked == {"from_truth", "from_semi", "from_later", "from_latest"}
    shown = {clusters.name: clusters for clusters in clusters_of(sets, runs, Album(None))}
    assert shown["truth"].quality == ()
    words = "Mined with the true labels of 1,200 images; figures that compare with classes use the others."
    assert shown["semi"].true_labels == words
    assert ("Accuracy, new", "0.250") in [row[:2] for row in shown["semi"].quality]
    assert "the features of a run that has seen true labels" in shown["latest"].true_labels
    assert shown["plain"].true_labels == shown["other"].true_labels == ""


def test_what_of_its_budget_is_a_runs_alone_stands_beside_its_figures() -> None:
    runs = tuple(
        Run(name, (seed_run(name, 0.5, steps=steps, epochs=epochs, images_seen=72 * epochs),))
        for name, steps, epochs in (("long", 9, 30), ("short", 9, 3), ("random", 0, 0))
    )
    budgets = {row.name: row.budget for row in table(runs, ("knn.top1",), {})}
    assert budgets == {
        "long": "images seen 2,160; epochs 30", "short": "images seen 216; epochs 3", "random": "not trained"
    }  # fmt: skip
    assert [row.budget for row in table(runs[1:], ("knn.top1",), {})] == ["", ""]


def test_trained_models_show_what_they_restore(build: Build) -> None:
    build(seeds=(0, 1))
    page = rendered(1).decode()
    part = page[page.index("<h3><bdi>dae</bdi></h3>") :]
    words = " ".join(re.sub(r"<[^>]+>", "", part[: part.index("Above are images")]).split())
    assert words == (
        "dae A model of the kind autoencoder, trained on 75 images for 2 epochs: the loss went from 0.250 in the first "
        "epoch to 0.125 in the last. Restored pixels, between 0 and 1, are off by 0.250 on training images, 0.177 on "
        "val images, which it never saw (root mean square). Seed 0 is shown, 1 more exists."
    )
    assert re.search(r'<img class="crisp" src="data:image/png;base64,[^"]+" width="192" height="96"', part)
    Path("data/trained/0/models/dae/reconstructions.png").unlink()
    assert "Above are images" not in rendered(1).decode()


def test_many_pairs_are_listed_whole_only_on_demand(build: Build) -> None:
    build(runs={f"run_{i}": ("random" if i == 0 else "simclr", "none") for i in range(7)})
    page = rendered(1).decode()
    assert "A difference was shown for 6 of 21 pairs." in page
    assert (
        page.index("run_6 is above run_0")
        < page.index("<summary>All pairs on kNN top-1 accuracy</summary>")
        < page.index("no difference shown")
    )


def test_what_a_run_did_otherwise_than_asked_is_on_the_page(build: Build) -> None:
    build()
    assert "What runs did otherwise than asked" not in rendered(1).decode()
    path = next(Path("data/runs").glob("*/0/config.json"))
    config = json.loads(path.read_text(encoding="utf-8"))
    notes = {
        "notes": ["a batch holds 215 images <b>instead</b> of 256."],
        "collapse": {"step": 12, "found": "too flat"},
    }
    path.write_text(json.dumps(config | notes), encoding="utf-8")
    page = rendered(1).decode()
    assert "What runs did otherwise than asked" in page
    assert "a batch holds 215 images &lt;b&gt;instead&lt;/b&gt; of 256." in page
    assert "it collapsed at step 12: too flat." in page


def images(labels: dict[str, str], keys: list[str]) -> Images:
    classes = tuple(sorted(set(labels.values())))
    return Images(
        {"train": len(keys)},
        classes,
        dict.fromkeys(classes, (0, 0, 0)),
        labels,
        {"train": tuple(keys)},
        (8, 8, 8, 8),
        0,
    )


def test_samples_take_classes_in_turns() -> None:
    keys = [f"{i:02}" for i in range(20)]
    labels = {key: "rare" if key == "19" else "common" for key in keys[1:]}  # 00 has no label
    found = sample_keys(images(labels, keys), 5)
    assert found == ["01", "02", "03", "19", "00"]
    assert sorted(sample_keys(images(labels, keys), 100)) == keys
    assert sample_keys(images({}, keys), 3) == ["00", "01", "02"]
    assert sample_keys(Images({}, (), {}, {}, {}, (0, 0, 0, 0), 0), 3) == []


def test_every_reason_of_the_quarantine_has_words(repository: Path) -> None:
    """docs/reference/data-rules.md lists the codes in the last column of its tables."""
    lines = (repository / "docs/reference/data-rules.md").read_text(encoding="utf-8").splitlines()
    cells = [cell[1] for line in lines if (cell := re.fullmatch(r"\|.*\| ((?:`\w+`(?:, )?)+) \|", line))]
    assert {code for cell in cells for code in re.findall(r"\w+", cell)} == set(REASONS)
    assert reason_words("unsupported_depth") == "pixel depth that is not supported"
    assert reason_words("<some_new_reason>") == "<some new reason>"


def test_every_note_has_words(repository: Path) -> None:
    text = (repository / "docs/reference/data-rules.md").read_text(encoding="utf-8")
    rows = text[text.index("| property | note |") :].split("\n\n")[0].splitlines()
    codes = {code[1] for row in rows if (code := re.match(r"\| [^|]+ \| `(\w+)` \|", row))}
    assert codes | {"stored_smaller"} == set(CHANGES)


def test_best_marks_accuracies_only() -> None:
    rows = table(RUNS, ["knn.top1"], {})
    assert [row.cells[0].best for row in rows if row.cells[0]] == [False, True, False, False]
    odd = Run("x", (SeedRun("x", 0, {}, {}, {"spectrum.rankme": Figure(3.0, None, None, None)}, {}, (), {}, None),))
    cell = table((odd,), ["spectrum.rankme"], {})[0].cells[0]
    assert cell
    assert not cell.best
    assert cell.interval == ""
    assert table((odd,), ["knn.top1"], {})[0].cells == (None,)
    assert metric_names((*RUNS, odd), "knn.top1") == ("knn.top1", "spectrum.rankme")


def test_several_seeds_use_the_interval_of_their_mean() -> None:
    several = Run("a", (seed_run("a", 0.8, 0), seed_run("a", 0.9, 1)))
    cell = table((several,), ["knn.top1"], {("a", "knn.top1"): (0.8, 0.9)})[0].cells[0]
    assert cell
    assert (cell.value, cell.interval) == ("0.850", "[0.800, 0.900]")
    without = table((several,), ["knn.top1"], {})[0].cells[0]
    assert without
    assert without.interval == ""


def test_long_histories_are_thinned_and_keep_their_ends() -> None:
    epochs = tuple(float(i) for i in range(10_000))
    long = SeedRun(
        "a", 0, {}, {"epoch": epochs, "step": epochs, "loss": epochs, "empty": (None,) * 10_000}, {}, {}, (), {}, None
    )
    (found,) = curves_of((Run("a", (long,)),))
    assert len(found.charts) == 1  # no chart of epochs, steps, or nothing
    assert found.charts[0].count("L") - str(found.charts[0]).count("Loss") <= MOST_POINTS + 2
    assert "ends at 9,999" in found.charts[0]
    assert curves_of((one_seed("a", 0.5),)) == ()


def test_guided_batches_say_whether_zero_was_possible() -> None:
    tight = seed_run(
        "a", None, sampling={"clusters": 3, "largest": 9, "batches": 4, "conflicting_pairs": 7, "share_affected": 0.5}
    )
    loose = seed_run(
        "b", None, sampling={"clusters": 3, "largest": 4, "batches": 4, "conflicting_pairs": 0, "share_affected": 0.0}
    )
    first, second = batches_of((Run("a", (tight,)), Run("b", (loose,)), one_seed("c", 0.1)))
    assert first.possible == "no: 9 > 4"
    assert first.affected == "50.0 %"
    assert second.possible == "yes"
    assert second.conflicting == "0"


def test_flattened_parameters() -> None:
    assert flatten({"a": {"b": True, "c": None}, "d": [1, 2], "e": {}}) == [
        ("a.b", "true"),
        ("a.c", "null"),
        ("d", "[1, 2]"),
        ("e", "{}"),
    ]


class Everything(Album):
    """An album in which every key has the same grey pixel."""

    def __init__(self) -> None:
        super().__init__(None)

    def __contains__(self, key: str) -> bool:
        return True

    def pixels(self, key: str) -> np.ndarray:
        return np.full((1, 1, 3), 127, np.uint8)


def test_queries_come_from_different_classes_first() -> None:
    labels = {f"q{i:02}": f"class {i // 10}" for i in range(40)} | {"n": "class 0"}
    near = {key: (("n", 0.5),) for key in labels if key != "n"}
    one = Run("a", (SeedRun("a", 0, {}, {}, {}, {}, (), near, None),))
    found = queries_of((one,), labels, Everything(), {"n": "a/n.png"})
    assert found[0].file == "q00"  # an image that is no file of its own is named by its key
    assert found[0].rows[0][1][0].file == "a/n.png"
    assert len(found) == MOST_QUERIES
    assert [q.label for q in found] == ["class 0", "class 1", "class 2", "class 3", "class 0", "class 1"]
    assert [q.rows[0][1][0].same for q in found] == [True, False, False, False, True, False]
    assert queries_of((one_seed("a", 0.5),), labels, Everything(), {}) == ()
    unlabelled = queries_of((one,), {}, Everything(), {})
    assert {q.rows[0][1][0].same for q in unlabelled} == {None}


def test_a_label_set_of_single_images_says_so_and_comes_after_one_that_means_something() -> None:
    single = LabelSet("a", 0, {}, {"0": 0, "1": 1, "2": 2, "3": 0}, {"0": 0.5, "3": 0.2})
    groups = LabelSet("b", 0, {}, {str(i): i % 2 for i in range(8)})
    truth = LabelSet("truth", 0, {"uses_truth": True}, {str(i): 0 for i in range(9)})
    shown = clusters_of((single, truth, groups), (), Album(None))
    assert [clusters.name for clusters in shown] == ["b", "a", "truth"]
    assert [clusters.single for clusters in shown] == [0, 2, 0]
    assert single.members(2) == [(0, ["3", "0"]), (1, ["1"])]
    assert groups.members(1) == [(0, ["0", "2", "4", "6"])]


def test_examples_are_the_images_nearest_to_the_centre(build: Build) -> None:
    build()
    page = rendered().decode()
    section = page[page.index('<section id="clusters"') :].split("</section>")[0]
    assert "All clusters, with the images nearest to the centre first." in section
    assert section.count('<ul class="strip">') == 7
    assert section.count("<img") == 7 * 10
    assert 'alt="image of cluster 3"' in section
