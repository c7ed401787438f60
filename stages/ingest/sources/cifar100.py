"""cifar100: 60,000 colour images of 32 x 32 pixels in 100 classes, from the official archive (Python version).

`source.root` is the archive or the folder that holds it; it is fetched only if that does not exist and
`source.options.download` is true.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical report, 2009.

Checked by: tests/stages/ingest/sources/test_cifar.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from reprise.config.params import meaning
from stages.ingest.archives.cifar_archive import ArchiveParams, CifarSource, Md5
from stages.ingest.source import Candidate, Refused

_FOLDER = "cifar-100-python"


class Cifar100(CifarSource):
    """CIFAR-100, official training and test splits."""

    class Params(ArchiveParams):
        """Options of cifar100."""

        md5: Annotated[
            Md5 | None,
            meaning(
                "The archive has this checksum; null takes any archive of the same form and says so in the report."
            ),
        ] = "eb9058c3a382ffc7106e4002c42a8d85"
        labels: Annotated[
            Literal["fine", "coarse"],
            meaning("Labels are the 100 classes (`fine`) or their 20 superclasses (`coarse`)."),
        ] = "fine"

    title: ClassVar[str] = "CIFAR-100"
    archive_name: ClassVar[str] = "cifar-100-python.tar.gz"

    def candidates(self) -> Iterator[Candidate | Refused]:
        """Training batches in their order, then test."""
        archive, meta = self.archive(), f"{_FOLDER}/meta"
        members = archive.members((meta, f"{_FOLDER}/train", f"{_FOLDER}/test"))
        classes = archive.names(members[meta], f"{self.options.labels}_label_names".encode())
        for split in ("train", "test"):
            member, key = f"{_FOLDER}/{split}", f"{self.options.labels}_labels".encode()
            yield from archive.candidates(members[member], member, split, key, classes)
