"""Whether a method and its backbone are made for the kind of samples that the data set has; each of them declares it.

`reprise check` asks before anything runs, and a run asks again when it has opened the shards.
"""

from __future__ import annotations

from reprise.config.errors import TrainingError
from reprise.config.tables import AnyRun
from reprise.networks.backbone import backbone_named
from stages.pretrain.method import Method


def refuse_method(row: AnyRun, method_class: type[Method], modality: str) -> None:
    """Refuse samples of a kind that the method does not take.

    Raises:
        TrainingError: naming those that it takes.
    """
    if modality not in method_class.modalities:
        raise TrainingError(
            f"method '{row.method}' is not made for {modality}s",
            where=f"runs: {row.name}: method",
            found=f"source.modality {modality}, and it takes {' and '.join(method_class.modalities)}",
            fix=f"Choose a method that takes {modality}s, such as simclr; docs/reference/methods.md marks them.",
        )


def refuse_backbone(architecture: str, modality: str, where: str = "train.backbone") -> None:
    """Refuse a backbone that cannot see samples of this kind.

    Raises:
        TrainingError: naming those that it sees.
    """
    seen = backbone_named(architecture).modalities
    if modality not in seen:
        raise TrainingError(
            f"the backbone {architecture} does not see {modality}s",
            where=where,
            found=f"source.modality {modality}, and it sees {' and '.join(f'{kind}s' for kind in seen)}",
            fix="Choose resnet3d_tiny or resnet3d_18."
            if modality == "volume"
            else f"Choose a backbone of {modality}s, such as resnet_tiny.",
        )
