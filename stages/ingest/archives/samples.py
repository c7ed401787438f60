"""Group the members of a tar into samples, exactly as the webdataset package does (its `tariterators`).

A name is a key up to the first dot behind its last slash, and an extension behind that dot. Members that follow each
other with one key are one sample; the same key later, or in the next shard, begins another one. Extensions are written
in lower case. Names without a key or without a dot, and `__name__` at the top, belong to no sample.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from stages.ingest.archives.members import Found
from stages.ingest.archives.open_archive import Archive
from stages.ingest.source import Encoded

_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)")  # `.` matches no line break, as in the package
_RESERVED = ("__key__", "__url__", "__bad__")  # names of the package itself in its samples
_META = re.compile(r"__[^/]*__($|/)")


@dataclass
class Sample:
    """One sample.

    Attributes:
        key: as the package's `__key__`.
        members: extension -> number of the member in its archive.
        repeated: an extension that two members have, or that the package keeps for itself, so that it refuses the
            sample; None for none.
    """

    key: str
    members: dict[str, int] = field(default_factory=dict)
    repeated: str | None = None


@dataclass
class Grouped:
    """The samples of one archive.

    Attributes:
        samples: in their order.
        refused: members that are refused by their names and headers.
        outside: names that belong to no sample.
    """

    samples: list[Sample]
    refused: list[Found]
    outside: list[str]


def group(members: list[Found]) -> Grouped:
    """Group members by their keys."""
    grouped = Grouped([], [], [])
    for number, member in enumerate(members):
        if member.reason is not None and not member.is_left_out:
            grouped.refused.append(member)
            continue
        match = None if _META.match(member.stated) else _NAME.fullmatch(member.stated)
        if match is None:
            grouped.outside.append(member.stated)
            continue
        key, extension = match[1], match[2].lower()
        if not grouped.samples or grouped.samples[-1].key != key:
            grouped.samples.append(Sample(key))
        sample = grouped.samples[-1]
        if extension in sample.members or extension in _RESERVED:
            sample.repeated = extension
        sample.members.setdefault(extension, number)
    return grouped


def with_contents(
    archive: Archive, samples: list[Sample], needed: Callable[[Sample, str], bool]
) -> Iterator[tuple[Sample, dict[str, Encoded]]]:
    """Yield samples with what reads each of their members, in one pass.

    Args:
        archive: that they lie in.
        samples: some of its samples, in their order.
        needed: tells whether a member is wanted, by its sample and extension.

    Raises:
        DamagedTar: the archive changed since it was listed. ImageRefused: it cannot be read.
    """
    wanted = [{n: e for e, n in sample.members.items() if needed(sample, e)} for sample in samples]
    contents = archive.contents({number for numbers in wanted for number in numbers})
    for sample, numbers in zip(samples, wanted, strict=True):
        found: dict[str, Encoded] = {}
        for _ in numbers:
            number, reference = next(contents)
            found[numbers[number]] = reference
        yield sample, found
