"""The pages of `reprise compare` and `reprise history`, made from figures and names that are as bad as they come."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from pipeline.compare.history.points import History, Point
from pipeline.compare.pages import comparison, history
from pipeline.compare.revisions import Figure, Measurements
from pipeline.compare.runs import compare_measurements
from pipeline.compare.sides.answers import Flip, Flips
from pipeline.compare.sides.fairness import Note
from pipeline.compare.sides.inputs import ImageChange, SideInputs
from pipeline.compare.sides.names import Side
from pipeline.compare.sides.overview import Overview, PairOfSides
from pipeline.compare.sides.parameters import ParameterChange

FAMILY = "knn.top1"
_DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE = Markup('<img src="data:image/png;base64,{}" width="1" height="1" alt="" class="crisp">').format(_DOT)


def measurements(name: str, runs: Sequence[str], shift: float) -> Measurements:
    """Figures of some runs over three seeds, one of them huge."""
    seeds = {
        FAMILY: {
            run: {s: Figure(0.5 + shift + 0.01 * s * (i + 1), 0.4, 0.6) for s in range(3)} for i, run in enumerate(runs)
        },
        "spectrum.rank": {run: {s: Figure(1e308, None, None) for s in range(3)} for run in runs},
    }
    means = {run: {m: by_run[run][0].value for m, by_run in seeds.items()} for run in runs}
    return Measurements(name, means, seeds)


def comparison_page(words: Sequence[str]) -> str:
    """The page of a comparison in which every name and text is one of `words`."""
    runs, change = [*words[:6], "simclr"], ParameterChange
    sides = (Side(words[0], "revision", "a" * 40, "2026-07-01T02:30:00+00:00", words[1]), Side(words[7], "folder"))
    before, after = measurements(sides[0].name, runs, 0.0), measurements(sides[1].name, runs, 0.1)
    flipped = tuple(Flip(str(i), words[i % len(words)], words[1], words[2], 1.0) for i in range(30))
    pair = PairOfSides(
        *sides,
        (Note("unfair", "data", words[8]), Note("stale", "figures", words[7]), Note("unknown", "answers", words[0])),
        (change(words[7], "changed", words[0], words[8]), change(words[0], "added", None, {words[1]: [1, None]})),
        ImageChange(True, {"added": 3, "removed": 0}, {"added": tuple(words[:3]), "removed": ()}, True),
        compare_measurements(before, after, FAMILY),
        (Flips(words[0], "knn", (0, 1), 60, flipped, flipped[:2]),),
    )
    curve = tuple((float(epoch), None if epoch == 2 else 1e3 / (epoch + 1)) for epoch in range(5))
    curves = ({run: {0: curve, 1: curve[:1]} for run in runs}, {runs[0]: {0: curve[::-1]}})
    overview = Overview(sides, FAMILY, (pair,), curves)
    return comparison.page(overview, {"0": words[7], "1": words[0]}, {"0": PICTURE, "2": PICTURE})


def history_page(words: Sequence[str], points: int = 14) -> str:
    """The page of a history in which every name and text is one of `words`."""
    found = []
    for number in range(points):
        word = words[number % len(words)]
        kind = ("revision", "night")[number % 2] if number < points - 1 else "folder"
        found.append(
            Point(
                kind,
                f"{number:010x}",
                f"{number:040x}",
                f"2026-07-{number + 1:02}T02:30:00+00:00",
                word if kind == "revision" else "",
                measurements(kind, [*words, "simclr"], 0.02 * number),
                SideInputs({}, "a"),
                also=(word,) if number == 3 else (),
                notes=(word,),
                parameters=(ParameterChange(word, "changed", 1, word),) if number % 3 == 0 else (),
                images_changed=number % 5 == 0,
                verdicts={word: word},
            )
        )
    return history.page(History(tuple(found), (words[8],)), [FAMILY, "spectrum.rank"], FAMILY)
