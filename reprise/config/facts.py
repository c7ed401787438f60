"""Facts of an image beyond its one label: what they are called, which forms they have, and who may see them.

A fact is declared by the source, or it is a column of targets.csv. Its use decides who may see it: a `label` is for
probes and for runs that are trained on the truth, exactly as the manifest's labels are; a `given` fact belongs to the
image as its pixels do (a caption, the pose of the camera), and a method that names it in `reads` is trained with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from reprise.config.errors import ManifestError
from reprise.config.texts.suggest import nearest

Kind = Literal["number", "flag", "word", "caption", "mask", "boxes", "flow", "pose"]
Use = Literal["label", "given"]
SCALARS = ("number", "flag", "word")  # one value an image: a column of facts.parquet
SIDES: dict[str, str] = {"mask": "png", "boxes": "json", "flow": "npy", "pose": "json"}  # members of shards, by kind
TEXT = "txt"  # captions that are given lie beside their images as well, for other readers of the shards
TRAINABLE = ("number", "flag", "word", "caption", "pose", "mask")  # kinds that a method can read
MOVED = ("mask",)  # of these, what moves with the views of its image
MOST_FACTS = 1000
FACT_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")


@dataclass(frozen=True)
class Fact:
    """The declaration of a fact.

    Attributes:
        name: lower-case letters, digits and underscores; metrics and members of shards are named after it.
        kind: `number` (finite), `flag` (0 or 1), `word`, `caption` (text, several an image), `mask` ((h, w) uint8, 0
            for background, numbers of objects otherwise), `boxes` ((x0, y0, x1, y1) in pixels), `flow` ((h, w, 2)
            float32, pixels right and down), `pose` (a vector of one length for all images).
        use: `label` (hidden from unsupervised runs) or `given`.
        meaning: one sentence for the report; may be empty.
        origin: `source`, or the file that gives it.
    """

    name: str
    kind: Kind
    use: Use = "label"
    meaning: str = ""
    origin: str = "source"

    def as_json(self) -> dict[str, str]:
        """Return the declaration as facts.json holds it."""
        return asdict(self)


def parse_facts(listed: Any, where: object) -> list[Fact]:
    """Read declarations from the content of a facts.json.

    Raises:
        ManifestError: they are not what `as_json` wrote.
    """
    fix = "Run `dvc repro facts` to write it again."
    try:
        facts = [Fact(**{name: str(value) for name, value in row.items()}) for row in listed]  # type: ignore[arg-type]
    except (TypeError, AttributeError) as error:
        raise ManifestError("the declarations of facts are damaged", where=where, found=error, fix=fix) from error
    for fact in facts:
        if problem := problem_of(fact):
            raise ManifestError(problem, where=where, found=fact.name, fix=fix)
    if repeated := repeated_name(facts):
        raise ManifestError("two facts may not have the same name", where=where, found=repeated, fix=fix)
    return facts


def problem_of(fact: Fact) -> str | None:
    """Return the rule that a declaration breaks, a clause, or None."""
    if not FACT_NAME.fullmatch(fact.name) or fact.name == "key":
        return (
            "the name of a fact consists of lower-case letters, digits and underscores, begins with a letter, has at "
            "most 48 characters, and is not `key`"
        )
    if fact.kind not in get_args(Kind):
        return f"the kind of a fact is one of {', '.join(get_args(Kind))}"
    return None if fact.use in get_args(Use) else f"the use of a fact is one of {', '.join(get_args(Use))}"


def repeated_name(facts: Iterable[Fact]) -> str | None:
    """Return the first name that two facts share, or None."""
    seen: set[str] = set()
    for fact in facts:
        if fact.name in seen:
            return fact.name
        seen.add(fact.name)
    return None


def refusal(reads: Sequence[str], known: Sequence[Fact], supervised: bool) -> tuple[str, str, str] | None:
    """Say why a run may not read the facts that its method declares.

    Args:
        reads: names that the method declares.
        known: what source and targets.csv give.
        supervised: whether the run is trained on the truth, so that it may see labels.

    Returns:
        The rule that is broken, what was found, and a way out; None where the run may read them.
    """
    by_name = {fact.name: fact for fact in known}
    for name in reads:
        fact = by_name.get(name)
        if fact is None:
            listed = ", ".join(by_name) or "none"
            hint = nearest(name, list(by_name))
            return (
                f"the method reads the fact '{name}', and nothing gives it",
                f"facts: {listed}",
                f"Use a source that gives it, or declare it in facts.columns and write it into targets.csv.{hint}",
            )
        if fact.kind not in TRAINABLE:
            return (
                f"the method reads the fact '{name}', and no view moves a fact of this kind with its image yet",
                f"kind {fact.kind}",
                f"A method can read facts of the kinds {', '.join(TRAINABLE)}.",
            )
        if fact.use == "label" and not supervised:
            return (
                f"the method reads the fact '{name}', which is a label, and the run is not trained on the truth",
                f"use {fact.use}, from {fact.origin}",
                "Give the run `labels: truth`, or declare the fact as `given` if it comes with the images.",
            )
    return None
