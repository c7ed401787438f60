"""What a person can do about entries that were refused: examples of each reason, and a fix that fits the source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reprise.artifacts.layout import QUARANTINE
from reprise.config.errors import printable
from stages.ingest.account.statement import COPIES, reasons
from stages.ingest.source import LeftOut, Refused, Source

_EXAMPLES = 3  # reasons with an example; the quarantine has all
_NAME, _DETAIL = 120, 240  # characters
_REMEDIES = {
    "encrypted": "Pack the archive again without a password, or unpack it and read the folder with the source `folder`."
}
_RULES = "Mend or remove such files, or name another folder as source.root."


def remedy(source: Source, refused: Sequence[Refused], left_out: Sequence[LeftOut]) -> str:
    """Say what to do where no image can be used: about the most frequent reason, or about source.root.

    Args:
        source: says what it reads, and what helps against reasons of its own.
        refused: entries that are not taken in.
        left_out: entries that nobody means as images, which count only where nothing was refused.
    """
    notes, known = source.notes(), {**_REMEDIES, **source.remedies()}
    if not refused:
        return " ".join(
            notes or [f"Set source.root in params.yaml to {source.reads}.", *(_example(one) for one in left_out[:1])]
        )
    ranked = list(reasons(refused))
    helpful = [known[reason] for reason in ranked if reason in known]
    if notes and not helpful:
        return " ".join(notes)
    first = next(item for item in refused if item.reason == ranked[0])
    return " ".join([*notes, _example(first), *(helpful or [_RULES])])


def examples(refused: Iterable[Refused]) -> Iterator[str]:
    """Yield an example for each of the most frequent reasons, and the place of the whole list; nothing for copies.

    Args:
        refused: the quarantine, whose names say nothing that no message may show.
    """
    first: dict[str, Refused] = {}
    items = [item for item in refused if item.reason not in COPIES]
    for item in items:
        first.setdefault(item.reason, item)
    for reason in list(reasons(items))[:_EXAMPLES]:
        yield f"Refused as {reason}, f{_example(first[reason])[1:]}"
    if items:
        yield f"{QUARANTINE} lists each refused entry with its reason."


def _example(item: Refused | LeftOut) -> str:
    detail = printable(item.detail, _DETAIL).rstrip(".")
    return f"For instance {printable(item.name, _NAME)}: {detail}."
