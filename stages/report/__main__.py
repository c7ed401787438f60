"""`python -m stages.report`: write data/report/index.html, one self-contained page, from all artifacts.

results.csv, results.tex and results.json lie beside it.

Facts that differ from run to run (time, machine, revision) go to provenance.js beside it, which DVC does not track.
"""

from __future__ import annotations

import argparse
import time

from reprise.artifacts.layout import REPORT, RESULTS
from reprise.config.params import read_yaml, section
from reprise.runtime.entry import run_stage
from stages.report.params import SECTION, ReportParams


def main(argv: list[str]) -> None:
    """Write the page. The command takes no arguments: everything is in params.yaml and data/."""
    argparse.ArgumentParser(
        prog="python -m stages.report", description="Write data/report/index.html from all artifacts."
    ).parse_args(argv)
    params = section(read_yaml(), SECTION, ReportParams)

    from reprise.storage.atomic import atomic_file
    from reprise.storage.provenance import record
    from stages.report.artifacts import gather
    from stages.report.downloads import downloads
    from stages.report.page import render
    from stages.report.provenance_script import write_provenance_script

    began = time.monotonic()
    target = REPORT
    artifacts = gather(params)
    page = render(artifacts)
    texts = downloads(artifacts)
    for path in RESULTS:
        with atomic_file(path) as file:
            file.write(texts[path.suffix[1:]].encode("utf-8", "backslashreplace"))
    with atomic_file(target) as file:
        file.write(page)
    record("report", began, {"bytes": len(page)})
    write_provenance_script()
    print(f"report: {target} ({len(page) / 1e6:.1f} MB), open it in any browser")


if __name__ == "__main__":
    run_stage(main)
