"""Typed errors, each a message for the person who gets it: what is wrong and where, what was found, what to do.

Stages raise these for everything that a person can put right; the entry point (`reprise.runtime.entry`) prints them
without a traceback. Any other exception is a defect of Reprise and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable

from reprise.config.texts.credentials import hide_credentials

_BEGINNING = 4  # times the length that is shown: the part of a text that is looked at
_LONGEST_LIST = 8000  # characters of all findings together


class RepriseError(Exception):
    """Base of all errors with a message for people.

    With one finding the message is a line, "what (where). Found: found. fix"; with a list of them (`listed`) each
    stands on a line of its own below "what in where:", and the fix is the last line.

    Args:
        what: the mistake, one clause without a full stop ("the manifest has no column 'split'").
        where: the file, parameter or object concerned ("data/ingest/manifest.parquet").
        found: the value or state in place of the right one ("columns key, path, label"), or `listed(...)`.
        fix: the way out, an imperative sentence ("Run `dvc repro ingest` to write it again.").
    """

    def __init__(self, what: str, *, where: object, found: object, fix: str) -> None:
        self.what, self.where, self.found, self.fix = what, str(where), str(found), fix
        super().__init__(what, self.where, self.found, fix)

    def __str__(self) -> str:
        what, where, fix = _shown(self.what), _shown(self.where), _shown(self.fix)
        if self.found.startswith("\n"):
            return f"{what} in {where}:{_shown(self.found, _LONGEST_LIST)}\n{fix}"
        return f"{what} ({where}). Found: {_shown(self.found)}. {fix}"

    def __reduce__(self):  # crosses process pools whole: keyword-only arguments do not pickle by default
        return (_rebuild, (type(self), self.what, self.where, self.found, self.fix))


def _rebuild(kind: type[RepriseError], what: str, where: str, found: str, fix: str) -> RepriseError:
    error = kind.__new__(kind)
    RepriseError.__init__(error, what, where=where, found=found, fix=fix)
    return error


def listed(lines: Iterable[object]) -> str:
    """Write several findings of one error, each on a line of its own, for the argument `found`."""
    return "".join(f"\n  {line}" for line in lines)


def printable(text: object, limit: int = 2000) -> str:
    """Make text from outside safe for a terminal: escape control and surrogate characters, and bound the length.

    Of a text of megabytes only the beginning is looked at; of what follows, the characters are counted as they are.
    """
    whole = str(text)
    shown = "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "backslashreplace").decode("ascii")
        for c in whole[: _BEGINNING * limit]
    )
    if len(shown) <= limit:
        return shown
    more = len(shown) - limit + max(0, len(whole) - _BEGINNING * limit)
    return f"{shown[:limit]}... ({more} more characters)"


def _shown(text: str, limit: int = 2000) -> str:
    """Hide credentials in the beginning of a text, and make it printable."""
    beginning, rest = text[: _BEGINNING * limit], text[_BEGINNING * limit :]
    return printable(hide_credentials(beginning) + rest, limit)


class ParameterError(RepriseError):
    """A value in params.yaml is missing, unknown, of the wrong type or out of range."""


class MachineError(RepriseError):
    """The machine is at fault and not the data: no process, memory or open file is left, or a disk fails."""


class SourceError(RepriseError):
    """A source of images cannot be read at all: missing root, empty folder, wrong archive checksum."""


class ImageRefused(RepriseError):
    """One image cannot be taken in; `what` is the reason that goes into the quarantine."""


class ManifestError(RepriseError):
    """A manifest or quarantine file is missing, truncated or of another schema."""


class ValidationFailed(RepriseError):
    """The data do not meet an error-level expectation; the graph stops here."""


class ShardError(RepriseError):
    """A shard or its index is missing, truncated or does not match."""


class PseudoLabelError(RepriseError):
    """A pseudo-label file is missing, malformed or does not fit the images."""


class MiningError(RepriseError):
    """Features cannot be clustered as asked: NaN values, more clusters than images, constant features."""


class BackboneError(RepriseError):
    """Weights or their configuration cannot be loaded: foreign, truncated, other architecture."""


class CheckpointError(RepriseError):
    """A checkpoint belongs to other inputs or is damaged."""


class InputsChanged(RepriseError):
    """Parameters, code or data of a stage changed while it ran, so that its results would be recorded as theirs."""


class TrainingError(RepriseError):
    """Training cannot go on: non-finite loss, a batch larger than the data, collapse gate."""


class EmbeddingError(RepriseError):
    """An embedding file is missing, malformed or does not cover the keys asked for."""


class ProbeError(RepriseError):
    """A probe cannot be computed on these data."""


class ResultError(RepriseError):
    """A metrics or predictions file is missing or malformed."""


class WorkspaceBusyError(RepriseError):
    """Another process works on the same folder."""


class StorageError(RepriseError):
    """Writing failed: disk full, read-only folder, quota."""


class GraphError(RepriseError):
    """DVC or the graph's own files (dvc.yaml, dvc.lock) cannot be used."""


class GitError(RepriseError):
    """Git is missing, or refuses what it was asked for."""


class RemoteError(RepriseError):
    """A transfer to or from a DVC remote failed.

    Attributes:
        transient: the network, a server or a lock was in the way, so that trying again may help; wrong
            credentials, a missing bucket and a wrong address stay wrong.
    """

    def __init__(self, what: str, *, where: object, found: object, fix: str, transient: bool = False) -> None:
        self.transient = transient
        super().__init__(what, where=where, found=found, fix=fix)

    def __reduce__(self):
        return (_rebuild_remote, (self.what, self.where, self.found, self.fix, self.transient))


def _rebuild_remote(what: str, where: str, found: str, fix: str, transient: bool) -> RemoteError:
    return RemoteError(what, where=where, found=found, fix=fix, transient=transient)


class ObjectError(RepriseError):
    """An object of DVC's cache or remote, or an output in the folder, is not what dvc.lock or its name says."""


class SweepError(RepriseError):
    """A plan of experiments cannot be read, or the folder is in no state to start them."""
