"""`timm`: any network that timm knows, under timm's own name (`resnet50`, `vit_tiny_patch16_224`).

Source: Wightman, "PyTorch Image Models", github.com/huggingface/pytorch-image-models.

Only this file imports timm, and only when such a name is used: the import takes two seconds.

Checked by: tests/reprise/networks/test_networks.py; docs/measurements/worth-it.md.
"""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from reprise.config.errors import BackboneError
from reprise.config.params import StrictModel, meaning
from reprise.config.plug_ins.registry import names
from reprise.config.texts.suggest import closest
from reprise.networks.backbone import Backbone, resolve_stem
from reprise.networks.small.small_vit import refuse_one_patch
from reprise.networks.torchvision_schemas import ensure_torchvision_imports

# timm says in no other way which options a network takes: its class refuses those that it does not know.
_UNKNOWN_OPTION = re.compile(r"unexpected keyword argument(?:\(s\): \[)? ?'(\w+)'")

# The options that most networks of a family take, for messages.
_OF_ALL = ("drop_rate", "drop_path_rate", "global_pool")
_OF_TRANSFORMERS = (
    *("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "init_values"),
    *("qkv_bias", "class_token", "reg_tokens"),
)
_OF_CONVOLUTIONS = ("output_stride",)

Share = Annotated[float, Field(ge=0, lt=1)]


class TimmParams(StrictModel):
    """Options that timm's `create_model` passes on to a network; null leaves the network's own value.

    This list is all that a foreign config.json may ask for. What names files, addresses, weights or code
    (`checkpoint_path`, `pretrained_cfg`, `cache_dir`, `act_layer`) is not in it and must never be.
    """

    drop_rate: Annotated[Share | None, meaning("Dropout before the classifier sets this share of features to 0.")] = (
        None
    )
    drop_path_rate: Annotated[Share | None, meaning("Training leaves out this share of the residual branches.")] = None
    global_pool: Annotated[
        Literal["avg", "max", "avgmax", "catavgmax", "token", "map"] | None,
        meaning("Features of places become one vector an image in this way."),
    ] = None
    output_stride: Annotated[
        Literal[8, 16, 32] | None,
        meaning("A convolutional network shrinks its images by this factor, with dilation in place of strides."),
    ] = None
    patch_size: Annotated[
        Annotated[int, Field(ge=1, le=256)] | None,
        meaning("A transformer's patches are squares of this side.", "pixels"),
    ] = None
    embed_dim: Annotated[
        Annotated[int, Field(ge=1, le=16384)] | None, meaning("A transformer's tokens have this width.")
    ] = None
    depth: Annotated[Annotated[int, Field(ge=1, le=256)] | None, meaning("A transformer has this many blocks.")] = None
    num_heads: Annotated[
        Annotated[int, Field(ge=1, le=256)] | None, meaning("A transformer's blocks attend with this many heads.")
    ] = None
    mlp_ratio: Annotated[
        Annotated[float, Field(gt=0, le=16)] | None,
        meaning("The layer inside a transformer's block is wider than its tokens by this factor."),
    ] = None
    init_values: Annotated[
        Annotated[float, Field(gt=0, le=10)] | None,
        meaning("The scale of a transformer's branches begins at this value."),
    ] = None
    qkv_bias: Annotated[bool | None, meaning("A transformer's queries, keys and values have a bias.")] = None
    class_token: Annotated[bool | None, meaning("A transformer has a class token.")] = None
    reg_tokens: Annotated[
        Annotated[int, Field(ge=0, le=256)] | None, meaning("A transformer has this many register tokens.")
    ] = None


class Timm(Backbone):
    """A network of timm without its classifier; a ResNet gets the small stem where `stem` says so."""

    Params = TimmParams

    def __init__(self, name: str, params: TimmParams) -> None:
        super().__init__(name, params)
        ensure_torchvision_imports()
        import timm

        if not _is_known(name):
            own = [known for known in names("backbones") if known != "timm"]
            close = closest(name, [*own, *timm.list_models()], 3)
            raise BackboneError(
                "unknown backbone",
                where="train.backbone",
                found=name,
                fix=f"Use {', '.join(own)} or a timm name.{f' Did you mean {_alternatives(close)}?' if close else ''}",
            )

    def build(self, channels: int, size: int, stem: str) -> nn.Module:
        """Build the network without weights of timm's: (B, C, S, S) -> (B, num_features)."""
        import timm

        options = self.params.model_dump(exclude_none=True)
        common = {"pretrained": False, "num_classes": 0, "in_chans": channels, **options}
        random_state = torch.get_rng_state()
        try:
            try:  # a network that is built for one side of images takes it as `img_size`; others know no such option
                network = timm.create_model(self.name, **common, img_size=size)
            except TypeError as error:
                if _unknown_option(error) != "img_size":
                    raise
                torch.set_rng_state(random_state)
                network = timm.create_model(self.name, **common)
        except MemoryError:
            raise
        except Exception as error:  # a thousand networks, each with its own complaints about sizes and options
            self._refuse_options([name for name in options if name == _unknown_option(error)])
            raise BackboneError(
                "timm cannot build this network",
                where=self.name,
                found=f"{type(error).__name__}: {' '.join(str(error).split())}",
                fix=f"Change the images' side ({size}), their channels ({channels}) or the options "
                f"({', '.join(options) or 'none'}), or choose another network.",
            ) from error
        self._refuse_options([name for name in options if not _takes(type(network), name)])
        _refuse_patches(network, self.name, size)
        # Some networks have a layer behind their pooling, whose width timm gives another name.
        network.num_features = getattr(network, "head_hidden_size", None) or network.num_features
        if stem == "small" or (resolve_stem(stem, size) == "small" and _has_resnet_stem(network)):
            _replace_stem(network, self.name, channels)
        return network

    def _refuse_options(self, names: list[str]) -> None:
        """Refuse options that the network does not know, or would pass over.

        Raises:
            BackboneError: there are some.
        """
        if names:
            raise BackboneError(
                "this network takes other options",
                where=self.name,
                found=", ".join(names),
                fix=f"Leave them out. Most networks take {', '.join(_OF_ALL)}; transformers "
                f"{', '.join(_OF_TRANSFORMERS)}; convolutional networks {', '.join(_OF_CONVOLUTIONS)}.",
            )

    def made_for(self) -> dict[str, Any]:
        """Return what timm states for the published weights of that name."""
        import timm

        stated = timm.get_pretrained_cfg(self.name)
        return stated.to_dict() if stated else {}


def _unknown_option(error: Exception) -> str:
    """Return the option that a network does not know, or an empty text where something else is wrong."""
    match = _UNKNOWN_OPTION.search(str(error)) if isinstance(error, TypeError) else None
    return match[1] if match else ""


def _takes(network: type[nn.Module], option: str) -> bool:
    """Return whether the class of a network has an option, or passes on whatever it is given."""
    parameters = inspect.signature(network).parameters
    return option in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _is_known(name: str) -> bool:
    """Return whether timm has a network of this name and, behind a dot, weights of this tag."""
    import timm

    try:
        timm.get_pretrained_cfg(name)  # raises where the tag is unknown
        return bool(timm.is_model(name))
    except (RuntimeError, ValueError):  # no such tag; a path or an address
        return False


def _refuse_patches(network: nn.Module, name: str, size: int) -> None:
    """Refuse images that a network's patches do not fill, or of which one patch is the whole.

    timm rounds the number of patches down, and leaves out the pixels that remain at the right and below.

    Raises:
        BackboneError: naming sides that fit.
    """
    from timm.layers import PatchEmbed

    embedding = getattr(network, "patch_embed", None)
    if not isinstance(embedding, PatchEmbed) or embedding.dynamic_img_pad:
        return
    patch = max(embedding.patch_size)
    refuse_one_patch(size, patch, f"the patches of {name}")
    if any(size % side for side in embedding.patch_size):
        raise BackboneError(
            "a transformer's patches must fill the image",
            where=f"image.size, the patches of {name}",
            found=f"images of {size} pixels, patches of {patch}; {size % patch} pixels would be left out",
            fix=f"Set image.size to {size - size % patch} or {size - size % patch + patch}.",
        )


def _alternatives(words: list[str]) -> str:
    quoted = [f"'{word}'" for word in words]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]


def _has_resnet_stem(network: nn.Module) -> bool:
    return isinstance(getattr(network, "conv1", None), nn.Conv2d) and hasattr(network, "maxpool")


def _replace_stem(network: nn.Module, architecture: str, channels: int) -> None:
    if not _has_resnet_stem(network):
        raise BackboneError(
            "this architecture has no ResNet stem to replace",
            where="train.stem",
            found=f"small with {architecture}",
            fix="Set train.stem to imagenet or choose a ResNet.",
        )
    stem = nn.Conv2d(channels, network.conv1.out_channels, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.conv1, network.maxpool = stem, nn.Identity()
