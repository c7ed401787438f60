"""The facts of images beyond their class: what is known of how many, who gives it and who may see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reprise.artifacts.facts.sides import Sides
from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.layout import ALL_FACTS, SHARDS
from reprise.artifacts.results import read_json
from reprise.config.errors import ManifestError, printable
from reprise.config.facts import SIDES, Fact
from reprise.media.text.quality import FILE as QUALITY
from reprise.media.text.quality import Quality

_EXAMPLES, _SHOWN = 2, 80  # captions, and characters of each
_FIX = "Run `dvc repro facts` to write it again."


@dataclass(frozen=True)
class KnownFact:
    """A fact.

    Args:
        fact: its declaration.
        images: number of images of which it is known.
        range: the smallest and the largest number, the number of words, or examples of captions; empty for other kinds.
        said: sentences on captions.
    """

    fact: Fact
    images: int
    range: str = ""
    said: tuple[str, ...] = ()


def read_known_facts() -> tuple[KnownFact, ...]:
    """Read the declarations and count; there is nothing where the stage `facts` has not run.

    Raises:
        ManifestError, ShardError: a file is damaged.
    """
    facts, sides = read_facts(ALL_FACTS), Sides(SHARDS)
    counted = read_json(ALL_FACTS / QUALITY, _FIX) if (ALL_FACTS / QUALITY).exists() else {}
    found = []
    for fact in facts.declared:
        if fact.kind in SIDES:
            found.append(KnownFact(fact, sides.count(fact.name)))
        elif fact.kind == "caption":
            found.append(_captions(fact, facts.captions[fact.name].tolist(), counted.get(fact.name)))
        elif fact.kind == "word":
            words = [word for word in facts.columns[fact.name].tolist() if word is not None]
            found.append(KnownFact(fact, len(words), f"{len(set(words)):,} words"))
        else:
            values = facts.columns[fact.name]
            values = values[~np.isnan(values)]
            shown = f"{values.min():g} to {values.max():g}" if len(values) else ""
            found.append(KnownFact(fact, len(values), shown))
    return tuple(found)


def _captions(fact: Fact, captions: list[tuple[str, ...]], counts: dict[str, Any] | None) -> KnownFact:
    """Describe captions by their first examples, which are text from outside, and by what the stage `facts` counted."""
    examples = list(dict.fromkeys(text for texts in captions for text in texts[:1]))[:_EXAMPLES]
    shown = "; ".join(f"\u201c{printable(text, _SHOWN)}\u201d" for text in examples)
    try:
        said = () if counts is None else tuple(Quality(**counts).sentences(fact.name))
    except TypeError as error:
        rule = "the counts of captions are damaged"
        raise ManifestError(rule, where=ALL_FACTS / QUALITY, found=fact.name, fix=_FIX) from error
    return KnownFact(fact, sum(map(bool, captions)), shown, said)
