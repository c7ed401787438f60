"""Extrapolate what a large data set costs: seconds, bytes and money.

    python -m benchmarks.cost --images 100000000 --image-bytes 110000 --ranks 64 --node-gpus 8 \\
        --gpu-images-a-second 1950 --epochs 100 --workers 256 \\
        --price-gpu-hour G --price-core-hour C --price-terabyte-month T

Slopes are measured in this run on small sizes, on one core of this machine. Speed of a GPU, efficiency of many ranks,
and prices are given, for none of them can be measured here; no price has a default. Each line begins with what it is:
`measured`, `given` or `extrapolation`. The table has the columns `extrapolated_...` only.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.cost.arithmetic import Prices, Scale, against, extrapolate
from benchmarks.cost.command_line import parser
from benchmarks.cost.slopes import slopes
from benchmarks.parts.reports import tell
from benchmarks.parts.stage_work import TOY, Sizes
from reprise.runtime.entry import prepare_process
from reprise.storage.provenance import machine, versions

SMALL = Sizes(images=3000, rows=200_000, queries=6000)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Parse the command line, measure, extrapolate, and print."""
    arguments = parser(__doc__).parse_args(argv)
    prepare_process()
    os.environ.pop("REPRISE_DASK", None)
    scale, prices = (
        kind(**{name: getattr(arguments, prefix + name) for name in kind.__dataclass_fields__})
        for kind, prefix in ((Scale, ""), (Prices, "price_"))
    )
    found = slopes(TOY if arguments.toy else SMALL, arguments.repeats, 20_000 if arguments.toy else 1_000_000)
    rows = extrapolate(found, scale, prices)
    table = against(found, scale, arguments.against_images, arguments.against_workers)
    for name, value in asdict(found).items():
        print(f"measured on {machine()}: {name} {value:.3g}")
    for name, value in {**asdict(scale), **{f"price {k}": v for k, v in asdict(prices).items()}}.items():
        print(f"given: {name} {value}")
    for row in rows:
        print(f"extrapolation: {row.quantity}: {row.value:,.4g} {row.unit} (extrapolated as {row.how})")
    text = io.StringIO()
    writer = csv.DictWriter(text, table[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.4g}" for name, value in row.items()} for row in table)
    print(text.getvalue(), end="")
    report = {
        "machine": machine(),
        "versions": versions(),
        "measured": asdict(found),
        "given": asdict(scale) | asdict(prices),
        "extrapolated": [{f"extrapolated_{k}": v for k, v in asdict(row).items()} for row in rows],
        "extrapolated_table": table,
    }
    if arguments.json:
        tell(report, arguments.json)
    return report


if __name__ == "__main__":
    main()
