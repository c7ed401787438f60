"""Open an index of very many rows, and read from it: `python -m benchmarks.cost.index FOLDER`.

It writes into FOLDER an index of `--rows` images of one size and with random keys, and tars that are one hole each, so
they take no room. Each of `--repeats` processes opens it once and reads `--reads` rows in random order; seconds, reads
a second, and the private memory that the open index takes go to stdout as JSON. `--small` is opened first, for imports
and what is needed once.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path

import numpy as np

from benchmarks.parts.memory import in_child

BYTES, IN_TAR = 2000, 30_000  # of an image; images in a tar
_OPEN = """
import json, sys, time
import numpy as np
from benchmarks.parts.memory import private_bytes
from reprise.artifacts.shards import Shards
small, large, reads = sys.argv[1], sys.argv[2], int(sys.argv[3])
kept = Shards.open(small)
kept.read(0)
before, began = private_bytes(), time.perf_counter()
shards = Shards.open(large)
seconds = time.perf_counter() - began
held = (private_bytes() - before) / len(shards)
rows = np.random.default_rng(0).integers(0, len(shards), reads).tolist()
began = time.perf_counter()
for row in rows:
    shards.read(row)
print(json.dumps([seconds, held, reads / (time.perf_counter() - began)]))
"""


def write(folder: Path, rows: int) -> None:
    """Write an index, and tars without content that are as long as it says; 2 % of the images are val."""
    import pyarrow as pa

    from reprise.artifacts.shards import INDEX, INDEX_SCHEMA, write_index

    folder.mkdir(parents=True)
    digits = np.frombuffer(np.random.default_rng(0).bytes(32 * rows).hex().encode(), "S64")
    sha256 = pa.array(digits.astype(str), pa.string())
    number = np.arange(rows)
    split = np.where(number % 50 == 0, "val", "train")
    tars = np.array([f"{i:06d}.tar" for i in range(-(-rows // IN_TAR))])[number // IN_TAR]
    columns = {
        "key": pa.array(digits.astype("S24").astype(str)), "split": split, "shard": tars,
        "offset": number % IN_TAR * (BYTES + 548), "bytes": np.full(rows, BYTES), "ext": pa.array(["jpg"] * rows),
        "width": np.full(rows, 64, np.int32), "height": np.full(rows, 64, np.int32),
        "channels": np.full(rows, 3, np.int8), "sha256": sha256, "group": pa.nulls(rows, pa.string()),
    }  # fmt: skip
    write_index(folder / INDEX, pa.table(columns, schema=INDEX_SCHEMA))
    for name in np.unique(tars).tolist():
        (folder / name).touch()
        os.truncate(folder / name, IN_TAR * (BYTES + 548))


def opened(small: Path, large: Path, reads: int) -> tuple[float, float, float]:
    """Open an index in a fresh process: seconds, private bytes an image, and reads a second."""
    seconds, held, speed = in_child(_OPEN, small, large, reads)
    return seconds, held, speed


def main() -> None:
    """Parse the command line, write what is not there, and measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost.index", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the indices are written and left")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=1000)
    parser.add_argument("--reads", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    small, large = (options.folder / str(rows) for rows in (options.small, options.rows))
    for folder in (small, large):
        if not folder.exists():
            write(folder, int(folder.name))
    runs = [opened(small, large, options.reads) for _ in range(options.repeats)]
    names = ("seconds to open", "private bytes an image", "reads a second")
    for name, values in zip(names, zip(*runs, strict=True), strict=True):
        middle, low, high = statistics.median(values), min(values), max(values)
        print(json.dumps({name: round(middle, 3), "from": round(low, 3), "to": round(high, 3)}))


if __name__ == "__main__":
    main()
