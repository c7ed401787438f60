"""multiview: a table of photographs of objects from several sides: object, class, view and camera of each.

The table has a row an image, as those of MVImgNet and of COLMAP can be written: its path, the object, the class of the
object, the number of the view, and of the camera the rotation R (nine numbers row by row, or a quaternion w, x, y, z),
the translation t and the intrinsics K (nine numbers, or fx, fy, cx, cy); a mask may stand beside it. Columns of lists
hold JSON in CSV, and lists in Parquet. All views of an object are one group, so no object lies in two splits.

Facts, all `given`, since they come with the photograph: `pose`, the unit quaternion (w, x, y, z) that turns the axes of
the object's scene into those of the camera, with w >= 0; `translation`; `intrinsics` (fx, fy, cx, cy); `view`; `mask`.
The numbers pose_w to pose_z, and `object`, are labels, for probes. An empty cell means that it is not known.

A row is refused by itself, with a sentence, where R is no rotation (rows that are not orthonormal, a mirror), where a
number is NaN or infinite, or where K has no positive focal lengths. All rows of an object are refused that the table
gives two classes, and all rows of a view that it has twice: nothing says which of them is right.

Source: Yu et al., "MVImgNet: A Large-scale Dataset of Multi-view Images", CVPR 2023, whose data stand behind an
agreement and were not used; the images and the table are the user's own.

Deviations: MVImgNet's own folders and the text files of COLMAP are not read; write a table of them. Depth and points
have no place here.

Checked by: tests/stages/ingest/sources/test_multiview.py.
"""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from reprise.config.errors import printable
from reprise.config.facts import Fact
from reprise.config.params import StrictModel, meaning
from reprise.storage.listing import digest_entries
from reprise.storage.walk import Entry
from stages.ingest.source import VIEWS_OF_PHOTOGRAPHS, Candidate, Extent, Refused, Source
from stages.ingest.tables import cells
from stages.ingest.tables.cells import BadCell
from stages.ingest.tables.images import Part, TableImages
from stages.ingest.tables.options import BaseFolder, Column, ColumnOptions, Delimiter
from stages.ingest.tables.parts import parts_of
from stages.ingest.tables.places import Places
from stages.ingest.tables.rows import Row, TablePart
from stages.ingest.tables.statement import picture

_ORTHONORMAL = 1e-3  # products of rows differ from 0 and 1 by at most this: numbers of text files are rounded
_ROTATION = "rotation"  # names of the facts that are read and not given as they are


