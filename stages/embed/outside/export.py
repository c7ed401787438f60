"""`python -m stages.embed.outside.export RUN --to FORM --out FOLDER`: a backbone in the form of another program.

What was written is loaded and compared. How far the features are from the backbone's, and how to load the files, goes
into a file of its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reprise.media.lookup import VOLUME
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import write_json


def main(argv: list[str]) -> None:
    """Parse the command line and write the files into a folder that exists."""
    from reprise.backbones.exports.forms import FORMS, write_form
    from reprise.backbones.loaded import load_backbone

    parser = argparse.ArgumentParser(prog="python -m stages.embed.outside.export", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--to", required=True, choices=tuple(FORMS))
    parser.add_argument("--out", required=True, type=Path, help="folder to write into")
    parser.add_argument("--said", required=True, type=Path, help="JSON file to write: difference, usage, volumes")
    options = parser.parse_args(argv)
    backbone = load_backbone(options.run)
    difference, usage = write_form(backbone, options.to, options.out)
    write_json(options.said, {"difference": difference, "usage": usage, "volumes": backbone.modality == VOLUME})


if __name__ == "__main__":
    run_stage(main)
