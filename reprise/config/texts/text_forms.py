"""Rules for texts in params.yaml: a regular expression, the words that stand for it, and what may have been meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from reprise.config.plug_ins.registry import names
from reprise.config.texts.suggest import nearest

_LONGEST_NAME = 48  # characters; names become folders
NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{_LONGEST_NAME - 1}}}")
NAME_RULE = (
    "a name consists of lower-case letters, digits and underscores, begins with a letter and has at most "
    f"{_LONGEST_NAME} characters"
)


def wrong_value(rule: str, hint: str = "") -> PydanticCustomError:
    """Build the error that a validator raises: the rule in words, and a hint at what to write instead."""
    return PydanticCustomError("wrong_value", "{rule}", {"rule": rule, "hint": hint})


@dataclass(frozen=True)
class TextForm:
    """A rule for a text field, with the words that `reprise params` shows for it.

    Attributes:
        words: the rule in words; people never get to see a regular expression.
        pattern: the regular expression that the whole text must match.
        kind: the kind of plug-in that the text names, among which suggestions are looked for; empty: none.
        short: fewer words for `reprise params`; empty: the same ones.
    """

    words: str
    pattern: str
    kind: str = ""
    short: str = ""

    def __call__(self, value: str) -> str:
        """Refuse a text that breaks the rule."""
        if not re.fullmatch(self.pattern, value):
            raise wrong_value(self.words, nearest(value, names(self.kind)) if self.kind else "")
        return value


class _RowName(TextForm):
    """The rule for names that reach paths and commands; it suggests a name that the user may have meant."""

    def __call__(self, value: str) -> str:
        """Refuse a text that breaks the rule."""
        if re.fullmatch(self.pattern, value):
            return value
        plain = re.sub(r"[^a-z0-9]+", "_", value.casefold()).strip("_")
        raise wrong_value(self.words, f" Did you mean '{plain}'?" if re.fullmatch(self.pattern, plain) else "")


def plug_in_name(kind: str) -> AfterValidator:
    """Annotate a field that names a plug-in of a kind: the same rule, and suggestions among the plug-ins' names."""
    return AfterValidator(TextForm(NAME_RULE, NAME.pattern, kind))


def with_pattern(pattern: str, rule: str) -> AfterValidator:
    """Annotate a text field with its form; see `TextForm`."""
    return AfterValidator(TextForm(rule, pattern))


Name = Annotated[
    str,
    AfterValidator(_RowName(NAME_RULE, NAME.pattern, short="name of lower-case letters, digits and underscores")),
]
