"""All commands of `reprise`, in the order in which the help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import flows, init, remote, status, sweep
from pipeline.cli.backbones import evaluate, predict, publish
from pipeline.cli.comparisons import compare, gate, history
from pipeline.cli.described.overview import BEGIN, Overview
from pipeline.cli.graph import parameters, run
from pipeline.cli.images import clusters, croissant, views

app = typer.Typer(
    cls=Overview,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train representations of images without labels, and measure what they are worth.",
    epilog=BEGIN,
)


def _show_version(asked: bool) -> None:
    if asked:
        from pipeline.graph.running.doctor import reprise_version

        print(reprise_version())
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train representations of images without labels, and measure what they are worth."""


for part in (run, init, parameters, status, views, clusters, croissant):
    app.add_typer(part.app)
app.add_typer(flows.app, name="flows")
for part in (sweep, remote, evaluate, predict, publish, compare, gate, history):
    app.add_typer(part.app)
