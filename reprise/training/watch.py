"""The protocol of a watch: a read-only look at a training, at its start and after epochs.

A watch is one file in stages/pretrain/watches, or in plugins/watches of the user's project; its name is the file's.
Parameter files choose watches as blocks, `watches: {weight_norms: {every: 5}}`, whose keys are the watch's own.

A watch may do to the network what it likes, also take gradients and change weights: everything is put back as it was
(`unchanged`), so a training with watches ends with the bytes of one without.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails

from reprise.config.params import StrictModel, meaning
from reprise.config.plug_ins.blocks import detail, refused, typed_by_name
from reprise.config.plug_ins.registry import load_class, names
from reprise.config.texts.suggest import nearest
from reprise.config.texts.text_forms import plug_in_name, wrong_value
from reprise.runtime.seeds import seed_torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reprise.runtime.device import Compute
    from reprise.training.batches import Step

EXAMPLE = "weight_norms"


class WatchParams(StrictModel):
    """Base of every watch's parameters."""

    name: Annotated[str, plug_in_name("watches"), meaning("This watch looks at the training.")]
    every: Annotated[
        int,
        Field(ge=1, le=100_000),
        meaning("It looks at the start, after every so many epochs, and after the last one.", "epochs"),
    ] = 1


@dataclass(frozen=True)
class Look:
    """What a watch sees.

    Attributes:
        method: the model in training, with its heads and its own state; in the mode of training.
        step: the loss of a batch, with figures; it belongs to `method`.
        batch: the first batch of the first epoch, the same at every look.
        compute: device and precision.
        seed: of the run.
        epoch: finished epochs; 0 at the start.
    """

    method: nn.Module
    step: Step
    batch: Any
    compute: Compute
    seed: int
    epoch: int

    @property
    def backbone(self) -> nn.Module:
        """The network that is trained, (B, C, S, S) to (B, d); of a method with a teacher, the student's."""
        backbone: nn.Module = self.method.backbone
        return backbone

    def gradient(self, batch: Any) -> Tensor:
        """Compute the gradient of the loss of a batch: (p,) float32, all weights that learn, one after the other.

        Random draws of the step are the same at each call, and what it changes in the method is put back.
        """
        import torch

        learning = [p for p in self.method.parameters() if p.requires_grad]
        with unchanged(self.method), torch.enable_grad():
            seed_torch(self.seed, "watch")
            with self.compute.autocast():
                loss, _ = self.step(batch)
            loss.backward()
            return torch.cat([p.new_zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in learning]).float()


class Watch(ABC):
    """Base of all watches.

    Attributes:
        Params: the typed parameter class, a subclass of WatchParams.
    """

    Params: ClassVar[type[WatchParams]] = WatchParams

    def __init__(self, params: WatchParams) -> None:
        self.params = params

    @abstractmethod
    def look(self, look: Look) -> Mapping[str, float]:
        """Return figures by name; a figure that cannot be had of this method or batch is left out.

        Args:
            look: the training at this moment.
        """


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Put back what happens to a model and to random generators until the block ends.

    That is every parameter, buffer and gradient, the mode of each module, and the global generators of Python, NumPy
    and torch. The model's memory is held twice meanwhile.
    """
    import torch

    parameters, modules = list(model.parameters()), list(model.modules())
    tensors = [*parameters, *model.buffers()]
    copies = [tensor.detach().clone() for tensor in tensors]
    gradients, learning = [p.grad for p in parameters], [p.requires_grad for p in parameters]
    modes = [module.training for module in modules]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - a user's watch may use it
    on_gpu = any(tensor.is_cuda for tensor in tensors)
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if on_gpu else []):
        for parameter in parameters:
            parameter.grad = None  # those of a recorded step are memory that it writes again
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, copy in zip(tensors, copies, strict=True):
                    tensor.copy_(copy)
            for parameter, gradient, learns in zip(parameters, gradients, learning, strict=True):
                parameter.grad, parameter.requires_grad = gradient, learns
            for module, mode in zip(modules, modes, strict=True):
                module.training = mode  # not train(), which would also switch modules that stay in evaluation mode
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def typed_watches(blocks: Any) -> Any:
    """Turn blocks by name, as a parameter file has them, into the parameters of these watches, in their order.

    Raises:
        ValidationError: with the key of each problem, `weight_norms.every`.
        PydanticCustomError: the value is no block.
    """
    if blocks is None or isinstance(blocks, tuple):
        return blocks
    if not isinstance(blocks, dict):
        raise wrong_value("must be a block with a key for each watch", f" Write {{{EXAMPLE}: {{}}}}, for example.")
    found: list[StrictModel] = []
    problems: list[InitErrorDetails] = []
    known = names("watches")
    for name, block in blocks.items():
        if name not in known:
            hint = nearest(str(name), known) or f" Known: {', '.join(known)}."
            problems.append(detail((str(name),), "unknown watch", name, hint))
        elif not isinstance(block, dict) or "name" in block:
            problems.append(detail((name,), "must be a block of parameters", block, " Write `{}` for the defaults."))
        else:
            try:
                found.append(typed_by_name("watches", Watch, {"name": name, **block}, EXAMPLE))
            except ValidationError as error:
                problems += [
                    detail((name, *item["loc"]), item["ctx"]["rule"], item["input"], item["ctx"]["hint"])
                    for item in error.errors(include_url=False)
                ]
    if problems:
        raise refused(problems)
    return tuple(found)


Watches = tuple[SerializeAsAny[WatchParams], ...]
# The type of a field that names watches. None passes where the field's default is None.
WatchesBlock = Annotated[Watches, BeforeValidator(typed_watches)]
OptionalWatchesBlock = Annotated[Watches | None, BeforeValidator(typed_watches)]


def load_watch(params: WatchParams) -> Watch:
    """Build the watch that `params` names.

    Raises:
        ParameterError: there is no such watch.
    """
    return load_class("watches", params.name, Watch, f"train.watches.{params.name}")(params)  # type: ignore[type-abstract]
