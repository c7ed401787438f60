"""Suggestions for misspelt names: "Did you mean 'simclr'?"."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_CUTOFF = 0.6  # difflib's own default; a lower one proposes names that share a few letters by chance


def closest(word: object, choices: Iterable[str], count: int = 1) -> list[str]:
    """Find the choices that `word` may have meant, the most similar one first.

    Case, hyphens, underscores and spaces do not count: `SimCLR`, `sim-clr` and `sim_clr` all mean `simclr`.

    Args:
        word: what was written.
        choices: the names that exist.
        count: how many to return at most.
    """
    by_spelling: dict[str, str] = {}
    for choice in choices:
        by_spelling.setdefault(_spelling(choice), choice)
    wanted = _spelling(word)
    if wanted in by_spelling and count == 1:
        return [by_spelling[wanted]]
    return [by_spelling[near] for near in difflib.get_close_matches(wanted, by_spelling, count, _CUTOFF)]


def nearest(word: object, choices: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` where a choice is similar to `word`, else an empty string."""
    return "".join(f" Did you mean '{choice}'?" for choice in closest(word, choices))


def _spelling(word: object) -> str:
    return re.sub(r"[\s_-]+", "", str(word).casefold())