class Multiview(Source):
    """Photographs of objects, each from several sides."""

    class Params(StrictModel):
        """Options of multiview."""

        image: Annotated[Column, meaning("This column holds the path of the image.")] = "image"
        object: Annotated[Column, meaning("This column names the object that an image shows.")] = "object_id"
        label: Annotated[Column | None, meaning("This column holds the class of the object; null: there is none.")] = (
            "class"
        )
        view: Annotated[Column | None, meaning("This column holds the number of the view; null: there is none.")] = (
            "view_id"
        )
        rotation: Annotated[
            Column | None, meaning("This column holds R, or a quaternion w, x, y, z; null: there is none.")
        ] = "R"
        translation: Annotated[Column | None, meaning("This column holds t; null: there is none.")] = "t"
        intrinsics: Annotated[
            Column | None, meaning("This column holds K, or fx, fy, cx, cy; null: there is none.")
        ] = "K"
        mask: Annotated[Column | None, meaning("This column holds the path of a mask (PNG); null: there is none.")] = (
            None
        )
        turns: Annotated[
            Literal["world_to_camera", "camera_to_world"],
            meaning("R turns the axes of the scene into the camera's, as COLMAP has it, or the other way round."),
        ] = "world_to_camera"
        base: BaseFolder = None
        delimiter: Delimiter = None
        link_roots: Annotated[
            list[Annotated[str, Field(min_length=1, max_length=4096)]],
            Field(default_factory=list, max_length=100),
            meaning("Paths and links that lead into these folders are followed; others that leave it are refused."),
        ]

        def columns(self) -> ColumnOptions:
            """Say which column holds what, as a table does."""
            facts: dict[str, dict[str, str]] = {}
            for name, kind, column in (
                ("view", "number", self.view),
                (_ROTATION, "pose", self.rotation),
                ("translation", "pose", self.translation),
                ("intrinsics", "pose", self.intrinsics),
                ("mask", "mask", self.mask),
            ):
                if column is not None:
                    facts[name] = {"kind": kind, "column": column, "use": "given"}
            said = {"label": self.label, "group": self.object, "facts": facts, "link_roots": self.link_roots}
            return ColumnOptions.model_validate(said)

    reads: ClassVar[str] = "a table of views (.csv, .tsv, .parquet) or a folder of its parts"
    title: ClassVar[str] = "Views of objects"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "as the owner of the images says"
    views: ClassVar[dict[str, Any]] = VIEWS_OF_PHOTOGRAPHS | {"flip": False}  # a mirrored view has another pose

    def __init__(self, root: Path | str, options: Any) -> None:
        super().__init__(root, options)
        self._images: TableImages | None = None
        self._objects = 0

    def facts(self) -> Sequence[Fact]:
        """Declare what the options name columns for."""
        own = self.options
        declared = [Fact("object", "word", "label", "Name of the object.")]
        if own.rotation is not None:
            meant = "Unit quaternion w, x, y, z from the axes of the scene to those of the camera."
            declared.append(Fact("pose", "pose", "given", meant))
            declared += [Fact(f"pose_{part}", "number", "label", f"The number {part} of the pose.") for part in "wxyz"]
        if own.translation is not None:
            declared.append(Fact("translation", "pose", "given", "t of the camera, in the unit of the table."))
        if own.intrinsics is not None:
            declared.append(Fact("intrinsics", "pose", "given", "fx, fy, cx and cy of the camera, in pixels."))
        if own.view is not None:
            declared.append(Fact("view", "number", "given", "Number of the view of its object."))
        if own.mask is not None:
            declared.append(Fact("mask", "mask", "given", "0 for background, numbers of objects otherwise."))
        return declared

    def candidates(self) -> Iterator[Candidate | Refused]:
        """Yield every row, those that are refused first.

        Raises:
            SourceError: the table cannot be read, or a column is missing.
        """
        columns = self.options.columns()
        parts = [Part(table) for table in self._parts()]
        classes, rows = self._said_of_objects(parts)
        self._objects = len(classes)
        self._images = TableImages(parts, columns, self.options.image, self._places())
        for item in self._images:
            yield self._checked(item, classes, rows) if isinstance(item, Candidate) else item

    def _said_of_objects(self, parts: Sequence[Part]) -> tuple[dict[str, set[str]], Counter[tuple[str, str]]]:
        """Read the whole table once: the classes of each object, and how many rows each of its views has."""
        own = self.options
        named = [column for column in (own.object, own.label, own.view) if column is not None]
        classes: dict[str, set[str]] = defaultdict(set)
        rows, seen = Counter[tuple[str, str]](), set[tuple[str, str, str]]()
        for table, _ in parts:
            for row in table.rows([*named, own.image]):
                if not isinstance(row, Row) or (name := _name(row, own.object)) is None:
                    continue
                label, view = _name(row, own.label), row.cells[own.view] if own.view is not None else None
                classes[name] |= set() if label is None else {label}
                key = (name, _number(view), str(row.cells[own.image]))
                if not cells.is_empty(view) and key not in seen:  # rows that say the same are one view
                    seen.add(key)
                    rows[name, key[1]] += 1
        return dict(classes), rows

    def _checked(
        self, image: Candidate, classes: Mapping[str, set[str]], rows: Mapping[tuple[str, str], int]
    ) -> Candidate | Refused:
        """Hold an image against the others of its object, and its camera against the rules."""
        if image.group is None:
            return Refused(image.name, "empty_cell", f"column '{printable(self.options.object, 80)}' names no object")
        shown = printable(image.group, 80)
        if len(found := classes.get(image.group, set())) > 1:
            listed = ", ".join(printable(name, 40) for name in sorted(found)[:5])
            return Refused(image.name, "rows_disagree", f"the table gives object {shown} several classes: {listed}")
        view = image.facts.get("view")
        if view is not None and (count := rows[image.group, _number(view)]) > 1:
            return Refused(image.name, "rows_disagree", f"object {shown} has view {view:g} {count} times")
        try:
            return replace(image, facts=self._facts_of(image))
        except BadCell as bad:
            return Refused(image.name, "bad_value", str(bad))

    def _facts_of(self, image: Candidate) -> dict[str, Any]:
        """Make facts of the cells of a row.

        Raises:
            BadCell: what the camera is said to be cannot be.
        """
        facts = {name: value for name, value in image.facts.items() if name in ("view", "mask")}
        facts["object"] = image.group
        if (rotation := image.facts.get(_ROTATION)) is not None:
            pose = quaternion_of(rotation, self.options.turns == "camera_to_world")
            facts |= {"pose": pose, **{f"pose_{part}": value for part, value in zip("wxyz", pose, strict=True)}}
        if (translation := image.facts.get("translation")) is not None:
            if len(translation) != 3:
                raise BadCell(f"t has three numbers; found {len(translation)}")
            facts["translation"] = translation
        if (intrinsics := image.facts.get("intrinsics")) is not None:
            facts["intrinsics"] = pinhole(intrinsics)
        return facts

    def extent(self) -> Extent:
        """Hash the table, and the contents of all files that it names; unchanged files are not read again.

        Raises:
            SourceError: the table cannot be read.
        """
        return Extent(*digest_entries(self.root, self.files()))

    def files(self) -> list[Entry]:
        """List the files of the table, and the files that it names, each once."""
        places, listed = self._places(), dict[bytes, Entry]()
        columns = [column for column in (self.options.image, self.options.mask) if column is not None]
        for table in self._parts():
            name = os.fsencode(table.shown)
            listed[name] = Entry(name, os.path.realpath(os.fsencode(table.path)))
            for row in table.rows(columns):
                for written in _paths(row, columns) if isinstance(row, Row) else ():
                    path, entry = places.find(written)
                    key = b"named/" + path.encode("utf-8", "surrogateescape")
                    listed[key] = Entry(key, entry.path, entry.reason)
        return list(listed.values())

    def understood(self) -> list[str]:
        """Say what the columns mean, which are not used, and how many objects there are."""
        said = self._images.understood() if self._images else []
        return [*said, f"The table names {self._objects:,} objects; all views of one stay in one split."]

    def _parts(self) -> list[TablePart]:
        return parts_of(self.root, self.options.delimiter)

    def _places(self) -> Places:
        base = Path(self.options.base) if self.options.base else self.root if self.root.is_dir() else self.root.parent
        return Places(base, self.options.link_roots)


