"""What `reprise export` writes beside the weights, what it refuses, and what a hostile project cannot make it say."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.exports import export as module
from pipeline.exports.card import Known, card, known_of_project
from pipeline.exports.export import export, run_folder
from reprise.artifacts import layout
from reprise.backbones.exports.form import Written
from reprise.backbones.exports.forms import FORMS
from reprise.config.errors import BackboneError, StorageError
from stages.embed.outside import export as stage
from tests.pipeline.dvc_project import new_project
from tests.reprise.backbones.test_forms import run_of

CONFIG = {
    "architecture": "resnet_tiny", "channels": 3, "input_size": 16, "num_features": 64, "mean": [0.5] * 3,
    "std": [0.2] * 3, "method": "simclr", "epochs": 3, "images_seen": 12_000, "notes": ["a note"],
    "parameters": {"x": 1},
}  # fmt: skip


def test_a_card_says_what_is_known_and_nothing_else():
    figure = {"value": 0.91234, "low": 0.9, "high": 0.93, "n": 373}
    dataset = {"name": "Digits", "counts": {"train": 1286}, "classes": list("0123456789"), "licence": "CC BY 4.0"}
    known = Known(
        "simclr, seed 0", dataset, {"knn": {"top1": figure}}, ("simclr above random",), {"git revision": "abc"}
    )
    text = card(CONFIG, known, "onnx", "import onnxruntime")
    front = text.split("---\n")[1]
    assert 'library_name: "onnx"' in front
    for sentence in (
        "12,000",
        "| knn.top1 | 0.9123 | 0.9000 to 0.9300 | 373 |",
        "Licence: CC BY 4.0.",
        "abc",
        "- a note",
    ):
        assert sentence in text
    assert "nothing is known of them here" in card(CONFIG, Known("elsewhere"), "torch", "")
    assert "has not been evaluated" in card(CONFIG, Known("elsewhere"), "torch", "")
    of_volumes = card(CONFIG | {"channels": 1}, Known("elsewhere"), "torch", "", volumes=True)
    assert "turns volumes of 16 voxels a side into" in of_volumes
    assert "Each side of a volume is scaled on its own to 16 voxels" in of_volumes
    assert "pixels" not in of_volumes


def test_names_from_outside_are_shown_and_not_rendered():
    dataset = {"name": "<script>alert(1)</script>\n# heading", "classes": ["a|b", "[x](http://evil)", "\x1b[31mred"]}
    text = card(CONFIG, Known("r", dataset), "torch", "")
    assert "\n# heading" not in text
    assert "<script>" not in text
    assert "\x1b" not in text
    assert "a\\|b" in text
    assert "\\[x\\]" in text


@pytest.fixture
def here(monkeypatch):
    """The process of the stage is this one."""
    monkeypatch.setattr(module, "run_module", lambda name, arguments, root, on_line: stage.main(arguments))


def test_a_project_is_asked_for_what_it_knows(tmp_path, monkeypatch, here):
    monkeypatch.chdir(tmp_path)
    run_of(tmp_path / "made", "resnet_tiny", 16)
    layout.run("simclr", 1).parent.mkdir(parents=True)
    Path("made").rename(layout.run("simclr", 1))
    metrics = layout.probes_on_features("simclr", 1) / "quality" / "metrics.json"
    metrics.parent.mkdir(parents=True)
    metrics.write_text(json.dumps({"knn": {"top1": {"value": 0.5, "low": None, "high": None, "n": 3}}}))
    layout.DATASET.parent.mkdir(parents=True)
    layout.DATASET.write_text("no JSON")
    known = known_of_project("simclr", 1, {})
    assert known.metrics["knn"]["top1"]["value"] == 0.5
    assert known.dataset == {}
    monkeypatch.setattr(module, "old_figures", dict)
    folder, found = run_folder("simclr/1")
    assert (folder, found) == (layout.run("simclr", 1), known)
    with pytest.raises(BackboneError, match="there is no such trained run"):
        run_folder("simclr")
    done = export(folder, known, "torch", tmp_path / "out")
    assert done.files == ("README.md", "backbone.pt2")
    assert done.difference <= 1e-4
    with pytest.raises(StorageError, match="the folder to export to exists"):
        export(folder, known, "torch", tmp_path / "out")


def write_results() -> None:
    """Figures and verdicts of three runs, as the last completed graph left them."""
    for name, content in {
        layout.probes_on_features("simclr", 0) / "quality" / "metrics.json": {"knn": {"top1": {"value": 0.8765}}},
        layout.COMPARISON: {
            "pairs": [
                {"a": "simclr", "b": other, "verdict": f"simclr above {other}"} for other in ("random", "gsimclr")
            ]
        },
        layout.DATASET: {"name": "Digits"},
    }.items():
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text(json.dumps(content))


def test_a_card_holds_no_figures_that_are_old(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_results()
    text = card(CONFIG, known_of_project("simclr", 0, {}), "torch", "")
    assert all(part in text for part in ("0.8765", "above random", "above gsimclr", "when this card was written"))
    text = card(CONFIG, known_of_project("simclr", 0, {"random": "its schedule changed"}), "torch", "")
    assert "0.8765" in text and "above gsimclr" in text and "above random" not in text
    text = card(CONFIG, known_of_project("simclr", 0, {"": "the summary changed"}), "torch", "")
    assert "0.8765" in text and "above" not in text
    known = known_of_project("simclr", 0, {"simclr": "train.epochs is modified"})
    text = card(CONFIG, known, "torch", "")
    assert "0.8765" not in text and "above" not in text
    assert "Scores are left out" in text and "train.epochs is modified" in text
    assert "may have seen other data" in text
    assert "has not been evaluated" not in text


GRAPH = """stages:
  probe:
    matrix: {run: [simclr], seed: [0]}
    cmd: "true"
    deps: ["data/runs/${item.run}/${item.seed}"]
    params: [epochs]
