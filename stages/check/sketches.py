"""Every run's network and method without weights, on torch's meta device: what can be known before anything runs.

A sketch is a pure function of params.yaml and code. It takes milliseconds, and finds networks that cannot be built for
the images, or whose smallest crop is too small for them.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from reprise.config.errors import BackboneError, ParameterError, RepriseError
from reprise.config.params import ImageParams, Problem
from reprise.config.tables import AdaptRow, AnyRun, RunRow
from reprise.training.params import REFERENCE_BATCH, TrainParams
from stages.check.plug_ins import plug_in_class
from stages.check.rows import listed_in
from stages.check.starts import as_started, network_started

if TYPE_CHECKING:
    from reprise.networks.memory.footprint import Footprint

_MANY, _CLASSES, _STEPS = 1 << 16, 10, 1000  # what a method is laid out for where the data are not known


@dataclass(frozen=True)
class Sketch:
    """A run as it would be built.

    Attributes:
        row: of the table `runs` or `adapt`.
        train: the budget, with the run's own values in place of the shared ones.
        params: the method's own.
        method: the method on the meta device, with its backbone and heads.
        sides: side in pixels of each view of an image; empty for a method without gradients.
        footprint: of the backbone, at image.size; None for a method without gradients.
    """

    row: AnyRun
    train: TrainParams
    params: Any
    method: Any
    sides: tuple[int, ...]
    footprint: Footprint | None


def sketch_runs(raw: dict[str, Any], images: int = _MANY) -> tuple[list[Sketch], list[Problem]]:
    """Lay out all runs whose parameters are well formed.

    Args:
        raw: the content of params.yaml; what is wrong in single values is reported elsewhere.
        images: training images.

    Returns:
        The sketches, and what is wrong with the runs that cannot be built.
    """
    sketches: list[Sketch] = []
    found: dict[tuple[str, str], Problem] = {}  # one backbone serves many runs, and is reported once
    try:
        image = ImageParams.model_validate(raw.get("image"))
        shared = TrainParams.model_validate(raw.get("train"))
    except ValidationError:
        return [], []
    for row, method_class, params in well_formed_runs(raw):
        try:
            train = as_started(params.applied_to(shared), row.start, raw)
            network = network_started(row.start, raw)
            options = {} if network is None else network.options
        except (ParameterError, BackboneError):
            continue  # a wrong recipe or a wrong row of `models`, which are reported with these
        try:
            method_class.refuse_size(params, image.size)
            sketches.append(_sketch(row, method_class, params, train, options, image, images))
        except RepriseError as error:
            problem = problem_of(error, row.name)
            problem = replace(problem, path=place_of(problem.path, row, params))
            found.setdefault((problem.path, problem.rule), problem)
    return sketches, list(found.values())


def well_formed_runs(raw: dict[str, Any]) -> Iterator[tuple[AnyRun, Any, Any]]:
    """Yield row, method class and typed parameters of each row of `runs` and `adapt` that is right by itself."""
    blocks = raw.get("methods")
    rows: list[tuple[Any, Any]] = [(RunRow, listed) for listed in listed_in(raw, "runs")]
    rows += [(AdaptRow, listed) for listed in listed_in(raw, "adapt")]
    for model, listed in rows:
        try:
            row: AnyRun = model.model_validate(listed)
            method_class: Any = plug_in_class("methods", row.method)
            block = blocks.get(row.name) if isinstance(blocks, dict) else None
            if method_class is not None and isinstance(block, dict):
                yield row, method_class, method_class.Params.model_validate(block)
        except (ValidationError, RepriseError):
            continue


def problem_of(error: RepriseError, row: str) -> Problem:
    """Make a problem of what a stage would say at its start; `*` in the name of a parameter stands for the row."""
    return Problem(error.where.replace("*", row), error.what, error.found, f" {error.fix}")


def place_of(path: str, row: AnyRun, params: Any) -> str:
    """Name the parameter that decides a value of `train` for a run: the run's own, or the shared one.

    Args:
        path: dotted ("train.epochs"); one outside of `train` is returned as it is.
        row: of the run.
        params: the method's own.
    """
    names = importlib.import_module("stages.pretrain.params").NAMES_IN_TRAIN
    in_train = path.removeprefix("train.")
    if in_train == path or in_train not in params.overrides(params.batch_size or REFERENCE_BATCH):
        return path
    own = next((name for name, shared in names.items() if shared == in_train), in_train)
    return f"methods.{row.name}.{own}"


def _sketch(
    row: AnyRun,
    method_class: Any,
    params: Any,
    train: TrainParams,
    options: dict[str, Any],
    image: ImageParams,
    images: int,
) -> Sketch:
    architecture, options = method_class.own_backbone(params) or (train.backbone, options)
    network = _Network(architecture, json.dumps(options), image.channels, image.size, train.stem)
    whole = None if method_class.gradient_free else _value(_footprint(network, image.size))
    method = _value(_method(method_class, params, network, images, f"methods.{row.name}"))
    if train.symmetry is not None and not method.gradient_free:
        of_symmetry: Any = importlib.import_module("stages.pretrain.parts.symmetry")
        of_symmetry.refuse_symmetry(method.backbone, train.shard_weights)
    if not method.gradient_free and method.upright:
        views: Any = importlib.import_module("stages.pretrain.views.settings")
        settings = replace(_settings(image), changes=views.listed_changes(train.views))
        views.refuse_turned(method.upright, method.view_plan(settings))
    sides = () if method.gradient_free else tuple(view.size for view in method.view_plan(_settings(image)))
    for side in sorted(set(sides) - {image.size}):
        _value(_footprint(network, side))
    return Sketch(row, train, params, method, sides, whole)


def _value(laid_out: Any) -> Any:
    """Return what was laid out, or raise the error that was kept in its place."""
    if isinstance(laid_out, RepriseError):
        raise laid_out
    return laid_out


@dataclass(frozen=True)
class _Network:
    """What decides a backbone; `options` are JSON."""

    architecture: str
    options: str
    channels: int
    size: int
    stem: str

    def build(self) -> Any:
        from reprise.networks.backbone import build_backbone

        return build_backbone(self.architecture, self.channels, self.size, self.stem, json.loads(self.options))


@cache
def _method(method_class: Any, params: Any, network: _Network, images: int, where: str) -> Any:
    """Lay out a method with its backbone and heads."""
    plain = (0.5,) * network.channels
    context = importlib.import_module("stages.pretrain.method").Context(
        images, _CLASSES, _STEPS, network.size, network.channels, plain, plain, 0
    )
    what = f"this method cannot be built with {network.architecture} for images of {network.size} pixels"
    return _laid_out(lambda device: method_class(network.build(), params, context), where, what)


@cache
def _footprint(network: _Network, side: int) -> Footprint | RepriseError:
    """Lay out a backbone and apply it to images of `side` pixels."""
    from reprise.networks.memory.footprint import footprint

    seen = "images" if side == network.size else "the method's small crops"
    return _laid_out(
        lambda device: footprint(network.build(), network.channels, side, device),
        "image.size",
        f"{network.architecture} cannot take {seen} of {side} pixels",
    )


def _settings(image: ImageParams) -> Any:
    settings = importlib.import_module("stages.pretrain.views.settings").ViewSettings
    plain = (0.5,) * image.channels
    return settings(image.size, image.channels, plain, plain)


def _laid_out(build: Callable[[str], Any], where: str, what: str) -> Any:
    """Build something on the meta device; where that fails, build it really, since the device cannot do everything.

    Returns:
        What was built, or the error that says why it cannot be built on the CPU either; both are worth keeping.
    """
    import torch

    from reprise.config.errors import BackboneError

    refused: RepriseError
    for device in ("meta", "cpu"):
        try:
            with torch.device(device), torch.random.fork_rng(devices=[]):
                return build(device)
        except RepriseError as error:
            refused = error
        except Exception as error:  # noqa: BLE001 - networks of timm and plug-ins raise anything
            refused = BackboneError(
                what,
                where=where,
                found=(str(error).splitlines() or [type(error).__name__])[0],
                fix="Raise image.size, set train.stem to small, or choose another train.backbone.",
            )
    return refused
