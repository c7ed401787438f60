"""`python -m stages.ingest.scan`: write source.lock.json, the digest of the source on which DVC depends.

Sources of the table `shifts` are described in shifts.lock.json, each by the name of its row.

It runs before every `repro`, so it imports nothing heavy (no numpy) and reads only files whose size or times changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reprise.config.params import read_yaml
from reprise.config.tables import tables
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import dump_json, write_json
from reprise.storage.listing import LOCK_FILE, SHIFTS_LOCK
from stages.ingest.load import load_shift, load_source
from stages.ingest.source import Source


def scan(path: Path = LOCK_FILE) -> bool:
    """Write the lock file if its content changes, and return whether it did.

    Raises:
        SourceError: the source cannot be read. ParameterError: the block `source` is wrong.
    """
    source, params = load_source(read_yaml())
    return _written(path, _described(params.name, params.root, source))


def scan_shifts(path: Path = SHIFTS_LOCK) -> bool:
    """Write the lock file of the sources of `shifts` if its content changes, and return whether it did.

    DVC asks for the file as soon as there is a row, so that it exists then even without a source.

    Raises:
        SourceError: a source cannot be read. ParameterError: the table, or the options of a row, are wrong.
    """
    raw = read_yaml()
    rows = tables(raw).shifts if raw.get("shifts") else []
    lock = {row.name: _described(row.shift, row.root, load_shift(row)) for row in rows if row.is_source}
    return (bool(rows) or path.exists()) and _written(path, lock)


def _described(name: str, root: str | None, source: Source) -> dict[str, Any]:
    extent = source.extent()
    return {"source": name, "root": root, "files": extent.files, "bytes": extent.bytes, "digest": extent.digest}


def _written(path: Path, lock: dict[str, Any]) -> bool:
    if path.exists() and path.read_text(encoding="utf-8") == dump_json(lock):
        return False
    write_json(path, lock)
    return True


def main(argv: list[str]) -> None:
    """Scan the source that params.yaml names; the command has no arguments."""
    argparse.ArgumentParser(
        prog="python -m stages.ingest.scan", description="Write source.lock.json, the digest of the source."
    ).parse_args(argv)
    known = LOCK_FILE.exists()
    if scan():
        print(f"{LOCK_FILE}: {'the source changed' if known else 'the source is listed for the first time'}")
    if scan_shifts():
        print(f"{SHIFTS_LOCK}: images on which runs are judged changed")


if __name__ == "__main__":
    run_stage(main)
