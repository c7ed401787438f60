"""Comparison of representations: a copy, a rotated copy and a stranger, through files, probes and the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import cohen_kappa_score
from sklearn.neighbors import KNeighborsClassifier

from reprise.artifacts.embeddings import read_embeddings, write_embeddings
from reprise.config.errors import EmbeddingError, ParameterError
from reprise.config.params import read_yaml
from reprise.config.plug_ins.registry import load_class, module_of, names
from stages.check.parameters import problems
from stages.probe.encoder import Encoders, RepresentationProbe
from stages.probe.probes.representations.neighbourhood import kappa
from stages.probe.representations import main
from stages.probe.running import all_pairs
from stages.probe.running.all_pairs import compare_all, read_encoders

ROOT = Path(__file__).parents[4]
KIND = "probes/representations"
MANIFEST = Path("data/manifest.parquet")


def all_probes(**params: dict) -> dict[str, RepresentationProbe]:
    kinds = {name: load_class(KIND, name, RepresentationProbe, "test") for name in names(KIND)}
    return {name: kind(kind.Params(**params.get(name, {}))) for name, kind in kinds.items()}


def make_encoders(make, rows: int = 500, narrow: bool = False, **options) -> Encoders:
    """`same`, `turned` (rotated, scaled, moved), `other` (noise of its own), and `narrow` (fewer dimensions)."""
    make(spread=2.5, **options)
    keys, splits, x = read_embeddings("data/embeddings.parquet", "backbone")
    rng = np.random.default_rng(3)
    turn, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    found = {
        "same": x,
        "turned": (3 * x @ turn + 2).astype(np.float32),
        "other": rng.normal(size=x.shape).astype(np.float32),
    }
    if narrow:
        found["narrow"] = x[:, :5]
    for name, values in found.items():
        write_embeddings(f"data/{name}.parquet", keys, splits, {"backbone": values})
    return read_encoders({n: (n, 0, Path(f"data/{n}.parquet")) for n in found}, rows, MANIFEST)


def matrices(encoders: Encoders, **params: dict) -> dict[str, dict[str, np.ndarray]]:
    compare_all(all_probes(**params), encoders, Path("out"))
    written = json.loads(Path("out/representations.json").read_text())["probes"]
    return {p: {m: np.array(v, dtype=float) for m, v in found["metrics"].items()} for p, found in written.items()}


def test_a_rotated_copy_is_the_same_and_a_stranger_is_not(make) -> None:
    found = matrices(make_encoders(make))
    for metric in ("cka", "cka_debiased", "rsa", "procrustes"):
        m = found["similarity"][metric]
        assert m[0, 1] == pytest.approx(1.0, abs=1e-5), metric
        assert m[0, 2] < 0.5, metric
        assert np.array_equal(m, m.T), metric
    assert found["stitching"]["stitched"][0, 1] == found["stitching"]["stitched"][1, 1]  # zero-shot, and exact
    assert found["stitching"]["absolute"][0, 1] < 0.7 < found["stitching"]["stitched"][0, 1]
    assert found["matching"]["one_to_one"][0, 0] == pytest.approx(1.0)
    assert found["matching"]["one_to_one"][0, 1] < 0.9
    assert (found["matching"]["semi"] >= found["matching"]["one_to_one"]).all()
    assert found["matching"]["chance"][0, 0] < 0.4
    assert found["neighbourhood"]["disagreement"][0, 2] > 0.4
    assert abs(found["neighbourhood"]["kappa"][0, 2]) < 0.2
    assert found["compatibility"]["retrieval"][0, 0] > found["compatibility"]["retrieval"][1, 0]


def test_stitching_is_exact_whatever_the_rotation(make) -> None:
    encoders = make_encoders(make)
    probe = all_probes()["stitching"]
    prepared = [probe.prepare(encoder, encoders.examples) for encoder in encoders.members]
    answers = [p["stitched"][0].predict(prepared[0]["stitched"][1]) for p in prepared[:2]]
    assert np.array_equal(*answers)


def test_disagreement_equals_scikit_learn(make) -> None:
    encoders = make_encoders(make)
    found = matrices(encoders, neighbourhood={"votes": 5, "temperature": 0.2})
    examples, answers = encoders.examples, []
    for encoder in encoders.members:
        peer = KNeighborsClassifier(5, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.2))
        peer.fit(encoder.train, examples.train_labels)
        answers.append(peer.predict(encoder.test))
    for a, b in ((0, 2), (1, 2)):
        assert found["neighbourhood"]["disagreement"][a, b] == pytest.approx((answers[a] != answers[b]).mean())
        expected = cohen_kappa_score(answers[a], answers[b])
        assert found["neighbourhood"]["kappa"][a, b] == pytest.approx(expected, abs=1e-6)
    assert kappa(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), 3) == pytest.approx(
        cohen_kappa_score([0, 1, 1, 2], [0, 1, 2, 2])
    )
    assert kappa(np.zeros(4, int), np.zeros(4, int), 3) == 1.0


def test_other_dimensions_leave_cells_empty_where_axes_must_agree(make) -> None:
    found = matrices(make_encoders(make, narrow=True))
    for probe, metric in (("stitching", "absolute"), ("compatibility", "retrieval")):
        assert np.isnan(found[probe][metric][3, 0])
        assert np.isfinite(found[probe][metric][3, 3])
    for probe, metric in (("stitching", "stitched"), ("similarity", "cka"), ("matching", "semi")):
        assert np.isfinite(found[probe][metric]).all()
    written = json.loads(Path("out/representations.json").read_text())["probes"]
    assert written["compatibility"]["overall"] == {}
    assert 0 < written["stitching"]["overall"]["kept"] <= 1.1
    table = pq.read_table("out/representations.parquet").to_pylist()
    assert {r["value"] for r in table if r["metric"] == "absolute" and {r["a"], r["b"]} == {"same", "narrow"}} == {None}


def test_versions_in_their_order(make) -> None:
    compare_all(all_probes(), make_encoders(make), Path("out"))
    written = json.loads(Path("out/representations.json").read_text())["probes"]["compatibility"]
    c = np.array(written["metrics"]["retrieval"])
    better = [c[i, j] > c[j, j] for i in range(3) for j in range(i)]
    assert written["overall"]["ac_retrieval"] == pytest.approx(np.mean(better), abs=1e-6)
    assert written["overall"]["am_retrieval"] == pytest.approx(c[np.tril_indices(3)].mean(), abs=1e-6)


def test_rows_are_joined_by_key_and_limited_alike(make) -> None:
    encoders = make_encoders(make, rows=50)
    assert {len(encoder.train) for encoder in encoders.members} == {50}
    keys, _, x = read_embeddings("data/same.parquet", "backbone")
    place = {key: i for i, key in enumerate(keys)}
    assert np.array_equal(encoders.members[0].test, x[[place[k] for k in encoders.examples.test_keys]])
    order = np.random.default_rng(0).permutation(len(keys))[:300]  # another order, and not all of the images
    _, splits, _ = read_embeddings("data/same.parquet", "backbone")
    write_embeddings("data/part.parquet", keys[order], splits[order], {"backbone": x[order]})
    named = {n: (n, 0, Path(f"data/{n}.parquet")) for n in ("same", "part")}
    both = read_encoders(named, 500, MANIFEST)
    assert np.array_equal(both.members[0].train, both.members[1].train)
    assert len(both.examples.train_keys) + len(both.examples.test_keys) < 300
    few = order[:25]
    write_embeddings("data/part.parquet", keys[few], splits[few], {"backbone": x[few]})
    with pytest.raises(EmbeddingError, match="too few images are in every embedding"):
        read_encoders(named, 500, MANIFEST)


def test_a_small_data_set_gives_an_empty_comparison_that_says_why(make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_pairs, "FEWEST", 10_000)
    encoders = make_encoders(make)
    assert compare_all(all_probes(), encoders, Path("out")) == []
    written = json.loads(Path("out/representations.json").read_text())
    assert [encoder["name"] for encoder in written["encoders"]] == ["same", "turned", "other"]
    assert set(written["probes"]) == set(all_probes())
    for found in written["probes"].values():
        assert found["metrics"] == found["overall"] == {}
        assert f"and the embeddings share {len(encoders.examples.train_keys)} of train and" in found["protocol"]["note"]
    assert pq.read_table("out/representations.parquet").num_rows == 0
    assert compare_all({}, encoders, Path("out")) == []


def test_without_labels_what_needs_them_says_so(make) -> None:
    found = matrices(make_encoders(make, labels=lambda s, c: None))
    assert found["stitching"] == found["compatibility"] == {}
    assert set(found["neighbourhood"]) == {"mutual_knn"}
    written = json.loads(Path("out/representations.json").read_text())["probes"]
    assert "needs labels" in written["stitching"]["protocol"]["note"]


def test_stored_results_are_used_and_one_changed_probe_runs_alone(make) -> None:
    encoders = make_encoders(make)
    assert compare_all(all_probes(), encoders, Path("out")) == sorted(all_probes())
    first = {p.name: p.read_bytes() for p in Path("out").iterdir()}
    assert compare_all(all_probes(), encoders, Path("out")) == []
    assert {p.name: p.read_bytes() for p in Path("out").iterdir()} == first
    assert compare_all(all_probes(matching={"clusters": 4}), encoders, Path("out")) == ["matching"]


def test_dead_units_and_collapsed_encoders_give_numbers(make) -> None:
    encoders = make_encoders(make)
    keys, splits, x = read_embeddings("data/same.parquet", "backbone")
    write_embeddings("data/other.parquet", keys, splits, {"backbone": x * 0 + 1})
    named = {encoder.name: (encoder.name, 0, Path(f"data/{encoder.name}.parquet")) for encoder in encoders.members}
    found = matrices(read_encoders(named, 500, MANIFEST))
    assert found["similarity"]["cka"][0, 2] == found["matching"]["one_to_one"][2, 2] == 0.0
    assert all(np.isfinite(m).all() for probe in found.values() for m in probe.values())


def test_files_are_small_enough_to_import_and_hold_one_probe_each() -> None:
    modules = [module_of(KIND, name) for name in names(KIND)]
    code = f"import sys, {', '.join(modules)}; sys.exit(bool({{'torch', 'scipy', 'sklearn'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


@pytest.mark.parametrize("seeds", [[0], [0, 3]])
def test_the_command(make, like_a_stage: None, seeds: list[int]) -> None:
    encoders = make_encoders(make)
    keys, splits, _ = read_embeddings("data/same.parquet", "backbone")
    Path("data/ingest").mkdir()
    Path("data/manifest.parquet").rename("data/ingest/manifest.parquet")
    for encoder in encoders.members[:2]:
        for seed in seeds:
            values = read_embeddings(f"data/{encoder.name}.parquet", "backbone")[2]
            write_embeddings(f"data/embed/{encoder.name}/{seed}/embeddings.parquet", keys, splits, {"backbone": values})
    raw = {
        "seeds": seeds,
        "runs": [{"name": n, "method": "simclr", "labels": "none"} for n in ("same", "turned")],
        "mines": [],
        "features": [],
        "suites": [{"name": "quality"}],
        "representations": {"rows": 100, "probes": {"similarity": {}}},
    }
    Path("params.yaml").write_text(json.dumps(raw))
    main([])
    written = json.loads(Path("data/representations/representations.json").read_text())
    expected = ["same", "turned"] if len(seeds) == 1 else ["same 0", "same 3", "turned 0", "turned 3"]
    assert [encoder["name"] for encoder in written["encoders"]] == expected
    assert np.array(written["probes"]["similarity"]["metrics"]["cka"]).min() == pytest.approx(1.0, abs=1e-5)
    if len(seeds) == 1:
        options = ["--encoder", "a=data/other.parquet", "--encoder", "b=data/same.parquet", "--out", "elsewhere"]
        main(options)
        assert [s["name"] for s in json.loads(Path("elsewhere/representations.json").read_text())["encoders"]] == [
            "a",
            "b",
        ]
        with pytest.raises(ParameterError, match="an encoder is given as NAME=FILE"):
            main(["--encoder", "x"])


def test_one_encoder_alone_is_fine(make) -> None:
    encoders = make_encoders(make)
    alone = Encoders(encoders.examples, encoders.members[:1])
    assert matrices(alone)["similarity"]["cka"].tolist() == [[1.0]]
    assert all_pairs.FILE in {p.name for p in Path("out").iterdir()}


def test_wrong_names_and_parameters_are_found_before_anything_runs() -> None:
    raw = read_yaml(ROOT / "params.yaml")
    assert problems(raw) == []
    raw["representations"]["probes"] |= {"simlarity": {}, "matching": {"cluster": 3}}
    raw["representations"]["row"] = 5
    raw["suites"].append({"name": "representations"})
    found = "\n".join(map(str, problems(raw)))
    assert "representations.probes.simlarity: unknown probe. Found: 'simlarity'. Did you mean 'similarity'?" in found
    assert "representations.probes.matching.cluster: unknown parameter" in found
    assert "representations.row: unknown parameter" in found
    assert "no such folder of probes. Found: 'representations'" in found
