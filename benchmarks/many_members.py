"""Memory and time to list archives, shards and stores of very many images: `python -m benchmarks.many_members FOLDER`.

It writes a tar, a ZIP archive and a shard with `--members` tiny members into FOLDER, lists each in a process of its
own, with every candidate kept as ingest keeps it, and prints seconds and peak memory as JSON. No image is decoded. The
store answers at once, so that its figures are those of the source alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reprise.storage import ustar
from stages.ingest.source import Candidate

KINDS = ("tar", "zip", "webdataset", "store")
_PICTURE = bytes(200)


def write(kind: str, path: Path, members: int) -> None:
    """Write an archive with so many members in a hundred classes; a shard has a text beside each picture."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for i in range(members):
                archive.writestr(zipfile.ZipInfo(f"class{i % 100:02d}/{i:08d}.png"), _PICTURE)
        return
    with open(path, "wb") as file:
        for i in range(members):
            name = f"{i // 2:08d}.{'cls' if i % 2 else 'png'}" if kind == "webdataset" else f"c{i % 100}/{i:08d}.png"
            file.write(ustar.member(name, b"7" if name.endswith("cls") else _PICTURE))
        file.write(ustar.END)


def candidates(kind: str, path: Path, members: int) -> Iterator[Any]:
    """Make the source and yield its items."""
    if kind == "webdataset":
        from stages.ingest.sources.webdataset import Webdataset

        return Webdataset(path, Webdataset.Params(label="cls")).candidates()
    if kind == "store":
        return _store(members)
    from stages.ingest.sources.archive import Archive

    return Archive(path, Archive.Params()).candidates()


def _store(members: int) -> Iterator[Any]:
    """List a store of so many objects; nothing is fetched."""
    from reprise.storage.stores.store import Object
    from stages.ingest.remotes.kept import Kept
    from stages.ingest.sources import remote

    class Store:
        """It has many objects."""

        def __init__(self, _: object, settings: object) -> None:
            self.settings = settings

        def listing(self) -> Iterator[Object]:
            """Yield them."""
            return (Object(f"c{i % 100}/{i:08d}.png", 200, f'"{i:032x}"') for i in range(members))

        def shown(self, name: str) -> str:
            """Return a whole address."""
            return f"s3://bucket/prefix/{name}"

    here = Path(__file__)
    remote.open_store = Store  # type: ignore[assignment]
    Kept.fetch = lambda *_: here  # type: ignore[method-assign, assignment]
    return remote.Remote("s3://bucket/prefix", remote.Remote.Params()).candidates()


def measure(kind: str, path: Path, members: int) -> dict[str, float]:
    """List one source in this process."""
    began = time.monotonic()
    kept = list(candidates(kind, path, members))
    seconds, found = time.monotonic() - began, sum(isinstance(item, Candidate) for item in kept)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"candidates": found, "seconds": round(seconds, 1), "peak_mib": round(peak)}


def main(argv: list[str]) -> None:
    """Parse the command line, write the archives, and measure each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_members", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the archives are written and left")
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=KINDS, help="measure only this one, in this process")
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.kind is not None:
        print(json.dumps(measure(options.kind, options.folder / options.kind, options.members)))
        return
    for kind in KINDS:
        if kind != "store" and not (options.folder / kind).exists():
            write(kind, options.folder / kind, options.members)
        command = [sys.executable, "-m", "benchmarks.many_members", str(options.folder), "--kind", kind]
        command += ["--members", str(options.members)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        print(json.dumps({"kind": kind, **json.loads(said)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
