"""Compare the images that have come since a revision with those that were there: the data's side of a gate."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.graph.remotes.revision_outputs import fetch_at
from pipeline.graph.stage_modules import run_module
from reprise.artifacts.layout import MANIFEST, SHARDS
from reprise.config.errors import GraphError


@dataclass(frozen=True)
class Drift:
    """How new images differ from earlier ones.

    Attributes:
        revision: git revision that had the earlier images.
        new, kept, gone: images that came, stayed, and are there no longer.
        relabelled: images whose label is another one now.
        findings: a test each: `name`, `unit`, `size`, `threshold`, `p` (Holm's) and `drifted`.
        replaced: whether so few earlier images are left that the new ones are compared with those that are gone.
        note: why nothing, or not everything, was tested; or empty.
    """

    revision: str
    new: int
    kept: int
    gone: int
    relabelled: int
    findings: tuple[dict[str, Any], ...]
    replaced: bool = False
    note: str = ""

    @property
    def drifted(self) -> list[str]:
        """What differs: names of tests that count."""
        return [finding["name"] for finding in self.findings if finding["drifted"]]

    @property
    def unknown(self) -> bool:
        """Whether the earlier images are gone, and not all tests show that the new ones are like them."""
        return self.replaced and bool(self.note)

    def lines(self) -> list[str]:
        """Say in sentences what came and whether it differs."""
        changed = f"{self.new:,} new images since {self.revision}, {self.kept:,} kept, {self.gone:,} gone"
        lines = [changed + (f", {self.relabelled:,} with another label" if self.relabelled else "")]
        others = "earlier ones" if self.replaced else "others"
        if self.note:
            lines.append(f"{'Not everything' if self.findings else 'Nothing'} was tested: {self.note}.")
        if self.drifted:
            lines.append(f"Drift: the new images differ from the {others} in {', '.join(self.drifted)}.")
        elif self.unknown:
            lines.append("The earlier images are gone, and nobody can tell whether those in their place are like them.")
        elif not self.note:
            lines.append(f"No drift: the new images do not differ from the {others} as far as the tests can tell.")
        return lines

    def rows(self) -> list[list[str]]:
        """Return a row of text for each test."""
        return [
            [
                f["name"],
                f"{f['size']:.3g}",
                f"{f['threshold']:g}",
                f"{f['p']:.3f}",
                "drift" if f["drifted"] else "",
                f["unit"],
            ]
            for f in self.findings
        ]

    def json(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        return {
            "revision": self.revision,
            **{name: getattr(self, name) for name in ("new", "kept", "gone", "relabelled")},
            "replaced": self.replaced,
            "note": self.note or None,
            "drifted": self.drifted,
            "findings": list(self.findings),
        }


HEADS = ["compared", "difference", "counts from", "p, Holm", "", "unit of the difference"]


def data_drift(
    revision: str, backbone: Path | None = None, root: Path = Path(), on_line: Callable[[str], None] | None = None
) -> Drift:
    """Compare the images of the folder with those of a revision.

    Args:
        revision: git revision with the earlier images.
        backbone: folder of a run whose embeddings are compared as well, such as the champion's.
        root: the project folder.
        on_line: called with each line of the process that compares.

    Raises:
        GraphError: the images of the revision, or of the folder, are not known.
        CommandFailed: the images cannot be read; the process has explained it.
    """
    for needed in (MANIFEST, SHARDS):
        if not (root / needed).exists():
            raise GraphError(
                "the images have not been taken in", where=needed, found="nothing", fix="Run `reprise repro shard`."
            )
    with tempfile.TemporaryDirectory(prefix="reprise-drift-") as scratch:
        before, out = Path(scratch) / "before.parquet", Path(scratch) / "drift.json"
        if not fetch_at(revision, str(MANIFEST), before, root):
            raise GraphError(
                "the images of the revision are not known",
                where=f"{revision}:{MANIFEST}",
                found="no dvc.lock that names it, or neither cache nor remote hold it",
                fix="Name a revision whose graph was run here, or run `dvc pull` in a clone that is at it.",
            )
        chosen = ["--backbone", str(backbone)] if backbone else []
        arguments = ["--before", str(before), "--out", str(out), *chosen]
        run_module("stages.embed.outside.drift", arguments, root, on_line)
        found = json.loads(out.read_text(encoding="utf-8"))
        earlier = Path(scratch) / "earlier"  # copied only where it is needed, since shards are large
        if found["replaced"] and found["findings"] and found["note"] and fetch_at(revision, str(SHARDS), earlier, root):
            run_module("stages.embed.outside.drift", [*arguments, "--earlier", str(earlier)], root, on_line)
            found = json.loads(out.read_text(encoding="utf-8"))
    return Drift(revision, **{**found, "findings": tuple(found["findings"])})
