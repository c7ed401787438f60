"""Plug-ins are found by file name: in our folders and families, in the user's folder, and by entry points."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reprise.config.errors import ParameterError
from reprise.config.plug_ins import registry
from reprise.config.plug_ins.registry import KINDS, load_class, load_module, location, module_of, names, suites
from reprise.config.texts.suggest import closest, nearest

ROOT = Path(__file__).parents[4]
METHOD = """
from stages.pretrain.method import Method


class Mine(Method):
    '''A method of the user.'''
"""
Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a file below the folder of a project, which is the current one; forget its modules afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def written(path: str, text: str) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    yield written
    registry._entry_points.cache_clear()
    for name in [m for m in sys.modules if m not in before and m.split(".")[0] in ("plugins", "someones")]:
        del sys.modules[name]


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, group: str, name: str, module: str) -> None:
    """Put a distribution with one entry point on sys.path."""
    info = folder / "someones-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: someones\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    registry._entry_points.cache_clear()


def test_our_own_plug_ins_are_files() -> None:
    for kind in ("sources", "extractors", "miners", "models", "methods", *(f"probes/{suite}" for suite in suites())):
        found = names(kind)
        assert found == sorted(found)
        assert found, kind
        for name in found:
            file = location(kind, name)
            assert (file.stem, file.suffix) == (name, ".py")
            assert module_of(kind, name).split(".") == list(file.relative_to(ROOT).with_suffix("").parts)


def test_families_are_no_part_of_a_name() -> None:
    assert module_of("methods", "simclr") == "stages.pretrain.methods.contrastive.simclr"
    assert not {"contrastive", "references"} & set(names("methods"))


def test_listing_imports_nothing_heavy() -> None:
    code = """
import sys
from reprise.config.plug_ins.registry import KINDS, location, module_of, names, suites
for kind in [k for k in KINDS if k != "probes"] + [f"probes/{s}" for s in suites()]:
    for name in names(kind):
        location(kind, name), module_of(kind, name)
