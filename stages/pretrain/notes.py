"""What a run does otherwise than its parameters say at first sight: sentences for terminal, config.json and report."""

from __future__ import annotations

import sys

from reprise.training.optimizers import scaled_learning_rate
from stages.pretrain.method import Method
from stages.pretrain.setup import Setup


def notes_on(setup: Setup, method: Method, images: int) -> list[str]:
    """Write a sentence for each number that is not what was asked for.

    Args:
        setup: what was asked for.
        method: built, with notes of its own.
        images: for training.
    """
    if method.gradient_free:
        return list(method.notes)
    return [*_on_the_batch(setup, images), *_on_the_warmup(setup, images), *method.notes]


def show(notes: list[str], label: str) -> None:
    """Print the notes on stderr, a line each."""
    for note in notes:
        print(f"note: {label}: {note}", file=sys.stderr, flush=True)


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
