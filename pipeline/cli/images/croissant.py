"""`reprise croissant`: describe the data set for other tools."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.described.description import command
from pipeline.cli.output import answer, say
from pipeline.cli.project import AsJson, enter_project

app = typer.Typer(rich_markup_mode=None)
CROISSANT = Path("croissant.json")  # in the project


@command(
    app,
    examples=["reprise croissant", "reprise croissant --out digits.json --name digits"],
    writes="a JSON-LD file, croissant.json of the project unless --out names another",
    fields={
        "file": "text: the file that was written",
        "record_sets": "list of text: names of the record sets that it describes",
    },
)
def croissant(
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write; addresses are relative to it.")] = CROISSANT,
    name: Annotated[str | None, typer.Option(help="Name of the data set; by default that of its source.")] = None,
    url: Annotated[str | None, typer.Option(help="Page of the data set, where it has one.")] = None,
    date: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day on which the data set was published.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Describe the data set in Croissant's form, which other tools read.

    The description (JSON-LD) names the shards and tables with their SHA-256, and says how to read images, labels,
    splits and facts from them. Nothing is copied and no result changes.
    """
    from reprise.artifacts.croissant import describe
    from reprise.storage.atomic import write_json

    written = out if out == CROISSANT else out.absolute()
    enter_project()
    described = describe(written.parent, name, url, date.date().isoformat() if date else None)
    write_json(written, described)
    record_sets = [records["name"] for records in described["recordSet"]]
    if as_json:
        answer({"file": written, "record_sets": record_sets})
        return
    say(f"{written}: record sets {', '.join(record_sets)}")
