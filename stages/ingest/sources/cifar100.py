"""cifar100: 60,000 colour images of 32 x 32 pixels in 100 classes, from the official archive (Python version).

`source.root` is the archive or the folder that holds it; it is fetched only if that does not exist and
`source.options.download` is true.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from stages.ingest.cifar_archive import ArchiveParams, CifarArchive, Md5
from stages.ingest.source import Candidate, Extent, Refused, Source

_NAME = "cifar-100-python.tar.gz"
_FOLDER = "cifar-100-python"


class Cifar100(Source):
    """CIFAR-100, official training and test splits."""

    class Params(ArchiveParams):
        """Options of cifar100.

        Attributes:
            md5: checksum of the archive; null accepts another archive of the same form, with a note in the report.
            labels: `fine` (100 classes) or `coarse` (20 superclasses).
        """

        md5: Md5 | None = "eb9058c3a382ffc7106e4002c42a8d85"
        labels: Literal["fine", "coarse"] = "fine"

    title: ClassVar[str] = "CIFAR-100"
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

    def candidates(self) -> Iterator[Candidate | Refused]:
        """Training batches in their order, then test."""
        archive, meta = self._archive(), f"{_FOLDER}/meta"
        members = archive.members((meta, f"{_FOLDER}/train", f"{_FOLDER}/test"))
        classes = archive.names(members[meta], f"{self.options.labels}_label_names".encode())
        for split in ("train", "test"):
            member, key = f"{_FOLDER}/{split}", f"{self.options.labels}_labels".encode()
            yield from archive.candidates(members[member], member, split, key, classes)

    def extent(self) -> Extent:
        """The archive, by its checksum."""
        return self._archive().extent()

    def notes(self) -> list[str]:
        """Says so when no checksum was demanded."""
        return [] if self.options.md5 else ["The archive was accepted without a checksum (source.options.md5 is null)."]

    def _archive(self) -> CifarArchive:
        return CifarArchive(self.root, _NAME, self.options.md5, self.options.download)
