"""`python -m stages.ingest`: source -> data/ingest (manifest, quarantine, data set card, suggested views)."""

from __future__ import annotations

import argparse
import time

from reprise.artifacts.layout import MANIFEST, QUARANTINE
from reprise.config.errors import printable
from reprise.config.params import read_yaml
from reprise.runtime.entry import run_stage, workers
from reprise.storage.atomic import atomic_directory
from stages.ingest.load import load_source
from stages.ingest.source_state import refuse_changes, refuse_other_source, times_of


def main(argv: list[str]) -> None:
    """Take in the source that params.yaml names; the command has no arguments."""
    argparse.ArgumentParser(prog="python -m stages.ingest", description="Take in the images of the source.").parse_args(
        argv
    )
    source, params = load_source(read_yaml())

    from reprise.artifacts.manifest import read_quarantine
    from reprise.storage.provenance import record
    from stages.ingest.account.remedy import examples
    from stages.ingest.ingest import ingest, refused_of

    began = time.monotonic()
    before = times_of(source)
    refuse_other_source(source)
    with atomic_directory(MANIFEST.parent) as output:
        card = ingest(source, params, output, workers())
        refuse_changes(source, before)
    found, refused = card["found"], card["quarantined"]
    record("ingest", began, {"images": found, "images_per_second": round(found / (time.monotonic() - began), 1)})
    for sentence in (*card["understood"], *card["near_copies"]["said"], *card["changed"], *card["notes"]):
        print(f"ingest: {printable(sentence)}")
    for sentence in examples(refused_of(read_quarantine(QUARANTINE))) if refused else ():
        print(f"ingest: {printable(sentence)}")
    print(f"ingest: {found:,} found, {card['kept']:,} kept, {refused:,} in quarantine")


if __name__ == "__main__":
    run_stage(main, algebra=False)
