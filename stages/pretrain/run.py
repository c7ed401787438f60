"""One run: a method, a label set, a seed. Reads shards, suggested views and the label set; writes a backbone."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch
from torch.utils.flop_counter import FlopCounterMode

from reprise.artifacts.backbones import write_backbone
from reprise.artifacts.label_sets import FILE, clusters_for, confidences_for, read_pseudo_labels
from reprise.artifacts.shards import Shards
from reprise.config.errors import TrainingError
from reprise.config.params import ImageParams, RunRow
from reprise.config.registry import load_class, module_of
from reprise.networks.backbone import backbone_named, build_backbone
from reprise.networks.state import arrays_of
from reprise.reading.decoded import Decoded, open_decoded
from reprise.reading.order import batch_count, conflicts, guided_batches, random_batches, rank_batches
from reprise.runtime.device import Compute, resolve_compute
from reprise.runtime.seeds import numpy_rng, seed_torch, torch_rng
from reprise.storage.atomic import atomic_directory, atomic_file
from reprise.storage.provenance import record
from reprise.storage.work_folder import file_digest, work_folder
from reprise.training.optimizers import scaled_learning_rate
from reprise.training.params import TrainParams
from stages.pretrain.live import LiveLog
from stages.pretrain.loop import Trained, train
from stages.pretrain.method import Context, Method
from stages.pretrain.params import MethodParams
from stages.pretrain.views.batched import batched_view
from stages.pretrain.views.per_image import PerImageViews
from stages.pretrain.views.settings import ViewSettings, resolve_views

VIEWS = Path("data/ingest/views.json")
BATCHED_SIDE = 64  # pixels: up to here images of one size take the batched path
RESIDENT_SHARE = 0.25  # of a GPU's free memory, for the training images; the rest is the network's
STATISTICS_ROWS = 10_000  # images from which mean and standard deviation are taken
HISTORY = ("epoch", "step", "loss", "learning_rate", "feature_std", "rankme")


@dataclass(frozen=True)
class Inputs:
    """The training images of one run and what is known of them."""

    shards: Shards
    decoded: Decoded
    clusters: np.ndarray  # (n,) int64, -1 for none
    views: ViewSettings


def pretrain(
    row: RunRow,
    seed: int,
    image: ImageParams,
    train_params: TrainParams,
    method_raw: MethodParams,
    out: Path,
    restart: bool,
) -> None:
    """Train one run and write its folder.

    Raises:
        TrainingError: too few images, no labels where the method needs them, a loss that is not finite.
    """
    began = time.monotonic()
    kind = load_class("methods", row.method, Method, f"runs.{row.name}.method")
    params = method_raw.applied_to(train_params)
    compute = resolve_compute(params.device, params.precision)
    labels = Path("data/mine") / row.labels / str(seed) / FILE
    inputs = read_inputs(labels, image, params, compute)
    check_images(row, kind, inputs, params)

    method = build_method(kind, method_raw, params, image, inputs, seed)
    check_batches(row, method, len(inputs.decoded), params.batch_size)
    confidences = read_confidences(row, labels, inputs.shards) if method.weighs_confidence else None
    work_inputs = {
        "run": row.model_dump(),
        "seed": seed,
        "image": image.model_dump(),
        "train": params.model_dump(),
        "method": method_raw.model_dump(),
        "compute": asdict(compute),
        "shards": inputs.shards.fingerprint,
        "labels": file_digest(labels),
        "views": file_digest(VIEWS),
        "torch": torch.__version__,
    }
    architecture, _ = kind.own_backbone(method_raw) or (params.backbone, {})
    plug_ins = [kind.__module__, module_of("backbones", architecture), module_of("schedules", params.schedule.name)]
    with work_folder(f"pretrain/{row.name}/{seed}", work_inputs, [__name__, *plug_ins], restart) as work:
        if kind.gradient_free:
            method.fit(inputs.decoded.resized(image.size))
            done = Trained()
        else:
            done = train(
                method,
                partial(batches, method.sampling, inputs.clusters, params.batch_size, seed),
                view_maker(inputs, method.view_plan(inputs.views), seed, compute),
                inputs.clusters,
                params,
                compute,
                seed,
                work,
                f"pretrain {row.name} seed {seed}",
                LiveLog(f"{row.name}/{seed}"),
                confidences,
            )
        config = describe(row, seed, image, params, method_raw, method, inputs, compute, done)
        with atomic_directory(out) as folder:
            heads = {
                f"{name}.{k}": v
                for name, head in method.heads().items()
                for k, v in arrays_of(head.state_dict()).items()
            }
            write_backbone(folder, arrays_of(method.trained_backbone().state_dict()), heads, config)
            write_history(folder / "history.csv", done.history)
    seconds = time.monotonic() - began
    record(f"pretrain/{row.name}/{seed}", began, {"images_per_second": round(config["images_seen"] / seconds, 1)})


def read_inputs(labels: Path, image: ImageParams, params: TrainParams, compute: Compute) -> Inputs:
    """Shards, decoded training images, the label set joined by key, and the resolved views."""
    shards = Shards.open()
    rows = shards.rows("train")
    decoded = open_decoded(shards, rows, image.channels, None, threads=compute.threads)
    clusters = clusters_for(read_pseudo_labels(labels), shards.keys[rows], labels)
    mean, std = pixel_statistics(decoded, image)
    return Inputs(shards, decoded, clusters, resolve_views(params.views, VIEWS, image, mean, std))


def read_confidences(row: RunRow, labels: Path, shards: Shards) -> np.ndarray:
    """(n,) float32: how sure the label set is of each training image.

    Raises:
        TrainingError: it says so of none.
    """
    table = read_pseudo_labels(labels)
    if table["confidence"].null_count == table.num_rows:
        raise TrainingError(
            "weighing by confidence needs a label set that says how sure it is",
            where=f"methods.{row.name}.weigh_by_confidence",
            found=f"'{row.labels}', which has no confidences",
            fix="Set it to false, or name a label set whose miner gives confidences, or one with resamples.",
        )
    return confidences_for(table, shards.keys[shards.rows("train")])


def pixel_statistics(decoded: Decoded, image: ImageParams) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel on the 0..1 scale, in exact integers, over evenly spaced images."""
    every = max(1, -(-len(decoded) // STATISTICS_ROWS))
    pixels = decoded.resized(image.size, range(0, len(decoded), every)).reshape(-1, image.channels)
    total, squares = pixels.sum(axis=0, dtype=np.int64), np.zeros(image.channels, dtype=np.int64)
    for start in range(0, len(pixels), 1 << 22):
        squares += np.square(pixels[start : start + (1 << 22)].astype(np.int64)).sum(axis=0)
    count = max(1, len(pixels))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1.0))  # a constant channel is left at its own scale
    return tuple(round(float(v) / 255, 6) for v in mean), tuple(round(float(v) / 255, 6) for v in std)


