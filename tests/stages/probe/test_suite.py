"""A suite as a whole: files, stored results, the command, errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reprise.artifacts.results import read_json, read_predictions
from reprise.config.errors import ParameterError, ProbeError, ResultError
from reprise.config.plug_ins.registry import load_class, names
from reprise.storage.atomic import atomic_directory
from stages.probe.__main__ import main
from stages.probe.probe import Figure, Probe, ProbeResult
from stages.probe.probes.label_free.spectrum import Spectrum
from stages.probe.probes.quality.knn import Knn
from stages.probe.probes.quality.linear import Linear
from stages.probe.running import cache
from stages.probe.running.suite import run_suite, write_suite

ROOT = Path(__file__).parents[3]
SUITES = ("quality", "label_free")


def both() -> dict[str, Probe]:
    return {"knn": Knn(Knn.Params()), "linear": Linear(Linear.Params())}


def written(probes: dict[str, Probe], data, folder: str) -> list[str]:
    """Run the probes, write their folder as the stage does, and return those that were computed."""
    suite = run_suite(probes, data, "test")
    with atomic_directory(folder) as partial:
        write_suite(suite, partial)
    return suite.computed


def tree(folder: str) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir())}


def test_files_and_their_schema(make) -> None:
    written(both(), make(), "out")
    assert set(tree("out")) == {
        "metrics.json", "protocol.json", "predictions-knn.parquet", "predictions-linear.parquet", "linear.parquet"
    }  # fmt: skip
    metrics = read_json("out/metrics.json")
    assert set(metrics) == {"knn", "linear"}
    assert set(metrics["knn"]["top1"]) == {"value", "low", "high", "n"}
    assert read_predictions("out/predictions-knn.parquet").num_rows == 80
    assert read_json("out/protocol.json")["knn"]["k"] == "20"


def test_stored_results_give_the_same_bytes(make) -> None:
    assert written(both(), make(), "first") == ["knn", "linear"]
    assert written(both(), make(), "second") == []
    shutil.rmtree(".reprise")
    assert written(both(), make(), "third") == ["knn", "linear"]
    assert tree("first") == tree("second") == tree("third")


def test_only_the_changed_probe_runs(make) -> None:
    written(both(), make(), "out")
    changed = both() | {"knn": Knn(Knn.Params(k=3))}
    assert written(changed, make(), "out") == ["knn"]
    assert written(both(), make(seed=1), "out") == ["knn", "linear"]


@pytest.mark.parametrize("edited", ["stages.probe.probes.quality.knn", "stages.probe.data"])
def test_the_key_covers_the_code_of_the_probe_and_of_its_data(make, monkeypatch: pytest.MonkeyPatch, edited) -> None:
    data, probe = make(), Knn(Knn.Params())

    def key(changed: str | None) -> str:
        digests = lambda modules: {m: {"": "changed" if m == changed else "as before"} for m in modules}  # noqa: E731
        monkeypatch.setattr(cache, "fingerprint", digests)
        return cache.key("knn", probe, data)

    assert key(None) == key("stages.probe.probes.quality.linear") != key(edited)


def test_a_damaged_store_is_computed_again(make) -> None:
    written(both(), make(), "first")
    for folder in Path(".reprise/probes").iterdir():
        (folder / "result.json").write_text("{", encoding="utf-8")
    assert written(both(), make(), "second") == ["knn", "linear"]
    for folder in Path(".reprise/probes").iterdir():
        (folder / "predictions.parquet").write_bytes(b"PAR1")
    assert written(both(), make(), "third") == ["knn", "linear"]
    assert tree("first") == tree("second") == tree("third")


def test_the_store_is_bounded_and_drops_the_longest_unused(make) -> None:
    make()
    for i in range(6):
        cache.store(f"{i:064x}", ProbeResult({"rank": Figure(float(i), None, None, 1)}, {}), kept=100)
        os.utime(cache.FOLDER / f"{i:064x}", (1000 + i, 1000 + i))
    assert cache.load(f"{0:064x}").metrics["rank"].value == 0.0  # now the latest used
    cache.store(f"{9:064x}", ProbeResult({}, {}), kept=3)
    assert sorted(p.name[-1] for p in cache.FOLDER.iterdir()) == ["0", "5", "9"]


def test_without_labels_quality_says_so_and_label_free_runs(make) -> None:
    data = make(labels=lambda s, c: None)
    written({**both(), "spectrum": Spectrum(Spectrum.Params())}, data, "out")
    metrics = read_json("out/metrics.json")
    assert metrics["knn"] == metrics["linear"] == {}
    assert metrics["spectrum"]["rankme"]["value"] > 1
    assert read_json("out/protocol.json")["knn"] == {"note": "not run: no image has a label"}
    assert set(tree("out")) == {"metrics.json", "protocol.json"}


class Broken(Probe):
    """Returns what it was given."""

    result: ProbeResult

    def run(self, data) -> ProbeResult:
        return self.result


def test_what_a_probe_returns_is_checked_and_the_old_result_stays(make) -> None:
    data = make()
    written(both(), data, "out")
    before = tree("out")
    broken = Broken(Broken.Params())
    broken.result = ProbeResult({"rank": Figure(float("nan"), None, None, 1)}, {})
    with pytest.raises((ResultError, ValueError)):
        written({"broken": broken}, data, "out")
    broken.result = ProbeResult({}, {}, predictions=pa.table({"key": ["a"]}))
    with pytest.raises(ProbeError, match="top1"):
        written({"broken": broken}, data, "out")
    assert tree("out") == before


def test_every_probe_file_holds_one_probe_and_imports_nothing_heavy() -> None:
    found = {suite: names(f"probes/{suite}") for suite in SUITES}
    assert {"knn", "linear"} <= set(found["quality"])
    for suite, probes in found.items():
        for name in probes:
            kind = load_class(f"probes/{suite}", name, Probe, "test")
            assert kind.Params() == kind.Params.model_validate({})
    modules = [f"stages.probe.probes.{s}.{n}" for s, probes in found.items() for n in probes]
    code = f"import sys, {', '.join(modules)}; sys.exit(bool({{'torch', 'scipy', 'sklearn'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def parameters(**probes: dict) -> None:
    tables = {
        "seeds": [0],
        "runs": [{"name": "simclr", "method": "simclr", "labels": "none"}],
        "mines": [],
        "features": [],
        "suites": [{"name": s} for s in SUITES],
        "summary": {"confidence": 0.9, "family": "knn.top1"},
    }
    Path("params.yaml").write_text(json.dumps({**tables, "probes": probes, "image_probes": {}}), encoding="utf-8")


def test_the_command(make, like_a_stage: None) -> None:
    make()
    for source, target in (("manifest", "ingest/manifest"), ("embeddings", "embed/simclr/0/embeddings")):
        Path(f"data/{target}.parquet").parent.mkdir(parents=True, exist_ok=True)
        Path(f"data/{source}.parquet").rename(f"data/{target}.parquet")
    parameters(quality={"knn": {"k": 5}}, label_free={"spectrum": {}})
    main(["--run", "simclr", "--seed", "0"])
    figure = read_json("data/probe/simclr/0/features/quality/metrics.json")["knn"]["top1"]
    assert figure["value"] > 0.8
    assert read_json("data/probe/simclr/0/features/quality/protocol.json")["knn"]["confidence"] == "0.9"
    assert set(read_json("data/probe/simclr/0/features/label_free/metrics.json")) == {"spectrum"}
    origins = read_json(".reprise/provenance/probe/simclr/0/features.json")["suites"]
    assert origins == {"quality": {"knn": "computed"}, "label_free": {"spectrum": "computed"}}

    parameters(quality={"knn": {"k": 3}}, label_free={"spectrum": {}})
    main(["--run", "simclr", "--seed", "0"])
    origins = read_json(".reprise/provenance/probe/simclr/0/features.json")["suites"]
    assert origins == {"quality": {"knn": "computed"}, "label_free": {"spectrum": "stored"}}

    parameters(quality={"knn": {"k": 0}})
    with pytest.raises(ParameterError, match=r"probes\.quality\.knn\.k"):
        main(["--run", "simclr", "--seed", "0"])
    with pytest.raises(ParameterError, match="Did you mean 'simclr'?"):
        main(["--run", "simcrl", "--seed", "0"])
    assert np.isfinite(figure["low"])
