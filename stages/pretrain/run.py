"""One run: a method, a label set, a seed. Reads shards, suggested views and the label set; writes a backbone."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reprise.artifacts import layout
from reprise.artifacts.labels.label_sets import FILE
from reprise.artifacts.models import start_of
from reprise.artifacts.weights.backbones import write_backbone
from reprise.artifacts.weights.text_models import write_text_model
from reprise.config.params import ImageParams
from reprise.config.plug_ins.registry import load_class, module_of
from reprise.config.shared_sections import DEFAULT_CACHE, CacheParams
from reprise.config.tables import AnyRun
from reprise.networks.axes import axes_of, channels_last
from reprise.networks.backbone import build_backbone
from reprise.networks.memory.recompute import blocks_of, in_chunks, recomputed
from reprise.networks.ranks.parted_weights import clip_gradients, sharded
from reprise.networks.state import arrays_of
from reprise.runtime.device import resolve_compute, threads_beside
from reprise.runtime.memory import memory_limit
from reprise.runtime.seeds import seed_torch
from reprise.runtime.world import ALONE, World
from reprise.storage.atomic import atomic_directory
from reprise.storage.provenance import record
from reprise.storage.work_folder import file_digest, work_folder
from reprise.training.fit import fit
from reprise.training.history.records import Checkpoints, Trained
from reprise.training.optimization.gradients import accelerated
from reprise.training.optimization.optimizers import build_optimizer
from reprise.training.params import TrainParams
from reprise.training.views import changes_named
from stages.pretrain.describe import describe, write_history
from stages.pretrain.epochs import PretrainingEpochs
from stages.pretrain.inputs.facts import batch_facts
from stages.pretrain.inputs.far import notes_on_windows, tars_ahead, windows_of
from stages.pretrain.inputs.images import (
    VIEWS,
    Inputs,
    fields_for,
    read_inputs,
    refuse_batches,
    refuse_images,
    refuse_memory,
    refuse_passes,
)
from stages.pretrain.inputs.modality import refuse_backbone, refuse_method
from stages.pretrain.inputs.pairing import notes_on_pairs
from stages.pretrain.inputs.starting import (
    begin,
    freeze_layers,
    options_of,
    param_groups,
    side_of,
    start_digest,
    teacher_of,
    with_network_of,
)
from stages.pretrain.method import Context, Method
from stages.pretrain.monitoring.live import LiveLog
from stages.pretrain.monitoring.observing import RunObserver
from stages.pretrain.monitoring.watching import FILE as WATCHES
from stages.pretrain.monitoring.watching import Watching, write_watches
from stages.pretrain.notes import notes_on, show
from stages.pretrain.params import MethodParams
from stages.pretrain.parts.symmetry import with_symmetry
from stages.pretrain.ranks.share import WHOLE, Share
from stages.pretrain.ranks.together import exchanging, refuse_other_inputs, shared_step
from stages.pretrain.setup import Setup
from stages.pretrain.views.carried import CarriedMasks, refuse_unmoved
from stages.pretrain.views.make import view_maker
from stages.pretrain.views.settings import needed_side, refuse_turned

NOT_IN_THE_STEPS = {"on_collapse", "processes", "shard_weights"}  # the steps are the same, whatever these say
WORK_OF_THE_FIRST = Path("the work folder of the first process")  # the others never open it


def pretrain(
    row: AnyRun,
    seed: int,
    image: ImageParams,
    train_params: TrainParams,
    method_params: MethodParams,
    out: Path,
    restart: bool,
    cache: CacheParams = DEFAULT_CACHE,
    world: World = ALONE,
) -> None:
    """Train one run and write its folder; of several processes, the first one writes.

    Args:
        row: name, method and label set of the run.
        seed: of initialisation, order and views.
        image: size and channels of the input.
        train_params: the budget that all runs share, unless their own blocks say otherwise.
        method_params: the run's own block.
        out: the folder to write; it appears whole or not at all.
        restart: discard what an interrupted run left, instead of going on from it.
        cache: bounds of the cache of decoded images.
        world: the processes that train this run together; each calls this function with the same other arguments.

    Raises:
        TrainingError: too few images, no labels where the method needs them, a loss that is not finite.
    """
    began = time.monotonic()
    method_class = load_class("methods", row.method, Method, f"runs.{row.name}.method")
    setup = set_up(row, seed, image, train_params, method_params, method_class, cache, world)
    train = setup.train

    labels = layout.label_set(row.labels, seed) / FILE
    inputs = read_inputs(labels, setup, method_class)
    refuse_images(setup, method_class, inputs)
    if image.channels not in (1, 3):
        print(f"views of {image.channels} bands change in brightness and contrast, not in saturation, hue or grey")
    method = build_method(method_class, setup, inputs)
    refuse_memory(setup, method, memory_limit())
    refuse_batches(row, method, inputs.shown, train.batch_size, train.accumulate, train.processes)
    refuse_passes(row, method, train)
    epochs = epochs_of(setup, method, inputs)
    notes = [*notes_on_pairs(inputs.partners), *notes_on(setup, method, inputs.shown)]
    notes += [] if method.gradient_free else notes_on_windows(setup, inputs, epochs)
    given = work_inputs(setup, labels, inputs)
    refuse_other_inputs(given, world)
    if not world.first:
        learn(setup, method, inputs, epochs, WORK_OF_THE_FIRST)
        return
    show(notes, f"pretrain {row.name} seed {seed}")
    with work_folder(f"pretrain/{setup.name}", given, code_of(setup, method_class, inputs), restart) as work:
        watching = watching_of(setup, method, epochs, work)
        done, collapse = learn(setup, method, inputs, epochs, work, watching)
        notes = [*notes, *done.notes]
        config = describe(setup, method, inputs, epochs, done) | {"notes": notes, "collapse": collapse}
        with atomic_directory(out) as folder:
            write_backbone(folder, arrays_of(method.trained_backbone().state_dict()), head_arrays(method), config)
            write_history(folder / "history.csv", done.history)
            write_text_side(method, folder)
            if watching is not None:
                write_watches(folder / WATCHES, watching.seen)
    speed = config["images_seen"] / (time.monotonic() - began)
    record(f"pretrain/{setup.name}", began, {"images_per_second": round(speed, 1)})


def set_up(
    row: AnyRun,
    seed: int,
    image: ImageParams,
    train: TrainParams,
    params: MethodParams,
    method_class: type[Method],
    cache: CacheParams,
    world: World,
) -> Setup:
    """Resolve what the run was asked for; the arguments are those of `pretrain`."""
    params = params.with_recipe(params.batch_size_in(train))
    start = start_of(row, seed)
    train = with_network_of(start, params.applied_to(train), row, image.channels)
    compute = resolve_compute(train.device, train.precision, train.deterministic, world.size)
    together = 2 if method_class.needs_pairs else 1
    return Setup(row, seed, image, train, params, compute, cache, start, together, world)


def build_method(method_class: type[Method], setup: Setup, inputs: Inputs) -> Method:
    """Initialise backbone and heads; the same seed gives every method the same backbone."""
    image, n = setup.image, len(inputs.rows)
    architecture, options = method_class.own_backbone(setup.method) or (setup.train.backbone, options_of(setup.start))
    refuse_method(setup.row, method_class, inputs.shards.modality)
    refuse_backbone(architecture, inputs.shards.modality)
    seed_torch(setup.seed, "backbone")
    side = side_of(setup, method_class)
    backbone = build_backbone(architecture, image.channels, side, setup.train.stem, options)
    changed = begin(backbone, setup)
    context = Context(
        images=n,
        clusters=int(inputs.clusters.max(initial=-1)) + 1,
        steps=setup.rates(inputs.shown).steps,
        size=image.size,
        channels=image.channels,
        mean=inputs.views.mean,
        std=inputs.views.std,
        seed=setup.seed,
        teacher=teacher_of(setup, method_class, inputs),
        facts=inputs.facts,
    )
    seed_torch(setup.seed, "heads")
    method = method_class(backbone, setup.method, context)
    method.notes += changed
    freeze_layers(method, setup)
    return method


def epochs_of(setup: Setup, method: Method, inputs: Inputs) -> PretrainingEpochs:
    """Gather what the epochs of the run consist of: order, fields and views."""
    plan = method.view_plan(inputs.views)
    decoded, masks = inputs.decoded.shrunk(needed_side(plan, inputs.decoded.sizes.shape[1])), inputs.masks
    if masks is not None:
        refuse_unmoved(masks.names, plan, f"runs: {setup.row.name}")
    refuse_turned(method.upright, plan)
    drawn = method.needs_drawn or masks is not None
    views = view_maker(decoded, plan, setup.seed, setup.compute, drawn)
    return PretrainingEpochs(
        count=setup.train.epochs,
        batch_size=setup.train.batch_size,
        sampling=method.sampling,
        rows=inputs.rows,
        clusters=inputs.clusters,
        partners=inputs.partners,
        fields=fields_for(setup, method.needs, inputs),
        views=views,
        seed=setup.seed,
        device=torch.device(setup.compute.device),
        facts=batch_facts(inputs.facts),
        share=Share(setup.world, setup.train.accumulate),
        masks=None if masks is None else CarriedMasks(masks.names, masks.read, plan, decoded.sizes),
        draws_wanted=method.needs_drawn,
        windows=windows_of(setup, inputs),
        tars=None if method.gradient_free else tars_ahead(setup, inputs, decoded.cached),
    )


def work_inputs(setup: Setup, labels: Path, inputs: Inputs) -> dict[str, Any]:
    """Name everything besides the code that decides the result: checkpoints of other inputs are never continued.

    The number of processes is no part of it: they take the steps that one process takes.
    """
    return {
        "run": setup.row.model_dump(),
        "seed": setup.seed,
        "image": setup.image.model_dump(),
        "train": setup.train.model_dump(exclude=NOT_IN_THE_STEPS),
        "method": setup.method.model_dump(exclude=NOT_IN_THE_STEPS),
        "compute": asdict(setup.compute) | {"threads": threads_beside(setup.compute.device)},
        "shards": inputs.shards.fingerprint,
        "labels": file_digest(labels),  # its file names the pairs by their digest
        "views": file_digest(VIEWS),
        "start": start_digest(setup),
        **({"facts": _digest(inputs.facts)} if inputs.facts else {}),
        **({"masks": inputs.masks.digest()} if inputs.masks else {}),
        "torch": torch.__version__,
    }


def _digest(facts: Mapping[str, np.ndarray]) -> str:
    """Hash the facts that a run reads; NaN is written alike everywhere."""
    text = repr([(name, values.tolist()) for name, values in sorted(facts.items())])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def code_of(setup: Setup, method_class: type[Method], inputs: Inputs) -> list[str]:
    """Name the modules whose code decides the result: this stage, and the plug-ins that the parameters choose."""
    architecture, _ = method_class.own_backbone(setup.method) or (setup.train.backbone, {})
    plug_ins = [module_of("backbones", architecture), module_of("schedules", setup.train.schedule.name)]
    changes = [module_of("changes", name) for name in changes_named(setup.train.views, inputs.shards.modality)]
    watches = [module_of("watches", params.name) for params in setup.train.watches]
    return [__name__, method_class.__module__, *plug_ins, *changes, *watches]


def watching_of(setup: Setup, method: Method, epochs: PretrainingEpochs, work: Path) -> Watching | None:
    """Gather the watches of the run; None where there are none, or where no loop runs that they could look at."""
    if not setup.train.watches or method.gradient_free:
        return None
    # Watches look from one process at whole batches.
    return Watching(setup.train.watches, method, setup.compute, setup.seed, replace(epochs, share=WHOLE), work)


def learn(
    setup: Setup,
    method: Method,
    inputs: Inputs,
    epochs: PretrainingEpochs,
    work: Path,
    watching: Watching | None = None,
) -> tuple[Trained, dict[str, Any] | None]:
    """Fit the method in place, by the loop or, for gradient-free methods, by its own `fit`.

    Args:
        work: the folder of the checkpoints, which the first process reads and writes.

    Returns:
        How far it came, and where it collapsed if it did and the user wanted it to go on.
    """
    if method.gradient_free:
        method.fit(inputs.decoded.squares(setup.image.size))
        return Trained(), None
    label, images = f"pretrain {setup.row.name} seed {setup.seed}", epochs.samples
    world, stop = setup.world, setup.train.on_collapse
    live = LiveLog(setup.name, off=not world.first)
    observer = RunObserver(method, setup.compute, live, label, stop, work, watching)

    def after_backward(progress: float) -> None:
        method.after_backward(progress)
        if setup.train.clip_norm:
            clip_gradients(method.clipped_parameters(), setup.train.clip_norm, world)

    train, rates = setup.train, setup.rates(images)
    recorded = method.capturable and not method.needs_drawn
    twice = train.activation_checkpointing or train.chunk_size is not None
    with placed(method, setup, epochs.device), passes(method, train) as notes:
        done = fit(
            method,
            with_symmetry(shared_step(method, world), method.backbone, train.symmetry),
            epochs,
            build_optimizer(method, setup.train, param_groups(method, setup), setup.batch_size(images)),
            setup.compute,
            label,
            rates=rates,
            seed=setup.seed,
            after_backward=after_backward,
            after_step=method.after_step,
            checkpoints=Checkpoints(work, setup.train.checkpoint_steps, writes=world.first),
            observer=observer,
            acceleration=accelerated(train.compile, train.graph, setup.compute, recorded, twice, world.size),
            micro_batches=train.accumulate,
            world=world,
            around=exchanging(method, world),
        )
    done.notes += notes
    return done, observer.state["collapse"]


@contextmanager
def placed(method: Method, setup: Setup, device: torch.device) -> Iterator[None]:
    """Move a method to its device, its networks in parts where `train.shard_weights` says so, until the block ends."""
    if not setup.train.shard_weights:
        method.to(device=device, memory_format=channels_last(axes_of(method)))
        yield
        return
    with sharded(method, method.embedding_networks(), setup.world, device.type):
        method.to(device=device)
        yield


@contextmanager
def passes(method: Method, train: TrainParams) -> Iterator[list[str]]:
    """Let the networks of a method pass batches as `train` says, until the block ends.

    Yields:
        A list, which holds at the end what could not be done.
    """
    notes: list[str] = []
    blocks = blocks_of(method.backbone) if train.activation_checkpointing else []
    with recomputed(blocks):
        if train.chunk_size is None:
            yield notes
            return
        with in_chunks(method.embedding_networks(), train.chunk_size) as called:
            yield notes
        if method.backbone not in called:
            notes.append("`chunk_size` had no effect: the method never passes images through the whole backbone.")


def write_text_side(method: Method, folder: Path) -> None:
    """Write tokenizer, text tower and projection of a method that has them."""
    text = method.text_model()
    if text is not None:
        tokenizer, modules, config = text
        arrays = {f"{name}.{k}": v for name, one in modules.items() for k, v in arrays_of(one.state_dict()).items()}
        write_text_model(folder, arrays, {"tokenizer": tokenizer.as_json(), **config})


def head_arrays(method: Method) -> dict[str, Any]:
    """Return the weights of all heads that are saved, as `<head>.<tensor>`."""
    heads = method.heads().items()
    return {f"{name}.{k}": v for name, head in heads for k, v in arrays_of(head.state_dict()).items()}
