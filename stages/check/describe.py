"""`python -m stages.check.describe [NAME]`: the parameters of a section or plug-in, in words; all names without NAME.

A dotted NAME, such as train.epochs, is one parameter.

With --reference it writes the same for everything that is part of Reprise as a page of the documentation, and beside it
the folder plug-ins (the source of every plug-in, and what checks it) and the page papers (the same by publication).
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from reprise.config.errors import ParameterError, printable
from reprise.config.plug_ins.registry import noun
from reprise.runtime.entry import run_stage
from reprise.storage.atomic import atomic_file
from stages.check.description.papers_page import FILE as PAPERS
from stages.check.description.papers_page import papers_page
from stages.check.description.parameter_list import SECTION, Parameter, Subject, kinds_meant, subject_named, subjects
from stages.check.description.plug_in_pages import FOLDER, write_pages
from stages.check.description.reference import page

WIDTH = 100  # columns of a terminal
WRONG = 2  # exit status where nothing has the name


def main(argv: list[str]) -> None:
    """Parse the command line and print, or write the pages."""
    parser = argparse.ArgumentParser(prog="python -m stages.check.describe", description=__doc__)
    parser.add_argument("name", nargs="?", help="a section, a plug-in, a kind of plug-in, or a parameter")
    parser.add_argument("--json", action="store_true", help="print the same as JSON")
    parser.add_argument("--reference", type=Path, metavar="FILE", help="write the pages of the documentation")
    options = parser.parse_args(argv)
    if options.reference:
        for path, text_of in ((options.reference, page), (options.reference.with_name(PAPERS.name), papers_page)):
            with atomic_file(path) as file:
                file.write(text_of().encode())
        write_pages(options.reference.with_name(FOLDER.name))
        return
    try:
        whole = list(subjects()) if options.name is None else kinds_meant(options.name)
        subject = None if whole else subject_named(options.name)
    except ParameterError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        raise SystemExit(WRONG) from None
    if options.json:
        print(json.dumps(asdict(subject) if subject else {"names": {kind: subjects()[kind] for kind in whole}}))
        return
    lines = text(subject) if subject else listing(whole)
    print("\n".join(map(printable, lines)))


def listing(kinds: Sequence[str]) -> Iterator[str]:
    """List the names of some kinds."""
    for kind in kinds:
        yield "sections of params.yaml:" if kind == SECTION else f"{kind}:"
        yield from _wrapped(", ".join(subjects()[kind]) or "none")


def text(subject: Subject) -> Iterator[str]:
    """Print one section or plug-in: its documentation, then two lines or more for each parameter."""
    what = "section of params.yaml" if subject.kind == SECTION else noun(subject.kind)
    yield f"{subject.name} ({', '.join(filter(None, [what, subject.origin]))})"
    for sentence in filter(None, [subject.title, subject.source and f"Source: {subject.source}.", *subject.notes]):
        yield from _wrapped(sentence)
    if not subject.parameters:
        yield from _wrapped("It has no parameters.")
    for parameter in subject.parameters:
        yield ""
        yield parameter.name
        yield from _wrapped(facts(parameter))
        yield from _wrapped(f"{parameter.meaning} {parameter.note}")


def facts(parameter: Parameter) -> str:
    """Say in one line which values a parameter takes, in which unit, and what it is by default."""
    unit = f" ({parameter.unit})" if parameter.unit else ""
    default = "required" if parameter.default == "required" else f"default: {parameter.default}"
    return f"{parameter.values}{unit}; {default}"


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, WIDTH, initial_indent="    ", subsequent_indent="    ")


if __name__ == "__main__":
    run_stage(main)
