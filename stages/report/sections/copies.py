"""Near-copies that ingest found, and further pairs of images that a trained network hardly tells apart.

Checked by: tests/stages/report/test_page.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reprise.artifacts.near_copies import APART, NOTHING, REFUSED, TOGETHER
from stages.report.drawing.thumbnails import Album, Picture
from stages.report.readers.images.ingest import Images
from stages.report.readers.images.near_copies import NearCopies
from stages.report.readers.runs import Run
from stages.report.section_registry import Absent

TITLE = "Near-copies"
ORDER = 15
READS = ("near_copies", "images", "runs", "album")

MOST_PAIRS = 12  # of each of the two sorts
PAIR_BUDGET = 600_000  # bytes of page for each sort
DONE = {  # code in the table -> words
    TOGETHER: "kept in one split",
    APART: "in two splits",
    REFUSED: "one or both refused",
    NOTHING: "in one split without a rule",
}

Pair = tuple[str, str]  # keys of a test image and of a training image


@dataclass(frozen=True)
class Shown:
    """A pair side by side.

    Args:
        pictures: of both images.
        names: a split, and the class where there is one, for each.
        words: what the page says of the pair.
    """

    pictures: tuple[Picture, Picture]
    names: tuple[str, str]
    words: str


def show(
    near_copies: NearCopies | None, images: Images | None, runs: tuple[Run, ...], album: Album
) -> dict[str, Any] | Absent:
    """Show near-copies, and pairs of test and training images that networks hardly tell apart."""
    labels = images.labels if images else {}
    looked = [run for run in runs if "lookalikes" in run.first.protocol]
    if near_copies is None and not looked:
        return Absent("There is no table of near-copies: the ingest stage has not written data/ingest.")
    pairs = lookalikes(runs, near_copies)
    return {
        "near_copies": near_copies,
        "total": near_copies.table.num_rows if near_copies else 0,
        "pairs": copies_to_show(near_copies, labels, album) if near_copies else (),
        "counts": {DONE.get(code, code): n for code, n in near_copies.counts().items()} if near_copies else {},
        "lookalikes": lookalikes_to_show(pairs, _splits(images, pairs), labels, album),
        "found": len(pairs),
        "looked": [(run.name, _summary(run.first.protocol["lookalikes"])) for run in looked],
    }


def copies_to_show(near_copies: NearCopies, labels: Mapping[str, str], album: Album) -> tuple[Shown, ...]:
    """Draw the most interesting pairs of which the shards hold both images."""
    chosen = []
    for pair in near_copies.by_interest():
        if all(key in album for key in pair.keys):
            chosen.append(pair)
            if len(chosen) == MOST_PAIRS:
                break
    pictures = album.pictures([key for pair in chosen for key in pair.keys], PAIR_BUDGET)
    return tuple(
        Shown(
            (pictures[pair.keys[0]], pictures[pair.keys[1]]),
            (_name(pair.keys[0], pair.splits[0], labels), _name(pair.keys[1], pair.splits[1], labels)),
            f"{DONE.get(pair.done, pair.done)}, distance {pair.distance:.3f}"
            + (", labels differ" if pair.labels_differ else ""),
        )
        for pair in chosen
    )


def lookalikes(runs: Sequence[Run], near_copies: NearCopies | None) -> dict[Pair, list[str]]:
    """Collect the lookalikes of all runs that are no near-copies, with the names of the runs that list them.

    Pairs that most runs list come first, then those that are nearest.
    """
    listed = {pair for run in runs for pair in run.first.lookalikes or ()}
    known = near_copies.among({key for pair in listed for key in pair}) if near_copies else set()
    names: dict[Pair, list[str]] = {}
    best_rank: dict[Pair, int] = {}
    for run in runs:
        for rank, pair in enumerate(run.first.lookalikes or ()):
            if frozenset(pair) not in known:
                names.setdefault(pair, []).append(run.name)
                best_rank[pair] = min(rank, best_rank.get(pair, rank))
    return {pair: names[pair] for pair in sorted(names, key=lambda p: (-len(names[p]), best_rank[p], p))}


def lookalikes_to_show(
    pairs: Mapping[Pair, Sequence[str]], splits: Mapping[str, str], labels: Mapping[str, str], album: Album
) -> tuple[Shown, ...]:
    """Draw the first of the pairs that networks hardly tell apart."""
    chosen = [pair for pair in pairs if all(key in album for key in pair)][:MOST_PAIRS]
    pictures = album.pictures([key for pair in chosen for key in pair], PAIR_BUDGET)
    return tuple(
        Shown(
            (pictures[one], pictures[other]),
            (_name(one, splits.get(one), labels), _name(other, splits.get(other), labels)),
            f"listed by {', '.join(pairs[one, other])}",
        )
        for one, other in chosen
    )


def _summary(protocol: Mapping[str, Any]) -> str:
    return str(protocol.get("listed") or protocol.get("note") or "")


def _splits(images: Images | None, pairs: Mapping[Pair, Sequence[str]]) -> dict[str, str]:
    wanted = {key for pair in pairs for key in pair}
    return {key: split for split, keys in images.keys.items() for key in keys if key in wanted} if images else {}


def _name(key: str, split: str | None, labels: Mapping[str, str]) -> str:
    return ", ".join(word for word in (split, labels.get(key)) if word)
