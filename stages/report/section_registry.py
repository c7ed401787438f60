"""The sections of the page, looked up by file name: adding a file to `stages/report/sections` adds a section.

A section is a module with these names:

    TITLE     its heading, also in the table of contents
    ORDER     a number: the page shows sections by rising order
    READS     names of the parts of `stages.report.artifacts.Artifacts` that it reads
    show      a function of exactly those parts, passed by keyword, that returns one of
                a dict     values for the template
                Markup     the section's HTML, every text from the data escaped (`Markup.format` does that)
                Absent     a sentence that says why there is nothing to show; the page then prints nothing else
    TEMPLATE  only where the template lies beside the module: its file name. Others are `<name>.html.jinja` in
              `stages/report/templates`. The file is named so that its content counts when code is compared.

A section sees the parts that it declares and nothing else of the artifacts.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from markupsafe import Markup

from reprise.config.errors import ParameterError
from reprise.config.plug_ins.registry import load_module, names
from reprise.config.texts.suggest import nearest
from stages.report.artifacts import Artifacts


@dataclass(frozen=True)
class Absent:
    """A section without anything to show.

    Args:
        sentence: why there is nothing, in one sentence.
    """

    sentence: str


Content = Mapping[str, Any] | Markup | Absent


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        name: the file's name: the section's anchor and the name of its template.
        title: the heading.
        order: the place on the page, from low to high.
        reads: names of the parts of `Artifacts` that `show` takes.
        show: turns those parts into what the page prints.
        folder: the folder of the module.
        template: the file name of a template in that folder; empty where it is `<name>.html.jinja` among our own.
    """

    name: str
    title: str
    order: float
    reads: tuple[str, ...]
    show: Callable[..., Content]
    folder: Path
    template: str

    def content(self, artifacts: Artifacts) -> Content:
        """Show the declared parts of the artifacts.

        Raises:
            ParameterError: the function returns something else than the contract allows.
        """
        content = self.show(**{part: getattr(artifacts, part) for part in self.reads})
        if not isinstance(content, Mapping | Markup | Absent):
            raise ParameterError(
                f"the section '{self.name}' of the report returns something that cannot be shown",
                where=self.folder / f"{self.name}.py",
                found=type(content).__name__,
                fix="Return a dict for its template, Markup, or Absent; a plain str is not escaped, so it is refused.",
            )
        return content


def section_modules() -> dict[str, ModuleType]:
    """Import every section module, by name. The one place that knows where section modules come from."""
    return {name: load_module("sections", name) for name in names("sections")}


def sections() -> tuple[Section, ...]:
    """List the sections in the order of the page; sections of equal order follow by name.

    Raises:
        ParameterError: a section lacks one of these names, or one is malformed.
    """
    unsorted = [section_of(name, module) for name, module in section_modules().items()]
    return tuple(sorted(unsorted, key=lambda section: (section.order, section.name)))


def section_of(name: str, module: ModuleType) -> Section:
    """Check a module against the contract and return its section.

    Raises:
        ParameterError: the module does not keep the contract.
    """
    title, order, reads, show = (getattr(module, word, None) for word in ("TITLE", "ORDER", "READS", "show"))
    template = getattr(module, "TEMPLATE", "")
    if not isinstance(title, str) or not title.strip():
        raise _broken(module, "TITLE must be the heading of the section, a text", repr(title))
    if not isinstance(order, int | float) or isinstance(order, bool) or not math.isfinite(order):
        raise _broken(module, "ORDER must be the place of the section on the page, a number", repr(order))
    if not isinstance(reads, tuple) or not all(isinstance(part, str) for part in reads):
        raise _broken(module, "READS must be a tuple with the names of the parts that the section reads", repr(reads))
    parts = [field.name for field in fields(Artifacts)]
    for part in reads:
        if part not in parts:
            hint = f"Use names of: {', '.join(parts)}.{nearest(part, parts)}"
            raise _broken(module, "READS names a part that the artifacts do not have", part, hint)
    if not callable(show):
        raise _broken(module, "`show` must be a function of the parts that READS names", repr(show))
    taken = set(inspect.signature(show).parameters)
    if taken != set(reads):
        raise _broken(module, "the arguments of `show` must be the names in READS", ", ".join(sorted(taken)) or "none")
    folder = Path(str(module.__file__)).parent
    if not isinstance(template, str) or (template and not (folder / template).is_file()):
        raise _broken(module, "TEMPLATE must be the name of a file beside the section", repr(template))
    return Section(name, title, order, reads, show, folder, template)


def _broken(module: ModuleType, what: str, found: str, hint: str = "") -> ParameterError:
    return ParameterError(
        f"a section of the report is malformed: {what}",
        where=module.__file__ or module.__name__,
        found=found,
        fix=hint or "The docstring of stages/report/section_registry.py describes the names that a section defines.",
    )
