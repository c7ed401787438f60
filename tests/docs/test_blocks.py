"""Every fenced block of README.md, CONTRIBUTING.md and docs/ is run; what takes seconds is run here.

Settings are checked as `reprise check` does, plug-ins are loaded, and the programs of command lines parse their words.
`test_commands.py` then runs the command lines.
"""

from __future__ import annotations

import ast
import copy
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from pipeline.projects.contents import params_text
from pipeline.projects.presets import load_preset
from pipeline.sweeps.plans import SweepPlan
from reprise.config.params import parse, read_yaml
from reprise.config.plug_ins.registry import load_module
from stages.check.parameters import problems
from tests.docs.blocks import MARKS, PAGES, ROOT, Block, blocks
from tests.docs.command_lines import Refused, parse_line

WHOLE_PAGES = {"docs/your-own-data.md": "tests/docs/test_your_own_data.py"}  # other tests run all blocks of these
LANGUAGES = {"console", "python", "yaml", "toml", "json", "text"}
NOT_RUN = 15  # blocks that nobody runs: a new one needs a reason here, too


def of_pages(*languages: str) -> list[tuple[str, list[Block]]]:
    """The blocks of each page that has some in these languages and that no other test runs."""
    pages: dict[str, list[Block]] = {}
    for block in blocks():
        if block.language in languages and block.page not in WHOLE_PAGES and not block.marked("run by"):
            pages.setdefault(block.page, []).append(block)
    return list(pages.items())


def ids(pages: list[tuple[str, list[Block]]]) -> list[str]:
    """Names of the pages."""
    return [page for page, _ in pages]


# ---- all blocks ------------------------------------------------------------------------------------------


def test_every_block_is_seen() -> None:
    """By another reader of Markdown, with its language and lines; none is indented in place of a fence."""
    for path in PAGES:
        tokens = MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8"))
        assert [t.map for t in tokens if t.type == "code_block"] == [], f"{path}: a block without a fence"
        fences = [(t.info, t.content) for t in tokens if t.type == "fence"]
        assert [(b.language, b.text) for b in blocks() if ROOT / b.page == path] == fences, path


def test_every_block_has_a_known_language_and_a_known_mark() -> None:
    for block in blocks():
        assert block.language in LANGUAGES, f"{block}: nobody runs a block of {block.language!r}"
        assert not block.mark or block.mark.startswith(MARKS), f"{block}: unknown mark {block.mark!r}"
        assert block.language != "text" or block.mark, f"{block}: say of a text where it comes from"
        assert block.language != "console" or block.mark or block.commands(), f"{block}: no line begins with `$ `"


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    reasons = {str(block): block.marked("not run:") for block in blocks() if block.mark.startswith("not run:")}
    assert all(len(reason.split()) >= 3 for reason in reasons.values()), reasons
    assert len(reasons) <= NOT_RUN, reasons


def test_what_runs_a_block_elsewhere_names_its_page_or_its_lines() -> None:
    for page, file in WHOLE_PAGES.items():
        assert Path(page).name in (ROOT / file).read_text(encoding="utf-8")
    for block in blocks():
        if file := block.marked("run by"):
            text = (ROOT / file).read_text(encoding="utf-8")
            lines = [line.split("  #")[0].strip() for line, _ in block.commands()]
            assert block.page in text or (lines and all(line in text for line in lines if line[:3] != "cd ")), block


def test_messages_are_those_of_the_code() -> None:
    for block in blocks():
        if file := block.marked("message of"):
            words = block.text.removeprefix("error: ").split()[:4]
            assert " ".join(words) in (ROOT / file).read_text(encoding="utf-8"), block


# ---- messages ----


