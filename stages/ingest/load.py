"""Make the source that the block `source` of params.yaml describes."""

from __future__ import annotations

from typing import Any

from reprise.config.params import parse, section
from reprise.config.plug_ins.registry import load_class
from reprise.config.shift_rows import ShiftRow
from stages.ingest.params import SECTION, SourceParams
from stages.ingest.source import Source


def load_source(raw: dict[str, Any]) -> tuple[Source, SourceParams]:
    """Make the source that params.yaml names, and check its options.

    Raises:
        ParameterError: the block is wrong, or no source has that name.
    """
    params = section(raw, SECTION, SourceParams)
    kind = load_class("sources", params.name, Source, f"{SECTION}.name")  # type: ignore[type-abstract]
    source = kind(params.root, parse(kind.Params, params.options, f"{SECTION}.options"))
    source.max_pixels, source.modality = params.max_pixels, params.modality
    return source, params


def load_shift(shift: ShiftRow) -> Source:
    """Make the source of a row of `shifts` that has images from elsewhere, and check its options.

    Raises:
        ParameterError: the options are wrong, or no source has that name.
    """
    where = f"shifts: {shift.name}"
    kind = load_class("sources", shift.shift, Source, where)  # type: ignore[type-abstract]
    return kind(shift.root or "", parse(kind.Params, shift.options, f"{where}.options"))
