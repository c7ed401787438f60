"""Values of params.yaml against this machine. All of them are warnings.

The same graph may be finished elsewhere, its results may come from a cache, and the graph may be run for its first
stages only. A stage that cannot run here refuses at its own start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reprise.config.errors import RepriseError
from reprise.config.params import Problem
from reprise.config.shared_sections import DEFAULT_CACHE, cache_params
from reprise.runtime.entry import cores, threads
from reprise.runtime.memory import gibibytes, memory_limit
from stages.check.parameters import known_sections
from stages.check.plug_ins import plug_in_class
from stages.check.rules.far import package_warnings
from stages.check.shifts import root_warnings
from stages.check.sketches import Sketch, place_of, sketch_runs

_DEVICES = ("train", "embed")  # sections that choose a device


def machine_warnings(raw: dict[str, Any], train_images: int | None = None, root: Path = Path()) -> list[Problem]:
    """Find values with which the graph cannot be run whole on this machine.

    Args:
        raw: the content of params.yaml.
        train_images: where they are known.
        root: the project's folder.
    """
    found = [*_device_warnings(raw), *_source_warnings(raw, root), *root_warnings(raw, root), *_thread_warnings()]
    found += package_warnings(raw)
    sketches = sketch_runs(raw)[0]
    found += process_warnings(sketches, cores(), _visible_gpus())
    limit = memory_limit()
    if limit is not None:
        try:
            held = cache_params(raw).memory_bytes
        except RepriseError:  # named as a problem elsewhere
            held = DEFAULT_CACHE.memory_bytes
        found += memory_warnings(sketches, limit, train_images, held)
    return found


def _device_warnings(raw: dict[str, Any]) -> Iterator[Problem]:
    import torch

    from reprise.runtime.device import NO_CUDA

    for section in _DEVICES:
        block = raw.get(section)
        if isinstance(block, dict) and block.get("device") == "cuda" and not torch.cuda.is_available():
            hint = f" Set {section}.device to auto or cpu, check `nvidia-smi`, or run the graph on another machine."
            yield Problem(f"{section}.device", NO_CUDA, "cuda", hint)


def _source_warnings(raw: dict[str, Any], root: Path) -> Iterator[Problem]:
    try:
        params: Any = known_sections()["source"].model_validate(raw.get("source"))
        source: Any = plug_in_class("sources", params.name)
    except (ValidationError, RepriseError):
        return
    if source.reads_root and not os.path.lexists(root / params.root):
        hint = f" Set source.root to {source.reads}. The path is taken from {(root or Path()).resolve()}."
        yield Problem("source.root", "the root of the source is missing on this machine", params.root, hint)


def _thread_warnings() -> Iterator[Problem]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads() > cores:
        rule = "more threads than cores wait for each other"
        yield Problem("REPRISE_THREADS", rule, f"{threads()}, with {cores} cores", f" Set it to at most {cores}.")


def _visible_gpus() -> int:
    import torch

    return torch.cuda.device_count()


def process_warnings(sketches: list[Sketch], cores: int, gpus: int) -> list[Problem]:
    """Compare the processes of each run with the GPUs of this machine, or with its cores where it has none.

    Args:
        sketches: of the runs.
        cores: that there are.
        gpus: that are visible.
    """
    found: dict[tuple[str, int], Problem] = {}
    for sketch in sketches:
        asked, on_gpu = sketch.train.processes, sketch.train.device != "cpu" and gpus > 0
        there = gpus if on_gpu else cores
        if sketch.method.gradient_free or asked <= there:
            continue
        rule = "each process needs a GPU of its own" if on_gpu else "more processes than cores wait for each other"
        where, unit = place_of("train.processes", sketch.row, sketch.params), "visible GPUs" if on_gpu else "cores"
        found[where, asked] = Problem(where, rule, f"{asked}, with {there} {unit}", f" Set it to at most {there}.")
    return list(found.values())


def memory_warnings(
    sketches: list[Sketch], limit: int, train_images: int | None = None, held: int = DEFAULT_CACHE.memory_bytes
) -> list[Problem]:
    """Compare each run's estimated peak on the CPU with the memory that there is.

    Args:
        sketches: of the runs.
        limit: bytes of the machine, or of a stricter control group.
        train_images: where they are known; decoded images count only then, and at image.size.
        held: bytes of decoded images that are read into memory at most (`cache.memory_bytes`).
    """
    from reprise.networks.axes import axes_of

    found = []
    for sketch in sketches:
        if sketch.footprint is None or sketch.train.device == "cuda":
            continue
        context = sketch.method.context
        values = context.size ** axes_of(sketch.method.backbone) * context.channels
        pixels = min((train_images or 0) * values, held)
        processes = sketch.train.processes
        needed, by = estimate(sketch, pixels).peak * processes, f" in {processes} processes" if processes > 1 else ""
        if needed > limit:
            found.append(
                Problem(
                    f"runs: {sketch.row.name}",
                    f"training takes about {gibibytes(needed)} of memory{by}, and there are {gibibytes(limit)}",
                    f"train.batch_size {sketch.train.batch_size}, image.size {context.size}",
                    " Lower train.batch_size or image.size, choose a smaller backbone, or see train.chunk_size, "
                    "train.accumulate and train.activation_checkpointing.",
                )
            )
    return found


def estimate(sketch: Sketch, pixels: int) -> Any:
    """Estimate the memory of each process of a run; see reprise/training/memory.py for the formula.

    Args:
        sketch: of the run, which has a footprint.
        pixels: bytes of decoded images that are held in memory.
    """
    from reprise.networks.memory.footprint import numbers
    from reprise.training.memory import held_by_each, training_memory

    assert sketch.footprint is not None
    parted = sketch.method.embedding_networks() if sketch.train.shard_weights else []
    trained = held_by_each(sketch.method, parted, sketch.train.processes)
    views = sum((side / sketch.method.context.size) ** 2 for side in sketch.sides)
    train, weights = sketch.train, numbers(sketch.method)
    kept = sketch.footprint.kept_by_blocks if train.activation_checkpointing else sketch.footprint.kept
    batch = -(-train.batch_size // (train.accumulate * train.processes))
    if train.chunk_size is not None:
        views = min(views, train.chunk_size / batch)
    return training_memory(weights, trained, kept, views, batch, train.optimizer, pixels)
