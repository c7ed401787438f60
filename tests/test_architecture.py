"""Which package may import which, checked by reading the source. Nothing is run but the parsers."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.graph.definition import load_graph
from reprise.config.dvc_file import Stage
from reprise.config.params import StrictModel, read_yaml
from reprise.config.plug_ins.docstrings import facts_of
from reprise.config.plug_ins.registry import kinds, location, names
from reprise.storage.code.fingerprint import Fingerprint, fingerprint
from stages.check.code import modules_by_file
from stages.check.parameters import known_sections

ROOT = Path(__file__).resolve().parents[1]
SHARED = (  # packages of reprise, lowest first: each imports itself and those before it
    "config",
    "storage",
    "artifacts",
    "media",
    "reading",
    "runtime",
    "networks",
    "objectives",
    "training",
    "measures",
    "clustering",
    "backbones",
)
RUNNING = (
    "processes",
    "graph",
    "projects",
    "compare",
    "exports",
    "images",
    "sweeps",
    "flows",
    "cli",
)  # packages of pipeline, likewise
STAGES = sorted(p.name for p in (ROOT / "stages").iterdir() if p.is_dir() and p.name != "__pycache__")
PLUGIN_FOLDERS = (
    "reprise/networks/backbones",
    "reprise/training/models",
    "reprise/training/schedules",
    "stages/embed/shifts",
    "stages/ingest/sources",
    "stages/mine/extractors",
    "stages/mine/miners",
    "stages/pretrain/changes",
    "stages/pretrain/methods",
    "stages/pretrain/watches",
    "stages/report/sections",
    *sorted(
        str(p.relative_to(ROOT)) for p in (ROOT / "stages/probe/probes").iterdir() if p.is_dir() and p.name[0] != "_"
    ),
)
OURS = ("pipeline", "reprise", "stages", "benchmarks", "studies", "tests")
LONGEST_FILE, LONGEST_MAIN, MOST_IN_A_FOLDER = 400, 80, 12


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found, folders
    return found


@cache
def imports(path: Path) -> list[tuple[str, int]]:
    """Modules that a file names in its imports, `from a import b` as both `a` and `a.b`, with line numbers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; name the module in full"
            module = node.module or ""
            found += [(module, node.lineno), *((f"{module}.{alias.name}", node.lineno) for alias in node.names)]
    return found


def named(path: Path) -> Iterator[tuple[str, str]]:
    """(module, where) of every import of a file."""
    for module, line in imports(path):
        yield module, f"{path.relative_to(ROOT)}:{line}"


def broken(folders: tuple[str, ...], forbidden: Any) -> list[str]:
    return [
        f"{where} imports {module}" for path in sources(*folders) for module, where in named(path) if forbidden(module)
    ]


def top(module: str) -> str:
    return module.partition(".")[0]


def part(module: str, package: str) -> str | None:
    """The subpackage that a module of `package` belongs to."""
    parts = module.split(".")
    return parts[1] if parts[0] == package and len(parts) > 1 else None


def crossing(package: str, folder: str, allowed: set[str]) -> list[str]:
    """Imports of `package/folder` that lead to another part of the package than the allowed ones."""
    return broken(
        (f"{package}/{folder}",), lambda module: (to := part(module, package)) is not None and to not in allowed
    )


def heavy_files(modules: list[str], heavy: set[str]) -> list[str]:
    """Files in the import closure of `modules` that import one of these packages."""
    closure = fingerprint(modules, dict.fromkeys(("pipeline", "reprise", "stages"), ROOT))
    programs = [file for file in closure if file.endswith(".py")]
    return [file for file in programs if any(top(module) in heavy for module, _ in imports(ROOT / file))]


def test_every_folder_is_a_known_package() -> None:
    for package, parts in (("reprise", SHARED), ("pipeline", RUNNING)):
        folders = {p.name for p in (ROOT / package).iterdir() if p.is_dir() and p.name != "__pycache__"}
        assert folders == set(parts), package
    assert [p.name for p in (ROOT / "pipeline").glob("*.py")] == ["__init__.py"]
    beginnings = ["__init__.py", "flows.py", "start.py"]  # of processes, whose code lies above: they import by name
    assert sorted(p.name for p in (ROOT / "reprise").glob("*.py")) == beginnings


def test_stages_and_floors_never_import_what_starts_them() -> None:
    above = {"pipeline", "prefect", "dvc", "tests", "benchmarks"}
    assert broken(("stages", "reprise"), lambda module: top(module) in above) == []
    assert broken(("reprise",), lambda module: top(module) == "stages") == []