def check_images(row: RunRow, kind: type[Method], inputs: Inputs, params: TrainParams) -> None:
    """Refuse what cannot be trained on, before anything is built."""
    n, labelled = len(inputs.decoded), int((inputs.clusters >= 0).sum())
    if n < params.batch_size and not kind.gradient_free:
        raise TrainingError(
            "there are fewer training images than a batch holds",
            where="train.batch_size",
            found=f"{n} images, batch {params.batch_size}",
            fix=f"Set train.batch_size to at most {n}, or add images.",
        )
    if kind.needs_labels and labelled == 0:
        raise TrainingError(
            f"method '{row.method}' needs a label set with labels",
            where=f"runs: {row.name}: labels",
            found=f"'{row.labels}', which labels no image",
            fix="Name a mined label set, or `truth` if the images have labels.",
        )


def check_batches(row: RunRow, method: Method, n: int, batch_size: int) -> None:
    """Refuse batches that are too small for the method: sizes differ by at most one, so the smallest is known."""
    smallest = n // batch_count(n, batch_size)
    if smallest < method.smallest_batch and not method.gradient_free:
        raise TrainingError(
            f"method '{row.method}' needs at least {method.smallest_batch} images in every batch",
            where=f"train.batch_size, methods.{row.name}",
            found=f"{n} images in batches of at most {batch_size}, the smallest of {smallest}",
            fix="Set a batch size that leaves more images to each batch, or lower the method's width.",
        )


def build_method(
    kind: type[Method], method_params: MethodParams, params: TrainParams, image: ImageParams, inputs: Inputs, seed: int
) -> Method:
    """Initialise backbone and heads; the same seed gives every method the same backbone."""
    architecture, options = kind.own_backbone(method_params) or (params.backbone, {})
    seed_torch(seed, "backbone")
    backbone = build_backbone(architecture, image.channels, image.size, params.stem, options)
    context = Context(
        images=len(inputs.decoded),
        clusters=int(inputs.clusters.max(initial=-1)) + 1,
        steps=params.epochs * batch_count(len(inputs.decoded), params.batch_size),
        size=image.size,
        channels=image.channels,
        mean=inputs.views.mean,
        std=inputs.views.std,
        seed=seed,
    )
    seed_torch(seed, "heads")
    return kind(backbone, method_params, context)


