"""`python -m stages.validate`: check manifest and quarantine, and write data/validate or name what fails."""

from __future__ import annotations

import argparse
import sys
import time

from reprise.config.params import ImageParams, read_yaml, section
from reprise.runtime.entry import run_stage
from stages.validate.params import SECTION, ValidateParams


def main(argv: list[str]) -> None:
    """Check the data. The command takes no arguments: everything is in params.yaml."""
    argparse.ArgumentParser(
        prog="python -m stages.validate", description="Check the manifest against the expectations."
    ).parse_args(argv)
    raw = read_yaml()
    params, image = section(raw, SECTION, ValidateParams), section(raw, "image", ImageParams)

    from reprise.artifacts.layout import VALIDATION, VALIDATION_DOCS
    from reprise.artifacts.manifest import read_manifest, read_quarantine
    from reprise.storage.atomic import atomic_directory, write_json
    from reprise.storage.provenance import record
    from stages.validate.bands import require_bands
    from stages.validate.check import FAILED, PASSED, VERDICT, check, require
    from stages.validate.facts import gather
    from stages.validate.page import PAGE, render_page

    began = time.monotonic()
    manifest = read_manifest()
    require_bands(manifest, image.channels)
    facts = gather(manifest, read_quarantine())
    verdicts = check(facts, params)
    with atomic_directory(VALIDATION_DOCS) as folder:
        (folder / PAGE).write_bytes(render_page(verdicts))
    warnings = [v for v in verdicts if v["severity"] == "warning" and not v["success"]]
    for verdict in warnings:
        print(
            f"warning: the data do not meet the expectation that {verdict['says']} "
            f"(observed {verdict['observed']}, allowed {verdict['threshold']})",
            file=sys.stderr,
        )
    if any(v["severity"] == "error" and not v["success"] for v in verdicts):
        write_json(FAILED, verdicts)
        (VALIDATION / PASSED).unlink(missing_ok=True)  # it was written for other data
    require(verdicts, FAILED)
    FAILED.unlink(missing_ok=True)
    with atomic_directory(VALIDATION) as output:
        write_json(output / VERDICT, verdicts)
        write_json(output / PASSED, {"passed": True})
    record("validate", began, {"expectations": len(verdicts), "warnings": len(warnings)})
    held = len(verdicts) - len(warnings)
    print(
        f"validate: {held} expectations hold, {len(warnings)} give a warning; {VALIDATION_DOCS}/index.html shows them"
    )


if __name__ == "__main__":
    run_stage(main)
