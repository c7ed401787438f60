"""How a run goes through tars: in windows, and fetched ahead where they lie in a store."""

from __future__ import annotations

import numpy as np

from reprise.artifacts.tars.far import FarTars
from reprise.config.errors import TrainingError
from reprise.reading.order import conflicts, guided_batches
from reprise.reading.tars_ahead import TarsAhead
from reprise.reading.windows import Windows
from reprise.reading.words import bytes_in_words
from reprise.runtime.seeds import numpy_rng
from stages.pretrain.epochs import PretrainingEpochs
from stages.pretrain.inputs.images import Inputs
from stages.pretrain.setup import Setup


def windows_of(setup: Setup, inputs: Inputs) -> Windows | None:
    """Gather what windows are drawn from; None where an epoch shuffles all images."""
    if setup.train.window_bytes is None:
        return None
    tar, sizes = inputs.shards.of_tar
    return Windows(tar[inputs.in_shards[inputs.rows]], sizes, setup.train.window_bytes)


def tars_ahead(setup: Setup, inputs: Inputs, decoded_here: bool) -> TarsAhead | None:
    """Prepare to fetch tars ahead of the batches; None where no tar is read while the run is trained.

    Args:
        setup: of the run.
        inputs: its images.
        decoded_here: whether all of its images lie decoded on this machine.

    Raises:
        TrainingError: the order would fetch the same tars again and again.
    """
    tars = inputs.shards.tars
    if decoded_here or not isinstance(tars, FarTars):
        return None
    number, _ = inputs.shards.of_tar
    sizes = np.array([tars.size(name) for name in inputs.shards.tar_names], np.int64)
    needed, room = int(sizes[np.unique(number[inputs.in_shards])].sum()), tars.max_bytes
    window = setup.train.window_bytes
    if needed > room and (window is None or 2 * window > room):
        raise TrainingError(
            "the order of the images would fetch the same shards again and again",
            where="train.window_bytes, cache.far.max_bytes",
            found=f"shards of {bytes_in_words(needed)} in a store, room for {bytes_in_words(room)}, and "
            + ("no windows" if window is None else f"windows of {bytes_in_words(window)}"),
            fix=f"Set train.window_bytes to at most {room // 2} (half of the room, since the next window is fetched "
            "while one is trained on), or raise cache.far.max_bytes.",
        )
    return TarsAhead(inputs.shards, inputs.in_shards, sizes, room)


def notes_on_windows(setup: Setup, inputs: Inputs, epochs: PretrainingEpochs) -> list[str]:
    """Say how an epoch is shuffled, and what that costs guided batches, where it is cut into windows."""
    count = epochs.windows_in(0)
    if count < 2 or setup.train.window_bytes is None:
        return []
    size = bytes_in_words(setup.train.window_bytes)
    note = f"an epoch goes through {count} windows of tars of up to {size}, and shuffles images within each"
    if epochs.sampling != "guided":
        return [f"{note}."]
    clusters = inputs.clusters[inputs.rows]
    met = conflicts(inputs.clusters, epochs.order(0)).share_affected
    whole = guided_batches(clusters, epochs.batch_size, numpy_rng(setup.seed, "batches", 0))
    without = conflicts(clusters, whole).share_affected
    share = f"{100 * met:.1f} % of the images of the first epoch meet another of their cluster in a batch"
    return [f"{note}; {share}, and {100 * without:.1f} % would if all were shuffled at once."]
