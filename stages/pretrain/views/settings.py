"""What one view is made of: its size, its normalisation, and the list of changes that lead to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprise.media.lookup import IMAGE
from reprise.training.change import Change, Cut
from reprise.training.views import SHORT, ViewParams, build_change, change_named, suggested_changes, typed_change
from stages.pretrain.views.short import NUMBERS, ever, numbers_of, standard_changes

if TYPE_CHECKING:
    from reprise.config.params import ImageParams
    from reprise.training.views import Views


@dataclass(frozen=True)
class ViewSettings:
    """All that decides on one view, but for chance.

    Attributes:
        size: side of the output in pixels.
        channels: bands of the input.
        mean, std: per channel, on the 0..1 scale.
        changes: in the order in which they happen. The first may be a cut; without one the whole image is resized.
    """

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    changes: tuple[Change, ...] = ()

    @property
    def cut(self) -> Cut | None:
        """The change that chooses the part of the image that is seen; None where it is the whole."""
        first = self.changes[0] if self.changes else None
        return first if isinstance(first, Cut) else None

    @property
    def after_cut(self) -> tuple[Change, ...]:
        """The changes of the square."""
        return self.changes[1:] if self.cut else self.changes

    def of_view(self, number: int) -> ViewSettings:
        """Return the settings of one view of an image, counted from 0: with the probabilities of its own."""
        return replace(self, changes=tuple(change.of_view(number) for change in self.changes))

    def cropped(self, scale_min: float, scale_max: float = 1.0, size: int | None = None) -> ViewSettings:
        """Return settings for crops of other areas, as methods with small crops plan them.

        Args:
            scale_min, scale_max: smallest and largest crop, as shares of the image's area.
            size: side of the output in pixels; None leaves it as it is.
        """
        options = dict(self.cut.params) if self.cut else {"name": "crop"}
        crop = change_named(**{**options, "scale_min": scale_min, "scale_max": scale_max})
        return replace(self, size=self.size if size is None else size, changes=(crop, *self.after_cut))

    def without(self, *names: str) -> ViewSettings:
        """Return settings without the changes of these names."""
        return replace(self, changes=tuple(change for change in self.changes if change.params.name not in names))


def by_view(plan: list[ViewSettings]) -> list[ViewSettings]:
    """Give every view of a plan its own probabilities."""
    return [settings.of_view(number) for number, settings in enumerate(plan)]


def needed_side(plan: list[ViewSettings], axes: int = 2) -> int:
    """Return the shorter side, in pixels, of an image whose smallest crop is as large as the view that is made of it.

    A crop of a share s of the area has sqrt(s) of the side, and of a volume its cube root. More pixels than that add
    nothing that a view could show.
    """
    areas = [settings.cut.smallest_area if settings.cut else 1.0 for settings in plan]
    shares = [math.sqrt(area) if axes == 2 else area ** (1 / axes) for area in areas]
    return max(math.ceil(settings.size / share) for settings, share in zip(plan, shares, strict=True))


def described(plan: list[ViewSettings]) -> list[dict[str, Any]]:
    """Describe a plan for config.json: one entry for each run of equal views, with every number resolved."""
    found = []
    for settings, equal in groupby(by_view(plan)):
        entry = {"views": len(list(equal)), **describe_settings(settings)}
        if "crop_scale_min" in entry:  # null does not say how far colours change
            colour = next((change.params for change in settings.changes if change.params.name == "colour"), None)
            entry["saturation"] = colour.limits("saturation")[1] - 1.0 if colour else 0.0
            entry["hue"] = colour.turn if colour else 0.0
        found.append({name: value for name, value in entry.items() if name not in ("mean", "std")})
    return found


def describe_settings(settings: ViewSettings) -> dict[str, Any]:
    """Describe the settings of a run for config.json: by short settings where these can say it all, else by a list."""
    shared = {"size": settings.size, "channels": settings.channels, "mean": settings.mean, "std": settings.std}
    numbers, further = numbers_of(settings.changes)
    if numbers is None:
        return {**shared, "changes": [change.params.model_dump() for change in settings.changes]}
    return {**shared, **numbers, **({"also": [change.params.model_dump() for change in further]} if further else {})}


def resolve_views(
    params: Views,
    suggested: Path,
    image: ImageParams,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    modality: str = IMAGE,
) -> ViewSettings:
    """Build the changes, and fill the short settings that the user left open with the source's suggestions.

    Short settings are of images. Samples of another kind get the list of changes that suits them, unless the user lists
    some.

    Args:
        params: the user's choices.
        suggested: the file of suggestions, data/ingest/views.json.
        image: size and channels of the input.
        mean, std: per channel, on the 0..1 scale.
        modality: the kind of the samples.

    Raises:
        ManifestError: the suggestions lack a value that the user left open.
        TrainingError: changes of colours are asked for, and the images have no colours; or changes that are not made
            for these samples.
    """
    from reprise.config.errors import TrainingError

    if modality != IMAGE:
        return ViewSettings(image.size, image.channels, mean, std, changes_for(modality, params))
    if isinstance(params, ViewParams):
        changes = standard_changes(_filled(params, suggested, image))
        changes += tuple(build_change(further) for further in params.also or ())
    else:
        changes = tuple(build_change(listed) for listed in params if ever(getattr(listed, "probability", 1.0)))
    refuse_changes(changes, modality)
    asked = {change.params.name: change for change in changes if change.needs_rgb and image.channels != 3}
    if image.channels == 1 or (isinstance(params, ViewParams) and params.grey is None):
        asked.pop("grey", None)  # grey images have no other views in grey, and suggestions are meant for RGB
    for name in asked:
        raise TrainingError(
            f"the change `{name}` is made of red, green and blue",
            where="train.views.grey" if isinstance(params, ViewParams) and name == "grey" else "train.views",
            found=f"image.channels {image.channels}",
            fix="Remove it, or set it to 0 or null.",
        )
    if image.channels != 3:
        changes = tuple(change for change in changes if not change.needs_rgb)
    return ViewSettings(size=image.size, channels=image.channels, mean=mean, std=std, changes=changes)


def changes_for(modality: str, params: Views, where: str = "train.views") -> tuple[Change, ...]:
    """Build the changes of samples that are no images.

    Args:
        modality: their kind.
        params: a list of changes; or short settings, of which only `also` may be set.
        where: the parameter, for messages.

    Raises:
        TrainingError: short settings, or changes that are not made for samples of this kind.
    """
    from reprise.config.errors import TrainingError

    further: tuple[Any, ...] = params if not isinstance(params, ViewParams) else params.also or ()
    asked = [name for name in SHORT if getattr(params, name, None) is not None]
    if asked:
        raise TrainingError(
            f"the short settings of views change images, and these are {modality}s",
            where=f"{where}.{asked[0]}",
            found=getattr(params, asked[0]),
            fix=f"Set it to null, or list changes of {modality}s in {where}.",
        )
    suggested = [typed_change(block) for block in suggested_changes(modality)] if isinstance(params, ViewParams) else []
    changes = tuple(build_change(one) for one in (*suggested, *further) if ever(getattr(one, "probability", 1.0)))
    refuse_changes(changes, modality, where)
    return changes


def refuse_views(params: Views, modality: str) -> None:
    """Refuse views that are not made for samples of a kind, before anything is read.

    Raises:
        TrainingError: as `changes_for` and `refuse_changes`.
    """
    if modality != IMAGE:
        changes_for(modality, params)
        return
    refuse_changes(listed_changes(params), modality)


def refuse_changes(changes: tuple[Change, ...], modality: str, where: str = "train.views") -> None:
    """Refuse changes that are not made for samples of a kind.

    Raises:
        TrainingError: naming the first of them.
    """
    from reprise.config.errors import TrainingError

    for change in changes:
        if modality not in change.modalities:
            raise TrainingError(
                f"the change `{change.params.name}` is not made for {modality}s",
                where=where,
                found=f"made for {' and '.join(change.modalities)}",
                fix="`reprise list changes` names those that there are, and docs/how-to/volumes.md those of volumes.",
            )


def listed_changes(params: Views) -> tuple[Change, ...]:
    """Build the changes that a user lists, which short settings do not name; they are known before anything is read."""
    listed: tuple[Any, ...] = params if not isinstance(params, ViewParams) else params.also or ()
    return tuple(build_change(one) for one in listed)


def refuse_turned(upright: Sequence[int], plan: list[ViewSettings]) -> None:
    """Refuse changes that turn views whose images have to stand as they are.

    Args:
        upright: numbers of these views, from 0 (`Method.upright`).
        plan: what each view of an image is made of.

    Raises:
        TrainingError: naming the changes.
    """
    from reprise.config.errors import TrainingError

    views = by_view(plan)
    changes = [change for number in upright for change in views[number].changes if change.turns]
    if turning := sorted({change.params.name for change in changes if change.chance > 0}):
        raise TrainingError(
            "the method learns from how images stand, and a change turns their views",
            where="train.views",
            found=", ".join(turning),
            fix="Leave it out, or let it turn nothing: `rotation: 0` of `affine`, `geometry: false` of `random_field`.",
        )


def _filled(params: ViewParams, suggested: Path, image: ImageParams) -> dict[str, Any]:
    """Return every number of the short settings: the user's, the source's, or the one that stands for null."""
    from reprise.artifacts.results import read_json
    from reprise.config.errors import ManifestError

    defaults = read_json(suggested, fix="Run `dvc repro ingest` to write it again.")
    values: dict[str, Any] = {}
    for name in SHORT:
        value = getattr(params, name)
        if value is None and name not in NUMBERS:  # sources do not suggest the others
            if name not in defaults:
                raise ManifestError(
                    f"the suggested views lack '{name}'",
                    where=suggested,
                    found=", ".join(sorted(defaults)),
                    fix="Run `dvc repro ingest` to write it again.",
                )
            value = defaults[name]
        values[name] = value
    return values
