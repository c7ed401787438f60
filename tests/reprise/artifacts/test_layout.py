"""layout.py and dvc.yaml name the same places."""

from __future__ import annotations

from pathlib import Path

from pipeline.graph.definition import load_graph
from reprise.artifacts import layout


def test_the_outputs_of_the_graph_lie_where_the_layout_says(repository: Path) -> None:
    outs: dict[str, list[str]] = {}
    for stage in load_graph(repository).stages:
        outs.setdefault(stage.entry, []).extend(stage.outs)
    runs = ("random", "supervised", "patch_kmeans", "simclr", "gsimclr")
    expected = {
        "check": [layout.CODE],
        "ingest": [layout.INGEST],
        "validate": [layout.VALIDATION],
        "shard": [layout.SHARDS],
        "facts": [layout.FACTS],
        "train_models": [layout.trained_models(0)],
        "features": [layout.features("dae", 0)],
        "given_labels": [layout.LABEL_SETS / "none", layout.LABEL_SETS / "truth"],
        "models": [layout.MODELS, layout.STARTS],
        "mine": [layout.label_set("dae_kmeans", 0)],
        "pretrain": [layout.run(run, 0) for run in runs],
        "embed": [layout.embedding(run, 0) for run in runs],
        "probe": [layout.probes_on_features(run, 0) for run in runs],
        "representations": [layout.REPRESENTATIONS],
        "summary": [layout.SUMMARY, layout.METRICS],
        "report": [layout.REPORT, *layout.RESULTS],
    }
    assert {entry: sorted(paths) for entry, paths in outs.items()} == {
        entry: sorted(path.as_posix() for path in paths) for entry, paths in expected.items()
    }


def test_a_row_of_mines_reads_features_or_an_embedding() -> None:
    assert layout.mined_from("features/dae", 3) == layout.features("dae", 3)
    assert layout.mined_from("embed/simclr", 3) == layout.embedding("simclr", 3)


def test_the_report_s_inputs_lie_below_the_outputs() -> None:
    folders = {pattern.split("/")[1] for pattern in layout.inputs_of_report()}
    made = {"ingest", "validate", "shards", "facts", "trained", "mine", "runs", "embed", "probe", "summary"}
    assert folders == made | {"representations"}
