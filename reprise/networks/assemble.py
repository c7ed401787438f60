"""From files to networks: a trained backbone from its folder or from bare weights, whoever wrote them.

Every reader of backbones comes through here. In this order, so that nobody's file takes more than it brings: the
configuration is checked against its bounds, the header of the weights against the file, the network's shapes (built
without memory, on torch's meta device) against the header; only then are the data read and the network built.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from reprise.artifacts.weights.backbones import CONFIG, BackboneConfig, checked_config
from reprise.artifacts.weights.tensors import TensorFacts, TensorFile
from reprise.config.errors import BackboneError
from reprise.config.params import in_one_line
from reprise.networks.axes import axes_of, blank, channels_last
from reprise.networks.backbone import build_backbone, option_problems
from reprise.networks.heads import ASSIGNER, CODES, PROJECTOR, TAPPED, Assigner, Projector

_LARGEST_BUFFERS = 1 << 30  # bytes of tensors that a network makes itself and no file holds
_RESTORE = "Restore the folder whole: `dvc checkout`."
_KINDS = {"F": "fc", "I": "iu", "U": "iu", "B": "b"}  # of safetensors' types -> NumPy's kinds
_COUNTER = "num_batches_tracked"  # of batch normalisation; files from before torch 0.4.1 do not have it


class TappedBackbone(nn.Module):
    """A frozen backbone with its heads.

    `forward` returns {"backbone": (B, d), "projector1": (B, h), ...}. Heads that learn clusters add "assigner" (B, K),
    memberships whose rows sum to 1, and "codes" (B, c), vectors of length one.
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: Projector | None,
        assigner: Assigner | None = None,
        codes: Projector | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.projector, self.assigner, self.codes = backbone, projector, assigner, codes
        self.requires_grad_(False)
        self.eval()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the features at every tap of (B, C, S, S) normalised images."""
        h = self.backbone(x)
        if h.ndim != 2:  # of a few networks of timm: an embedding has one vector for an image
            raise BackboneError(
                "the backbone does not return one feature vector for each image",
                where=type(self.backbone).__name__,
                found=f"an output of shape {tuple(h.shape)}",
                fix="Choose another architecture.",
            )
        taps = {"backbone": h, **(self.projector.taps(h) if self.projector is not None else {})}
        if self.assigner is not None:
            taps[ASSIGNER] = self.assigner.memberships(h)
        if self.codes is not None:
            taps[CODES] = F.normalize(self.codes(h).float(), dim=1)
        return taps


@dataclass(frozen=True)
class Mismatch:
    """How to say that weights and network do not fit.

    Attributes:
        what: the mistake, a clause.
        where: the file or folder.
        fix: the way out, a sentence.
    """

    what: str
    where: str
    fix: str

    def error(self, found: object) -> BackboneError:
        """Make the error."""
        return BackboneError(self.what, where=self.where, found=found, fix=self.fix)


def assemble(entries: dict[str, Any], weights: TensorFile, heads: TensorFile, where: str) -> TappedBackbone:
    """Build the network of a run's folder and load its weights: the one way in which such a folder is read.

    Args:
        entries: `read_config` of the folder.
        weights, heads: `open_weights` of the folder; their data are read only after all shapes fit.
        where: the folder, for messages.

    Raises:
        BackboneError: an entry is out of bounds; the architecture is unknown or has other options; names, shapes or
            types of the weights are not those of the network; or a value is not finite.
    """
    config = checked_config(entries, f"{where}/{CONFIG}")
    _check_options(config, where)
    mismatch = Mismatch("the weights do not fit their configuration", where, _RESTORE)
    facts = {f"backbone.{name}": one for name, one in weights.tensors.items()}
    facts |= {name: one for name, one in heads.tensors.items() if _is_tapped(name)}

    def build() -> TappedBackbone:
        return _tapped(config, where)

    check_fit(build, facts, mismatch)
    network = build()
    _check_widths(config, network.backbone, mismatch)
    arrays = {f"backbone.{name}": value for name, value in weights.read().items()}
    arrays |= {name: value for name, value in heads.read().items() if _is_tapped(name)}
    load_arrays(network, arrays, mismatch)
    return network.to(memory_format=channels_last(axes_of(network)))


def load_bare(file: TensorFile, build: Callable[[], nn.Module], mismatch: Mismatch) -> nn.Module:
    """Load weights without a configuration into the network that `build` makes; see `check_fit`."""
    check_fit(build, file.tensors, mismatch)
    network = build()
    load_arrays(network, file.read(), mismatch)
    return network


def check_fit(build: Callable[[], nn.Module], facts: Mapping[str, TensorFacts], mismatch: Mismatch) -> None:
    """Compare a network with the header of its weights, before memory is taken for either.

    Args:
        build: makes the network.
        facts: what the header says of each tensor.
        mismatch: how to say that something does not fit.

    Raises:
        BackboneError: names, shapes or types of weights differ, or the network needs far more memory than its weights.
    """
    network = _outline(build)
    expected = network.state_dict()
    wrong = [f"{k} is missing" for k in expected if k not in facts and k.rpartition(".")[2] != _COUNTER]
    wrong += [f"{k} is unknown" for k in facts if k not in expected]
    for name in expected.keys() & facts.keys():
        shape, kind = tuple(expected[name].shape), _kind(expected[name])
        if facts[name].shape not in (shape, shape or (1,)):  # torch takes a vector of one number for a number
            wrong.append(f"{name} is {facts[name].shape}, not {shape}")
        elif kind not in _KINDS[facts[name].dtype[0]]:
            wrong.append(f"{name} has the type {facts[name].dtype}, not {expected[name].dtype}")
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise mismatch.error(f"{'; '.join(f'{line:.200}' for line in sorted(wrong)[:5])}{more}")
    extra = sum(b.numel() * b.element_size() for name, b in network.named_buffers() if name not in expected)
    if extra > _LARGEST_BUFFERS:
        raise mismatch.error(f"a network that makes {extra} bytes of tensors besides its weights")


def feature_width(network: nn.Module, channels: int, size: int, mismatch: Mismatch) -> int:
    """Run a network on one image of zeros and return the width of its features.

    Raises:
        BackboneError: it cannot see such an image, or does not turn it into one vector.
    """
    try:
        with torch.inference_mode():
            found = network.eval()(blank(network, 1, channels, size))
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise mismatch.error(
            f"a network that cannot see {channels} x {size} x {size} pixels ({reason:.200})"
        ) from error
    if found.ndim != 2:
        raise mismatch.error(f"an output of shape {tuple(found.shape)}, not one vector for an image")
    return int(found.shape[1])


def load_arrays(network: nn.Module, arrays: Mapping[str, np.ndarray], mismatch: Mismatch) -> None:
    """Load arrays strictly.

    Raises:
        BackboneError: keys or shapes do not fit, or a value is not finite in the network's type.
    """
    try:
        network.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}, strict=True)
    except RuntimeError as error:
        raise mismatch.error(" ".join(str(error).split())[:600]) from error
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise mismatch.error(f"values of {name:.200} that {value.dtype} cannot hold")


def _check_options(config: BackboneConfig, where: str) -> None:
    """Refuse options that the architecture does not list: they reach constructors of other packages."""
    try:
        problems = option_problems(config.architecture, dict(config.options))
    except BackboneError as error:
        raise BackboneError(error.what, where=f"{where}/{CONFIG}", found=error.found, fix=error.fix) from error
    if problems:
        raise BackboneError(
            f"the configuration has options that {config.architecture} does not take",
            where=f"{where}/{CONFIG}",
            found=in_one_line(problems),
            fix="Take the folder from whoever trained the backbone; `reprise params` lists the options.",
        )


def _tapped(config: BackboneConfig, where: str) -> TappedBackbone:
    try:
        backbone = build_backbone(
            config.architecture, config.channels, config.input_size, config.stem, dict(config.options)
        )
    except BackboneError as error:
        raise BackboneError(error.what, where=f"{where}/{CONFIG}", found=error.found, fix=error.fix) from error
    widths = config.heads
    return TappedBackbone(
        backbone,
        Projector(widths[PROJECTOR]) if PROJECTOR in widths else None,
        Assigner(widths[ASSIGNER]) if ASSIGNER in widths else None,
        Projector(widths[CODES]) if CODES in widths else None,
    )


def _is_tapped(name: str) -> bool:
    """Tell whether a tensor belongs to one of the heads that are read again."""
    return name.partition(".")[0] in TAPPED


class _WithoutRandomValues(TorchFunctionMode):
    """Leaves tensors as they are where they would be filled at random.

    On the meta device there is nothing to fill, and torch would import its whole compiler for it: three seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer for one function of torch."""
        return args[0] if func is Tensor.normal_ else func(*args, **(kwargs or {}))


def _outline(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network whose tensors have shapes and no memory.

    A user's own plug-in may look at the values of its tensors while it is built, which have none here: it is built as
    it is. Its options keep to the bounds that it states itself.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), _WithoutRandomValues():
            return build()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        if "meta" not in str(error):
            raise
        return build()


def _check_widths(config: BackboneConfig, backbone: nn.Module, mismatch: Mismatch) -> None:
    """Refuse stated widths that the network does not have: probes build their classifiers by them."""
    width = getattr(backbone, "num_features", config.num_features)
    # Of a few networks of timm, features are wider than the attribute says; `stages.embed.adopt` measures them.
    if config.num_features not in (width, getattr(backbone, "head_hidden_size", width)):
        raise mismatch.error(f"features of {width} numbers, and num_features {config.num_features}")
    for name in TAPPED:
        inputs = config.heads.get(name, [width])[0]
        if inputs != width:
            called = {PROJECTOR: "a projector", ASSIGNER: "an assigner", CODES: "a head of codes"}[name]
            raise mismatch.error(f"features of {width} numbers, and {called} for {inputs}")


def _kind(tensor: Tensor) -> str:
    """Return NumPy's letter for the kind of a tensor's type."""
    if tensor.is_complex():
        return "c"
    return "f" if tensor.is_floating_point() else "b" if tensor.dtype == torch.bool else "i"