def batches(sampling: str, clusters: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The image rows of each batch of an epoch."""
    if sampling == "guided":
        return guided_batches(clusters, batch_size, numpy_rng(seed, "batches", epoch))
    if sampling == "rank":
        return rank_batches(clusters, batch_size, numpy_rng(seed, "batches", 0))
    return random_batches(len(clusters), batch_size, numpy_rng(seed, "batches", epoch))


def view_maker(inputs: Inputs, plan: list[ViewSettings], seed: int, compute: Compute):
    """The batched path for small images of one size, the per-image path for everything else."""
    images = inputs.decoded.images
    if images is not None and max(images.shape[1:3]) <= BATCHED_SIDE:
        resident = on_device(images, compute.device)

        def batched(rows: np.ndarray, epoch: int, number: int) -> list[torch.Tensor]:
            if resident is None:
                pixels = torch.from_numpy(images[rows])
            else:
                pixels = resident[torch.from_numpy(rows).to(resident.device, non_blocking=True)]
            return [
                batched_view(pixels, settings, torch_rng(seed, "views", epoch, number, v), compute.device)
                for v, settings in enumerate(plan)
            ]

        return batched
    made = {settings: PerImageViews(inputs.decoded.image, settings, compute.threads) for settings in plan}
    return lambda rows, epoch, number: [
        made[settings](rows, seed, "views", epoch, number, v) for v, settings in enumerate(plan)
    ]


def on_device(images: np.ndarray, device: str) -> torch.Tensor | None:
    """All training images in the GPU's memory, where they take at most a quarter of what is free; else None."""
    if device != "cuda" or images.nbytes > RESIDENT_SHARE * torch.cuda.mem_get_info()[0]:
        return None
    return torch.from_numpy(np.array(images)).to(device)


def describe(
    row: RunRow,
    seed: int,
    image: ImageParams,
    params: TrainParams,
    method_params: MethodParams,
    method: Method,
    inputs: Inputs,
    compute: Compute,
    done: Trained,
) -> dict[str, Any]:
    """config.json: how to rebuild the network, what it saw, and under which budget."""
    own = method.own_backbone(method_params)
    architecture, options = own or (params.backbone, {})
    epochs = len(done.history)
    first = batches(method.sampling, inputs.clusters, params.batch_size, seed, 0) if epochs else []
    met = conflicts(inputs.clusters, first) if epochs and (inputs.clusters >= 0).any() else None
    method.backbone.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        device = next((p.device for p in method.backbone.parameters()), torch.device("cpu"))
        method.backbone(torch.zeros(1, image.channels, image.size, image.size, device=device))
    return {
        "run": row.name,
        "method": row.method,
        "labels": row.labels,
        "seed": seed,
        "architecture": architecture,
        "options": options,
        "stem": params.stem,
        "input_size": image.size,
        "channels": image.channels,
        "mean": list(inputs.views.mean),
        "std": list(inputs.views.std),
        "pooling": backbone_named(architecture, options).pooling,
        "num_features": int(method.backbone.num_features),
        "weights": method.weights,
        "heads": {name: head.widths for name, head in method.heads().items()},
        "epochs": epochs,
        "steps": done.step,
        "images_seen": epochs * len(inputs.decoded),
        "crops_seen": epochs * len(inputs.decoded) * len(method.view_plan(inputs.views)),
        "flops_per_image": counter.get_total_flops(),
        "precision": compute.precision,
        "device": compute.device,
        "threads": compute.threads,
        "learning_rate_base": params.learning_rate,
        "learning_rate_scaled": scaled_learning_rate(params.learning_rate, params.batch_size),
        "sampling": {
            "kind": method.sampling,
            "clusters": int(inputs.clusters.max()) + 1,
            "largest": met.largest,
            "batches": met.batches,
            "conflicting_pairs": met.pairs,
            "share_affected": round(met.share_affected, 6),
        }
        if met
        else None,
        "views": asdict(inputs.views),
        "parameters": {"train": params.model_dump(), "method": method_params.model_dump()},
    }


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    """history.csv: a row an epoch; only the header for gradient-free methods."""
    names = list(history[0]) if history else list(HISTORY)
    table = pa.table(
        {n: pa.array([r[n] for r in history], pa.int64() if n in ("epoch", "step") else pa.float64()) for n in names}
    )
    with atomic_file(path) as file:
        pyarrow.csv.write_csv(table, file)
