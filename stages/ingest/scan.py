"""`python -m stages.ingest.scan`: write source.lock.json, the digest of the source on which DVC depends.

It runs before every `repro`, so it imports nothing heavy (no numpy) and reads only files whose size or times changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reprise.config.params import read_yaml
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import dump_json, write_json
from reprise.storage.listing import LOCK_FILE
from stages.ingest.load import load_source


def scan(path: Path = LOCK_FILE) -> bool:
    """Write the lock file if its content changes, and return whether it did.

    Raises:
        SourceError: the source cannot be read. ParameterError: the block `source` is wrong.
    """
    source, params = load_source(read_yaml())
    extent = source.extent()
    lock = {
        "source": params.name,
        "root": params.root,
        "files": extent.files,
        "bytes": extent.bytes,
        "digest": extent.digest,
    }
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


if __name__ == "__main__":
    run_stage(main)
