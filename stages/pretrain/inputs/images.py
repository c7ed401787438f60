"""The images and labels of one run, and what is refused before anything is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reprise.artifacts.labels.label_sets import clusters_for, confidences_for, given_for, read_pseudo_labels
from reprise.artifacts.layout import VIEWS
from reprise.artifacts.shards import Shards
from reprise.config.errors import MachineError, TrainingError
from reprise.config.params import ImageParams
from reprise.config.tables import TRUTH, AnyRun
from reprise.networks.memory.footprint import numbers
from reprise.networks.memory.recompute import blocks_of
from reprise.reading.decoded import Decoded, open_decoded
from reprise.reading.order import batch_count
from reprise.reading.partners import Partners
from reprise.reading.share import positions_in
from reprise.runtime.memory import gibibytes
from reprise.training.memory import held_by_each, training_memory
from reprise.training.params import TrainParams
from stages.pretrain.inputs.facts import read_run_facts
from stages.pretrain.inputs.masks import Masks, read_run_masks
from stages.pretrain.inputs.pairing import read_partners, refuse_parted_pairs
from stages.pretrain.method import Field, Method
from stages.pretrain.setup import Setup
from stages.pretrain.views.settings import ViewSettings, resolve_views

STATISTICS_ROWS = 10_000  # images from which mean and standard deviation are taken
STATISTICS_VALUES = 1 << 28  # of volumes, at most


@dataclass(frozen=True)
class Inputs:
    """The n training images of one run and everything that is known of them.

    Attributes:
        shards: of the whole data set.
        decoded: pixels of the training images.
        clusters: (n,) int64 from the run's label set, -1 where there is none.
        confidences: (n,) float32 in [0, 1] from the run's label set; None where it states none.
        views: the run's augmentation, resolved.
        facts: what the method declares in `reads`, by name; see `read_run_facts`.
        rows: positions of the images that are trained on; all of them, unless the method chooses.
        partners: the pairs of the run's label set; None for a method that does not train on pairs.
        masks: those that the method declares in `reads`; None for a method that reads none.
        given: (n,) bool, images whose true label the miner of the label set got; None where it got none.
        in_shards: (n,) int64, the images' rows of the shards.
    """

    shards: Shards
    decoded: Decoded
    clusters: np.ndarray
    confidences: np.ndarray | None
    views: ViewSettings
    rows: np.ndarray
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)
    partners: Partners | None = None
    masks: Masks | None = None
    given: np.ndarray | None = None
    in_shards: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def shown(self) -> int:
        """Images in an epoch: those that are trained on once, or each image that has a partner, and its partner."""
        return len(self.rows) if self.partners is None else self.partners.shown


def read_inputs(labels: Path, setup: Setup, method_class: type[Method]) -> Inputs:
    """Read shards, decoded training images, the label set and the facts joined by key, and the suggested views.

    Args:
        labels: the file of the label set.
        setup: of the run.
        method_class: chooses images, and says which facts and whether pairs are read.
    """
    shards = Shards.open()
    rows = shards.rows("train")
    kept = positions_in(setup.train.image_share, shards.keys[rows])
    bounds, threads = setup.cache.bounds, setup.compute.threads
    decoded = open_decoded(shards, rows[kept], setup.image.channels, threads=threads, at_once=False, **bounds)
    table = read_pseudo_labels(labels)
    clusters = clusters_for(table, shards.keys[rows], labels)[kept]
    stated = table["confidence"].null_count < table.num_rows
    mean, std = pixel_statistics(decoded, setup.image)
    if setup.start.config is not None:  # trained on, weights see images on the scale that they know
        mean, std = (tuple(setup.start.config[name]) for name in ("mean", "std"))
    views = resolve_views(setup.train.views, VIEWS, setup.image, mean, std, shards.modality)
    keys, reads = shards.keys[rows[kept]], method_class.facts_read(setup.method)
    facts = read_run_facts(setup.row, reads, keys)
    confidences = confidences_for(table, keys) if stated else None
    pairs = method_class.needs_pairs
    partners = read_partners(labels, shards.keys[rows], kept, setup.row) if pairs else None
    chosen = method_class.chosen_images(setup.method, clusters, setup.seed)
    chosen = np.arange(len(keys)) if chosen is None else chosen
    masks = read_run_masks(setup.row, reads, keys, setup.cache.memory_bytes)
    given = given_for(table, keys)
    return Inputs(
        shards, decoded, clusters, confidences, views, chosen, facts, partners, masks, given, in_shards=rows[kept]
    )


def pixel_statistics(decoded: Decoded, image: ImageParams) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation per channel on the 0..1 scale, over evenly spaced images.

    Sums are exact integers, so the result depends neither on the order nor on the number of threads.
    """
    squares = decoded.squares(image.size)
    most = STATISTICS_ROWS
    if squares.ndim > 4:  # cubes hold many more values
        most = max(1, min(most, STATISTICS_VALUES // image.size**3))
    every = max(1, -(-len(decoded) // most))
    pixels = squares[::every].reshape(-1, image.channels)
    total, squares = pixels.sum(axis=0, dtype=np.int64), np.zeros(image.channels, dtype=np.int64)
    for start in range(0, len(pixels), 1 << 22):  # a block at a time: the squares take eight times the memory
        squares += np.square(pixels[start : start + (1 << 22)].astype(np.int64)).sum(axis=0)
    count = max(1, len(pixels))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 1.0))  # a constant channel is left at its own scale
    return tuple(round(float(v) / 255, 6) for v in mean), tuple(round(float(v) / 255, 6) for v in std)


def refuse_images(setup: Setup, method_class: type[Method], inputs: Inputs) -> None:
    """Refuse images and labels that the method cannot be trained on.

    Raises:
        TrainingError: fewer images than a batch holds, or no labels where the method needs them.
    """
    if method_class.needs_pairs:
        refuse_parted_pairs(setup.row, setup.train)
    if "clusters" in method_class.needs and not (inputs.clusters >= 0).any():
        raise without_labels(setup.row)
    refuse_truth(setup.row, method_class)
    refuse_few(method_class, inputs.shown, setup.train.batch_size)


def refuse_few(method_class: type[Method], n: int, size: int) -> None:
    """Refuse fewer training images than a batch holds, unless the method sees no batches.

    Args:
        method_class: of the run.
        n: training images.
        size: images in a batch.

    Raises:
        TrainingError: there are fewer.
    """
    if n < size and not method_class.gradient_free and not method_class.takes_few:
        raise TrainingError(
            "there are fewer training images than a batch holds",
            where="train.batch_size",
            found=f"{n} images, batch {size}",
            fix=f"Set train.batch_size, or the run's own batch_size, to at most {n}, or add images.",
        )


def refuse_batches(row: AnyRun, method: Method, n: int, size: int, accumulate: int = 1, processes: int = 1) -> None:
    """Refuse batches that are too small for the method; sizes differ by at most one, so the smallest is known.

    Args:
        row: of the run, for the message.
        method: says how many images it needs.
        n: training images.
        size: images in a batch, at most.
        accumulate: micro-batches that each batch is cut into; then it is these that must not be too small.
        processes: that share each of them; every one needs an image.

    Raises:
        TrainingError: the smallest batch of n images holds too few.
    """
    if method.gradient_free:
        return
    smallest = n // batch_count(n, size)
    if processes > 1 and smallest // accumulate < processes:
        raise TrainingError(
            "each process needs at least one image of every batch, or of every micro-batch",
            where=f"train.processes, train.batch_size, methods.{row.name}",
            found=f"{processes} processes, the smallest batch of {smallest} images in {accumulate} parts",
            fix="Lower processes or accumulate, or raise the batch size.",
        )
    if accumulate > 1 and smallest // accumulate < max(1, method.smallest_batch):
        raise TrainingError(
            f"method '{row.method}' needs at least {max(1, method.smallest_batch)} images in every micro-batch",
            where=f"train.accumulate, train.batch_size, methods.{row.name}",
            found=f"the smallest batch of {smallest} images in {accumulate} micro-batches",
            fix="Lower accumulate, or raise the batch size.",
        )
    if smallest < method.smallest_batch:
        raise TrainingError(
            f"method '{row.method}' needs at least {method.smallest_batch} images in every batch",
            where=f"train.batch_size, methods.{row.name}",
            found=f"{n} images in batches of at most {size}, the smallest of {smallest}",
            fix="Set a batch size that leaves more images to each batch, or lower the method's width.",
        )


def refuse_passes(row: AnyRun, method: Method, train: TrainParams) -> None:
    """Refuse ways of passing a batch that the method or its backbone cannot take.

    Raises:
        TrainingError: naming the parameter of `train`.
    """
    if method.gradient_free:
        return
    if train.chunk_size is not None and not method.chunkable:
        raise TrainingError(
            f"method '{row.method}' passes parts of images through its backbone, so batches cannot pass in chunks",
            where="train.chunk_size",
            found=train.chunk_size,
            fix=f"Set chunk_size in the blocks of the other runs only, and accumulate in methods.{row.name}.",
        )
    if train.shard_weights:
        refuse_sharding(row, method, train)
    if train.activation_checkpointing and not blocks_of(method.backbone):
        raise TrainingError(
            "the backbone has no sequence of blocks that could be computed twice",
            where="train.activation_checkpointing",
            found=type(method.backbone).__name__,
            fix="Set it to false, or choose another backbone; train.chunk_size and train.accumulate work with any.",
        )


def refuse_sharding(row: AnyRun, method: Method, train: TrainParams) -> None:
    """Refuse to part the weights of a backbone over the processes where that cannot be.

    Raises:
        TrainingError: naming the parameter of `train`.
    """
    if train.processes == 1:
        raise TrainingError(
            "one process has nobody to share the weights of the backbone with",
            where="train.shard_weights, train.processes",
            found=f"{str(train.shard_weights).lower()}, {train.processes}",
            fix="Set processes to at least 2, or shard_weights to false.",
        )
    if not method.chunkable:
        raise TrainingError(
            f"method '{row.method}' uses its backbone in parts, so the weights cannot be shared among processes",
            where="train.shard_weights",
            found=str(train.shard_weights).lower(),
            fix=f"Set shard_weights to false in methods.{row.name}.",
        )
    if train.watches:
        raise TrainingError(
            "watches look from the first process, which has a part of the weights only",
            where="train.shard_weights, train.watches",
            found=", ".join(watch.name for watch in train.watches),
            fix="Remove the watches from this run, or set shard_weights to false.",
        )


def refuse_memory(setup: Setup, method: Method, limit: int | None) -> None:
    """Refuse a network whose weights, gradients and optimiser alone do not fit into memory; a GPU has its own.

    Args:
        setup: of the run.
        method: as built.
        limit: bytes of this machine, or of a stricter control group; None where it is not known.

    Raises:
        MachineError: they do not fit.
    """
    if limit is None or method.gradient_free or setup.compute.device != "cpu":
        return
    parted = method.embedding_networks() if setup.train.shard_weights else []
    trained = held_by_each(method, parted, setup.train.processes)
    least = training_memory(numbers(method), trained, 0, 0, 0, setup.train.optimizer, 0).least
    if least > limit:
        raise MachineError(
            "weights, gradients and the optimiser's state do not fit into the memory of this machine",
            where=f"runs: {setup.row.name}",
            found=f"{gibibytes(least)} needed at least, {gibibytes(limit)} there",
            fix="Choose a smaller train.backbone, or run on a machine with more memory.",
        )


def without_labels(row: AnyRun) -> TrainingError:
    """Make the error of a run whose method needs labels and whose label set labels no image."""
    return TrainingError(
        f"method '{row.method}' needs a label set with labels",
        where=f"runs: {row.name}: labels",
        found=f"'{row.labels}', which labels no image",
        fix="Name a mined label set, or `truth` if the images have labels.",
    )


def refuse_truth(row: AnyRun, method_class: type[Method]) -> None:
    """Refuse the classes of the manifest for a method that stays self-supervised only with mined labels.

    Raises:
        TrainingError: the run's label set is the truth.
    """
    if method_class.mined_only and row.labels == TRUTH:
        raise TrainingError(
            f"method '{row.method}' is for mined labels: with the truth its runs would not be self-supervised",
            where=f"runs: {row.name}: labels",
            found=f"'{row.labels}'",
            fix="Name a label set of `mines`, or compare with `supcon` or `supervised`.",
        )


def without_confidences(row: AnyRun) -> TrainingError:
    """Make the error of a run that weighs by confidence and whose label set has none."""
    return TrainingError(
        "weighing by confidence needs a label set that says how sure it is",
        where=f"methods.{row.name}.weigh_by_confidence",
        found=f"'{row.labels}', which has no confidences",
        fix="Set it to false, or name a label set whose miner gives confidences, or one with resamples.",
    )


def without_given_labels(row: AnyRun) -> TrainingError:
    """Make the error of a run that learns from given labels and whose label set does not tell them from mined ones."""
    return TrainingError(
        f"method '{row.method}' learns from given labels beside mined ones",
        where=f"runs: {row.name}, labels",
        found=f"'{row.labels}', whose images have no given labels or only these",
        fix="Name a label set of the miner semi_supervised_mixture.",
    )


def fields_for(setup: Setup, needs: Sequence[Field], inputs: Inputs) -> dict[Field, np.ndarray]:
    """Select the fields that a method declares, and no others: labels never reach a method that does without.

    Returns:
        One array of length n for each field.

    Raises:
        TrainingError: the label set does not state a field.
    """
    if "confidences" in needs and inputs.confidences is None:
        raise without_confidences(setup.row)
    if "given" in needs and inputs.given is None:
        raise without_given_labels(setup.row)
    known: dict[Field, np.ndarray | None] = {
        "clusters": inputs.clusters,
        "confidences": inputs.confidences,
        "given": inputs.given,
    }
    return {name: value for name, value in known.items() if name in needs and value is not None}
