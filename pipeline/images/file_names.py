"""Names of files that every file system and every program takes, made from names that come from outside."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

LONGEST = 120  # bytes of UTF-8; file systems take 255, and paths have an end too
_FORBIDDEN = re.compile(r'[<>:"/\\|?*$`\x00-\x1f\x7f]')  # by Windows, or by a careless shell
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_KEY_DIGITS = 8


class FileNames:
    """The names in one folder: no two are alike, also where upper and lower case are the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, path: str, key: str) -> str:
        """Return a safe name for an image that is not taken yet.

        Args:
            path: of the image's file.
            key: of the image; its beginning is added where the name is taken.
        """
        name = PurePosixPath(path)
        stem, suffix = safe_name(name.stem), safe_suffix(name.suffix)
        for candidate in (f"{stem}{suffix}", f"{stem}-{key[:_KEY_DIGITS]}{suffix}", f"{stem}-{key}{suffix}"):
            folded = unicodedata.normalize("NFKC", candidate).casefold()
            if folded not in self._taken:
                break
        self._taken.add(folded)
        return candidate


def safe_name(stem: str) -> str:
    """Replace what some file system or program does not take, and shorten the name."""
    text = unicodedata.normalize("NFC", stem)
    text = "".join(c if c == " " or c.isprintable() else "_" for c in text)
    text = _FORBIDDEN.sub("_", text).strip(" ")
    text = text.encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore").rstrip(" .")
    if not text or text[0] in ".-~" or _RESERVED.fullmatch(text):
        text = f"_{text.lstrip('.-~')}"
    return text


def safe_suffix(suffix: str) -> str:
    """Return an extension of a few letters and digits as it is, and none for anything else."""
    return suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else ""
