"""The facts of images beyond their class: what is known of how many, who gives it and who may see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reprise.artifacts.facts.sides import Sides
from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.layout import ALL_FACTS, SHARDS
from reprise.config.facts import SIDES, Fact


@dataclass(frozen=True)
class KnownFact:
    """A fact.

    Args:
        fact: its declaration.
        images: number of images of which it is known.
        range: the smallest and the largest number, or the number of words; empty for other kinds.
    """

    fact: Fact
    images: int
    range: str = ""


def read_known_facts() -> tuple[KnownFact, ...]:
    """Read the declarations and count; there is nothing where the stage `facts` has not run.

    Raises:
        ManifestError, ShardError: a file is damaged.
    """
    facts, sides = read_facts(ALL_FACTS), Sides(SHARDS)
    found = []
    for fact in facts.declared:
        if fact.kind in SIDES:
            found.append(KnownFact(fact, sides.count(fact.name)))
        elif fact.kind == "caption":
            found.append(KnownFact(fact, sum(map(bool, facts.captions[fact.name].tolist()))))
        elif fact.kind == "word":
            words = [word for word in facts.columns[fact.name].tolist() if word is not None]
            found.append(KnownFact(fact, len(words), f"{len(set(words)):,} words"))
        else:
            values = facts.columns[fact.name]
            values = values[~np.isnan(values)]
            shown = f"{values.min():g} to {values.max():g}" if len(values) else ""
            found.append(KnownFact(fact, len(values), shown))
    return tuple(found)
