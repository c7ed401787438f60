"""Whole runs of every method on real digits: outputs, determinism, resume, and what labels may reach."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import open_weights, read_config, read_weights
from reprise.config.errors import ParameterError, PseudoLabelError, TrainingError, WorkspaceBusyError
from reprise.config.plug_ins.registry import load_class, names
from reprise.config.tables import RunRow
from reprise.networks.assemble import assemble
from reprise.reading.decoded import open_decoded
from reprise.storage.work_folder import file_digest, locked
from reprise.training import fit as fit_module
from reprise.training import schedule as schedule_module
from reprise.training.history.records import check_finite
from stages.pretrain.inputs import images as inputs_module
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.run import pretrain
from tests.known_facts import DECLARED, write_facts_of_run, write_known_facts
from tests.stages.pretrain.conftest import IMAGE, TINY, write_label_set, write_start
from tests.stages.pretrain.methods.conftest import SMALL

METHODS = names("methods")
LABELS = dict.fromkeys(("supervised", "gsimclr", "softcon", "supcon", "finetune", "adversarial", "moment"), "mined")
LABELS |= {"simlap": "mined", "pair_contrast": "paired", "triplet": "paired"}
IN_AN_EPOCH = {"pair_contrast": 68, "triplet": 68}  # images; 34 of 80 have a partner
OPTIONS = {"patch_kmeans": {"patches": 8, "samples": 500}, "finetune": {"epochs": None}, **SMALL}
OPTIONS["adversarial"] = {"epochs": None, "steps": 1}
OPTIONS["moment"] = {**SMALL["moment"], "epochs": None}
LABELS["sie"], IN_AN_EPOCH["sie"] = "paired", 68
LABELS["proto_contrast"] = "partly"
SIZES = {"obow": 24}  # pixels, where a method needs more than 16
CROPS = {
    "supervised": 1,
    "clip": 1,
    "finetune": 1,
    "adversarial": 1,
    "moment": 1,
    "distill": 1,
    "pair_contrast": 1,
    "sie": 1,
    "triplet": 1,
    "simmim": 1,
    "odc": 1,
    "swav": 4,
    "dino": 4,
    "mugs": 4,
    "obow": 6,
    "deepcluster_v2": 4,
    "msn": 4,
    "emp_ssl": 4,
    "lejepa": 4,
    "essl": 8,  # two views, and a third one in four turns and two mirror images
    "re_iqa": 6,  # two of the image and of each copy
}
LEARNING = [m for m in METHODS if not load_class("methods", m, Method, "").gradient_free]
# SimCLR is killed at four points of the loop; methods with a queue, a teacher, clusters, prototypes or masks once, in
# the middle of an epoch. All others are slow tests.
KILLED_ONCE = ("moco_v2", "byol", "dino", "odc", "deepcluster_v2", "swav", "msn", "nnclr", "triplet", "nmce")
KILLS = [
    pytest.param(m, k, marks=() if m == "simclr" or (m in KILLED_ONCE and k == 7) else pytest.mark.slow)
    for m in LEARNING
    for k in (1, 4, 7, 13)
]


def run(method: str, out: str, train=TINY, seed: int = 0, labels: str | None = None, **options) -> Path:
    kind = load_class("methods", method, Method, "runs")
    params = kind.Params(**{**OPTIONS.get(method, {}), **options})
    begins = {"from": "models/made"} if kind.needs_start else {"teacher": "models/made"} if kind.needs_teacher else {}
    if begins and not Path("data/starts", method).exists():
        write_start(method, **begins)
    labels = labels or LABELS.get(method, "none")
    if kind.reads and not Path("data/facts/runs", method).exists():
        write_known_facts(0, [fact for fact in DECLARED if fact.use == "given"])
        write_facts_of_run(method, kind.reads)
    row = RunRow.model_validate({"name": method, "method": method, "labels": labels, **begins})
    image = IMAGE.model_copy(update={"size": SIZES.get(method, IMAGE.size)})
    pretrain(row, seed, image, train, params, Path(out), restart=False)
    return Path(out)


# Without labels a method is trained twice, and compared byte by byte, by the test of labels below.
TWICE_BELOW = [m for m in METHODS if m not in LABELS and m not in ("simclr", "byol", "dino", "swav", "simmim")]


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=pytest.mark.slow) if m in TWICE_BELOW else m for m in METHODS]
)
def test_every_method_runs_repeats_itself_and_loads_strictly(digits, method):
    first, again = run(method, "a"), run(method, "b")
    assert file_digest(first) == file_digest(again)
    other = run(method, "c", seed=0, train=TINY.model_copy(update={"epochs": 2}))
    config = read_config(first)
    network = assemble(config, *open_weights(first), where="a")
    taps = network(torch.zeros(2, 3, 16, 16))
    assert taps["backbone"].shape == (2, config["num_features"])
    assert config["images_seen"] == config["epochs"] * IN_AN_EPOCH.get(method, 80)
    assert config["crops_seen"] == config["images_seen"] * CROPS.get(method, 2)
    assert config["flops_per_image"] > 0
    trained = config["epochs"] > 0
    assert trained == (file_digest(first / "backbone.safetensors") != file_digest(other / "backbone.safetensors"))
    assert len((first / "history.csv").read_text().splitlines()) == 1 + (3 if trained else 0)
    assert not list(Path(".reprise/work").rglob("*.safetensors"))  # a finished run leaves no checkpoint


def test_methods_share_their_initial_backbone(digits):
    """`random` is the others' starting point, so a difference to it is learning."""
    untrained, _ = read_weights(run("random", "a"))
    no_steps = TINY.model_copy(update={"learning_rate": 1e-12, "weight_decay": 0.0, "epochs": 1, "warmup_epochs": 0})
    trained, _ = read_weights(run("simclr", "b", train=no_steps))
    for name, value in untrained.items():
        if "running" not in name and "num_batches" not in name:
            np.testing.assert_allclose(value, trained[name], atol=1e-9)


