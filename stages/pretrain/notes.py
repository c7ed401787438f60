"""What a run does otherwise than its parameters say at first sight: sentences for terminal, config.json and report."""

from __future__ import annotations

import sys

from reprise.artifacts.budgets import labels_read, with_earlier
from reprise.config.tables import NONE, TRUTH, AdaptRow
from reprise.networks.memory.recompute import has_batch_statistics
from reprise.training.optimization.optimizers import scaled_learning_rate
from stages.pretrain.method import Method
from stages.pretrain.setup import Setup


def notes_on(setup: Setup, method: Method, images: int) -> list[str]:
    """Write a sentence for each number that is not what was asked for.

    Args:
        setup: what was asked for.
        method: built, with notes of its own.
        images: for training.
    """
    share = _on_the_share(setup, images)
    if method.gradient_free:
        watches = ", ".join(params.name for params in setup.train.watches)
        unseen = [f"nothing is trained by gradient steps, so these watches see nothing: {watches}."] if watches else []
        return [*share, *unseen, *method.notes]
    passed = _on_the_passes(setup, method, setup.batch_size(images))
    batch = [*_on_the_batch(setup, images), *passed]
    return [*share, *_on_the_start(setup), *batch, *_on_the_warmup(setup, images), *method.notes]


def show(notes: list[str], label: str) -> None:
    """Print the notes on stderr, a line each."""
    for note in notes:
        print(f"note: {label}: {note}", file=sys.stderr, flush=True)


def _on_the_share(setup: Setup, images: int) -> list[str]:
    share, labels = setup.train.image_share, setup.row.labels
    if share == 1:
        return []
    mined = "" if labels in (NONE, TRUTH) else f", while the label set '{labels}' was mined from all"
    return [f"it sees {images} training images, {100 * share:g} % of them{mined}."]


def _on_the_start(setup: Setup) -> list[str]:
    """Say what a run goes on from, and which label sets were read on the way."""
    config = setup.start.config
    if config is None or not isinstance(setup.row, AdaptRow):
        return []
    read = labels_read({"before": [*config.get("before", []), config], "labels": setup.row.labels})
    words = f"it and the runs before it could read: {', '.join(read)}" if read else "no labels were read"
    return [
        f"the backbone goes on from {setup.row.start} ({with_earlier(config)['images_seen']:,} images seen); {words}."
    ]


def _on_the_batch(setup: Setup, images: int) -> list[str]:
    asked, held = setup.train.batch_size, setup.batch_size(images)
    if held == asked:
        return []
    sentence = f"{images} images are cut into equal batches, so a batch holds {held} images instead of {asked}"
    if setup.train.learning_rate_scaling == "none":
        return [f"{sentence}."]
    nominal, used = scaled_learning_rate(setup.train.learning_rate, asked), setup.peak(images)
    return [f"{sentence}, and the learning rate is scaled to that: {used:.4g} instead of {nominal:.4g}."]


def _on_the_warmup(setup: Setup, images: int) -> list[str]:
    warmup, epochs = setup.train.warmup_epochs, setup.train.epochs
    if warmup < epochs:
        return []
    rates = setup.rates(images)
    reached, schedule = rates.at(rates.steps - 1), setup.train.schedule.name
    sentence = f"the warm-up of {warmup} epochs fills the whole training of {epochs}: the learning rate only rises"
    return [f"{sentence}, to {reached:.4g} of {rates.peak:.4g}, and the schedule '{schedule}' never begins."]


def _on_the_passes(setup: Setup, method: Method, batch: int) -> list[str]:
    """Say what a loss compares, and what batch normalisation sees, where that is not the whole batch."""
    train, notes = setup.train, []
    if train.accumulate > 1:
        held = -(-batch // train.accumulate)
        notes.append(
            f"each batch of {batch} images is cut into {train.accumulate} micro-batches of at most {held}, and the "
            "gradient is the mean of theirs: what the loss compares within a batch, such as negatives, variances or "
            f"assignments, it compares within {held} images. `chunk_size` compares all."
        )
    if train.chunk_size is not None and any(has_batch_statistics(part) for part in method.embedding_networks()):
        together = train.chunk_size * train.processes
        notes.append(
            f"batch normalisation in the backbone sees at most {together} views at a time instead of the whole "
            "batch, so the gradient is not that of the whole batch; with a backbone that has none it is."
        )
    return notes
