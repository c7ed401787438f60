"""Probes on shifted images: shifted_knn, shifted_linear and shift_distance, their pairs, groups and intervals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.neighbors import KNeighborsClassifier

from reprise.artifacts.embeddings import write_embeddings
from reprise.artifacts.manifest import MANIFEST_SCHEMA, write_manifest
from reprise.artifacts.results import read_json
from reprise.artifacts.shifts import ShiftedFile
from reprise.config.errors import EmbeddingError
from reprise.config.params import read_yaml
from reprise.measures.statistics import bootstrap_mean, wilson
from stages.probe import on_shifts
from stages.probe.data import ProbeData
from stages.probe.probes.shift.shift_distance import ShiftDistance
from stages.probe.probes.shift.shifted_knn import ShiftedKnn
from stages.probe.probes.shift.shifted_linear import ShiftedLinear
from stages.probe.running import cache
from stages.probe.running.suite import run_suite

FOLDER = Path("data")


def corruption(data: ProbeData, name: str, shift: str, severity: int, amount: float) -> ShiftedFile:
    """Write embeddings of the scored split that noise has moved."""
    part = data.part("test")
    noise = np.random.default_rng(len(name)).normal(size=(len(part), 8))
    values = (data.features("test") + amount * noise).astype(np.float32)
    images = FOLDER / name
    images.mkdir(exist_ok=True)
    (images / "shift.json").write_text(json.dumps({"notes": []}))
    path = FOLDER / f"{name}.parquet"
    write_embeddings(path, part.keys, np.array(["test"] * len(part), dtype=object), {"backbone": values})
    return ShiftedFile(name, shift, severity, path, images, ())


def elsewhere(labels: list[str | None], groups: list[str | None] | None = None) -> ShiftedFile:
    """Write images of another site, far along the axis of their class."""
    n = len(labels)
    keys = np.array([f"{i:024x}" for i in range(n)], dtype=object)
    rng = np.random.default_rng(3)
    classes = [0 if label is None else int(label.split()[1]) for label in labels]
    values = (rng.normal(size=(n, 8)) + 3.0 * np.eye(3, 8)[classes]).astype(np.float32)
    images = FOLDER / "site"
    rows = [
        {"key": key, "path": f"{key}.png", "offset": 0, "bytes": 1, "split": "test", "label": label, "width": 8,
         "height": 8, "channels": 3, "format": "PNG", "plain": True, "pixels": key, "sha256": key,
         "group": groups[i] if groups else None}
        for i, (key, label) in enumerate(zip(keys, labels, strict=True))
    ]  # fmt: skip
    write_manifest(images / "manifest.parquet", pa.Table.from_pylist(rows, MANIFEST_SCHEMA))
    path = FOLDER / "site.parquet"
    write_embeddings(path, keys, np.array(["test"] * n, dtype=object), {"backbone": values})
    return ShiftedFile("site", "folder", None, path, images, ("Seen with care.",))


def with_shifts(data: ProbeData, *files: ShiftedFile) -> ProbeData:
    return ProbeData(FOLDER / "embeddings.parquet", FOLDER / "manifest.parquet", shifts=files)


def test_kNN_restated_with_paired_drop_and_means_by_severity(make) -> None:
    plain = make()
    files = [corruption(plain, f"{s}{v}", s, v, v * 0.8) for s in ("fog", "jpeg") for v in (1, 5)]
    data = with_shifts(plain, *files)
    found = ShiftedKnn(ShiftedKnn.Params(k=1)).run(data)
    bank, test = data.features("train"), data.part("test")
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)  # noqa: E731
    one = KNeighborsClassifier(1).fit(unit(bank), data.part("train").labels)
    clean = one.predict(unit(data.features("test"))) == test.labels
    assert found.metrics["clean"].value == pytest.approx(clean.mean())
    right = {}
    for name in data.shift_names:
        right[name] = one.predict(unit(data.shifted(name).features)) == test.labels
        top1, drop = found.metrics[f"top1_{name}"], found.metrics[f"drop_{name}"]
        assert top1.value == pytest.approx(right[name].mean())
        assert (top1.low, top1.high) == pytest.approx(wilson(int(right[name].sum()), 80))
        assert drop.value == pytest.approx(clean.mean() - right[name].mean())
        assert (drop.low, drop.high) == pytest.approx(bootstrap_mean(clean.astype(float) - right[name]))
    worst = found.metrics["severity_5"]
    assert worst.value == pytest.approx((right["fog5"].mean() + right["jpeg5"].mean()) / 2)
    assert worst.low < worst.value < worst.high
    assert worst.value < found.metrics["severity_1"].value < found.metrics["clean"].value
    rows = found.table.to_pylist()
    assert len(rows) == 4 * 80
    assert {(row["set"], row["severity"]) for row in rows} >= {("fog5", 5), ("jpeg1", 1)}
    assert np.mean([row["correct"] for row in rows if row["set"] == "fog5"]) == pytest.approx(right["fog5"].mean())
    assert np.mean([row["clean"] for row in rows if row["set"] == "fog5"]) == pytest.approx(clean.mean())


def test_one_corruption_is_no_mean_over_corruptions(make) -> None:
    plain = make()
    data = with_shifts(plain, corruption(plain, "fog1", "fog", 1, 0.1), corruption(plain, "fog5", "fog", 5, 1.0))
    found = ShiftedLinear(ShiftedLinear.Params()).run(data)
    assert not [name for name in found.metrics if name.startswith("severity")]
    assert found.metrics["clean"].value > found.metrics["top1_fog5"].value
    assert "chosen on 60 val images" in found.protocol["penalty"]


def test_images_from_elsewhere_are_not_paired(make) -> None:
    plain = make(test=200)
    labels = [f"class {i % 3}" for i in range(90)] + [None] * 5
    data = with_shifts(plain, elsewhere(labels))
    found = ShiftedKnn(ShiftedKnn.Params()).run(data)
    top1, drop = found.metrics["top1_site"], found.metrics["drop_site"]
    assert top1.n == drop.n == 90  # images without a class are not scored
    assert drop.value == pytest.approx(found.metrics["clean"].value - top1.value)
    assert drop.low < drop.value < drop.high
    assert found.protocol["site"] == "Seen with care."
    assert {row["clean"] for row in found.table.to_pylist()} == {None}
    nothing = with_shifts(plain, elsewhere([None] * 4))
    silent = ShiftedKnn(ShiftedKnn.Params()).run(nothing)
    assert list(silent.metrics) == ["clean"]
    assert "none of these images has a class" in silent.protocol["site"]


def test_groups_are_drawn_whole(make) -> None:
    plain = make(test=120, groups=lambda i: f"video {i // 10}")
    loose = make(test=120)
    files = [corruption(loose, "fog3", "fog", 3, 3.0)]
    alone = ShiftedKnn(ShiftedKnn.Params()).run(with_shifts(loose, *files))
    plain = make(test=120, groups=lambda i: f"video {i // 10}")
    together = ShiftedKnn(ShiftedKnn.Params()).run(with_shifts(plain, *files))
    assert together.metrics["top1_fog3"].value == alone.metrics["top1_fog3"].value
    assert (together.metrics["drop_fog3"].low, together.metrics["top1_fog3"].low) != (
        alone.metrics["drop_fog3"].low,
        alone.metrics["top1_fog3"].low,
    )
    few = make(test=120, groups=lambda i: f"video {i // 100}")
    none = ShiftedKnn(ShiftedKnn.Params()).run(with_shifts(few, *files))
    assert none.metrics["drop_fog3"].low is None  # two or three groups say nothing


def test_distance_needs_no_labels(make) -> None:
    plain = make(labels=lambda split, y: None)
    files = [corruption(plain, "fog1", "fog", 1, 0.0), corruption(plain, "fog5", "fog", 5, 1.0)]
    data = with_shifts(plain, *files, elsewhere([None] * 3))
    suite = run_suite(
        {"shift_distance": ShiftDistance(ShiftDistance.Params()), "shifted_knn": ShiftedKnn(ShiftedKnn.Params())},
        data,
        "",
    )
    distance = suite.results["shift_distance"]
    assert distance.metrics["moved_fog1"].value == 0
    x, y = data.features("test").astype(float), data.shifted("fog5").features
    apart = [np.linalg.norm(a - b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    assert distance.metrics["moved_fog5"].value == pytest.approx(np.linalg.norm(x - y, axis=1).mean() / np.mean(apart))
    assert "site: images from elsewhere" in distance.protocol["left out"]
    assert "no image has a label" in suite.results["shifted_knn"].protocol["note"]


def test_without_shifts_they_are_left_out_and_with_others_computed_again(make) -> None:
    plain = make()
    probe = {"shifted_knn": ShiftedKnn(ShiftedKnn.Params())}
    assert "no shifted images" in run_suite(probe, plain, "").results["shifted_knn"].protocol["note"]
    files = [corruption(plain, "fog1", "fog", 1, 0.1), corruption(plain, "fog2", "fog", 2, 0.2)]
    first = cache.key("shifted_knn", probe["shifted_knn"], with_shifts(plain, *files))
    assert cache.key("shifted_knn", probe["shifted_knn"], with_shifts(plain, *files)) == first
    assert cache.key("shifted_knn", probe["shifted_knn"], with_shifts(plain, files[0])) != first
    corruption(plain, "fog2", "fog", 2, 0.3)
    assert cache.key("shifted_knn", probe["shifted_knn"], with_shifts(plain, *files)) != first


def test_embeddings_of_other_images_are_refused(make) -> None:
    plain = make()
    file = corruption(make(test=70), "fog1", "fog", 1, 0.1)
    plain = make()
    with pytest.raises(EmbeddingError, match="not those of the scored split"):
        with_shifts(plain, file).shifted("fog1")
    site = elsewhere(["class 0"] * 3)
    elsewhere(["class 0"] * 4)
    keys = np.array(["a" * 24], dtype=object)
    write_embeddings(site.embeddings, keys, np.array(["test"], dtype=object), {"backbone": np.zeros((1, 8))})
    with pytest.raises(EmbeddingError, match="other images than the manifest of the shift"):
        with_shifts(plain, site).shifted("site")


def test_the_stage_measures_every_run(make, repository: Path) -> None:
    plain = make()
    runs, raw = ("simclr", "random"), read_yaml(repository / "params.yaml")
    raw |= {"runs": [{"name": run, "method": "random", "labels": "none"} for run in runs], "seeds": [0, 1]}
    raw |= {"shifts": [{"name": "fog", "shift": "fog", "severity": [1, 2]}], "shift_suites": [{"name": "shift"}]}
    raw |= {"shift_probes": {"shift": {"shifted_knn": {"k": 5}, "shift_distance": {}}}}
    Path("params.yaml").write_text(json.dumps(raw))
    FOLDER.joinpath("ingest").mkdir()
    FOLDER.joinpath("manifest.parquet").rename("data/ingest/manifest.parquet")
    for run in runs:
        for seed in (0, 1):
            place = Path(f"data/embed/{run}/{seed}")
            place.mkdir(parents=True)
            place.joinpath("embeddings.parquet").write_bytes((FOLDER / "embeddings.parquet").read_bytes())
            for severity in (1, 2):
                made = corruption(plain, f"fog{severity}", "fog", severity, severity).embeddings
                target = Path(f"data/shifts/fog/embed/{run}/{seed}/{made.name}")
                target.parent.mkdir(parents=True, exist_ok=True)
                made.rename(target)
    Path("data/shifts/fog/images").mkdir()
    Path("data/shifts/fog/images/shift.json").write_text('{"notes": []}')
    on_shifts.main(["--suite", "shift"])
    for run in runs:
        metrics = read_json(f"data/probe/_shifts/shift/{run}/1/metrics.json")
        assert set(metrics) == {"shifted_knn", "shift_distance"}
        assert set(metrics["shift_distance"]) == {"moved_fog1", "moved_fog2"}
    Path("data/shifts/fog/embed/random/1/fog2.parquet").unlink()
    with pytest.raises(EmbeddingError, match="embeddings under a shift are missing"):
        on_shifts.main(["--suite", "shift"])
