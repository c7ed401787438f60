"""cifar10: 60,000 colour images of 32 x 32 pixels in 10 classes, from the official archive (Python version).

`source.root` is the archive or the folder that holds it; it is fetched only if that does not exist and
`source.options.download` is true.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical report, 2009.

Checked by: tests/stages/ingest/sources/test_cifar.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from reprise.config.params import meaning
from stages.ingest.archives.cifar_archive import ArchiveParams, CifarSource, Md5
from stages.ingest.source import Candidate, Refused

_FOLDER = "cifar-10-batches-py"


class Cifar10(CifarSource):
    """CIFAR-10, official training and test splits."""

    class Params(ArchiveParams):
        """Options of cifar10."""

        md5: Annotated[
            Md5 | None,
            meaning(
                "The archive has this checksum; null takes any archive of the same form and says so in the report."
            ),
        ] = "c58f30108f718f92721af3b95e74349a"

    title: ClassVar[str] = "CIFAR-10"
    archive_name: ClassVar[str] = "cifar-10-python.tar.gz"

    def candidates(self) -> Iterator[Candidate | Refused]:
        """Training batches in their order, then test."""
        batches = {f"{_FOLDER}/data_batch_{i}": "train" for i in range(1, 6)} | {f"{_FOLDER}/test_batch": "test"}
        archive, meta = self.archive(), f"{_FOLDER}/batches.meta"
        members = archive.members((meta, *batches))
        classes = archive.names(members[meta], b"label_names")
        for member, split in batches.items():
            yield from archive.candidates(members[member], member, split, b"labels", classes)
