"""What a run makes of the weights that it starts from: its network, its layers that learn, its rates, its config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from reprise.artifacts.models import Start
from reprise.artifacts.weights.backbones import PREPARATION, read_config, read_weights
from reprise.config.errors import BackboneError
from reprise.config.tables import RANDOM, AdaptRow, AnyRun
from reprise.media.image.transform import TRIANGLE
from reprise.networks.weights.layers import freeze, frozen_names, layers_of, with_layer_rates
from reprise.networks.weights.starting import Teacher, load_start, load_teacher
from reprise.storage.work_folder import file_digest
from reprise.training.params import TrainParams
from stages.pretrain.method import Method

if TYPE_CHECKING:
    from stages.pretrain.inputs.images import Inputs
    from stages.pretrain.setup import Setup


def with_network_of(start: Start, train: TrainParams, row: AnyRun, channels: int) -> TrainParams:
    """Return the budget of a run with the network of the weights that it starts from.

    Raises:
        BackboneError: data/starts holds other weights than the row names, or they see other bands than `channels`.
    """
    if (start.name, start.teacher_name) != (row.start, row.teacher):
        raise BackboneError(
            "the weights to start from are not those that the row names",
            where=f"runs: {row.name}",
            found=f"{start.name}, teacher {start.teacher_name}, in data/starts/{row.name}",
            fix="Run `dvc repro models`, which writes them.",
        )
    if start.config is None:
        return train
    if start.config["channels"] != channels:
        raise BackboneError(
            "the weights see images of other bands",
            where=f"runs: {row.name}: from {start.name}",
            found=f"{start.config['channels']} bands, image.channels {channels}",
            fix=f"Set image.channels to {start.config['channels']}; grey images then get three equal bands.",
        )
    return train.model_copy(update={"backbone": start.config["architecture"], "stem": start.config["stem"]})


def options_of(start: Start) -> dict[str, Any]:
    """Return the options of the network that the weights are for."""
    return {} if start.config is None else dict(start.config["options"])


def side_of(setup: Setup, method_class: type[Method]) -> int:
    """Return the side of the images in pixels: of published weights as they are their own, else image.size."""
    config = setup.start.config
    return int(config["input_size"]) if method_class.needs_start and config is not None else setup.image.size


def begin(backbone: nn.Module, setup: Setup) -> list[str]:
    """Load the weights that the run starts from, and say what was changed for it."""
    if setup.start.folder is None:
        return []
    weights, _ = read_weights(setup.start.folder)
    return load_start(backbone, weights, f"runs: {setup.row.name}: from {setup.start.name}")


def teacher_of(setup: Setup, method_class: type[Method], inputs: Inputs) -> Teacher | None:
    """Load the frozen network that the method learns from; None where it learns from none."""
    if setup.start.teacher is None or not method_class.needs_teacher:
        return None
    own_size = bool(getattr(setup.method, "teacher_size", False))
    weights, _ = read_weights(setup.start.teacher)
    views = inputs.views
    return load_teacher(read_config(setup.start.teacher), weights, setup.image.size, views.mean, views.std, own_size)


def freeze_layers(method: Method, setup: Setup) -> None:
    """Keep the lowest layers of the backbone as they are, where the run's block says so."""
    asked = setup.train.freeze
    if asked is not None and not method.gradient_free:
        names = frozen_names(layers_of(method.backbone), asked, f"train.freeze, methods.{setup.row.name}.freeze")
        method.frozen = freeze(method.backbone, names)
        method.notes.append(f"{len(names)} tensors of the backbone do not learn (`freeze: {asked}`).")


def param_groups(method: Method, setup: Setup) -> list[dict[str, Any]]:
    """Return the method's own param groups, with rates by layer where the run's block says so."""
    groups, decay = method.parameter_groups(), setup.train.layer_decay
    return groups if decay == 1 else with_layer_rates(method.backbone, groups, decay)


def start_digest(setup: Setup) -> dict[str, str]:
    """Return digests of the weights that decide the result; empty for random ones."""
    folders: dict[str, Path | None] = {"start": setup.start.folder, "teacher": setup.start.teacher}
    return {name: file_digest(folder) for name, folder in folders.items() if folder is not None}


def preparation(setup: Setup, method_class: type[Method]) -> dict[str, Any]:
    """Say how evaluation cuts and scales images: as for published weights, or the whole shorter side as in training."""
    config = setup.start.config
    if method_class.needs_start and config is not None:
        return {name: config[name] for name in PREPARATION if name in config}
    return dict(zip(PREPARATION, (1.0, TRIANGLE, "center"), strict=True))


def origin(setup: Setup) -> dict[str, Any]:
    """Say what the weights of a run began as, and what it learned from."""
    start, config = setup.start, setup.start.config
    if config is None:
        return {"started_from": RANDOM, "teacher": start.teacher_name}
    if isinstance(setup.row, AdaptRow):
        return {"started_from": start.name, "before": [*config.get("before", []), _in_short(config)], "teacher": None}
    facts = {name: config.get(name) for name in ("source", "sha256", "notes")}
    return {"started_from": start.name, "start": facts, "teacher": start.teacher_name}


def _in_short(config: Mapping[str, Any]) -> dict[str, Any]:
    """Say of a run what the budget of those that go on from it needs: what it learned from, and how long."""
    return {name: config.get(name) for name in ("run", "method", "labels", "epochs", "images_seen", "started_from")}
