"""A group as a whole: files, stored results, the command, errors."""

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
from reprise.config.errors import ProbeError, ResultError
from reprise.config.registry import load_class, names
from stages.probe import cache
from stages.probe.group import run_group
from stages.probe.probe import Figure, Probe, ProbeResult
from stages.probe.probes.label_free.spectrum import Spectrum
from stages.probe.probes.quality.knn import Knn
from stages.probe.probes.quality.linear import Linear

ROOT = Path(__file__).parents[3]
GROUPS = ("quality", "label_free")


def both() -> dict[str, Probe]:
    return {"knn": Knn(Knn.Params()), "linear": Linear(Linear.Params())}


def tree(folder: str) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir())}


def test_files_and_their_schema(make) -> None:
    run_group(both(), make(), "out", "test")
    assert set(tree("out")) == {
        "metrics.json", "protocol.json", "predictions-knn.parquet", "predictions-linear.parquet", "linear.parquet"
    }  # fmt: skip
    metrics = read_json("out/metrics.json")
    assert set(metrics) == {"knn", "linear"}
    assert set(metrics["knn"]["top1"]) == {"value", "low", "high", "n"}
    assert read_predictions("out/predictions-knn.parquet").num_rows == 80
    assert read_json("out/protocol.json")["knn"]["k"] == "20"


def test_stored_results_give_the_same_bytes(make) -> None:
    assert run_group(both(), make(), "first", "test") == ["knn", "linear"]
    assert run_group(both(), make(), "second", "test") == []
    shutil.rmtree(".reprise")
    assert run_group(both(), make(), "third", "test") == ["knn", "linear"]
    assert tree("first") == tree("second") == tree("third")


def test_only_the_changed_probe_runs(make) -> None:
    run_group(both(), make(), "out", "test")
    changed = both() | {"knn": Knn(Knn.Params(k=3))}
    assert run_group(changed, make(), "out", "test") == ["knn"]
    assert run_group(both(), make(seed=1), "out", "test") == ["knn", "linear"]


def test_the_hash_covers_the_probes_file_and_the_measures(
    make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, probe = make(), Knn(Knn.Params())
    before = cache.key("knn", probe, data)
    edited = tmp_path / "knn.py"
    edited.write_text("# edited", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(cache.inspect, "getfile", lambda _: str(edited))
        assert cache.key("knn", probe, data) != before
    with monkeypatch.context() as patch:
        listed = cache._files
        patch.setattr(cache, "_files", lambda folders: [*listed(folders), edited])
        assert cache.key("knn", probe, data) != before
    assert cache.key("knn", probe, data) == before


def test_a_damaged_store_is_computed_again(make) -> None:
    run_group(both(), make(), "first", "test")
    for folder in Path(".reprise/probes").iterdir():
        (folder / "result.json").write_text("{", encoding="utf-8")
    assert run_group(both(), make(), "second", "test") == ["knn", "linear"]
    for folder in Path(".reprise/probes").iterdir():
        (folder / "predictions.parquet").write_bytes(b"PAR1")
    assert run_group(both(), make(), "third", "test") == ["knn", "linear"]
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
    run_group({**both(), "spectrum": Spectrum(Spectrum.Params())}, data, "out", "test")
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
    run_group(both(), data, "out", "test")
    before = tree("out")
    broken = Broken(Broken.Params())
    broken.result = ProbeResult({"rank": Figure(float("nan"), None, None, 1)}, {})
    with pytest.raises((ResultError, ValueError)):
        run_group({"broken": broken}, data, "out", "test")
    broken.result = ProbeResult({}, {}, predictions=pa.table({"key": ["a"]}))
    with pytest.raises(ProbeError, match="top1"):
        run_group({"broken": broken}, data, "out", "test")
    assert tree("out") == before


def test_every_probe_file_holds_one_probe_and_imports_nothing_heavy() -> None:
    found = {group: names(f"probes/{group}") for group in GROUPS}
    assert {"knn", "linear"} <= set(found["quality"])
    for group, probes in found.items():
        for name in probes:
            kind = load_class(f"probes/{group}", name, Probe, "test")
            assert kind.Params() == kind.Params.model_validate({})
    modules = [f"stages.probe.probes.{g}.{n}" for g, probes in found.items() for n in probes]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "REPRISE_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "stages.probe", *arguments], capture_output=True, text=True, check=False, env=environment
    )


def parameters(**probes: dict) -> None:
    tables = {
        "seeds": [0],
        "runs": [{"name": "simclr", "method": "simclr", "labels": "none"}],
        "mines": [],
        "features": [],
        "groups": [{"name": g} for g in GROUPS],
        "summary": {"confidence": 0.9, "family": "knn.top1"},
    }
    Path("params.yaml").write_text(json.dumps({**tables, "probes": probes}), encoding="utf-8")


def test_the_command(make) -> None:
    make()
    for source, target in (("manifest", "ingest/manifest"), ("embeddings", "embed/simclr/0/embeddings")):
        Path(f"data/{target}.parquet").parent.mkdir(parents=True, exist_ok=True)
        Path(f"data/{source}.parquet").rename(f"data/{target}.parquet")
    parameters(quality={"knn": {"k": 5}})
    done = command("--run", "simclr", "--seed", "0", "--group", "quality")
    assert done.returncode == 0, done.stderr
    figure = read_json("data/probe/simclr/0/quality/metrics.json")["knn"]["top1"]
    assert figure["value"] > 0.8
    assert read_json("data/probe/simclr/0/quality/protocol.json")["knn"]["confidence"] == "0.9"
    assert Path(".reprise/provenance/probe/simclr/0/quality.json").is_file()

    parameters(quality={"knn": {"k": 0}})
    refused = command("--run", "simclr", "--seed", "0", "--group", "quality")
    assert refused.returncode == 1
    assert "probes.quality.knn.k" in refused.stderr
    assert "Traceback" not in refused.stderr
    unknown = command("--run", "simclr", "--seed", "0", "--group", "qualty")
    assert "Did you mean 'quality'?" in unknown.stderr
    assert np.isfinite(figure["low"])
