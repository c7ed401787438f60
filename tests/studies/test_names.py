"""Scripts are run seldom: what they use of the product must be there, though nothing calls it."""

import ast
import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("benchmarks", "pipeline", "reprise", "stages", "studies")
SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix() for folder in ("studies", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)


def imported(tree: ast.Module) -> tuple[list[str], dict[str, ModuleType]]:
    """Return the imports that cannot be had, and the modules of the project by their names in the script."""
    missing, modules = [], {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.module or node.module.split(".")[0] not in OURS:
            continue
        package = importlib.import_module(node.module)
        for name in node.names:
            try:
                found = getattr(package, name.name, None) or importlib.import_module(f"{node.module}.{name.name}")
            except ModuleNotFoundError:
                missing.append(f"{node.module}.{name.name}")
            else:
                if isinstance(found, ModuleType):
                    modules[name.asname or name.name] = found
    return missing, modules


def missing_names(source: str) -> list[str]:
    tree = ast.parse(source)
    missing, modules = imported(tree)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    used = [(modules[node.value.id], node.attr) for node in nodes if node.value.id in modules]
    return missing + [f"{module.__name__}.{name}" for module, name in used if not hasattr(module, name)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_script_uses_is_there(script):
    assert missing_names((ROOT / script).read_text(encoding="utf-8")) == []


def test_what_is_gone_is_found():
    source = "from pipeline.graph import dvc, nothing\nfrom reprise.media import lookup\ndvc.gone()\nlookup.modality"
    assert missing_names(source) == ["pipeline.graph.nothing", "pipeline.graph.dvc.gone"]
