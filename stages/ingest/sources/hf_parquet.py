"""hf_parquet: a data set of Hugging Face in a folder: Parquet files of the hub, or what `save_to_disk` wrote.

Splits come from the names of files and folders, names of classes and the column of images from what the files say of
their columns. The package `datasets` is not needed. Nothing is downloaded; `huggingface-cli download` and `git clone`
bring such folders.

Source: no publication; the format is that of Hugging Face's package `datasets`.

Checked by: tests/stages/ingest/sources/test_hf_parquet.py (against the package `datasets`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from reprise.config.facts import Fact
from reprise.config.params import meaning
from reprise.storage.listing import digest_folder
from stages.ingest.names.layout import SplitName
from stages.ingest.source import VIEWS_OF_PHOTOGRAPHS, Candidate, Extent, Refused, Source
from stages.ingest.tables.columnar import ColumnarPart
from stages.ingest.tables.hugging_face import class_names, image_column, label_column, understand_folder
from stages.ingest.tables.images import TableImages
from stages.ingest.tables.options import Column, ColumnOptions
from stages.ingest.tables.places import Places


class HfParquet(Source):
    """A data set of Hugging Face in a folder."""

    class Params(ColumnOptions):
        """Options of the folder."""

        image: Annotated[
            Column | None, meaning("This column holds the images; null: the only one that the files call images.")
        ] = None
        label: Annotated[
            Column | None, meaning("This column holds the class; null: the only one that the files call classes.")
        ] = None
        splits: Annotated[
            dict[Annotated[str, Field(max_length=200)], SplitName],
            Field(default_factory=dict),
            meaning("These splits of the folder are train, val, test or unlabelled (part of train)."),
        ]

    reads: ClassVar[str] = "a folder of a data set of Hugging Face"
    title: ClassVar[str] = "Data set of Hugging Face"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "as the card of the data set says"
    views: ClassVar[dict[str, Any]] = VIEWS_OF_PHOTOGRAPHS

    def __init__(self, root: Path | str, options: Any) -> None:
        super().__init__(root, options)
        self._images: TableImages | None = None
        self._understood: list[str] = []

    def facts(self) -> Sequence[Fact]:
        """Declare the facts that the options name."""
        return self.options.declared()

    def candidates(self) -> Iterator[Candidate | Refused]:
        """Yield every row, in the order of the files.

        Raises:
            SourceError: the folder cannot be read, or can be understood in several ways.
        """
        folder = understand_folder(self.root, self.options.link_roots, self.options.splits)
        first = folder.parts[0].table
        assert isinstance(first, ColumnarPart)
        image = image_column(folder.features, first, self.options.image, self.root)
        label = label_column(folder.features, self.options.label, self.root)
        options = self.options.model_copy(update={"label": label})
        names = class_names(folder.features)
        self._images = TableImages(folder.parts, options, image, Places(self.root, ()), names)
        self._understood = list(folder.sentences)
        if label in names:
            self._understood.append(f"The classes have the {len(names[label]):,} names that the files state.")
        yield from self._images

    def extent(self) -> Extent:
        """Compute the digest of all names and contents in the folder, without reading unchanged files again."""
        return Extent(*digest_folder(self.root, link_roots=self.link_roots()))

    def link_roots(self) -> tuple[str, ...]:
        """Return the folders that the options name."""
        return tuple(self.options.link_roots)

    def understood(self) -> list[str]:
        """Say which splits there are, what the columns mean, and which are not used."""
        return [*self._understood, *(self._images.understood() if self._images else [])]
