"""From gathered artifacts to the bytes of index.html: one self-contained page, the same bytes for the same artifacts.

Nothing that comes from the data can run: jinja2 escapes it, JSON inside <script> is escaped, and a content security
policy allows only the page's own style and script (by hash), data URIs as pictures, provenance.js, and no network.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from reprise.config.errors import ParameterError
from reprise.storage.progress import track
from stages.report.artifacts import Artifacts
from stages.report.claims.opening import opening
from stages.report.claims.result import result_table
from stages.report.section_registry import Absent, Section, sections
from stages.report.text import finalize, metric_title, number, one_line

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Chapter:
    """A section as the page prints it: its anchor, its heading, and either HTML or the sentence of an empty one."""

    anchor: str
    title: str
    body: Markup
    absent: str


def render(artifacts: Artifacts) -> bytes:
    """Render the page in UTF-8.

    Raises:
        ParameterError: a section does not keep the contract of `stages.report.section_registry`.
        RepriseError: a section cannot read what it shows.
    """
    environment = make_environment()
    script, style = (
        (TEMPLATES / "page.js").read_text(encoding="utf-8"),
        (TEMPLATES / "page.css").read_text(encoding="utf-8"),
    )
    begin = opening(artifacts)
    chapters = [chapter(s, artifacts, environment) for s in track(sections(), "report", unit="sections")]
    page = environment.get_template("page.html.jinja").render(
        title=begin.title,
        headline=begin.headline,
        result=result_table(begin.scores, artifacts.runs, begin.compared),
        cares=begin.cares,
        asked=len(begin.trust),
        chapters=chapters,
        left_out=[chapter for chapter in chapters if chapter.absent],
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=policy(script, style),
    )
    return page.encode("utf-8", "backslashreplace")


def make_environment() -> jinja2.Environment:
    """Make the environment of all templates: every value is escaped, bounded, and must be defined."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"one_line": one_line, "number": number, "metric_title": metric_title}
    return environment


def chapter(section: Section, artifacts: Artifacts, environment: jinja2.Environment) -> Chapter:
    """Print one section from the parts that it declares.

    Raises:
        ParameterError: the section returns values, and there is no template of its name.
    """
    content = section.content(artifacts)
    if isinstance(content, Absent):
        return Chapter(section.name, section.title, Markup(), content.sentence)
    if isinstance(content, Markup):
        return Chapter(section.name, section.title, content, "")
    if section.template:  # it lies beside the module and may use our own, such as parts.html.jinja
        environment = environment.overlay(loader=jinja2.FileSystemLoader([section.folder, TEMPLATES]))
    name = section.template or f"{section.name}.html.jinja"
    if name not in environment.list_templates():
        raise ParameterError(
            f"the section '{section.name}' of the report has no template",
            where=section.folder / f"{section.name}.py",
            found=f"no {name}",
            fix="Name a template beside the section in TEMPLATE, or return Markup from `show`.",
        )
    template = environment.get_template(name)
    return Chapter(section.name, section.title, Markup(template.render(**content)), "")  # noqa: S704 - escaped by jinja2


def policy(script: str, style: str) -> str:
    """Write the content security policy: our style and script by hash, provenance.js beside the page, no network."""
    return (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)} 'self' file:; "
        "base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
