"""Export the backbone of a run: find it, write it in one form beside a model card, and compare the features."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.compare.freshness import old_figures
from pipeline.exports.card import Known, card, known_of_project
from pipeline.graph.stage_modules import run_module
from pipeline.processes.commands import CommandFailed
from reprise.artifacts import layout
from reprise.artifacts.weights.backbones import read_config
from reprise.config.errors import BackboneError, RepriseError, StorageError
from reprise.storage.atomic import atomic_directory, atomic_file

CARD = "README.md"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: their names.
        difference: of the features of the files from the backbone's, at most, as a share of the largest feature.
    """

    files: tuple[str, ...]
    difference: float


def run_folder(what: str) -> tuple[Path, Known]:
    """Find the folder of a backbone, and what is known of it.

    Args:
        what: `simclr` or `simclr/1` (run and seed) of the project in the current folder, or a folder anywhere.

    Raises:
        BackboneError: there is neither.
    """
    name, _, seed = what.partition("/")
    if (seed or "0").isdigit():
        folder = layout.run(name, int(seed or 0))
        if folder.is_dir():
            return folder, known_of_project(name, int(seed or 0), _old_figures(name))
    folder = Path(what)
    if folder.is_dir():
        return folder, Known(folder.resolve().name)
    raise BackboneError(
        "there is no such trained run",
        where=what,
        found=f"neither {layout.run(name, 0).parent}/SEED nor a folder of that name",
        fix="Name a run of this project (simclr, or simclr/1 for its seed 1) after `reprise repro`, or a run's folder.",
    )


def _old_figures(run: str) -> dict[str, str]:
    """Find old figures; a wrong parameter or an unplugged disk withholds figures, and never the backbone."""
    try:
        return old_figures()
    except (CommandFailed, RepriseError) as error:
        # A card may be published, so it repeats no command line: that has paths of this machine.
        why = error.what if isinstance(error, RepriseError) else "the parameters or the source cannot be read"
        return dict.fromkeys(("", run), why)


def export(folder: Path, known: Known, form: str, out: Path) -> Exported:
    """Write a backbone in one form, with a model card.

    Args:
        folder: of the run.
        known: for the card.
        form: timm, huggingface, onnx or torch.
        out: the folder to write; it must not exist.

    Raises:
        StorageError: `out` exists, or cannot be written.
        BackboneError: the folder is no run.
        CommandFailed: the backbone is damaged, or the form does not suit it; the process has explained it, and nothing
            is written.
    """
    if out.exists() or out.is_symlink():
        raise StorageError(
            "the folder to export to exists", where=out, found="a file or folder", fix="Name another, or move it away."
        )
    config = read_config(folder)
    with tempfile.TemporaryDirectory() as scratch, atomic_directory(out) as files:
        table = Path(scratch) / "said.json"
        arguments = [str(folder.absolute()), "--to", form, "--out", str(files.absolute()), "--said", str(table)]
        run_module("stages.embed.outside.export", arguments, Path(), None)
        said = json.loads(table.read_text(encoding="utf-8"))
        with atomic_file(files / CARD, "w") as file:
            file.write(card(config, known, form, said["usage"], said["volumes"]))
        names = tuple(sorted(path.name for path in files.iterdir()))
    return Exported(names, said["difference"])