"""


def test_the_folder_is_asked_whether_figures_are_old(tmp_path, monkeypatch, capsys):
    """After a parameter changed, and where the graph cannot be read, the backbone is exported without figures."""
    project = new_project(tmp_path / "project")
    project.write("dvc.yaml", GRAPH)
    project.write("params.yaml", "epochs: 1\n")
    monkeypatch.chdir(project.root)
    run_of(tmp_path / "made", "resnet_tiny", 16)
    layout.run("simclr", 0).parent.mkdir(parents=True)
    (tmp_path / "made").rename(layout.run("simclr", 0))
    write_results()
    project.dvc("repro")

    def written(name, arguments, root, on_line):
        Path(arguments[arguments.index("--said") + 1]).write_text('{"difference": 0, "usage": "", "volumes": false}')

    monkeypatch.setattr(module, "run_module", written)

    def exported(name: str) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["reprise", "export", "simclr", "--out", name])
        with suppress(SystemExit):
            main.main()
        return Path(name, "README.md").read_text(), capsys.readouterr().err

    text, said = exported("fresh")
    assert "0.8765" in text and said == ""
    project.write("params.yaml", "epochs: 2\n")
    text, said = exported("old")
    assert "0.8765" not in text and "epochs is modified" in text and "epochs is modified" in said
    project.write("dvc.yaml", "stages: {probe: [")
    text, said = exported("broken")
    assert "0.8765" not in text and "Scores are left out" in text and str(tmp_path) not in text
    assert "leaves scores and verdicts out" in said


def test_nothing_is_written_where_features_differ(tmp_path, monkeypatch, here):
    run_of(tmp_path / "run", "resnet_tiny", 16)
    monkeypatch.setitem(FORMS, "torch", lambda backbone, folder: Written(lambda images: backbone(images) + 1, ""))
    with pytest.raises(BackboneError, match="other features"):
        export(tmp_path / "run", Known("run"), "torch", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
