"""Which texts may be words and captions: one rule, whatever gives them. Texts are never changed, only refused.

A text is valid Unicode, not blank, and not longer than its limit. It has no control characters (also no line breaks,
tabs and NUL), no lone surrogates, no characters without an assigned meaning, and none that are invisible or turn the
direction of writing round, since a person could not see what they do. Spaces of all scripts and the two joiners, which
some scripts and emoji need, are allowed. Accents stay as they are written: nothing is normalised.

Standard library only: sources are loaded before every `repro`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

LONGEST_WORD, LONGEST_CAPTION, MOST_CAPTIONS = 200, 4000, 100  # characters, and captions of an image
_JOINERS = "\u200c\u200d"
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_KINDS = {
    "Cc": "a control character",
    "Cf": "an invisible character",
    "Cs": "half of a character (a lone surrogate)",
    "Co": "a character of private use",
    "Zl": "a line break",
    "Zp": "a line break",
}


def problem_of_text(value: object, longest: int = LONGEST_CAPTION) -> str | None:
    """Return the rule that a text breaks, as a clause with what was found, or None.

    Args:
        value: what should be a text.
        longest: characters that it may have.
    """
    if not isinstance(value, str):
        return f"it is a {type(value).__name__} and no text"
    if len(value) > longest:
        return f"it has {len(value):,} characters, and may have {longest:,}"
    if not value.strip():
        return "it is blank"
    if value.isprintable():  # spaces, and characters that can be seen: nearly all texts
        return None
    for place, character in enumerate(value, 1):
        if kind := _refused(character):
            name = unicodedata.name(character, "")
            return f"character {place} is {kind} (U+{ord(character):04X}{name and f', {name}'})"
    return None


def problem_of_captions(texts: Sequence[object]) -> str | None:
    """Return the rule that the captions of an image break, as a clause, or None."""
    if len(texts) > MOST_CAPTIONS:
        return f"there are {len(texts):,}, and an image has at most {MOST_CAPTIONS}"
    return next((problem for text in texts if (problem := problem_of_text(text))), None)


def problem_of_word(value: object) -> str | None:
    """Return the rule that a word breaks, as a clause, or None."""
    return problem_of_text(value, LONGEST_WORD)


def comparable(text: str) -> str:
    """Return the form by which two texts count as the same: one form of letters and accents, no case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def is_composed(text: str) -> bool:
    """Tell whether accents are parts of their letters (NFC), as most software writes them."""
    return unicodedata.is_normalized("NFC", text)


def _refused(character: str) -> str | None:
    category = unicodedata.category(character)
    if character in _TURNING:
        return "a sign that turns the direction of writing round"
    if category == "Cn" and ord(character) & 0xFFFE != 0xFFFE and not 0xFDD0 <= ord(character) <= 0xFDEF:
        return None  # perhaps of a later Unicode than Python's: new emoji come every year
    if category == "Cn":
        return "no character"
    return None if character in _JOINERS else _KINDS.get(category)
