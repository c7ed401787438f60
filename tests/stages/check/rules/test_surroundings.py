"""Values against each other, against the images and against the machine: each stage's own rules, called early."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reprise.config.params import Problem, read_yaml
from stages.check.parameters import problems
from stages.check.rules import machine
from stages.check.rules.data import Facts, data_problems, data_warnings, read_facts
from stages.check.rules.machine import estimate, machine_warnings, memory_warnings, process_warnings
from stages.check.rules.relations import relation_problems, relation_warnings
from stages.check.sketches import sketch_runs
from tests.workspace import make_shards

DIGITS = Facts(  # those of scikit-learn, as ingest splits them
    {"train": 1286, "val": 138, "test": 373},
    {"train": 1286, "val": 138, "test": 373},
    {str(i): 120 for i in range(10)},
    True,
)


@pytest.fixture
def raw(repository: Path) -> dict[str, Any]:
    return copy.deepcopy(read_yaml(repository / "params.yaml"))


def use(raw: dict[str, Any], method: str, labels: str = "none", **params: Any) -> None:
    """Let the run `simclr` use another method."""
    raw["runs"][3] |= {"method": method, "labels": labels}
    raw["methods"]["simclr"] = params


def texts(found: list[Problem]) -> list[str]:
    return [str(problem) for problem in found]


def test_the_parameters_of_the_repository_fit_together_and_fit_the_digits(raw: dict[str, Any]) -> None:
    assert (
        texts([*problems(raw), *relation_warnings(raw), *data_problems(raw, DIGITS), *data_warnings(raw, DIGITS)]) == []
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda raw: raw["methods"].update(patch_kmeans={"patch_size": 20}),
            "methods.patch_kmeans.patch_size: images are smaller than a patch. Found: '16x16 for patches of 20'.",
        ),
        (
            lambda raw: raw["methods"].update(patch_kmeans={"samples": 100, "patches": 256}),
            "methods.patch_kmeans.patches: there are fewer patches than centroids. Found: '100 for 256'.",
        ),
        (lambda raw: use(raw, "simmim", patch_size=5), "a transformer's patches must fill the image"),
        (lambda raw: use(raw, "w_mse", output=300), "needs at least 301 images in every batch. Found: '256 images"),
        (
            lambda raw: use(raw, "simmim", chunk_size=64),
            "methods.simclr.chunk_size: method 'simmim' passes parts of images through its backbone",
        ),
        (
            lambda raw: use(raw, "byol", accumulate=200),
            "'byol' needs at least 2 images in every micro-batch. Found: 'the smallest batch of 256 images in 200",
        ),
        (
            lambda raw: use(raw, "gsimclr", "truth", mask_negatives=True, weigh_by_confidence=True),
            "methods.simclr.weigh_by_confidence: weighing by confidence needs a label set that says how sure it is",
        ),
        (
            lambda raw: use(raw, "triplet"),
            "runs: simclr: labels: method 'triplet' needs a label set of pairs. Found: \"'none', which is empty\".",
        ),
        (
            lambda raw: use(raw, "simlap", "truth"),
            "runs: simclr: labels: method 'simlap' is for mined labels: with the truth its runs would not be",
        ),
        (lambda raw: use(raw, "pair_contrast", "truth"), "'truth', which holds classes and no pairs"),
        (
            lambda raw: use(raw, "triplet", "dae_kmeans"),
            "'dae_kmeans', which is mined by 'kmeans', which finds no pairs",
        ),
        (
            lambda raw: (
                raw["mines"][0].update(miner="mutual_neighbours"),
                raw["mining"].update(dae_kmeans={}),
                use(raw, "triplet", "dae_kmeans", batch_size=31),
            ),
            "hold images and their partners, so their size is even. Found: '31'. Set train.batch_size",
        ),
        (lambda raw: raw["source"].update(root="~/images"), "source.root: `~` and environment variables are not"),
        (lambda raw: raw["source"].update(root="/data/${USER}/x"), "source.root: `~` and environment variables are"),
        (lambda raw: raw["source"].update(root="$HOME/x"), "source.root: `~` and environment variables are not"),
    ],
)
def test_values_that_do_not_fit_each_other(raw: dict[str, Any], change: Any, expected: str) -> None:
    change(raw)
    found = texts(problems(raw))
    assert len(found) == 1
    assert expected in found[0]


def test_a_run_on_mined_pairs_is_as_it_should_be(raw: dict[str, Any]) -> None:
    """Up to twice the images are shown in an epoch, so a batch may hold more than there are."""
    raw["mines"][0]["miner"], raw["mining"]["dae_kmeans"] = "mutual_neighbours", {}
    use(raw, "pair_contrast", "dae_kmeans", batch_size=2 * DIGITS.train)
    assert texts([*problems(raw), *data_problems(raw, DIGITS)]) == []
    use(raw, "pair_contrast", "dae_kmeans", batch_size=2 * DIGITS.train + 2)
    assert "fewer training images than a batch holds" in texts(data_problems(raw, DIGITS))[0]


def test_a_name_that_holds_the_sign_is_taken_when_it_is_written_as_a_path(raw: dict[str, Any]) -> None:
    raw["source"]["root"] = "./~archive/$old"
    assert texts(problems(raw)) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "size", "expected"),
    [
        ("inception_v3", 16, "image.size: inception_v3 cannot take images of 16 pixels"),
        (
            "vit_tiny_patch16_224",
            24,
            "image.size, the patches of vit_tiny_patch16_224: a transformer's patches must fill the image",
        ),
        ("vgg11", 16, "image.size: vgg11 cannot take images of 16 pixels"),
    ],
)
def test_networks_of_timm_that_cannot_take_the_images(
    raw: dict[str, Any], backbone: str, size: int, expected: str
) -> None:
    raw["train"]["backbone"], raw["image"]["size"] = backbone, size
    found = texts(problems(raw))
    assert len(found) == 1, found  # once, for all runs
    assert found[0].startswith(expected)


@pytest.mark.slow
def test_a_crop_that_is_too_small_and_a_patch_that_is_the_image(raw: dict[str, Any]) -> None:
    use(raw, "dino")
    raw["train"]["backbone"], raw["image"]["size"] = "inception_v3", 96
    assert ["the method's small crops of 40 pixels" in line for line in texts(problems(raw))] == [True]
    use(raw, "simclr")
    raw["train"]["backbone"], raw["image"]["size"] = "vit_tiny_patch16_224", 16
    assert ["a transformer's patch is the whole image" in line for line in texts(problems(raw))] == [True]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda raw: raw["train"].update(epochs=5), "train.warmup_epochs: the warm-up takes the whole training"),
        (
            lambda raw: raw["methods"]["simclr"].update(warmup_epochs=80),
            "methods.simclr.warmup_epochs: the warm-up takes the whole training",
        ),
        (
            lambda raw: raw["train"].update(schedule={"name": "warmup_stable_decay", "decay": 0.95}),
            "train.schedule: the warm-up and the decay together are longer than the training",
        ),
        (lambda raw: use(raw, "moco_v2", queue=64), "methods.simclr.queue: the queue holds less than one batch"),
        (
            lambda raw: raw["shard"].update(max_side=8),
            "shard.max_side: images are stored smaller than networks see them",
        ),
        (lambda raw: raw["summary"].update(family="svm.top1"), "summary.family: no suite has this probe"),
        (lambda raw: raw["report"].update(metrics=["svm.top1"]), "report.metrics: no suite has this probe"),
    ],
)
def test_values_that_work_otherwise_than_they_say(raw: dict[str, Any], change: Any, expected: str) -> None:
    change(raw)
    assert texts(problems(raw)) == []
    found = texts(relation_warnings(raw))
    assert len(found) == 1, found
    assert found[0].startswith(expected)


def test_probes_of_changed_images_are_named_when_there_will_be_none(raw: dict[str, Any]) -> None:
    raw["embed"]["augmented"] = 0
    assert [problem.path for problem in relation_warnings(raw)] == [
        "probes.label_free.invariance",
        "probes.label_free.relations",
    ]


@pytest.mark.parametrize(
    ("change", "facts", "expected"),
    [
        (
            lambda raw: raw["mining"]["dae_kmeans"].update(clusters=1287),
            DIGITS,
            "mining.dae_kmeans.clusters: there are fewer images than clusters. Found: '1286 images, 1287 clusters'.",
        ),
        (  # each resample leaves out a third, 429 images
            lambda raw: raw["mining"]["dae_kmeans"].update(clusters=858, resamples=3),
            DIGITS,
            "mining.dae_kmeans.clusters: there are fewer images than clusters. Found: '857 images, 858 clusters'.",
        ),
        (
            lambda raw: (
                raw["mines"][0].update(miner="hdbscan"),
                raw["mining"].update(dae_kmeans={"smallest": 50, "samples": 900}),
            ),
            replace(DIGITS, counts={"train": 800, "test": 100}),
            "mining.dae_kmeans.smallest: there are fewer images than a cluster must have",
        ),
        (
            lambda raw: raw["train"].update(batch_size=1287),
            DIGITS,
            "train.batch_size: there are fewer training images than a batch holds. Found: '1286 images, batch 1287'.",
        ),
        (
            lambda raw: None,
            replace(DIGITS, labelled={}, classes={}),
            "runs: supervised: labels: method 'supervised' needs a label set with labels. Found: \"'truth'",
        ),
    ],
)
def test_values_that_the_images_do_not_allow(raw: dict[str, Any], change: Any, facts: Facts, expected: str) -> None:
    change(raw)
    found = texts(data_problems(raw, facts))
    assert len(found) == 1, found
    assert found[0].startswith(expected)


def test_the_smallest_batch_is_the_one_that_counts(raw: dict[str, Any]) -> None:
    use(raw, "w_mse", output=200)  # needs 201
    raw["mining"]["dae_kmeans"]["clusters"] = 10
    assert data_problems(raw, replace(DIGITS, counts={"train": 512})) == []
    [line] = texts(data_problems(raw, replace(DIGITS, counts={"train": 300})))  # 150 and 150
    raw["train"]["image_share"] = 0.5
    assert texts(data_problems(raw, replace(DIGITS, counts={"train": 600}))) == [line]
    assert "300 images in batches of at most 256, the smallest of 150" in line


def test_probes_that_the_images_leave_out(raw: dict[str, Any]) -> None:
    raw["probes"]["quality"] |= {"few_shot": {"shots": [1, 200]}, "multilabel": {}, "knn": {"k": 2000}}
    found = texts(data_warnings(raw, replace(DIGITS, counts={"train": 1286, "val": 138}, targets=False)))
    for expected in (
        "source.test_fraction: there is no test split, so results are reported on val",
        "probes.quality.few_shot.shots: some classes have fewer training images than shots",
        "probes.quality.multilabel: this probe needs targets and is left out. Found: 'no targets.csv'.",
        "probes.quality.knn.k: there are fewer training images than this, so all of them count",
    ):
        assert any(line.startswith(expected) for line in found), (expected, found)
    assert len(found) == 4


def test_probes_without_labels_are_named_once_each(raw: dict[str, Any]) -> None:
    found = data_warnings(raw, replace(DIGITS, labelled={}, classes={}))
    assert {problem.rule for problem in found} == {"this probe needs labels and is left out"}
    assert "probes.quality.knn" in [problem.path for problem in found]


def test_facts_are_those_of_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_shards(80)
    facts = read_facts()
    assert facts.counts == facts.labelled == {"train": 40, "val": 20, "test": 20}
    assert sum(facts.classes.values()) == 40
    assert not facts.targets


def test_a_machine_without_a_gpu_and_without_the_images(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(machine, "memory_limit", lambda: None)
    monkeypatch.setenv("REPRISE_THREADS", "1000")
    raw["train"]["device"] = raw["embed"]["device"] = "cuda"
    raw["source"] |= {"name": "folder", "root": "elsewhere"}
    found = machine_warnings(raw, root=tmp_path)
    assert [problem.path for problem in found] == ["train.device", "embed.device", "source.root", "REPRISE_THREADS"]
    (tmp_path / "elsewhere").mkdir()
    assert "source.root" not in [problem.path for problem in machine_warnings(raw, root=tmp_path)]


def test_a_run_that_needs_more_memory_than_there_is(raw: dict[str, Any]) -> None:
    sketches = sketch_runs(raw)[0]
    assert memory_warnings(sketches, 8 << 30, 1286) == []
    raw["train"]["batch_size"] = 1_000_000
    found = memory_warnings(sketch_runs(raw)[0], 8 << 30, 1286)
    assert {problem.path for problem in found} == {"runs: supervised", "runs: simclr", "runs: gsimclr"}
    assert "and there are 8.0 GiB" in found[0].rule


def test_processes_that_this_machine_has_no_room_for(raw: dict[str, Any]) -> None:
    raw["train"] |= {"processes": 4, "device": "auto"}
    sketches = sketch_runs(raw)[0]
    assert process_warnings(sketches, 4, 0) == process_warnings(sketches, 2, 4) == []
    (on_cpu,), (on_gpu,) = process_warnings(sketches, 2, 0), process_warnings(sketches, 8, 1)
    assert (on_cpu.path, on_cpu.found) == ("train.processes", "4, with 2 cores")
    assert (on_gpu.rule, on_gpu.found) == ("each process needs a GPU of its own", "4, with 1 visible GPUs")
    raw["methods"]["simclr"]["processes"] = 3
    assert "methods.simclr.processes" in [problem.path for problem in process_warnings(sketch_runs(raw)[0], 2, 0)]
    needed = {problem.path: problem.rule for problem in memory_warnings(sketch_runs(raw)[0], 1 << 20)}
    assert "of memory in 3 processes" in needed["runs: simclr"]


def test_processes_that_batches_cannot_be_shared_among(raw: dict[str, Any]) -> None:
    raw["train"] |= {"processes": 2, "chunk_size": 8}
    assert "train.chunk_size, train.processes" not in [p.path for p in relation_problems(raw)]
    raw["train"] |= {"processes": 1, "chunk_size": None, "shard_weights": True}
    assert "one process has nobody to share the weights of the backbone with" in [
        p.rule for p in relation_problems(raw)
    ]
    raw["train"] |= {"processes": 4000, "shard_weights": False}
    rules = {problem.rule for problem in relation_problems(raw)}
    assert "each process needs at least one image of every batch, or of every micro-batch" in rules


def test_the_estimate_of_memory_follows_the_ways_to_pass_a_batch(raw: dict[str, Any]) -> None:
    def peak(**train: Any) -> float:
        changed = {**raw, "train": raw["train"] | {"batch_size": 100_000, "backbone": "resnet20"} | train}
        return next(estimate(sketch, 0).peak for sketch in sketch_runs(changed)[0] if sketch.row.name == "simclr")

    rest = peak(chunk_size=1)  # process, weights and what one view keeps
    whole = peak() - rest
    assert peak(accumulate=4) - rest == pytest.approx(whole / 4, rel=1e-3)
    assert peak(chunk_size=50_000) - rest == pytest.approx(whole / 4, rel=1e-3)  # of 200,000 views
    assert peak(chunk_size=300_000) - rest == pytest.approx(whole)
    process = peak(batch_size=2, chunk_size=1)
    assert peak(processes=4) - process == pytest.approx((peak() - process) / 4, rel=1e-3)  # of one process
    assert 0.1 < (peak(activation_checkpointing=True) - rest) / whole < 0.5


def test_two_views_need_changed_copies_of_a_runs_images(raw: dict[str, Any]) -> None:
    raw["mining"]["dae_kmeans"]["confidence"] = "two_views"
    (found,) = texts(problems(raw))
    assert found.startswith("mining.dae_kmeans.confidence: `confidence: two_views` needs features of two changed")
    assert "extractors make none" in found
    raw["mines"][0]["on"] = "embed/simclr"
    (found,) = texts(problems(raw))
    assert "Set embed.two_passes to true" in found
    raw["embed"]["two_passes"] = True
    assert texts(problems(raw)) == []