heavy = [m for m in sys.modules if m.split(".")[0] in ("torch", "numpy", "timm", "stages", "pydantic")]
sys.exit(" ".join(heavy) or 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", ["plugins/methods/mine.py", "plugins/methods/contrastive/mine.py"])
def test_a_users_file_is_a_plug_in(write: Write, path: str) -> None:
    from stages.pretrain.method import Method

    file = write(path, METHOD)
    assert "mine" in names("methods")
    assert location("methods", "mine") == file
    assert module_of("methods", "mine") == path.removesuffix(".py").replace("/", ".")
    kind = load_class("methods", "mine", Method, "runs[0].method")
    assert kind.__doc__ == "A method of the user."
    assert str(file.parent) not in sys.path


def test_a_users_suite_of_probes_is_a_kind(write: Write) -> None:
    write("plugins/probes/own/count.py", "x = 1\n")
    assert "own" in suites()
    assert names("probes/own") == ["count"]
    assert load_module("probes/own", "count").x == 1
    write("plugins/probes/quality/count.py", "x = 2\n")
    assert load_module("probes/quality", "count").x == 2
    assert "knn" in names("probes/quality")


def test_users_files_import_each_other(
    write: Write, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an installed package is called `plugins`."""
    other = tmp_path_factory.mktemp("installed")
    (other / "plugins").mkdir()
    (other / "plugins/__init__.py").write_text("parts = None\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(other))
    write("plugins/parts.py", "value = 7\n")
    write("plugins/sections/mine.py", "from plugins.parts import value\n")
    assert load_module("sections", "mine").value == 7


def test_two_projects_in_one_process_keep_apart(
    write: Write, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("plugins/schedules/mine.py", "value = 1\n")
    assert load_module("schedules", "mine").value == 1
    second = tmp_path_factory.mktemp("second")
    (second / "plugins/schedules").mkdir(parents=True)
    (second / "plugins/schedules/mine.py").write_text("value = 2\n", encoding="utf-8")
    monkeypatch.chdir(second)
    assert load_module("schedules", "mine").value == 2
    monkeypatch.chdir(tmp_path)
    assert load_module("schedules", "mine").value == 1


def test_an_installed_package_brings_plug_ins(
    write: Write, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.pretrain.method import Method

    folder = tmp_path_factory.mktemp("installed")
    (folder / "someones").mkdir()
    (folder / "someones/__init__.py").write_text("raise RuntimeError('imported to list')\n", encoding="utf-8")
    (folder / "someones/own.py").write_text(METHOD, encoding="utf-8")
    install(folder, monkeypatch, "reprise.methods", "mine", "someones.own")
    assert "mine" in names("methods")
    assert module_of("methods", "mine") == "someones.own"
    assert location("methods", "mine") == folder / "someones/own.py"
    (folder / "someones/__init__.py").write_text("", encoding="utf-8")
    assert load_class("methods", "mine", Method, "").__name__ == "Mine"


def test_an_entry_point_without_a_file_is_an_error(
    write: Write, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path_factory.mktemp("installed"), monkeypatch, "reprise.miners", "gone", "someones.gone")
    with pytest.raises(ParameterError, match=r"'gone' has no source file.*someones\.gone"):
        location("miners", "gone")
    with pytest.raises(ParameterError, match=r"'gone' cannot be imported \(mines\[0\]\.miner\).*No module named"):
        load_module("miners", "gone", "mines[0].miner")


def test_a_name_that_two_files_have_is_an_error_that_names_both(write: Write) -> None:
    write("plugins/methods/a/mine.py", METHOD)
    write("plugins/methods/b/mine.py", METHOD)
    with pytest.raises(ParameterError, match=r"plugins/methods/a/mine\.py and plugins/methods/b/mine\.py"):
        names("methods")


def test_our_name_does_not_win_in_silence(write: Write) -> None:
    write("plugins/methods/simclr.py", METHOD)
    with pytest.raises(ParameterError) as caught:
        load_module("methods", "byol")
    assert "called 'simclr'" in caught.value.what
    assert caught.value.found.startswith(str(ROOT / "stages/pretrain/methods"))
    assert caught.value.found.endswith("simclr.py and plugins/methods/simclr.py")


def test_an_installed_plug_in_does_not_replace_ours(
    write: Write, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path_factory.mktemp("installed"), monkeypatch, "reprise.sources", "digits", "someones.digits")
    with pytest.raises(ParameterError, match=r"digits\.py and someones\.digits of the installed package someones"):
        names("sources")


def test_files_that_are_no_plug_ins_are_left_out_or_refused(write: Write) -> None:
    write("plugins/methods/_shared.py", "")
    write("plugins/methods/__pycache__/old.py", "")
    write("plugins/methods/notes.md", "")
    assert not {"_shared", "old", "notes"} & set(names("methods"))
    write("plugins/methods/My-Method.py", METHOD)
    with pytest.raises(ParameterError, match=r"plugins/methods\)\. Found: My-Method\.py\. Rename the file"):
        names("methods")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def (:\n", "SyntaxError"),
        ("import no_such_thing\n", "No module named 'no_such_thing'"),
        ("x = undefined\n", "NameError"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named(write: Write, text: str, words: str) -> None:
    write("plugins/miners/broken.py", text)
    with pytest.raises(ParameterError) as caught:
        load_module("miners", "broken", "mines[1].miner")
    assert caught.value.where == "mines[1].miner"
    assert words in caught.value.found
    assert "plugins/miners/broken.py" in caught.value.found


def test_a_plug_in_holds_one_class(write: Write) -> None:
    from stages.pretrain.method import Method

    write("plugins/methods/two.py", METHOD + "\n\nclass Other(Mine):\n    pass\n")
    with pytest.raises(ParameterError, match=r"exactly one subclass of Method.*2 \(Mine, Other\)"):
        load_class("methods", "two", Method, "")


@pytest.mark.parametrize("word", ["SimCLR", "sim_clr", "sim-clr", "simcrl", "Sim CLR"])
def test_an_unknown_name_gets_a_suggestion(word: str) -> None:
    with pytest.raises(ParameterError, match="Did you mean 'simclr'"):
        module_of("methods", word, "runs[0].method")


def test_suggestions_ignore_case_hyphens_and_underscores() -> None:
    assert nearest("ResNet-50", ["resnet18", "resnet50"]) == " Did you mean 'resnet50'?"
    assert closest("knn", ["k_nn", "knm"], 3) == ["k_nn", "knm"]
    assert nearest("zzz", ["simclr"]) == ""
    assert nearest(3, ["simclr"]) == ""
    assert nearest("", []) == ""


def test_kinds_are_known() -> None:
    assert set(KINDS) == {
        "sources", "extractors", "miners", "models", "methods", "changes", "backbones", "schedules", "shifts", "probes",
        "sections", "watches",
    }  # fmt: skip
    with pytest.raises(KeyError):
        names("colours")
