"""What an archive of the user holds, and which of its members are refused by their names and headers alone.

Nothing is extracted: a name leads nowhere, but it decides about splits and classes, so one that leads out of the
archive, or stands for two files, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reprise.storage.walk import LEFT_OUT, MOST_ENTRIES, WHY_LEFT_OUT, reason_to_leave_out
from stages.ingest.source import Encoded

MOST_MEMBERS = MOST_ENTRIES
LARGEST_MEMBER = 1 << 30  # bytes; no permitted image is larger by much, and a member is read into memory
_SMALL, _RATIO = 16 << 20, 100  # a member of more bytes may not be that many times its packed length
_SMALL_WHOLE = 1 << 30  # an archive that unpacks to more may not unpack to more than _RATIO times its own length
NESTED = re.compile(r"(?i)(?!.*\.nii\.gz$).*\.(zip|tar|tgz|tbz2?|txz|tzst|tar\.(gz|bz2|xz|zst)|gz|bz2|xz|zst|7z|rar)")
_LEFT_OUT = (*LEFT_OUT, "nested_archive")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


@dataclass(frozen=True, slots=True)
class Found:
    """A member of an archive that is no folder.

    Attributes:
        name: path inside the archive, parts joined by "/", or as stated where it is refused for its name.
        size: bytes of its content.
        packed: bytes that it takes in the archive, or 0 where members have no length of their own there.
        reference: reads the content; None where only the stream holds it.
        reason: why it is refused or left out, a code of docs/reference/data-rules.md; None for what may be an image.
        detail: the reason as a sentence.
        stated: the name as it is stated.
    """

    name: str
    size: int
    packed: int = 0
    reference: Encoded | None = None
    reason: str | None = None
    detail: str = ""
    stated: str = ""

    @property
    def is_left_out(self) -> bool:
        """Whether nobody means it as an image."""
        return self.reason in _LEFT_OUT

    def refused(self, reason: str, detail: str) -> Found:
        """Return it with a reason, unless it has one."""
        return self if self.reason else replace(self, reason=reason, detail=detail)


def plain_name(name: str, utf8: bool = True) -> tuple[str, str | None, str]:
    """Bring the name of a member to one form.

    Args:
        name: as stated.
        utf8: whether it was UTF-8.

    Returns:
        the name without `.` and empty parts, and the reason and the sentence if it is refused or left out.
    """
    if not utf8:
        return name, "name_not_utf8", "its name is not UTF-8: pack it under another one"
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or _DRIVE.match(name) or ".." in parts or "\0" in name or not parts:
        return name, "unsafe_name", "its name leads out of the archive, or to nothing: pack it under a relative path"
    plain = "/".join(parts)
    plain = name if plain == name else plain  # of a million names, each is held once
    reason = reason_to_leave_out([part.encode("utf-8", "surrogatepass") for part in parts])
    if reason is not None:
        return plain, reason, WHY_LEFT_OUT[reason]
    if NESTED.fullmatch(parts[-1]):
        return plain, "nested_archive", "an archive inside an archive is not opened: unpack it, or name it as the root"
    return plain, None, ""


def checked(members: Sequence[Found], length: int, repeated: bool = False) -> Iterator[Found]:
    """Yield the members of an archive, in their order, with those refused that contradict each other or are bombs.

    Args:
        members: of one archive.
        length: of the archive in bytes.
        repeated: whether several members may have one name.
    """
    seen: dict[str, int] = {}
    for member in members:
        if member.reason is None:
            seen[member.name] = seen.get(member.name, 0) + 1
    left = max(_SMALL_WHOLE, _RATIO * length)
    for member in members:
        if member.reason is not None:
            yield member
        elif seen[member.name] > 1 and not repeated:
            detail = f"{seen[member.name]} members have this name, and programs disagree about which one counts"
            yield member.refused("repeated_name", detail)
        elif member.size > LARGEST_MEMBER:
            yield member.refused("too_many_bytes", f"it unpacks to {member.size:,} bytes")
        elif member.packed and member.size > max(_SMALL, _RATIO * member.packed):
            yield member.refused("archive_bomb", f"{member.packed:,} bytes unpack to {member.size:,}")
        elif member.size > left:
            detail = f"with it, the {length:,} bytes of the archive unpack to more than {_RATIO} times as many"
            yield member.refused("archive_bomb", detail)
        else:
            left -= member.size
            yield member


def most_unpacked(length: int) -> int:
    """Return how many bytes a compressed tar of so many bytes may unpack to, with its headers."""
    return 2 * max(_SMALL_WHOLE, _RATIO * length)
