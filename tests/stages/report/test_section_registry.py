"""Sections as plug-ins: one more file is one more section; each declares what it reads and reads nothing else."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import stages.report.sections as package
from reprise.config.errors import ParameterError
from reprise.config.plug_ins.registry import module_of, names
from reprise.storage.code.fingerprint import changed_definitions, fingerprint
from stages.report.artifacts import Artifacts, gather
from stages.report.page import chapter, make_environment
from stages.report.params import ReportParams
from stages.report.section_registry import Absent, Section, section_of, sections
from tests.stages.report.conftest import Build, rendered

SECTIONS = sections()
NAMES = [section.name for section in SECTIONS]
OWN_FOLDER = Path(package.__file__).parent
Add = Callable[..., Path]


@pytest.fixture
def add(build: Build) -> Add:
    """Write a section into the folder of plug-ins of the project that `build` makes."""

    def write(name: str, source: str, template: str | None = None) -> Path:
        folder = Path("plugins/sections").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
        if template is not None:
            (folder / f"{name}.html.jinja").write_text(template, encoding="utf-8")
        return folder / f"{name}.py"

    return write


def anchors(page: str) -> tuple[list[str], list[str]]:
    """Anchors of the sections, which the contents list in the order of the page, and of those with nothing to show."""
    contents = page[page.index("<nav") : page.index("</nav>")]
    listed, shown = re.findall(r'<a href="#([\w-]+)">', contents), re.findall(r'<section id="([\w-]+)"', page)
    assert listed == shown
    assert shown.pop() == "left-out"
    return shown, re.findall(r'<div id="(\w+)"><dt>', page)


def test_the_contents_list_the_sections_in_the_order_of_the_page(build: Build) -> None:
    build()
    shown, absent = anchors(rendered().decode())
    assert shown == [name for name in NAMES if name not in absent]
    assert absent == ["labels", "without_labels", "trained_clusters", "watches", "shifts", "keeps", "representations"]
    assert [section.order for section in SECTIONS] == sorted({section.order for section in SECTIONS})


def test_one_file_is_a_section(build: Build, add: Add) -> None:
    build()
    add(
        "costs",
        """
from markupsafe import Markup

TITLE = "Costs & <effort>"
ORDER = 35
READS = ("runs",)


def show(runs):
    return Markup("<p>{}: {} runs</p>").format("<script>", len(runs))
