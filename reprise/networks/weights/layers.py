"""The layers of a backbone from the input to the output, for rates by layer and for layers that do not learn."""

from __future__ import annotations

from typing import Any

from torch import nn

from reprise.config.errors import TrainingError

STEM, ALL_BUT_LAST = "stem", "all_but_last"


def layers_of(backbone: nn.Module) -> list[list[str]]:
    """List the names of the parameters of each layer, the lowest first.

    Networks of timm say themselves what their layers are (`group_matcher`). Of others, each element of a sequence of
    blocks is a layer; what lies before the first block is the stem, and a single module behind a block belongs to it.
    A network that is nothing but a wrapper of another (`inner`) has the layers of that one.
    """
    children = dict(backbone.named_children())
    if list(children) == ["inner"]:
        return [[f"inner.{name}" for name in layer] for layer in layers_of(children["inner"])]
    matcher = getattr(backbone, "group_matcher", None)
    if matcher is not None:
        from timm.models import group_parameters

        found: dict[str, int] = group_parameters(backbone, matcher(coarse=False), return_values=False, reverse=True)
        return [[n for n, layer in found.items() if layer == number] for number in sorted(set(found.values()))]
    layers: list[list[str]] = [[]]
    for name, parameter in backbone.named_parameters(recurse=False):
        del parameter
        layers[0].append(name)
    for name, child in backbone.named_children():
        blocks = list(child.named_children()) if isinstance(child, nn.Sequential | nn.ModuleList) else []
        if not blocks:
            layers[-1] += [f"{name}.{inner}" for inner, _ in child.named_parameters()]
        for block, module in blocks:
            layers.append([f"{name}.{block}.{inner}" for inner, _ in module.named_parameters()])
    return [layer for layer in layers if layer]


def frozen_names(layers: list[list[str]], freeze: int | str, where: str) -> set[str]:
    """Return the names of the parameters that do not learn.

    Args:
        layers: of the backbone, the lowest first.
        freeze: how many of the lowest layers, `stem` (the first) or `all_but_last`.
        where: the parameter, for the message.

    Raises:
        TrainingError: there are no more layers than these.
    """
    count = {STEM: 1, ALL_BUT_LAST: len(layers) - 1}.get(str(freeze), freeze)
    if int(count) >= len(layers):
        raise TrainingError(
            "no layer of the backbone would learn",
            where=where,
            found=f"{freeze}, of {len(layers)} layers",
            fix=f"Write {STEM}, {ALL_BUT_LAST} or a number below {len(layers)}. `published` shows weights as they are.",
        )
    return {name for layer in layers[: int(count)] for name in layer}


def freeze(backbone: nn.Module, names: set[str]) -> list[nn.Module]:
    """Switch off the gradients of parameters, and return the modules that must stay in evaluation mode.

    Batch normalisation of a frozen layer would otherwise go on following the batches with its running statistics.
    """
    modules = []
    for prefix, module in backbone.named_modules():
        own = [f"{prefix}.{name}".lstrip(".") for name, _ in module.named_parameters(recurse=False)]
        if own and names.issuperset(own):
            modules.append(module)
    for name, parameter in backbone.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    return modules


def with_layer_rates(backbone: nn.Module, groups: list[dict[str, Any]], decay: float) -> list[dict[str, Any]]:
    """Give each layer of a backbone a learning rate `decay` times that of the layer above; heads keep the full rate.

    Source: Clark et al., "ELECTRA", ICLR 2020; for images Bao et al., "BEiT", ICLR 2022.

    Args:
        backbone: in training.
        groups: torch's param groups of a method; groups that hold weights of the backbone are split by layer.
        decay: the factor, in (0, 1].
    """
    parameters = dict(backbone.named_parameters())
    layers = layers_of(backbone)
    factors = {
        id(parameters[name]): decay ** (len(layers) - number) for number, layer in enumerate(layers) for name in layer
    }
    split = []
    taken = set()
    for group in groups:
        taken |= {id(parameter) for parameter in group["params"]}
        for factor in sorted({factors.get(id(parameter), 1.0) for parameter in group["params"]}):
            inside = [p for p in group["params"] if factors.get(id(p), 1.0) == factor]
            split.append({**group, "params": inside, "rate_factor": group.get("rate_factor", 1.0) * factor})
    for number, layer in enumerate(layers):
        rest = [parameters[n] for n in layer if id(parameters[n]) not in taken and parameters[n].requires_grad]
        if rest:
            split.append({"params": rest, "rate_factor": decay ** (len(layers) - number)})
    return split
