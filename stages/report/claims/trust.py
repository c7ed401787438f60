"""Whether to trust the result: what was trained, for how long, on equal terms or not, and measured on how many images.

Every point is a question with an answer in a sentence; where the answer speaks against relying on the result, a few
words of it stand in the head of the page. The limits are rules of thumb, and the sentences state what was found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprise.artifacts.budgets import SHARED, entry, in_words, trains, unequal, with_earlier
from reprise.artifacts.near_copies import APART
from stages.report.claims.convergence import FEWEST_STEPS, STILL_FALLING, WARM_UP, late_share, warm_up_share
from stages.report.estimates import estimate, family_of, intervals_of, is_share
from stages.report.readers.comparison import Comparison
from stages.report.readers.images.ingest import Images
from stages.report.readers.images.near_copies import NearCopies
from stages.report.readers.images.validation import Check
from stages.report.readers.runs import Run
from stages.report.text import join_words, metric_title, number, one_line, plain_points

FEWEST_CHOOSING = 100  # images of val
WIDEST = 0.05  # half an interval
_SETTINGS = ("optimizer", "learning_rate", "weight_decay", "schedule", "warmup_epochs", "batch_size")


@dataclass(frozen=True)
class Point:
    """One reason to trust the result, or to take care.

    Args:
        question: the question.
        answer: the answer, a sentence or two.
        care: a few words of it where it speaks against relying on the result; empty otherwise.
    """

    question: str
    answer: str
    care: str = ""


def points_of_trust(
    runs: Sequence[Run],
    comparison: Comparison | None,
    images: Images | None,
    near_copies: NearCopies | None = None,
    checks: Sequence[Check] | None = None,
) -> tuple[Point, ...]:
    """Answer every question that the artifacts can answer; none before anything is trained."""
    if not runs:
        return ()
    trained = [run for run in runs if trains(run.first.config)]
    points: list[Point | None] = [
        _seeds(runs),
        _steps(trained),
        _curves(trained),
        _collapse(trained),
        _budgets(runs),
        _terms(trained),
        _precision(runs, comparison),
        _choices(images),
        _copies(near_copies),
        _checks(checks),
    ]
    return tuple(point for point in points if point is not None)


def _seeds(runs: Sequence[Run]) -> Point:
    most, fewest = (pick(len(run.seeds) for run in runs) for pick in (max, min))
    question = "How many seeds were trained?"
    if fewest >= 3:
        return Point(question, f"Each run has {fewest} seeds or more, so the verdicts are about methods.")
    if most == 1:
        words = "One. The verdicts compare these trained models; another seed may change the order of close methods."
        return Point(question, words, "one seed")
    return Point(
        question,
        f"Some runs have {fewest}: a verdict about methods needs three.",
        f"{fewest} seed{'s' if fewest > 1 else ''} for some runs",
    )


def _steps(trained: Sequence[Run]) -> Point | None:
    if not trained:
        return None
    question = "Were the networks trained for long?"
    steps = {run.name: int(run.first.config.get("steps") or 0) for run in trained}
    few = {name: count for name, count in steps.items() if count < FEWEST_STEPS}
    warming = {run.name: share for run in trained if (share := warm_up_share(run.first.config)) > WARM_UP}
    low, high = min(steps.values()), max(steps.values())
    answer = f"Between {low:,} and {high:,} steps." if low < high else f"{low:,} steps each."
    if few:
        answer += f" Fewer than {FEWEST_STEPS} hardly train a network."
    if warming:
        shares = join_words([f"{one_line(name)} {100 * share:.0f} %" for name, share in warming.items()])
        answer += f" The learning rate was still warming up for much of the training: {shares} of the steps."
    words = [f"{_who(few)} took only {min(few.values()):,} steps"] if few else []
    words += [f"{_who(warming)} warmed up for {100 * max(warming.values()):.0f} % of the steps"] if warming else []
    return Point(question, answer, "; ".join(words))


def _curves(trained: Sequence[Run]) -> Point | None:
    late = {run.name: share for run in trained if (share := late_share(run)) is not None}
    if not late:
        return None
    question = "Had the losses stopped falling?"
    never = {name: share for name, share in late.items() if math.isinf(share)}
    falling = {name: share for name, share in late.items() if share > STILL_FALLING and name not in never}
    fell = [f"{one_line(name)} {_whole_percent(share)}" for name, share in late.items() if name not in never]
    sentences = [f"Of the whole fall of the loss, the last tenth of the training brought: {join_words(fell, 12)}."]
    sentences = sentences if fell else []
    care = []
    if never:
        sentences.append(f"The loss of {_who(never)} ended no lower than it began, which some methods allow.")
        care.append(f"the loss of {_who(never)} did not fall")
    if falling:
        limit = f"{100 * STILL_FALLING:.0f} %"
        sentences.append(f"Where it is more than {limit}, longer training may change the order of the runs.")
        care.append(f"the loss of {_who(falling)} was still falling")
    elif fell:
        sentences.append("Longer training by the same schedule would change little.")
    return Point(question, " ".join(sentences), "; ".join(care))


def _whole_percent(share: float) -> str:
    return "under 1 %" if share < 0.005 else f"{100 * share:.0f} %"


def _collapse(trained: Sequence[Run]) -> Point | None:
    if not trained:
        return None
    question = "Did a representation collapse?"
    collapsed = {
        run.name: 0 for run in trained for seed in run.seeds if isinstance(seed.config.get("collapse"), Mapping)
    }
    if not collapsed:
        return Point(question, "No run collapsed.")
    return Point(question, f"{_who(collapsed)} collapsed: see Result for when and how.", f"{_who(collapsed)} collapsed")


def _budgets(runs: Sequence[Run]) -> Point | None:
    configs = [run.first.config for run in runs]
    if sum(map(trains, configs)) < 2:
        return None
    question = "Did all runs have one budget?"
    unlike = unequal(configs)
    if not unlike:
        return Point(
            question, "Yes: as many images seen, the same weights at the start, the same precision and device."
        )
    values = {name: sorted({in_words(entry(with_earlier(c), name)) for c in configs if trains(c)}) for name in unlike}
    listed = "; ".join(f"{SHARED[name]}: {join_words(found, 6)}" for name, found in values.items())
    return Point(
        question, f"No. They differ in {listed}.", f"unequal {join_words([SHARED[name] for name in unlike], 3)}"
    )


def _terms(trained: Sequence[Run]) -> Point | None:
    """Compare what a method may choose for itself: crops and their augmentation, optimiser and schedule."""
    if len(trained) < 2:
        return None
    question = "Did all runs see equal crops, and use equal optimisers?"
    unlike = {}
    for name in ("crops", *_SETTINGS):
        by_value: dict[str, list[str]] = {}
        for run in trained:
            config = run.first.config
            value = _crops(config) if name == "crops" else _setting(config, name)
            by_value.setdefault(value, []).append(one_line(run.name))
        by_value.pop("", None)
        if len(by_value) > 1:
            unlike[name.replace("_", " ")] = "; ".join(f"{join_words(who)}: {value}" for value, who in by_value.items())
    if not unlike:
        return Point(question, "Yes: views, optimiser, learning rate, schedule and batch are the same.")
    answer = " ".join(f"{name[0].upper()}{name[1:]}: {values}." for name, values in unlike.items())
    return Point(question, f"No. {answer}", f"unequal {join_words(list(unlike), 3)}")


def _crops(config: Mapping[str, Any]) -> str:
    """Write the crops of a run ("2 of 16 px, 30 to 100 % of the area"), without how many there are of each kind."""
    plan = config.get("view_plan")
    if not isinstance(plan, list):
        return ""
    return " and ".join(
        f"{view.get('size')} px, {100 * float(view.get('crop_scale_min') or 0):.0f} to "
        f"{100 * float(view.get('crop_scale_max') or 0):.0f} % of the area"
        for view in plan
        if isinstance(view, Mapping)
    )


def _setting(config: Mapping[str, Any], name: str) -> str:
    written = config.get("parameters")
    blocks = [written.get(key) for key in ("method", "train")] if isinstance(written, Mapping) else []
    values = [block.get(name) for block in blocks if isinstance(block, Mapping)]
    value = next((v for v in values if v is not None), None)
    if isinstance(value, Mapping):
        value = ", ".join(f"{k} {v}" for k, v in value.items())
    return "" if value is None else one_line(value, 80)


def _precision(runs: Sequence[Run], comparison: Comparison | None) -> Point | None:
    family = family_of(comparison)
    found = [e for run in runs if (e := estimate(run, family, intervals_of(comparison)))]
    halves = [(e.high - e.low) / 2 for e in found if e.low is not None and e.high is not None]
    counts = [seed.figures[family].n for run in runs for seed in run.seeds if family in seed.figures]
    scored = min((n for n in counts if n is not None), default=None)
    if not found or scored is None:
        return None
    question = "On how many images are the figures measured?"
    if not halves or not is_share(runs, family):
        return Point(question, f"{scored:,}.")
    answer = f"{scored:,}. One image is {plain_points(1 / scored)} of {metric_title(family)}"
    widest = max(halves)
    answer += f", and the figures are known to within {plain_points(widest)} or better."
    return Point(question, answer, f"figures known to ±{plain_points(widest)} only" if widest > WIDEST else "")


def _choices(images: Images | None) -> Point | None:
    if images is None or not images.classes:
        return None
    question = "On how many images do the choices of the probes rest?"
    count = images.counts.get("val", 0)
    if "test" not in images.counts:
        return Point(
            question,
            "There is no test split: probes are scored on the images on which choices are made.",
            "no test split",
        )
    per_class = count / len(images.classes)
    answer = f"{number(count)} of val, {per_class:.0f} a class on average."
    if count < FEWEST_CHOOSING:
        return Point(question, f"{answer} A choice made on so few is partly chance.", f"only {count} images in val")
    return Point(question, answer)


def _copies(near_copies: NearCopies | None) -> Point | None:
    if near_copies is None:
        return None
    question = "Do images of two splits show the same picture?"
    apart = near_copies.counts().get(APART, 0)
    if not near_copies.looked_for:
        return Point(question, "Nobody looked: near-copies are found among images only, and exact copies were refused.")
    if not apart:
        return Point(question, "No pair was found.")
    pairs = f"{apart:,} pair{'s' if apart > 1 else ''} of near-copies"
    return Point(question, f"{pairs} lie in two splits: see Near-copies.", f"{pairs} in two splits")


def _checks(checks: Sequence[Check] | None) -> Point | None:
    if checks is None:
        return None
    failed = [check for check in checks if not check.passed]
    question = "Did the data meet the expectations?"
    if not failed:
        return Point(question, f"All {len(checks)} hold.")
    return Point(question, f"{len(failed)} of {len(checks)} do not hold: see Data.", f"{len(failed)} expectations fail")


def _who(names: Mapping[str, Any]) -> str:
    return join_words([one_line(name) for name in names], 3)
