"""What validation observed, in words, for its own page and for the report."""

from __future__ import annotations

from typing import Any

_LIMITS = (("min_value", "at least"), ("max_value", "at most"))


def observed_in_words(observed: Any, threshold: dict[str, Any]) -> str:
    """Put an observed value and its limits into words.

    Args:
        observed: the entry `observed` of a verdict: a number, the list of columns, {"rows", "unexpected"}, or the
            smallest class as {"label", "train_images"}.
        threshold: its entry `threshold`; only `min_value` and `max_value` are told.
    """
    if isinstance(observed, dict) and set(observed) == {"rows", "unexpected"}:
        return f"{observed['unexpected']:,} of {observed['rows']:,} rows differ"
    if isinstance(observed, list):
        return f"{len(observed)} columns"
    value = ", ".join(f"{k} {v}" for k, v in observed.items()) if isinstance(observed, dict) else str(observed)
    limits = [f"{words} {threshold[key]}" for key, words in _LIMITS if threshold.get(key) is not None]
    return f"{value} ({', '.join(limits)})" if limits else value