def test_pipeline_never_imports_torch_or_a_stage() -> None:
    def forbidden(module: str) -> bool:
        maths = part(module, "reprise") in {"networks", "objectives", "training", "clustering", "reading", "media"}
        measures = part(module, "reprise") == "measures" and module.split(".")[2:3] not in ([], ["statistics"])
        return top(module) in {"torch", "dvc", "timm", "stages"} or maths or measures

    allowed = "pipeline/graph/in_dvc/"  # runs inside DVC's process
    assert [line for line in broken(("pipeline",), forbidden) if not (line.startswith(allowed) and "dvc" in line)] == []
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources("pipeline")]
    assert heavy_files([m.removesuffix(".__init__") for m in modules], {"torch"}) == []


def test_prefect_stays_in_the_flows() -> None:
    found = broken(("pipeline",), lambda module: top(module) == "prefect")
    assert [line for line in found if not line.startswith("pipeline/flows/")] == []


def test_only_one_file_calls_dvc() -> None:
    """The command's name as a word of its own in a list or tuple of arguments."""
    callers = set()
    for path in sources("pipeline", "stages", "reprise"):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "dvc" in text else ():
            if isinstance(node, ast.List | ast.Tuple) and any(
                isinstance(e, ast.Constant) and e.value == "dvc" for e in node.elts
            ):
                callers.add(str(path.relative_to(ROOT)))
    assert callers - {"reprise/storage/provenance.py"} == {"pipeline/graph/dvc.py"}  # provenance asks for its version


def test_nothing_imports_what_runs_inside_dvc() -> None:
    found = broken(("pipeline", "stages", "reprise"), lambda module: module.startswith("pipeline.graph.in_dvc"))
    assert [line for line in found if not line.startswith("pipeline/graph/in_dvc/")] == []


DECODERS = {"cv2", "PIL", "av", "pydicom"}
VIEWS = "stages/pretrain/views/per_image.py"  # albumentations augments with OpenCV's constants; it decodes nothing


def test_decoders_stay_in_the_media() -> None:
    found = broken(("pipeline", "stages", "reprise"), lambda module: top(module) in DECODERS)
    assert [line for line in found if not line.startswith(("reprise/media/", VIEWS))] == []
    assert any(line.startswith(VIEWS) for line in found), "the exception is gone: remove it here"


def test_torch_distributed_stays_in_the_world() -> None:
    found = broken(("pipeline", "stages", "reprise"), lambda module: module.startswith("torch.distributed"))
    assert [line for line in found if not line.startswith("reprise/runtime/world")] == []


def test_dask_stays_in_the_blocks() -> None:
    found = broken(("stages", "reprise"), lambda module: top(module) in {"dask", "distributed"})
    assert [line for line in found if not line.startswith("reprise/runtime/blocks/cluster")] == []


@pytest.mark.parametrize("package", SHARED)
def test_shared_packages_import_only_lower_ones(package: str) -> None:
    assert crossing("reprise", package, set(SHARED[: SHARED.index(package) + 1])) == []


@pytest.mark.parametrize("package", RUNNING)
def test_packages_of_pipeline_import_only_lower_ones(package: str) -> None:
    assert crossing("pipeline", package, set(RUNNING[: RUNNING.index(package) + 1])) == []


@pytest.mark.parametrize("stage", STAGES)
def test_stages_never_import_each_other(stage: str) -> None:
    assert crossing("stages", stage, {stage}) == []


def test_the_lower_floors_and_statistics_live_without_torch() -> None:
    heavy = {"torch", "timm", "torchvision"}
    light = ("reprise/config", "reprise/storage", "reprise/artifacts", "reprise/media")
    assert broken(light, lambda module: top(module) in heavy) == []
    assert heavy_files(["reprise.measures.statistics"], heavy) == []


def test_networks_know_no_files_and_no_optimisers() -> None:
    assert (
        broken(("reprise/networks",), lambda module: top(module) in {"pathlib", "os", "shutil"} or "optim" in module)
        == []
    )


def test_measures_know_no_files() -> None:
    assert broken(("reprise/measures",), lambda module: top(module) in {"pathlib", "os", "shutil", "pyarrow"}) == []


@pytest.mark.parametrize("folder", PLUGIN_FOLDERS)
def test_plug_ins_never_import_each_other(folder: str) -> None:
    package = folder.replace("/", ".")
    names = {path.stem for path in (ROOT / folder).rglob("*.py")} - {"__init__"}
    assert names, folder
    assert broken((folder,), lambda module: module.startswith(f"{package}.") and module.split(".")[-1] in names) == []