def literals() -> str:
    """All texts in the code, with "..." for what is put into them."""
    texts = []
    for path in (p for package in ("pipeline", "reprise", "stages") for p in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
                texts.append("".join(map(str, parts)))
    return "\n".join(texts)


def test_messages_of_the_page_on_trouble_are_printed_by_the_code() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    assert len(quoted) > 12
    said = literals()
    assert [cell for cell in quoted if cell.strip(" `") not in said] == []


# ---- settings --------------------------------------------------------------------------------------------


def merged(base: dict[str, Any], block: dict[str, Any]) -> dict[str, Any]:
    """Put a block into params.yaml as a reader would: rows replace rows of their name, sections are extended."""
    for key, value in block.items():
        before = base.get(key)
        if isinstance(value, dict) and value and isinstance(before, dict):
            merged(before, value)
        elif isinstance(before, list) and value and all(isinstance(row, dict) for row in value):
            names = {row.get("name") for row in value}
            base[key] = [row for row in before if "name" not in row or row["name"] not in names] + value
        else:
            base[key] = value
    return base


def deployments(block: Any) -> Iterator[dict[str, Any]]:
    """What a part of prefect.yaml says of one or several deployments."""
    yield from block if isinstance(block, list) else [block]


def flow_parameters() -> dict[str, set[str]]:
    """Names of the parameters of each flow."""
    tree = ast.parse((ROOT / "pipeline/flows/entrypoints.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    return {f.name: {a.arg for a in (*f.args.args, *f.args.kwonlyargs)} for f in functions}


def check_deployment(deployment: dict[str, Any]) -> None:
    """Refuse what prefect.yaml cannot hold, or a parameter that the flow does not have."""
    known = set(read_yaml(ROOT / "prefect.yaml")["deployments"][0]) | {"work_pool"}
    assert deployment and set(deployment) <= known, deployment
    flows = flow_parameters()
    flow = deployment.get("entrypoint", "pipeline/flows/entrypoints.py:reproduce").rpartition(":")[2]
    assert set(deployment.get("parameters", {})) <= flows[flow] | {"notify", "gate", "champion"}, deployment


def save(page_blocks: list[Block]) -> list[Path]:
    """Write the files of a page into the current folder."""
    files = []
    for block in page_blocks:
        if name := block.marked("save as"):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(block.text, encoding="utf-8")
            files.append(Path(name))
    return files


SETTINGS = of_pages("yaml")


@pytest.mark.parametrize(("page", "written"), SETTINGS, ids=ids(SETTINGS))
def test_settings_are_valid(page: str, written: list[Block], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block after the other, each with those before it on its page."""
    monkeypatch.chdir(tmp_path)
    save([block for block in blocks() if block.page == page])
    params = read_yaml(ROOT / "params.yaml")
    for block in written:
        said = YAML(typ="safe").load(block.text)
        if preset := block.marked("with the preset"):
            params = whole(preset)
        if isinstance(said, dict) and "grid" in said:
            parse(SweepPlan, said, str(block))
        elif isinstance(said, list) or {"parameters", "work_pool"} & set(said):
            for deployment in deployments(said):
                check_deployment(deployment)
        else:
            if name := said.get("source", {}).get("name"):
                if "runs" in said or name != params["source"]["name"]:  # another project
                    params = read_yaml(ROOT / "params.yaml")
                params["source"] = {"name": name}
            params = merged(params, copy.deepcopy(said))
            assert list(map(str, problems(params))) == [], block


def whole(preset: str) -> dict[str, Any]:
    """params.yaml of a project that begins with a preset."""
    return dict(YAML(typ="safe").load(params_text(load_preset(preset), None)))


@pytest.mark.parametrize("block", [b for b in blocks() if b.language in ("json", "toml")], ids=str)
def test_other_settings_are_read(block: Block) -> None:
    assert (json.loads if block.language == "json" else tomllib.loads)(block.text)


# ---- code ------------------------------------------------------------------------------------------------

PLUG_INS = [block for block in blocks() if block.marked("save as").startswith("plugins/")]


@pytest.mark.parametrize("block", PLUG_INS, ids=str)
def test_a_plug_in_of_a_page_is_found_and_loaded(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [file] = save([block])
    assert load_module("/".join(file.parts[1:-1]), file.stem, "a page").__doc__


@pytest.mark.parametrize("block", [b for b in blocks() if b.language == "python"], ids=str)
def test_code_is_python(block: Block) -> None:
    compile(block.text, str(block), "exec")


def test_the_source_of_a_page_gives_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save([block for block in blocks() if block.page == "docs/how-to/facts.md"])
    source = load_module("sources", "frames", "a page").Frames("", {})
    first, *others = source.candidates()
    assert len(others) == 29
    assert {fact.name for fact in source.facts()} == set(first.facts)
    assert first.facts["mask"]().shape == (16, 16)
    assert others[-1].facts["mask"]().any()


# ---- command lines ---------------------------------------------------------------------------------------

CONSOLES = [b for b in blocks() if b.language == "console" and b.page not in WHOLE_PAGES]


@pytest.mark.parametrize("block", CONSOLES, ids=str)
def test_command_lines_are_understood(block: Block) -> None:
    for line, _ in block.commands():
        parse_line(line)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("reprise replo", "No such command"),
        ("reprise compare --pages x.html", "No such option"),
        ("make tests-slow", "no target"),
        ("dvc exp run --set-parameter temperature", "dvc"),
        ("cd photos && reprise sweep", "Missing argument"),
        ("python -m studies.nothing", "studies.nothing"),
        ("reprise why | unheard-of", "unheard-of"),
        ("reprise why &&", "syntax error"),
    ],
)
def test_a_line_that_would_fail_is_noticed(line: str, why: str) -> None:
    with pytest.raises(Refused, match=re.escape(why)):
        parse_line(line)
