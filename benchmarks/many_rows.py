"""Memory and time to read tables of very many rows: `python -m benchmarks.many_rows FOLDER`.

It writes into FOLDER a CSV file that names `--rows` files (hard links to a few pictures), and a Parquet file that holds
as many pictures of 4 KB. Each is described for source.lock.json twice, the second time with nothing changed, and read
with every candidate kept as ingest keeps it, in a process of its own; seconds and peak memory go to stdout as JSON. No
image is decoded.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stages.ingest.candidates.spool import Spool
from stages.ingest.source import Candidate
from stages.ingest.sources.table import Table

KINDS = ("csv", "parquet")
STEPS = ("scan", "scan again", "read")
_IN_FOLDER, _PICTURE, _ROWS_AT_ONCE = 1000, 4000, 10_000


def write(kind: str, folder: Path, rows: int) -> None:
    """Write the table, and the files that it names."""
    if kind == "csv":
        with (folder / "csv.csv").open("w", encoding="utf-8") as table:
            table.write("image,label,age,caption\n")
            for i in range(rows):
                path = folder / f"files/{i // _IN_FOLDER:05d}/{i % _IN_FOLDER:03d}.png"
                if i % _IN_FOLDER == 0:
                    path.parent.mkdir(parents=True)
                    path.write_bytes(bytes(200))
                else:
                    os.link(path.parent / "000.png", path)
                table.write(f'{path.relative_to(folder)},class {i % 100},{i / 7:.3f},"A picture, number {i}"\n')
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image), ("label", pa.string())])
    with pq.ParquetWriter(folder / "parquet.parquet", schema) as writer:
        for start in range(0, rows, _ROWS_AT_ONCE):
            pictures = [os.urandom(_PICTURE) for _ in range(16)]
            listed = [
                {"image": {"bytes": pictures[i % 16], "path": None}, "label": f"class {i % 100}"}
                for i in range(start, min(rows, start + _ROWS_AT_ONCE))
            ]
            writer.write_table(pa.Table.from_pylist(listed, schema=schema))


def measure(kind: str, step: str, folder: Path) -> dict[str, Any]:
    """Take one step in this process."""
    options: dict[str, Any] = {"label": "label"}
    if kind == "csv":
        options["facts"] = {"age": {"kind": "number"}, "caption": {"kind": "caption"}}
    source = Table(folder / f"{kind}.{kind}", Table.Params.model_validate(options))
    began = time.monotonic()
    if step == "read":
        with Spool(folder) as spool:
            kept = [spool.keep(item) for item in source.candidates()]
        found = sum(isinstance(item, Candidate) for item in kept)
    else:
        found = source.extent().files
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"found": found, "seconds": round(time.monotonic() - began, 1), "peak_mib": round(peak)}


def main(argv: list[str]) -> None:
    """Parse the command line, write the tables, and measure each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_rows", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the tables are written and left")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kind", choices=KINDS, help="measure only this one, in this process")
    parser.add_argument("--step", choices=STEPS, default="read", help="with --kind: what is measured")
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.resolve()
    if options.kind is not None:
        os.chdir(folder)  # the cache of the scan lies in the folder where it runs
        print(json.dumps(measure(options.kind, options.step, folder)))
        return
    for kind in KINDS:
        if not (folder / f"{kind}.{kind}").exists():
            write(kind, folder, options.rows)
        for step in STEPS:
            command = [sys.executable, "-m", "benchmarks.many_rows", str(folder), "--kind", kind, "--step", step]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            print(json.dumps({"kind": kind, "step": step, **json.loads(said)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
