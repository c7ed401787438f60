"""`python -m stages.embed.outside.export RUN --to FORM --out FOLDER`: a backbone in the form of another program.

What was written is loaded and compared. How far the features are from the backbone's, and how to load the files, stands
in said.json beside them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from reprise.media.lookup import VOLUME
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import write_json

SAID = "said.json"


def main(argv: list[str]) -> None:
    """Parse the command line and write the files into a folder that exists."""
    from reprise.backbones.exports.forms import FORMS, write_form
    from reprise.backbones.loaded import load_backbone

    parser = argparse.ArgumentParser(prog="python -m stages.embed.outside.export", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--to", required=True, choices=tuple(FORMS))
    parser.add_argument("--out", required=True, type=Path, help="folder to write into")
    options = parser.parse_args(argv)
    backbone = load_backbone(options.run)
    difference = write_form(backbone, options.to, options.out)
    usage, volumes = FORMS[options.to].usage(backbone), backbone.modality == VOLUME
    write_json(options.out / SAID, {"difference": difference, "usage": usage, "volumes": volumes})


if __name__ == "__main__":
    run_stage(main)
