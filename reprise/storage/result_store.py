"""Files that a stage computed, kept under the hash of their inputs, so that another stage need not compute them again.

Working state under `.reprise/`, never an output: losing it costs time only, so whatever fails here fails in silence. A
result is stored whole or not at all; what has been damaged since counts as absent. The number of results is bounded,
and the one that was used longest ago goes first.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from reprise.storage.work_folder import file_digest

_DIGEST = "sha256"  # the file beside the stored ones that says what they were


class ResultStore:
    """Results below one folder, safe with several processes at once.

    Args:
        folder: below `.reprise/`.
        kept: how many results stay.
    """

    def __init__(self, folder: Path, kept: int) -> None:
        self.folder, self.kept = folder, kept

    def take(self, key: str, target: Path) -> bool:
        """Copy the files stored under `key` into `target`; False, and no file there, where they are absent or damaged.

        The digest is taken of the copies: another process may remove a result while it is being copied.
        """
        source = self.folder / key
        copied: list[Path] = []
        try:
            stored = (source / _DIGEST).read_text(encoding="ascii")
            for path in sorted(source.iterdir()):
                if path.name != _DIGEST:
                    copied.append(target / path.name)
                    shutil.copyfile(path, copied[-1])
            if stored == file_digest(*copied):
                os.utime(source)
                return True
            shutil.rmtree(source, ignore_errors=True)
        except (OSError, ValueError):
            pass
        for path in copied:
            path.unlink(missing_ok=True)
        return False

    def keep(self, key: str, files: Sequence[Path]) -> None:
        """Store copies of `files` under `key`, and drop what was used longest ago beyond `kept`."""
        partial: Path | None = None
        with suppress(OSError):  # a full disk, or another process that stored or removed the same meanwhile
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
            copies = [Path(shutil.copyfile(file, partial / file.name)) for file in sorted(files)]
            (partial / _DIGEST).write_text(file_digest(*copies), encoding="ascii")
            partial.rename(self.folder / key)
            self._prune()
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)

    def _prune(self) -> None:
        """Remove results by their last use; what a killed process left unfinished is as old as its last write."""
        used = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # another process prunes as well
                used.append((path.stat().st_mtime, path.name))
        for _, name in sorted(used, reverse=True)[self.kept :]:
            shutil.rmtree(self.folder / name, ignore_errors=True)