@pytest.mark.parametrize(("method", "killed_at"), KILLS)
def test_interrupted_and_resumed_equals_uninterrupted(digits, monkeypatch, method, killed_at):
    # Two steps after the start some methods look collapsed, and such a state is saved only where that is a warning.
    train = TINY.model_copy(update={"on_collapse": "warn"})
    whole = run(method, "whole", train=train)
    real, calls = torch.optim.SGD.step, []

    def step(self, *arguments, **keywords):
        calls.append(1)
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        return real(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", step)
        with pytest.raises(KeyboardInterrupt):
            run(method, "resumed", train=train)
    assert not Path("resumed").exists()
    calls.clear()
    monkeypatch.setattr(torch.optim.SGD, "step", lambda self, *a, **k: (calls.append(1), real(self, *a, **k))[1])
    assert file_digest(run(method, "resumed", train=train)) == file_digest(whole)
    assert (
        len(calls) <= 15 - (killed_at - 1) // 2 * 2
    )  # it went on from a checkpoint: five steps an epoch, saved every second


def test_a_damaged_checkpoint_costs_one_interval(digits, monkeypatch):
    whole = run("simclr", "whole")
    real, calls = torch.optim.SGD.step, []

    def step(self, *arguments, **keywords):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return real(self, *arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", step)
        with pytest.raises(KeyboardInterrupt):
            run("simclr", "resumed")
    newest = max(Path(".reprise/work").rglob("step-*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert file_digest(run("simclr", "resumed")) == file_digest(whole)


def test_other_parameters_start_afresh_and_say_what_differs(digits, monkeypatch, capsys):
    monkeypatch.setattr(schedule_module, "learning_rate_at", interrupt_after(8))
    with pytest.raises(KeyboardInterrupt):
        run("simclr", "out")
    monkeypatch.undo()
    monkeypatch.chdir(digits)
    changed = TINY.model_copy(update={"weight_decay": 0.01})
    resumed = run("simclr", "out", train=changed)
    assert "train.weight_decay: 0.0001 -> 0.01" in capsys.readouterr().err
    assert file_digest(resumed) == file_digest(run("simclr", "fresh", train=changed))


def interrupt_after(steps: int):
    real, calls = schedule_module.learning_rate_at, []

    def rate(*arguments):
        calls.append(1)
        if len(calls) > steps:
            raise KeyboardInterrupt
        return real(*arguments)

    return rate


@pytest.mark.parametrize("method", [m for m in METHODS if m not in LABELS])
def test_labels_never_reach_an_unsupervised_method(digits, method):
    """Whatever the label set and the facts that are labels say, the weights stay the same to the byte."""
    two = TINY.model_copy(update={"epochs": 2})  # methods with a memory learn from the second one on
    without = run(method, "a", train=two, labels="none")
    write_known_facts(seed=1)  # what is given stays the same
    write_facts_of_run(method, load_class("methods", method, Method, "runs").reads)
    with_labels = run(method, "b", train=two, labels="mined")
    assert file_digest(without / "backbone.safetensors") == file_digest(with_labels / "backbone.safetensors")


def test_guided_batches_depend_on_the_label_set_and_report_conflicts(digits):
    mined = run("gsimclr", "a")
    sampling = read_config(mined)["sampling"]
    assert sampling == {
        "kind": "guided",
        "clusters": 10,
        "largest": 8,
        "batches": 5,
        "conflicting_pairs": 3 * 10,
        "share_affected": 0.75,
    }
    keys = Shards.open().keys[Shards.open().rows("train")]
    write_label_set("other", keys, np.arange(len(keys)) // 20)
    other = run("gsimclr", "b", labels="other")
    assert file_digest(mined / "backbone.safetensors") != file_digest(other / "backbone.safetensors")


def test_learning_reduces_the_loss(digits):
    history = run("simclr", "a", train=TINY.model_copy(update={"epochs": 20})) / "history.csv"
    losses = [float(line.split(",")[2]) for line in history.read_text().splitlines()[1:]]
    assert losses[-1] < losses[0] - 0.5


def test_means_come_from_evenly_spaced_images_without_a_second_cache(digits, monkeypatch):
    monkeypatch.setattr(inputs_module, "STATISTICS_ROWS", 30)
    config = read_config(run("random", "a"))
    caches = list(Path(".reprise/decoded").glob("*/pixels.bin"))
    assert len(caches) == 2  # training images, and the squares of all images that every run is evaluated on
    shards = Shards.open()
    pixels = open_decoded(shards, shards.rows("train"), 3).resized(16)[::3] / 255
    np.testing.assert_allclose(config["mean"], pixels.mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(config["std"], pixels.std((0, 1, 2)), atol=1e-6)


def test_a_loss_that_is_not_finite_stops_with_a_sentence_and_leaves_earlier_artifacts(digits):
    kept = run("simclr", "out")
    before = file_digest(kept)
    with pytest.raises(TrainingError, match=r"not finite.*step \d+ of 15.*Lower the learning rate"):
        run("simclr", "out", train=TINY.model_copy(update={"learning_rate": 1e30}))
    assert file_digest(kept) == before


@pytest.mark.parametrize("every", [3, 50])
def test_looking_at_the_loss_less_often_changes_nothing(digits, monkeypatch, every):
    whole = run("simclr", "a")
    monkeypatch.setitem(fit_module.READ_EVERY, "cpu", every)
    assert file_digest(run("simclr", "b")) == file_digest(whole)
    with pytest.raises(TrainingError, match=r"not finite.*step \d+ of 15"):
        run("simclr", "c", train=TINY.model_copy(update={"learning_rate": 1e30}))


def test_the_first_loss_that_is_not_finite_is_named():
    check_finite([1.0, 2.0], 7, "at 100 %", "of 9", "Stop.")
    with pytest.raises(TrainingError, match=r"at 100 %, step 6 of 9\)\. Found: nan\. Stop\."):
        check_finite([1.0, float("nan"), float("inf")], 7, "at 100 %", "of 9", "Stop.")


def test_too_few_images_missing_labels_and_foreign_labels_are_refused(digits):
    with pytest.raises(TrainingError, match="fewer training images than a batch.*80 images, batch 81.*at most 80"):
        run("simclr", "out", train=TINY.model_copy(update={"batch_size": 81}))
    with pytest.raises(TrainingError, match="'supervised' needs a label set.*labels no image.*truth"):
        run("supervised", "out", labels="none")
    write_label_set("foreign", np.array(["0" * 24], dtype=object), np.array([0]))
    with pytest.raises(PseudoLabelError, match=f"other images.*{'0' * 24}"):
        run("gsimclr", "out", labels="foreign")
    with pytest.raises(PseudoLabelError, match="missing"):
        run("gsimclr", "out", labels="absent")
    with pytest.raises(ParameterError, match="unknown method 'simcrl'.*Did you mean 'simclr'"):
        run("simcrl", "out")


def test_a_second_trainer_of_the_same_run_is_turned_away(digits, monkeypatch):
    monkeypatch.setattr("reprise.storage.work_folder.PATIENCE_SECONDS", 0.1)
    with locked(Path(".reprise/work/pretrain/simclr/0")), pytest.raises(WorkspaceBusyError, match="process"):
        run("simclr", "out")


def test_images_without_a_label_are_left_out_of_the_supervised_loss():
    kind = load_class("methods", "supervised", Method, "")
    backbone = torch.nn.Flatten()
    backbone.num_features = 12
    context = Context(images=4, clusters=3, steps=1, size=2, channels=3, mean=(0,) * 3, std=(1,) * 3, seed=0)
    method = kind(backbone, kind.Params(), context)
    views = [torch.randn(4, 3, 2, 2)]
    loss, _ = method.step(Batch(views, torch.arange(4), {"clusters": torch.tensor([0, -1, 2, -1])}))
    logits = method.classifier(views[0].flatten(1))
    want = (torch.logsumexp(logits[0], 0) - logits[0, 0] + torch.logsumexp(logits[2], 0) - logits[2, 2]) / 2
    torch.testing.assert_close(loss, want)
    nothing, _ = method.step(Batch(views, torch.arange(4), {"clusters": torch.full((4,), -1)}))
    assert float(nothing.detach()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_processes_resume_to_the_same_bytes(digits, repository, sent):
    """The real command, killed at three random moments, ends with the bytes of an uninterrupted one."""
    write_params(repository)
    command = [sys.executable, "-m", "stages.pretrain", "--run", "simclr", "--seed", "0"]
    environment = {"PYTHONPATH": str(repository), "PATH": "/usr/bin:/bin", "REPRISE_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, capture_output=True)
    want = file_digest("data/runs/simclr/0")
    rng = np.random.default_rng(int(sent))
    for _ in range(3):
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        work = Path(".reprise/work/pretrain/simclr/0")
        while process.poll() is None and not list(work.rglob("step-*.safetensors")):
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(sent)
        assert process.wait(timeout=60) != 0 or sent != signal.SIGKILL
    subprocess.run(command, check=True, env=environment, capture_output=True)
    assert file_digest("data/runs/simclr/0") == want


def write_params(repository: Path) -> None:
    from ruamel.yaml import YAML

    raw = YAML(typ="safe").load((repository / "params.yaml").read_text())
    raw["train"] |= {"epochs": 40, "batch_size": 16, "checkpoint_steps": 3}
    Path("params.yaml").write_text(json.dumps(raw))  # JSON is YAML


def test_a_run_on_a_share_sees_those_images_only_and_says_so(digits):
    config = read_config(run("gsimclr", "tenth", train=TINY.model_copy(update={"epochs": 1}), image_share=0.4))
    assert (config["image_share"], config["images_seen"], config["batch_size_used"]) == (0.4, 32, 16)
    assert config["notes"][0] == (
        "it sees 32 training images, 40 % of them, while the label set 'mined' was mined from all."
    )
    with pytest.raises(TrainingError, match="fewer training images than a batch holds.*Found: 8 images, batch 16"):
        run("simclr", "few", image_share=0.1)
