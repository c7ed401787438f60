"""One range of values for all images of a data set that have the same type of sample (scale.py has the rules)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from reprise.config.errors import SourceError
from reprise.media.image.scale import NoRange, Observed, common_range
from reprise.media.modality import Choices, Examined

RANGE, CLIPPED = "range", "clipped"  # codes of what was changed


def with_ranges(samples: Sequence[Examined], trained: Sequence[bool], choices: Choices) -> list[Examined]:
    """Fill the columns `low` and `high`, and note what they do.

    Args:
        samples: all images that are kept.
        trained: whether each is a training image. The range is taken from these; a type of sample that occurs only
            outside of them takes it from all of its images.
        choices: the rule.

    Raises:
        SourceError: the rule gives no range for these images.
    """
    by_kind: dict[str, list[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        if sample.observed is not None:
            by_kind[sample.observed.kind].append(place)
    completed = list(samples)
    for kind, places in sorted(by_kind.items()):
        seen = [place for place in places if trained[place]] or places
        try:
            low, high = common_range([samples[place].observed for place in seen], choices)
        except NoRange as error:
            raise SourceError(
                "the images do not say which values are black and white",
                where="source.range",
                found=f"'{choices.range}', and {error}",
                fix="Set source.range to auto, observed, percentiles or given.",
            ) from error
        for place in places:
            completed[place] = _with_range(samples[place], kind, low, high)
    return completed


def _with_range(sample: Examined, kind: str, low: float, high: float) -> Examined:
    observed: Observed = sample.observed
    changes = {RANGE: f"{kind}: the values {low:g} to {high:g} become 0 to 255"}
    if observed.lowest < low or observed.highest > high:
        changes[CLIPPED] = f"values beyond the range were cut off: it has {observed.lowest:g} to {observed.highest:g}"
    return replace(sample, facts=sample.facts | {"low": low, "high": high}, changes={**sample.changes, **changes})
