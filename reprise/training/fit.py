"""The training loop: one function, read from top to bottom. Every network of Reprise that has gradients learns here.

Pretraining passes all that there is; the denoising autoencoder, fine-tuning and moment probing leave out what they do
not need. Whatever is random is a pure function of the seed and the number of the step or epoch, so a run that was
killed takes the steps that it would have taken.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reprise.artifacts.weights.checkpoints import latest_checkpoint
from reprise.networks.ranks.parted_weights import gathered, laid_out
from reprise.networks.state import OnHost, load_optimizer, tensors_of
from reprise.runtime.device import Compute
from reprise.runtime.seeds import seed_torch
from reprise.runtime.world import ALONE, World
from reprise.storage.progress import Progress
from reprise.training.batches import Step
from reprise.training.epochs import Epochs
from reprise.training.history.aside import Aside
from reprise.training.history.records import Checkpoints, Observer, Records, Trained
from reprise.training.optimization.gradients import PLAINLY, Acceleration, Gradients
from reprise.training.optimization.optimizers import set_rates
from reprise.training.optimization.small_maps import right_gradients
from reprise.training.schedule import Rates

# Steps between two readings of the loss. On a GPU a second thread reads, and each reading costs a copy.
READ_EVERY = {"cpu": 1, "cuda": 50}
ADVICE = "Lower the learning rate or set train.precision to fp32."
Hook = Callable[[float], None]  # gets the progress of the training


def _nothing(progress: float) -> None:
    """Stand in for a hook that is not needed."""


def fit(
    model: nn.Module,
    step: Step,
    epochs: Epochs,
    optimizer: torch.optim.Optimizer,
    compute: Compute,
    label: str,
    *,
    rates: Rates | None = None,
    seed: int | None = None,
    after_backward: Hook = _nothing,
    after_step: Hook = _nothing,
    checkpoints: Checkpoints | None = None,
    observer: Observer | None = None,
    may_diverge: bool = False,
    advice: str = ADVICE,
    acceleration: Acceleration = PLAINLY,
    micro_batches: int = 1,
    world: World = ALONE,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Trained:
    """Train `model` in place, from its newest checkpoint on where there is one.

    On a GPU the host never waits within an epoch: it queues steps, and a second thread looks at copies of what they
    give. So an error may be raised some steps after the one that it names; the checkpoints before that step stay.

    Args:
        model: on the device already; its state, and only that, is kept in checkpoints beside the optimiser's.
        step: the loss of a batch; runs under autocast where `compute` says so.
        epochs: what is trained on.
        optimizer: of the parameters of `model`.
        compute: device and precision.
        label: names the training on the progress line and in errors ("pretrain simclr seed 0").
        rates: learning rate of each step; None leaves the optimiser's rates as they are.
        seed: reseeds torch's global generator before each step; None leaves it alone (nothing in `step` is random).
        after_backward: gets the share of steps done, in [0, 1), before the optimiser's step: clipping, freezing.
        after_step: gets the share of steps done, in (0, 1], after it: moving averages, queues, centres.
        checkpoints: None for trainings so short that they start afresh.
        observer: looks at each epoch's end.
        may_diverge: go on after a loss that is not finite, for callers that compare several learning rates.
        advice: what to do about a loss that is not finite.
        acceleration: whether the step is compiled, or recorded as a CUDA graph.
        micro_batches: parts of a batch that go forward and backward one after the other, before the optimiser's step.
        world: the processes that train `model` together. Each is given the same arguments, and batches of its own
            images; all take the same steps, and the first one reads and writes checkpoints.
        around: makes the context of the forward and backward pass of each batch.

    Raises:
        TrainingError: the loss is not finite; the last checkpoint before it stays.
    """
    observer = observer or Observer()
    steps, total = epochs.count * epochs.batches, epochs.count * epochs.samples
    advice = advice if checkpoints is None else f"{advice} Checkpoints are in {checkpoints.folder}."
    model.train()

    # ------------------------------------------------------------------ resume
    done = Trained()
    state = None if checkpoints is None else world.agreed(partial(latest_checkpoint, checkpoints.folder))
    if state is not None:
        done = restore(state, model, optimizer, observer)
    records = Records(done, observer, checkpoints, steps, label, advice, may_diverge)
    unread: list[Tensor] = []  # losses that are still on the device

    counts = {"epoch": epochs.count, "step": steps}
    with (
        Progress(label, total, "images", total * done.step // max(1, steps), counts) as progress,
        compute.own_stream(),
        right_gradients(model, compute),
        Aside(threaded=compute.device == "cuda") as aside,
    ):
        gradients = Gradients(model, step, compute, acceleration, micro_batches, aside.wait, world, around)
        observer.start(done.step)
        while done.step < steps:
            number, first = divmod(done.step, epochs.batches)  # a resumed epoch begins in its middle
            epoch = epochs.epoch(number)
            for k in range(first, epochs.batches):
                # ------------------------------------------- forward and backward
                if seed is not None:
                    seed_torch(seed, "step", done.step)
                rate = set_rates(optimizer, rates, done.step, steps)
                batch = epoch.batch(k)
                loss, logs = gradients(batch)

                # ----------------------------------------------- look at the loss
                # Before the weights change, and always before they are saved: a checkpoint is never a broken one.
                ends = k == epochs.batches - 1
                due = ends or (checkpoints is not None and checkpoints.due(done.step + 1))
                copies = OnHost(logs if due or done.step == 0 else {})
                unread.append(loss.clone())
                if due or (done.step + 1) % READ_EVERY[compute.device] == 0:
                    aside.do(records.read_losses, OnHost(torch.stack(unread)), done.step, rate)
                    unread = []
                if done.step == 0:
                    aside.do(records.begin, copies)
                if due:
                    aside.do(records.judge, copies, done.step)

                # -------------------------------------------------------- update
                after_backward(done.step / steps)
                optimizer.step()
                done.step += 1
                after_step(done.step / steps)
                figures = {"lr": rate, **records.shown}
                progress.advance(len(epoch.order[k]), epoch=number + 1, step=done.step, **figures)

                # -------------------------------------- end of an epoch, checkpoint
                if ends:
                    seen = OnHost(observer.look(batch))
                    aside.do(records.end_epoch, seen, copies, number + 1, done.step, rate)
                if checkpoints is not None and due and done.step < steps:
                    state = gathered(snapshot(model, optimizer), keep=checkpoints.writes)  # each may hold parts of it
                    if state is not None:
                        aside.do(records.save, OnHost(state), done.step)
    done.notes = [*acceleration.notes, *gradients.notes]
    return done


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the tensors of the whole state between two steps.

    Random generators have no place in it, because they are reseeded at each step.
    """
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def restore(state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, observer: Observer) -> Trained:
    """Load a checkpoint into model, optimiser and observer, and return how far it had come."""
    observer.state = state["observer"]
    model.load_state_dict(laid_out(tensors_of(state["model"]), model), strict=True)
    load_optimizer(optimizer, state["optimizer"])
    return Trained(state["step"], state["history"], state["losses"])