def test_nothing_imports_a_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are found by their names, so that one can be deleted."""
    monkeypatch.chdir(ROOT)
    modules = {
        ".".join(location(kind, name).relative_to(ROOT).with_suffix("").parts)
        for kind in kinds()
        for name in names(kind)
    }
    assert len(modules) > 100
    assert broken(("pipeline", "reprise", "stages"), lambda module: module in modules) == []


@pytest.mark.parametrize("folder", PLUGIN_FOLDERS)
def test_long_lists_of_plug_ins_are_sorted_into_families(folder: str) -> None:
    families = [path for path in (ROOT / folder).iterdir() if path.is_dir() and path.name[0] != "_"]
    for family in families:
        assert 1 <= len([path for path in family.glob("*.py") if path.name[0] != "_"]) <= MOST_IN_A_FOLDER, family
    assert not families or [path.name for path in (ROOT / folder).glob("*.py")] == ["__init__.py"], folder


def test_folders_are_small_enough_to_overlook(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most twelve modules besides `__init__.py`, except where a folder is one list of plug-ins."""
    monkeypatch.chdir(ROOT)
    lists = {location(kind, name).parent for kind in kinds() for name in names(kind)}
    assert ROOT / "stages/ingest/sources" in lists
    modules = Counter(p.parent for p in sources(*OURS) if p.name != "__init__.py" and p.parent not in lists)
    assert {str(f.relative_to(ROOT)): n for f, n in modules.items() if n > MOST_IN_A_FOLDER} == {}


def test_every_plug_in_of_ours_says_its_source_and_what_checks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines `Source:` and `Checked by:` in its docstring; the files exist, and some of them name the plug-in.

    Sections of the report have no source. `make docs` writes what is said into docs/reference/plug-ins.
    """
    monkeypatch.chdir(ROOT)
    plug_ins = [facts_of(kind, name) for kind in kinds() for name in names(kind)]
    silent = [f"{p.kind}/{p.name}" for p in plug_ins if not (p.source or p.kind == "sections") or not p.checked_by]
    assert silent == []
    for plug_in in plug_ins:
        where = f"{plug_in.kind}/{plug_in.name}: {plug_in.files()}"
        assert all(re.fullmatch(r"(tests/.+\.py|docs/.+\.md)", file) for file in plug_in.files()), where
        pages = [(ROOT / file).read_text(encoding="utf-8") for file in plug_in.files() if file.startswith("docs/")]
        texts = [(ROOT / file).read_text(encoding="utf-8") for file in plug_in.files() if file.startswith("tests/")]
        named_there = re.compile(rf"(?<![a-z]){plug_in.name}", re.IGNORECASE)
        assert texts, f"{where}: name a test"
        assert any(map(named_there.search, texts)), f"{where}: no test names the plug-in"
        assert all(map(named_there.search, pages)), f"{where}: a page does not name the plug-in"


def test_names_say_what_things_do() -> None:
    generic = re.compile(
        r"^(utils?|helpers?|common|misc|tools?|manager|handler|stuff|base)$|_(utils?|helpers?|manager|handler)$"
    )
    files = [p for folder in OURS for p in (ROOT / folder).rglob("*") if p.suffix in ("", ".py")]
    assert [str(p.relative_to(ROOT)) for p in files if generic.search(p.stem)] == []


def test_files_are_short_enough_to_read() -> None:
    lengths = {
        str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines())
        for p in sources("pipeline", "reprise", "stages", "benchmarks")
    }
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}
    assert {name: n for name, n in lengths.items() if name.endswith("__main__.py") and n >= LONGEST_MAIN} == {}


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    public = ROOT / "reprise/__init__.py"  # has what users call, and imports nothing of ours by statement
    for path in [p for p in sources("pipeline", "reprise", "stages") if p.name == "__init__.py" and p != public]:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert len(body) == 1, (
            f"{path.relative_to(ROOT)} must say in one docstring what it holds and what must never be in it"
        )
        assert isinstance(body[0], ast.Expr), path


def test_no_path_of_a_machine() -> None:
    place = re.compile(r"(?<![\w.])/(work|home|root|mnt|Users)/\w|\.\./shared|shared/(data|papers)")
    suffixes = {".py", ".md", ".yaml", ".yml", ".toml", ".json", ".lock", ".html", ".jinja", ".j2", ""}
    folders = ("pipeline", "reprise", "stages", "benchmarks", "docs", "tests", ".ci")
    files = [
        p
        for f in folders
        for p in (ROOT / f).rglob("*")
        if p.is_file() and p.suffix in suffixes and "__pycache__" not in p.parts
    ]
    files += [p for p in ROOT.glob("*") if p.is_file() and p.suffix in suffixes and p.name != ".git"]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in files
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if place.search(line)
    ]
    assert found == []


def test_telemetry_is_off_in_everything_that_is_started() -> None:
    from pipeline.processes.commands import environment
    from reprise.config.telemetry import OFF

    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert environment().items() >= OFF.items()
    for name, value in OFF.items():
        assert f"export {name} := {value}\n" in makefile


# ---- parameters ------------------------------------------------------------------------------------------


def typed_classes() -> list[tuple[str, type[StrictModel]]]:
    """(folder of its stage, class) of every section and plug-in."""
    found = [(f"stages/{m.__module__.split('.')[1]}", m) for m in known_sections().values() if "stages" in m.__module__]
    for folder in PLUGIN_FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            for _, kind in inspect.getmembers(module, inspect.isclass):
                if kind.__module__ == module.__name__ and hasattr(kind, "Params"):
                    found.append(("/".join(folder.split("/")[:2]), kind.Params))
    return found


def test_every_parameter_is_used() -> None:
    classes = typed_classes()
    words = {  # that stand behind a dot, a quotation mark or a dollar sign
        folder: {
            word
            for p in (ROOT / folder).rglob("*")
            if p.suffix in (".py", ".json")
            for word in re.findall(r"[.\"'$](\w+)", p.read_text(encoding="utf-8"))
        }
        for folder in {f for f, _ in classes}
    }
    unused = [
        f"{kind.__module__}.{kind.__qualname__}.{field}"
        for folder, kind in classes
        for field in kind.model_fields
        if field not in words[folder]
    ]
    assert unused == []


def test_every_key_of_the_parameter_file_has_a_comment_above_or_beside_its_block() -> None:
    """A reader of params.yaml finds a word about each section."""
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    raw = read_yaml(ROOT / "params.yaml")
    for section in raw:
        start = next(i for i, line in enumerate(lines) if line.startswith(f"{section}:"))
        block = [lines[start]]
        for line in lines[start + 1 :]:
            if line and not line.startswith((" ", "#", "-")):
                break
            block.append(line)
        assert any("#" in line for line in [*lines[max(0, start - 2) : start], *block]), (
            f"params.yaml: {section} has no comment"
        )


# ---- declared parameters cover what the code reads -------------------------------------------------------


@cache
def code_of_all_stages() -> dict[str, list[str]]:
    return dict(modules_by_file(read_yaml(ROOT / "params.yaml")))


def code_of(stage: Stage) -> Fingerprint:
    """Project files that the stage's process can run or reads as its own."""
    name = next(dep for dep in stage.deps if dep.startswith("data/code/")).removeprefix("data/code/")
    return fingerprint(code_of_all_stages()[name.removesuffix(".json")])


