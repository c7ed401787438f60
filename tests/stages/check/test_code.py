"""The fingerprints of the default graph: which of its stages an edit of the code runs again."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.graph.definition import Graph, load_graph
from reprise.artifacts.layout import READS
from reprise.config.params import read_yaml
from reprise.storage.code.fingerprint import PACKAGES, Fingerprint, fingerprint
from stages.check.code import ENTRIES, modules_by_file

SPECIAL = {"check"}  # it runs after every edit and writes the fingerprints


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The code in a folder of its own, where it may be edited."""
    folder = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(repository / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def graph(repository: Path) -> Graph:
    return load_graph(repository)


def fingerprints(tree: Path, repository: Path) -> dict[str, Fingerprint]:
    """Path of each fingerprint below data/code -> what `stages.check` would write there."""
    roots = dict.fromkeys(PACKAGES, tree)
    raw = read_yaml(repository / "params.yaml")
    return {f"data/code/{name}.json": fingerprint(modules, roots) for name, modules in modules_by_file(raw)}


def rerun(before: dict[str, Fingerprint], after: dict[str, Fingerprint], graph: Graph) -> list[str]:
    different = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return [stage.title for stage in graph.stages if different & set(stage.deps)]


def test_every_stage_depends_on_the_one_fingerprint_of_what_it_starts(graph: Graph, repository: Path) -> None:
    modules = dict(modules_by_file(read_yaml(repository / "params.yaml")))
    for stage in graph.stages:
        if stage.name in SPECIAL:
            continue
        files = [dep for dep in stage.deps if dep.startswith(("data/code", "stages", "reprise"))]
        if stage.entry == "facts":
            files.remove(str(READS))  # no code: which facts the methods of the runs read
        assert len(files) == 1, stage.name
        first, *_ = modules[files[0].removeprefix("data/code/").removesuffix(".json")]
        started = re.match(r"python -P stages/run\.py (\S+)", stage.cmd)
        assert started, stage.cmd
        assert first.removesuffix(".__main__") == started[1]
    assert set(ENTRIES.values()) >= {m for listed in modules.values() for m in listed[:1]}


def edit(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        text = (tree / path).read_text(encoding="utf-8")
        assert old in text, f"{path} no longer holds {old!r}"
        (tree / path).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def append(name: str, text: str, where: str = ".") -> Callable[[Path], None]:
    """Append to the file of this name, in whichever folder below `where` it lies."""

    def change(tree: Path) -> None:
        files = list((tree / where).rglob(name))
        assert len(files) == 1, files
        files[0].write_text(files[0].read_text(encoding="utf-8") + text, encoding="utf-8")

    return change


def comment_everywhere(tree: Path) -> None:
    for path in tree.rglob("*.py"):
        path.write_text("# a comment\n" + path.read_text(encoding="utf-8") + "\n\n# the end\n", encoding="utf-8")


def new_file(tree: Path) -> None:
    (tree / "stages/pretrain/parts/unused.py").write_text("x = 1\n", encoding="utf-8")


REAL = "\n\nADDED = 1\n"
# The table of docs/explanation/reruns.md: what is edited, and how many stages of the default graph run again.
TABLE = {
    "a comment in every file": (comment_everywhere, []),
    "a docstring of errors.py": (edit("reprise/config/errors.py", '"""', '"""More words. '), []),
    "a new file that nothing imports": (new_file, []),
    "sinkhorn.py, which no run of the graph uses": (append("sinkhorn.py", REAL), []),
    "the probe retrieval": (append("retrieval.py", REAL, "stages/probe"), ["probe"] * 5),
    "merging.py, of k-means": (append("merging.py", REAL), ["mine dae_kmeans seed 0"]),
    "the method simclr": (append("simclr.py", REAL), ["pretrain simclr seed 0"]),
    "resnet_tiny.py, the backbone of all runs but patch_kmeans": (
        append("resnet_tiny.py", REAL),
        [f"{s} {r} seed 0" for s in ("pretrain", "embed") for r in ("random", "supervised", "simclr", "gsimclr")],
    ),
    "vit_mini.py, which no run of the graph uses": (append("vit_mini.py", REAL), []),
    "text.py of the report": (append("text.py", REAL, "stages/report"), ["report"]),
    "the class of all errors": (append("errors.py", REAL), ["all"]),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_an_edit_runs_again(name: str, tree: Path, repository: Path, graph: Graph, tmp_path: Path) -> None:
    change, expected = TABLE[name]
    edited = tmp_path / "edited"
    shutil.copytree(tree, edited)
    change(edited)
    titles = rerun(fingerprints(tree, repository), fingerprints(edited, repository), graph)
    everything = [stage.title for stage in graph.stages if stage.name not in SPECIAL]
    if expected == ["all"]:
        assert titles == everything
    elif expected and expected[0] == "probe":
        assert len(titles) == len(expected)
        assert all(title.startswith("probe ") for title in titles)
    else:
        assert titles == expected


def test_a_row_that_is_gone_leaves_no_fingerprint(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.check.__main__ import main

    text = (repository / "params.yaml").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    main([])
    assert (tmp_path / "data/code/pretrain/simclr.json").is_file()
    written = json.loads((tmp_path / "data/code/pretrain/simclr.json").read_text(encoding="utf-8"))
    assert "stages/pretrain/run.py" in written
    without = re.sub(r"(?m)^  - \{name: simclr,.*\n|^  simclr: .*\n", "", text)
    assert without != text
    (tmp_path / "params.yaml").write_text(without, encoding="utf-8")
    main([])
    assert not (tmp_path / "data/code/pretrain/simclr.json").exists()
    assert (tmp_path / "data/code/pretrain/gsimclr.json").is_file()


PLUG_IN = '''"""`mine`: a method of the user's."""

from plugins.parts.numbers import ONE
from stages.pretrain.method import Method
from stages.pretrain.params import MethodParams


class Mine(Method):
    """Learns nothing."""

    class Params(MethodParams):
        """No parameters of its own."""

    views = ONE
'''


def test_a_plug_in_of_the_user_is_fingerprinted_like_ours(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.check.__main__ import main

    monkeypatch.chdir(tmp_path)
    text = (repository / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("\nruns:", "\nruns:\n  - {name: own, method: mine, labels: none}", 1)
    text = text.replace("\nmethods:", "\nmethods:\n  own: {}\n#", 1)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    for name, source in (("methods/mine.py", PLUG_IN), ("parts/numbers.py", "ONE = 1\n"), ("parts/other.py", "")):
        (tmp_path / "plugins" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "plugins" / name).write_text(source, encoding="utf-8")
    main([])
    file = tmp_path / "data/code/pretrain/own.json"
    first = json.loads(file.read_text(encoding="utf-8"))
    assert {name for name in first if name.startswith("plugins/")} == {
        "plugins/methods/mine.py",
        "plugins/parts/numbers.py",
    }
    assert "stages/pretrain/run.py" in first
    ours = (tmp_path / "data/code/pretrain/simclr.json").read_bytes()
    (tmp_path / "plugins/parts/numbers.py").write_text("ONE = 2\n", encoding="utf-8")
    main([])
    second = json.loads(file.read_text(encoding="utf-8"))
    assert {name for name in first if first[name] != second[name]} == {"plugins/parts/numbers.py"}
    assert (tmp_path / "data/code/pretrain/simclr.json").read_bytes() == ours
