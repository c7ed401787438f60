"""What a plug-in's file says about itself: one line, its source, and what checks it. Read without importing it.

The module's docstring says it in a stated form. `Source:` begins a sentence that names the publication, or says
"no publication" and where the idea comes from. `Checked by:` begins a paragraph of files, separated by semicolons, each
with a remark in parentheses where one is due:

    Checked by: tests/stages/mine/test_miners.py (against scikit-learn); docs/explanation/mining.md.

A page below docs/ is named only where it has a figure of what the plug-in achieves.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from reprise.config.errors import ParameterError, printable
from reprise.config.plug_ins.registry import family_of, location, origin

OURS = "Reprise"  # the origin of our own plug-ins
MEASURED, RESTATED, TESTED, UNCHECKED = "measured here", "restated only", "tested", "not stated"
MEANINGS = {
    MEASURED: "A page of the documentation has a figure of what it achieves.",
    RESTATED: "Tests restate what its publication says; no page has a figure of what it achieves.",
    TESTED: "It has no publication. Tests hold it to what it says of itself.",
    UNCHECKED: "Its file does not say what checks it.",
}
_SENTENCE_ENDS = re.compile(r"(?<!al)(?<!\b[A-Z])\. ")  # "Chen et al. 2020" and "J. Doe" go on
_NO_PUBLICATION = "no publication"


@dataclass(frozen=True)
class PlugInFacts:
    """What a plug-in's file says about itself.

    Attributes:
        kind: "methods", "probes/quality", ...
        name: the plug-in's.
        family: the folder that the file is sorted into ("contrastive"); empty where there is none.
        description: the first sentence of its documentation.
        source: the publication, or where the idea comes from; empty where the file does not say.
        checked_by: files relative to the repository, each with its remark.
        origin: "Reprise", the user's "plugins/", or the name of an installed package.
    """

    kind: str
    name: str
    family: str
    description: str
    source: str
    checked_by: tuple[str, ...]
    origin: str

    @property
    def maturity(self) -> str:
        """Say how far the plug-in has been checked: a key of `MEANINGS`."""
        if any(file.startswith("docs/") for file in self.checked_by):
            return MEASURED
        if not self.checked_by:
            return UNCHECKED
        return RESTATED if is_publication(self.source) else TESTED

    def files(self) -> list[str]:
        """Return the files of `checked_by` without their remarks."""
        return [entry.partition(" ")[0] for entry in self.checked_by]

    def json(self) -> dict[str, object]:
        """Return all facts as JSON holds them."""
        return {
            "kind": self.kind,
            "name": self.name,
            "family": self.family or None,
            "description": self.description,
            "source": self.source or None,
            "checked_by": list(self.checked_by),
            "maturity": self.maturity,
            "origin": self.origin,
        }


def facts_of(kind: str, name: str) -> PlugInFacts:
    """Read what a plug-in's file says about itself; a file that cannot be read says so in place of a description.

    Args:
        kind: a kind of plug-in ("methods", "probes/quality").
        name: the plug-in's name.

    Raises:
        ParameterError: no plug-in has that name.
    """
    where, family = origin(kind, name), family_of(kind, name)
    try:
        documentation = documentation_of(location(kind, name))
    except (SyntaxError, ValueError, OSError) as error:
        return PlugInFacts(kind, name, family, printable(f"(cannot be read: {error})", 120), "", (), where)
    except ParameterError as error:
        return PlugInFacts(kind, name, family, printable(f"({error.what})", 120), "", (), where)
    described = printable(_sentence(first_paragraph(documentation)) or "(no docstring)", 160)
    return PlugInFacts(kind, name, family, described, source_in(documentation), checks_in(documentation), where)


def documentation_of(file: Path) -> str:
    """Return the docstring of a module without importing it; empty where it has none.

    Raises:
        OSError: the file cannot be read.
        SyntaxError, ValueError: it is no Python source.
    """
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def first_paragraph(documentation: str) -> str:
    """Return the first paragraph in one line, without the name that may stand in front of it."""
    return re.sub(r"^`[\w./]+`: ", "", " ".join(documentation.partition("\n\n")[0].split()))


def source_in(documentation: str) -> str:
    """Return the sentence after the first `Source:`; empty where there is none."""
    _, found, rest = documentation.partition("Source: ")
    return printable(_sentence(" ".join(rest.split("\n\n")[0].split())), 400) if found else ""


def _sentence(text: str) -> str:
    return _SENTENCE_ENDS.split(text)[0].rstrip(".")


def is_publication(source: str) -> bool:
    """Tell whether a source is a publication: it is neither missing nor says that there is none."""
    return bool(source) and not source.startswith(_NO_PUBLICATION)


def checks_in(documentation: str) -> tuple[str, ...]:
    """Return the files of the paragraph `Checked by:`, each with its remark; none where there is no such paragraph."""
    for paragraph in documentation.split("\n\n"):
        _, found, rest = " ".join(paragraph.split()).partition("Checked by: ")
        if found:
            return tuple(printable(entry.strip(), 200) for entry in rest.rstrip(".").split(";") if entry.strip())
    return ()
