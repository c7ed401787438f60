"""`python -m stages.ingest.shift_images --name NAME`: the images of a row of `shifts` become data/shifts/NAME/images.

Images from elsewhere are taken in as those of the data set are. A corruption has no images of its own, and its folder
says so. The row itself follows on the command line, so that DVC runs the stage again when it changes; params.yaml is
what is read.
"""

from __future__ import annotations

import argparse
import time

from reprise.artifacts.layout import shift_images
from reprise.artifacts.shifts import write_card
from reprise.config.errors import printable
from reprise.config.params import read_yaml, section
from reprise.config.shared_sections import stored_params
from reprise.config.tables import row, tables
from reprise.runtime.entry import run_stage, workers
from reprise.storage.atomic import atomic_directory
from reprise.storage.listing import SHIFTS_LOCK
from stages.ingest.load import load_shift
from stages.ingest.params import SECTION, SourceParams
from stages.ingest.source_state import refuse_changes, refuse_other_source, times_of


def main(argv: list[str]) -> None:
    """Take in the images of one row."""
    parser = argparse.ArgumentParser(prog="python -m stages.ingest.shift_images", description=__doc__)
    parser.add_argument("--name", required=True, help="a row of `shifts` in params.yaml")
    arguments, _ = parser.parse_known_args(argv)
    raw = read_yaml()
    shift = row(tables(raw).shifts, arguments.name, "shifts")
    params, max_side = section(raw, SECTION, SourceParams), stored_params(raw).max_side
    with atomic_directory(shift_images(shift.name)) as output:
        if not shift.is_source:
            write_card(output, shift, [])
            return

        from reprise.storage.provenance import record
        from stages.ingest.other_sources.elsewhere import take_in

        began = time.monotonic()
        source = load_shift(shift)
        source.max_pixels, source.modality = params.max_pixels, params.modality
        before = times_of(source)
        refuse_other_source(source, SHIFTS_LOCK, shift.name)
        notes = take_in(shift, source, params, max_side, output, workers())
        refuse_changes(source, before)
    record(f"shift_images/{shift.name}", began)
    for sentence in notes:
        print(f"shift {shift.name}: {printable(sentence)}")


if __name__ == "__main__":
    run_stage(main, algebra=False)