def _name(row: Row, column: str | None) -> str | None:
    """Return a name as rows are read; None where there is none, or where the row is refused for it."""
    try:
        return None if column is None else cells.name_of(row.cells[column])
    except BadCell:
        return None


def _number(value: Any) -> str:
    """Write the number of a view in one way: 3, 3.0 and "03" are one view."""
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return str(value)


def _paths(row: Row, columns: Sequence[str]) -> Iterator[str]:
    for column in columns:
        try:
            written = picture(row.cells[column])
        except BadCell:
            continue
        if isinstance(written, str):
            yield written


def quaternion_of(numbers: Sequence[float], inverted: bool = False) -> list[float]:
    """Return the unit quaternion of a rotation, with w >= 0.

    Args:
        numbers: nine of a matrix, row by row, or four of a quaternion w, x, y, z.
        inverted: whether the opposite rotation is meant.

    Raises:
        BadCell: they are no rotation.
    """
    import numpy as np

    from reprise.measures.geometry.quaternions import inverse, of_matrix, upright

    given = np.array(numbers, dtype=np.float64)
    if len(given) == 4:
        length = float(np.linalg.norm(given))
        if abs(length - 1) > _ORTHONORMAL:
            raise BadCell(f"a quaternion has length 1; found {length:.6g}")
        q = upright(given / length)
    elif len(given) == 9:
        matrix = given.reshape(3, 3)
        off = float(np.abs(matrix @ matrix.T - np.eye(3)).max())
        if off > _ORTHONORMAL:
            raise BadCell(f"the rows of R are orthonormal; products of rows differ by up to {off:.3g} from 0 and 1")
        if np.linalg.det(matrix) < 0:
            raise BadCell("R is a rotation; found a mirror, whose determinant is -1")
        q = of_matrix(matrix)
    else:
        raise BadCell(f"R has nine numbers, or four of a quaternion; found {len(given)}")
    q = upright(inverse(q)) if inverted else q
    return [round(float(value), 9) for value in q]


def pinhole(numbers: Sequence[float]) -> list[float]:
    """Return fx, fy, cx and cy of intrinsics.

    Args:
        numbers: these four, or the nine of K, row by row.

    Raises:
        BadCell: there are other numbers of them, or a focal length is not positive.
    """
    if len(numbers) not in (4, 9):
        raise BadCell(f"K has nine numbers, or four: fx, fy, cx, cy; found {len(numbers)}")
    fx, fy, cx, cy = numbers if len(numbers) == 4 else (numbers[0], numbers[4], numbers[2], numbers[5])
    if not (fx > 0 and fy > 0):
        raise BadCell(f"focal lengths are positive; found {fx:g} and {fy:g}")
    if len(numbers) == 9 and not all(math.isclose(numbers[i], want) for i, want in ((3, 0), (6, 0), (7, 0), (8, 1))):
        raise BadCell("K has 0 below its diagonal and 1 at its end")
    return [float(number) for number in (fx, fy, cx, cy)]
