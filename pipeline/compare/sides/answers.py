"""Find the images whose answer flipped between two sides: right before and wrong after, or the other way round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.compare.revisions import Answers, Measurements

_FLIPPED = 0.5  # share of the seeds whose answer turned; with one seed, that one


@dataclass(frozen=True)
class Flip:
    """An image whose answer flipped.

    Attributes:
        key: of the image.
        label: its true class.
        before: the class that the first side answered; of several seeds, of the first.
        after: the class that the second side answered.
        turned: share of the seeds whose answer turned; positive where wrong answers became right.
    """

    key: str
    label: str
    before: str
    after: str
    turned: float


@dataclass(frozen=True)
class Flips:
    """The images of one run whose answer flipped.

    Attributes:
        run: name of the run.
        probe: the probe that answered.
        seeds: the seeds of both sides.
        images: number of images that both sides answered.
        became_right: images that are answered right now, surest first.
        became_wrong: images that are answered wrong now.
    """

    run: str
    probe: str
    seeds: tuple[int, ...]
    images: int
    became_right: tuple[Flip, ...]
    became_wrong: tuple[Flip, ...]


def flips(before: Measurements, after: Measurements, probe: str) -> list[Flips]:
    """Find the flips of every run that both sides have, by the answers of one probe."""
    found = []
    for run in dict.fromkeys(run for run, _, name in after.answers if name == probe):
        seeds = tuple(
            seed
            for name, seed, of in sorted(after.answers)
            if (name, of) == (run, probe) and (run, seed, probe) in before.answers
        )
        if seeds:
            pairs = [(before.answers[run, seed, probe], after.answers[run, seed, probe]) for seed in seeds]
            found.append(_of_run(run, probe, seeds, pairs))
    return found


def _of_run(run: str, probe: str, seeds: tuple[int, ...], pairs: list[tuple[Answers, Answers]]) -> Flips:
    turned: dict[str, float] = {}
    times: dict[str, int] = {}
    for old, new in pairs:
        was = dict(zip(old.keys, old.correct.tolist(), strict=True))
        for key, correct in zip(new.keys, new.correct.tolist(), strict=True):
            if key in was:
                turned[key] = turned.get(key, 0.0) + (correct - was[key])
                times[key] = times.get(key, 0) + 1
    first_old, first_new = (_by_key(each) for each in pairs[0])
    changed = [
        Flip(key, *_classes(first_old.get(key), first_new.get(key)), sum_ / times[key])
        for key, sum_ in turned.items()
        if abs(sum_) >= _FLIPPED * times[key]
    ]
    changed.sort(key=lambda flip: (-abs(flip.turned), flip.key))
    right = tuple(flip for flip in changed if flip.turned > 0)
    return Flips(run, probe, seeds, len(times), right, tuple(flip for flip in changed if flip.turned < 0))


def _by_key(answers: Answers) -> Mapping[str, tuple[str, str]]:
    """Return the true class and the answered one of each image; empty where they were not read."""
    return {
        key: (label, predicted)
        for key, label, predicted in zip(answers.keys, answers.labels, answers.predicted, strict=False)
    }


def _classes(old: tuple[str, str] | None, new: tuple[str, str] | None) -> tuple[str, str, str]:
    label = (new or old or ("", ""))[0]
    return label, old[1] if old else "", new[1] if new else ""
