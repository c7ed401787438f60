"""Read the CIFAR archives (Krizhevsky 2009): find or fetch them, verify them, read their batches without running code.

Archives and batches are read by readers of our own (tar_stream.py, batch_reader.py), which know what such an archive
consists of and refuse everything else, in bounded memory and time; nothing is ever extracted to disk.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn

from reprise.config.errors import ImageRefused, SourceError
from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import with_pattern
from reprise.storage.atomic import atomic_file
from reprise.storage.listing import open_regular, sha256_of
from reprise.storage.progress import Progress
from stages.ingest.archives.batch_reader import VALUES, Array, read_batch
from stages.ingest.archives.tar_stream import TarStream
from stages.ingest.source import Candidate, Extent, Source

_BASE = "https://www.cs.toronto.edu/~kriz/"
_SIDE = 32
_MAX_BATCH = 256 << 20  # bytes of one unpacked batch; the largest official one has 155 MB
_MAX_UNPACKED = 1 << 30
_SMALL_UNPACKED = 64 << 20  # bytes; an archive that unpacks to more may not unpack to more than this many times
_MAX_RATIO = 100  # its own length: photographs hardly shrink, and zeros shrink a thousand times
_MAX_MEMBERS = 1000
_LONGEST_NAME = 255  # bytes of a class's name, as of a folder's
Md5 = Annotated[str, with_pattern("[0-9a-f]{32}", "an MD5 has 32 lower-case hexadecimal digits")]


class ArchiveParams(StrictModel):
    """Options of both CIFAR sources."""

    download: Annotated[bool, meaning("The archive is downloaded where there is nothing at source.root.")] = False


class CifarSource(Source):
    """The common part of CIFAR-10 and CIFAR-100.

    Attributes:
        archive_name: official file name.
    """

    archive_name: ClassVar[str]
    citation: ClassVar[str] = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
    licence: ClassVar[str] = "none stated by the authors; research use is customary"
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.08,
        "flip": True,
        "jitter": 0.5,
        "grey": 0.2,
        "blur": 0.0,
        "solarize": 0.0,
    }

    def archive(self) -> CifarArchive:
        """Return the archive at or below the root."""
        return CifarArchive(self.root, self.archive_name, self.options.md5, self.options.download)

    def extent(self) -> Extent:
        """Measure the archive by its checksum."""
        return self.archive().extent()

    def notes(self) -> list[str]:
        """Note that no checksum was demanded."""
        return [] if self.options.md5 else ["The archive was accepted without a checksum (source.options.md5 is null)."]


class CifarArchive:
    """One archive.

    Args:
        root: the archive, or a folder that holds it under its official name.
        name: official file name.
        md5: expected checksum; None accepts any archive.
        download: whether it may be fetched when `root` does not exist.
    """

    def __init__(self, root: Path, name: str, md5: str | None, download: bool) -> None:
        self.root, self.name, self.md5, self.download = root, name, md5, download

    def extent(self) -> Extent:
        """Measure the archive by its expected checksum, or else by its content.

        The expected checksum is the same before and after the archive is fetched, so fetching it reruns nothing.
        """
        if self.md5 is not None:
            if not os.path.exists(self.root) and not self.download:
                self._missing()
            return Extent(1, 0, hashlib.sha256(f"md5:{self.md5}".encode()).hexdigest())
        try:
            sha256, size = sha256_of(self._path())
        except ImageRefused as refusal:
            raise self._unreadable(refusal.found) from refusal
        return Extent(1, size, sha256)

    def members(self, wanted: tuple[str, ...]) -> dict[str, dict[bytes, Any]]:
        """Read the named batches.

        Args:
            wanted: full member names, in the order in which they are returned.

        Raises:
            SourceError: the archive is missing, damaged or of another checksum, lacks a batch, or holds foreign
                objects.
        """
        path = self._fetched()
        found: dict[str, dict[bytes, Any]] = {}
        try:
            with open_regular(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
                self._verify(path, file)
                size = os.fstat(descriptor).st_size
                archive = TarStream(_Bounded(gzip.GzipFile(fileobj=file), size), _MAX_MEMBERS)
                for member in archive:
                    name = member.name.removeprefix("./")
                    if name not in wanted or name in found or not member.regular:
                        continue
                    if member.size > _MAX_BATCH:
                        raise ValueError(f"batch {name} of {member.size} bytes")
                    found[name] = self._read(archive.read(), name)
        except ImageRefused as refusal:
            raise self._unreadable(refusal.found) from refusal
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise self._unreadable(str(error) or type(error).__name__) from error
        absent = [name for name in wanted if name not in found]
        if absent:
            raise self._unreadable(f"no {', '.join(absent)} inside")
        return {name: found[name] for name in wanted}

    def candidates(
        self, batch: dict[bytes, Any], member: str, split: str, labels: bytes, classes: list[str]
    ) -> Iterator[Candidate]:
        """Yield the images of a batch.

        Args:
            batch: as `members` returns it.
            member: its name, for messages and for the names of the images.
            split: train or test.
            labels: key of the list of labels.
            classes: name of each label.
        """
        import numpy as np

        from reprise.media.image.encode import uncompressed_png

        array, numbers = batch.get(b"data"), batch.get(labels)
        if not isinstance(array, Array) or not isinstance(numbers, list):
            raise self._unreadable(f"{member} lacks data or {labels.decode()}")
        try:
            values = array.values().reshape(-1, VALUES)
        except ValueError as error:
            raise self._unreadable(f"{member}: {error}") from error
        if len(values) != len(numbers) or not all(type(n) is int and 0 <= n < len(classes) for n in numbers):
            raise self._unreadable(
                f"{member}: {len(values)} images, {len(numbers)} labels, each of which must be 0 to {len(classes) - 1}"
            )
        pixels = np.ascontiguousarray(values.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))
        for i, (image, label) in enumerate(zip(pixels, numbers, strict=True)):
            yield Candidate(f"{self.name}/{member}/{i:05d}.png", uncompressed_png(image), split, classes[label])

    def names(self, meta: dict[bytes, Any], key: bytes) -> list[str]:
        """Return the class names of a meta file."""
        names = meta.get(key)
        if not isinstance(names, list) or not names or not all(isinstance(n, bytes) for n in names):
            raise self._unreadable(f"no list of names under {key.decode()}")
        if max(map(len, names)) > _LONGEST_NAME:
            raise self._unreadable(f"a name of more than {_LONGEST_NAME} bytes under {key.decode()}")
        if len(set(names)) < len(names):
            raise self._unreadable(f"two classes of one name under {key.decode()}")
        return [n.decode("utf-8", "backslashreplace") for n in names]

    def _path(self) -> Path:
        return self.root / self.name if os.path.isdir(self.root) else self.root

    def _fetched(self) -> Path:
        if os.path.exists(self.root):
            path = self._path()
            if not os.path.exists(path):
                raise SourceError(
                    "the folder does not hold the archive",
                    where=self.root,
                    found=f"no {self.name}",
                    fix=f"Put {_BASE}{self.name} there, or set source.root to the archive.",
                )
            return path
        if not self.download:
            self._missing()
        path = self.root if self.root.name.endswith((".tar.gz", ".tgz")) else self.root / self.name
        url, digest = _BASE + self.name, hashlib.md5(usedforsecurity=False)
        try:
            with urllib.request.urlopen(url, timeout=60) as answer, atomic_file(path) as file:  # noqa: S310 (https)
                total = int(answer.headers.get("Content-Length") or 0) or None
                with Progress(f"download {self.name}", total, "bytes") as progress:
                    while block := answer.read(1 << 20):
                        digest.update(block)
                        file.write(block)
                        progress.advance(len(block))
                if self.md5 is not None and digest.hexdigest() != self.md5:
                    raise self._other_checksum(path, digest.hexdigest())
        except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
            raise SourceError(
                "the archive cannot be downloaded",
                where=url,
                found=getattr(error, "reason", error),
                fix="Fetch it on a machine with access and set source.root to the file.",
            ) from error
        return path

    def _verify(self, path: Path, file: Any) -> None:
        if self.md5 is None:
            return
        digest = hashlib.md5(usedforsecurity=False)
        left = os.fstat(file.fileno()).st_size  # no more than that of a file that grows
        while left > 0 and (block := file.read(1 << 20)):
            digest.update(block)
            left -= len(block)
        if digest.hexdigest() != self.md5:
            raise self._other_checksum(path, digest.hexdigest())
        file.seek(0)

    def _read(self, data: bytes, name: str) -> dict[Any, Any]:
        try:
            return read_batch(data)
        except (Exception, MemoryError) as error:  # `pickletools` raises anything on hostile operations
            raise self._unreadable(f"{name}: {str(error) or type(error).__name__}") from error

    def _missing(self) -> NoReturn:
        raise SourceError(
            "there is no archive at the root of the source",
            where=self.root,
            found="no such file",
            fix=f"Put {_BASE}{self.name} there, or set source.options.download to true.",
        )

    def _other_checksum(self, path: Path, found: str) -> SourceError:
        return SourceError(
            f"the archive is not the official one (MD5 {self.md5})",
            where=path,
            found=f"MD5 {found}",
            fix="Fetch it again, or set source.options.md5 to null to accept your own.",
        )

    def _unreadable(self, found: str) -> SourceError:
        return SourceError(
            "the archive cannot be read", where=self.root, found=found, fix=f"Fetch {_BASE}{self.name} again."
        )


class _Bounded(io.RawIOBase):
    """A stream that refuses to unpack more than a CIFAR archive of this length can hold, against compression bombs."""

    def __init__(self, stream: gzip.GzipFile, size: int) -> None:
        self._limit = min(_MAX_UNPACKED, max(_SMALL_UNPACKED, _MAX_RATIO * size))
        self._stream, self._left = stream, self._limit

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(min(size, 1 << 20) if size >= 0 else 1 << 20)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"it unpacks to more than {self._limit} bytes")
        return data
