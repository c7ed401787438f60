"""`reprise check`, `list` and `params`: what can be written into params.yaml, and whether it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.described.completion import kinds_of_plug_ins
from pipeline.cli.described.description import command
from pipeline.cli.exit_codes import ExitCode
from pipeline.cli.init import print_presets
from pipeline.cli.listing import list_plug_ins, plug_in_table
from pipeline.cli.output import answer, print_table, say
from pipeline.cli.project import AsJson, enter_project
from pipeline.graph import stage_modules
from pipeline.graph.ingested import data_option

app = typer.Typer(rich_markup_mode=None)


@command(
    app,
    examples=["reprise check"],
    writes="fingerprints of the present code to .reprise/",
    fields={
        "valid": "yes/no: whether every parameter is valid",
        "images": "yes/no: whether the parameters were held against the images",
        "problems": "list: what is wrong; the exit status is then 2",
        "problems[].parameter": "text: dotted name",
        "problems[].rule": "text: the rule that is broken",
        "problems[].found": "text: the value",
        "problems[].fix": "text: a way out; empty where the rule says enough",
        "warnings": "list: what is doubtful or does not fit this machine",
        "warnings[].parameter": "text: dotted name",
        "warnings[].rule": "text: what is doubtful",
        "warnings[].found": "text: the value",
        "warnings[].fix": "text: a way out; may be empty",
    },
)
def check(as_json: AsJson = False) -> None:
    """Check all parameters and report every problem.

    They are held against each other, against the images where ingest has taken them in, and against this machine. What
    only this machine cannot run is a warning, since the graph may run on another.
    """
    enter_project()
    images = bool(data_option(Path()))
    if as_json:
        problems, warnings = stage_modules.problems()
        answer({"valid": not problems, "images": images, "problems": problems, "warnings": warnings})
        if problems:
            raise typer.Exit(ExitCode.WRONG)
        return
    stage_modules.check(again=True, machine=True)
    say("params.yaml: every parameter is valid" + ("" if images else "; no images were looked at"))


@command(
    app,
    "list",
    examples=["reprise list", "reprise list methods", "reprise list presets"],
    fields={
        "[].kind": "text or absent: kind of plug-in such as methods or probes/quality; not of presets",
        "[].name": "text or absent: name by which params.yaml asks for it; not of presets",
        "[].family": "text or null or absent: folder that it lies in, or null; not of presets",
        "[].description": "text or absent: what it is, in a clause; not of presets",
        "[].source": "text or absent: the publication; empty where none is stated; not of presets",
        "[].checked_by": "list of text or absent: tests and pages that check it; not of presets",
        "[].maturity": "text or absent: `measured here`, `restated only`, `tested` or `not stated`; not of presets",
        "[].origin": "text or absent: `Reprise`, `plugins/` or the package that it comes from; not of presets",
        "[].preset": "text or absent: name of a preset",
        "[].purpose": "text or absent: what a preset is for",
        "[].images": "text or absent: which images a preset takes",
        "[].time": "text or absent: how long it takes, and where that was measured",
        "[].score": "text or absent: what it achieves",
    },
)
def plug_ins(
    kind: Annotated[
        str | None,
        typer.Argument(
            autocompletion=kinds_of_plug_ins,
            help="Kind of plug-in: methods, miners, probes, probes/quality, ...; or presets.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the plug-ins of one kind, or of all.

    For one kind the list also has the source of each plug-in, and the tests and pages that check it. The maturity is
    `measured here` where a page of the documentation has a figure of what it achieves, `restated only` where tests
    restate its publication, `tested` where it has none, and `not stated` where its file does not say what checks it.

    `presets` lists the presets of `reprise init`, and needs no project.
    """
    if kind in ("presets", "preset"):
        print_presets(as_json=as_json)
        return
    enter_project()
    found = list_plug_ins(kind)
    if as_json:
        answer([plug_in.json() for plug_in in found])
        return
    header, *rows = plug_in_table(found, whole=kind is not None)
    print_table(header, rows)


@command(
    app,
    examples=["reprise params", "reprise params methods/simclr", "reprise params train.epochs"],
    fields={
        "names": "object or absent: without NAME, or for a kind: the names of each kind and of the sections",
        "names.*": "list of text: names that `reprise params NAME` takes",
        "kind": "text or absent: `params` of a section, or the kind of a plug-in",
        "name": "text or absent: its name",
        "origin": "text or absent: `Reprise`, `plugins/` or a package; empty for a section",
        "title": "text or absent: what it is",
        "source": "text or absent: the publication; empty where there is none",
        "notes": "list of text or absent: what must be known of it",
        "parameters": "list or absent: its parameters",
        "parameters[].name": "text: dotted name",
        "parameters[].values": "text: which values it takes",
        "parameters[].unit": "text: of its values; empty for plain numbers and names",
        "parameters[].default": "text: the default as YAML, or `required`",
        "parameters[].meaning": "text: a sentence",
        "parameters[].note": "text: what else must be known; may be empty",
    },
)
def params(
    name: Annotated[
        str | None,
        typer.Argument(help="Section of params.yaml, plug-in (methods/simclr), kind, or parameter (train.epochs)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the parameters of a section or plug-in, or one parameter by its dotted name."""
    enter_project()
    if as_json:
        answer(stage_modules.parameters_of(name))
        return
    stage_modules.describe_parameters(name)