def test_declared_parameters_exist_and_cover_the_sections_read() -> None:
    """A stage that calls section(raw, "x", ...) or reads raw["x"] must declare x or x.<something>."""
    raw = read_yaml(ROOT / "params.yaml")
    graph = load_graph(ROOT)
    for stage in graph.stages:
        for key in stage.params:
            value: Any = raw
            for part in key.split("."):
                assert part in value, f"{stage.name}: params.yaml has no {key}"
                value = value[part]
    read_by_file = cache(lambda path: sections_read(path, raw))
    for stage in graph.stages:
        if stage.fingerprints:
            continue  # it depends on the whole file
        own = [ROOT / file for file in code_of(stage) if file.startswith("stages/") and file.endswith(".py")]
        read = {name for path in own for name in read_by_file(path)}
        declared = {key.split(".")[0] for key in stage.params}
        assert read <= declared, f"{stage.entry} reads {sorted(read - declared)} of params.yaml without declaring it"


def sections_read(path: Path, raw: dict[str, Any]) -> set[str]:
    """Names of top-level sections that a file takes from the parsed params.yaml, as far as the source shows it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not any(isinstance(node, ast.Name) and node.id == "read_yaml" for node in ast.walk(tree)):
        return set()
    constants = {
        alias.asname or alias.name: getattr(importlib.import_module(node.module or ""), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == "SECTION"
    }
    found = set()
    for node in ast.walk(tree):
        asked: ast.expr | None = None
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "section" and len(node.args) > 1:
            asked = node.args[1]
        elif isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "raw":
            asked = node.slice
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "raw.get":
            asked = node.args[0]
        if isinstance(asked, ast.Constant) and asked.value in raw:
            found.add(str(asked.value))
        elif isinstance(asked, ast.Name) and asked.id in constants:
            found.add(constants[asked.id])
    return found
