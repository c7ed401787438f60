"""`python -m stages.ingest.single IMAGE --out FOLDER`: one image from anywhere, as ingest and shard would store it.

The folder gets a shard with this image alone. It is examined in a process of its own by the rules of the section
`source`, so a hostile file is refused here as it would be among the others. Values of more than 8 bits are scaled by
the range that the images of the manifest have in common, where they are of the same type.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reprise.artifacts.layout import MANIFEST
from reprise.artifacts.manifest import KEY_DIGITS, read_manifest
from reprise.artifacts.shards import INDEX, index_schema, write_index
from reprise.config.errors import ImageRefused, SourceError, printable
from reprise.config.params import read_yaml, section
from reprise.config.shared_sections import stored_params
from reprise.media.lookup import modality
from reprise.media.modality import Examined, Stored
from reprise.runtime.entry import run_stage
from reprise.storage import ustar
from reprise.storage.atomic import atomic_directory
from reprise.storage.listing import read_regular
from stages.ingest.candidates.examine import examine_all
from stages.ingest.params import SECTION, SourceParams

SHARD, SPLIT = "single-000000.tar", "test"
_REASONS = "Mend the file, or take another."


def main(argv: list[str]) -> None:
    """Parse the command line, and write the shard."""
    parser = argparse.ArgumentParser(prog="python -m stages.ingest.single", description=__doc__)
    parser.add_argument("image", type=Path, help="the file")
    parser.add_argument("--out", required=True, type=Path, help="the folder to write")
    options = parser.parse_args(argv)
    raw = read_yaml()
    params = section(raw, SECTION, SourceParams)
    with atomic_directory(options.out) as folder:
        take_in(options.image, params, stored_params(raw).max_side, folder)


def take_in(image: Path, params: SourceParams, max_side: int, folder: Path) -> None:
    """Examine an image, and write a shard and an index of it.

    Args:
        image: the file.
        params: which files are refused, and what is taken of them.
        max_side: longest side in pixels.
        folder: to fill.

    Raises:
        SourceError: the file is refused, or changes meanwhile.
    """
    limits = params.limits
    where = str(image)
    (finding,) = examine_all([(where, where)], limits, workers=1)
    if not finding.samples:
        raise SourceError(
            "this image is refused", where=image, found=f"{finding.reason}: {finding.detail.rstrip('.')}", fix=_REASONS
        )
    facts = with_range(finding.samples[0], params).facts
    try:
        data = read_regular(where, limits.max_bytes)
        if hashlib.sha256(data).hexdigest() != finding.sha256:
            raise _changed(image, "other bytes when it was read again")
        stored = modality(params.modality).stored_form(data, where, facts, max_side)
    except ImageRefused as refusal:
        raise _changed(image, f"{refusal.what}: {printable(refusal.found, 300)}") from refusal
    key = str(finding.sha256)[:KEY_DIGITS]
    write_one(folder, key, stored, facts, params.modality)


def with_range(sample: Examined, params: SourceParams) -> Examined:
    """Fill in the values that become black and white: those of the images of the manifest, or else its own.

    Raises:
        SourceError: the rule gives no range for it.
    """
    (completed,) = modality(params.modality).complete([sample], [True], params.choices)
    kind = completed.facts.get("sample")
    if kind is None or not MANIFEST.exists():
        return completed
    manifest = read_manifest(columns=["sample", "low", "high"])
    alike = manifest.filter(pc.equal(manifest["sample"], kind))
    if alike.num_rows == 0:
        return completed
    common = {name: alike[name][0].as_py() for name in ("low", "high")}
    return replace(completed, facts=completed.facts | common)


def write_one(folder: Path, key: str, stored: Stored, facts: dict[str, Any], kind: str) -> None:
    """Write a shard of one image, or sample of another kind, and its index."""
    data, extension = stored.data, stored.extension
    (folder / SHARD).write_bytes(ustar.member(f"{key}.{extension}", data) + ustar.END)
    row = {
        "key": key,
        "split": SPLIT,
        "shard": SHARD,
        "offset": ustar.BLOCK,
        "bytes": len(data),
        "ext": extension,
        "width": stored.width,
        "height": stored.height,
        "channels": facts["channels"],
        "sha256": hashlib.sha256(data).hexdigest(),
        "group": None,
        **({} if stored.depth is None else {"modality": kind, "depth": stored.depth}),
    }
    write_index(folder / INDEX, pa.Table.from_pylist([row], schema=index_schema(row)))


def _changed(image: Path, found: str) -> SourceError:
    return SourceError("the image changed while it was read", where=image, found=found, fix="Run the command again.")


if __name__ == "__main__":
    run_stage(main, algebra=False)