""",
    )
    page = rendered().decode()
    shown, _ = anchors(page)
    assert shown[shown.index("costs") + 1] == "curves"
    assert page.count("Costs &amp; &lt;effort&gt;") == 2  # contents and heading
    assert "<p>&lt;script&gt;: 3 runs</p>" in page


def test_a_section_may_bring_a_template_and_may_have_nothing_to_show(build: Build, add: Add) -> None:
    build()
    add(
        "first",
        'TITLE, ORDER, READS, TEMPLATE = "First", -1, ("images",), "first.html.jinja"\n\n\n'
        'def show(images):\n    return {"classes": images.classes}\n',
        '{%- from "parts.html.jinja" import name -%}\n<p>{% for c in classes %}{{ name(c) }}{% endfor %}</p>',
    )
    add(
        "last",
        "from stages.report.section_registry import Absent\n\n"
        'TITLE, ORDER, READS = "Last", 1e9, ()\n\n\ndef show():\n    return Absent("There is <nothing> here.")\n',
    )
    page = rendered().decode()
    shown, absent = anchors(page)
    assert shown[0] == "first"
    assert absent[-1] == "last"
    assert "<p><bdi>0</bdi><bdi>1</bdi>" in page
    assert '<div id="last"><dt>Last</dt><dd>There is &lt;nothing&gt; here.</dd></div>' in page


def test_the_code_of_a_section_covers_its_template(build: Build, add: Add) -> None:
    """So that DVC writes the page again when only the template changed."""
    build()
    source = 'TITLE, ORDER, READS, TEMPLATE = "Mine", 1, (), "mine.html.jinja"\n\n\ndef show():\n    return {}\n'
    add("mine", source, "<p>before</p>")
    modules = ["stages.report.__main__", *(module_of("sections", name) for name in names("sections"))]
    before = fingerprint(modules)
    assert {f"stages/report/templates/{name}.html.jinja" for name in NAMES} <= before.keys()
    add("mine", source, "<p>after</p>")
    assert "<p>after</p>" in rendered().decode()
    assert changed_definitions(before, fingerprint(modules)) == ["plugins/sections/mine.html.jinja"]


def test_the_example_of_the_documentation_is_a_section(build: Build, add: Add, repository: Path) -> None:
    build()
    text = (repository / "docs/how-to/read-the-report.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n# plugins/sections/costs\.py\n(.*?)```", text, re.DOTALL)
    add("costs", example)
    page = rendered().decode()
    shown, _ = anchors(page)
    assert shown[shown.index("costs") + 1] == "curves"
    assert "<li>simclr: 216 images</li>" in page


@pytest.mark.parametrize("returned", ['"<p>plain text</p>"', "None", "3"])
def test_what_cannot_be_shown_is_refused(build: Build, add: Add, returned: str) -> None:
    build()
    add("odd", f'TITLE, ORDER, READS = "Odd", 1, ()\n\n\ndef show():\n    return {returned}\n')
    with pytest.raises(ParameterError, match=r"section 'odd'.*odd\.py.*Return a dict"):
        rendered()


def test_a_section_without_its_template_is_named(build: Build, add: Add) -> None:
    build()
    add("bare", 'TITLE, ORDER, READS = "Bare", 1, ()\n\n\ndef show():\n    return {}\n')
    with pytest.raises(ParameterError, match=r"section 'bare'.*bare\.py.*no bare\.html\.jinja.*TEMPLATE"):
        rendered()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"TITLE": None}, "TITLE"),
        ({"TITLE": " "}, "TITLE"),
        ({"ORDER": "10"}, "ORDER"),
        ({"ORDER": True}, "ORDER"),
        ({"ORDER": float("nan")}, "ORDER"),
        ({"READS": "runs"}, "READS must be a tuple"),
        ({"READS": ("run",)}, "Did you mean 'runs'"),
        ({"READS": ("runs", "images")}, "arguments of `show`"),
        ({"show": None}, "`show` must be a function"),
        ({"TEMPLATE": 3}, "TEMPLATE"),
        ({"TEMPLATE": "missing.html.jinja"}, "TEMPLATE must be the name of a file"),
    ],
)
def test_a_malformed_section_is_named_with_its_fault(change: dict[str, object], message: str) -> None:
    module = ModuleType("mine")
    module.__file__ = "plugins/sections/mine.py"
    values = {"TITLE": "Mine", "ORDER": 1, "READS": ("runs",), "show": lambda runs: {}}
    module.__dict__.update(values)
    assert section_of("mine", module).reads == ("runs",)
    module.__dict__.update(change)
    with pytest.raises(ParameterError, match=r"plugins/sections/mine\.py") as caught:
        section_of("mine", module)
    assert message in str(caught.value)


class Withheld:
    """Stands for a part that a section does not declare: touching it fails."""

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(f"a section touched a part that it does not declare: .{name}")

    def __bool__(self) -> bool:
        raise AssertionError("a section touched a part that it does not declare")

    __iter__ = __len__ = __eq__ = __bool__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("section", SECTIONS, ids=NAMES)
def test_each_section_is_made_from_the_parts_that_it_declares_and_nothing_else(build: Build, section: Section) -> None:
    """With everything else withheld it is printed as it stands on the whole page."""
    build()
    artifacts = gather(ReportParams(samples=24))
    environment = make_environment()
    whole = chapter(section, artifacts, environment)
    undeclared = {f.name for f in dataclasses.fields(Artifacts)} - set(section.reads)
    alone = chapter(section, dataclasses.replace(artifacts, **dict.fromkeys(undeclared, Withheld())), environment)
    assert alone == whole
    assert str(whole.body) in rendered().decode()


@pytest.mark.parametrize("section", SECTIONS, ids=NAMES)
def test_each_section_uses_every_part_that_it_declares(section: Section) -> None:
    (function,) = ast.parse(inspect.getsource(section.show)).body
    used = {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    assert set(section.reads) <= used


@pytest.mark.parametrize("section", SECTIONS, ids=NAMES)
def test_sections_open_no_files_of_their_own(section: Section) -> None:
    """Files are opened by the readers only, so that what a section reads is what it declares."""
    source = inspect.getsource(sys.modules[f"{package.__name__}.{section.name}"])
    imported = {
        alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not {name for name in imported if re.match(r"pathlib|os\b|glob|io\b|.*\.(read|open)_?\w*$", name)}
    assert "open(" not in source


def test_every_part_is_read_by_some_section() -> None:
    assert {part for section in SECTIONS for part in section.reads} == {f.name for f in dataclasses.fields(Artifacts)}


def test_an_empty_project_has_no_theory(build: Build) -> None:
    """Without artifacts a section is a title and a sentence in one list; data and lineage have subheadings besides."""
    (build() / "data").rename("elsewhere")
    artifacts = gather(ReportParams())
    empty = [s.name for s in SECTIONS if isinstance(s.content(artifacts), Absent)]
    assert empty == [name for name in NAMES if name not in ("data", "lineage")]
    assert 'class="lead"' not in rendered().decode()
