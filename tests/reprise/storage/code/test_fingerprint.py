"""Fingerprints: what counts in a source file, what does not, and which files a module's closure holds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprise.config.errors import StorageError
from reprise.storage.code.fingerprint import (
    CACHE,
    changed_definitions,
    digest_of,
    digest_of_project,
    fingerprint,
)
from reprise.storage.code.source import read_source, significant_lines

PROGRAM = '''"""A module.

Its docstring.
"""

import os  # of the system


@decorate(1)  # why
def first(x):
    """Say it."""
    text = """a # no comment

    and a blank line ~~
"""  # after a string
    return f"{x!r:>{10}} # no comment either" + text


class Thing:
    """A class."""

    # a comment of its own
    size = 1

    def method(self):
        """Do it."""

        return 'ä # ö'  # ü
'''.replace("~~", "  ")


def code(text: str) -> dict[str, str]:
    return read_source(text).definitions


def test_what_remains_of_a_program() -> None:
    kept = "\n".join(line for _, line in significant_lines(PROGRAM))
    assert kept == (
        "import os\n@decorate(1)\ndef first(x):\n"
        '    text = """a # no comment\n\n    and a blank line   \n"""\n'
        '    return f"{x!r:>{10}} # no comment either" + text\n'
        "class Thing:\n    size = 1\n    def method(self):\n        return 'ä # ö'"
    )


def test_the_same_digests_on_every_python() -> None:
    """Computed with Python 3.11, 3.12 and 3.13, whose tokens of f-strings and whose ast.unparse differ."""
    assert code(PROGRAM) == {
        "": "bc8f8b4fed9a4e1d",
        "Thing": "a5f003d8ec7e26a8",
        "Thing.method": "d357204bd5195d24",
        "first": "7d183fee1986e359",
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Its docstring.", "Another one."),
        ('    """Say it."""\n', ""),
        ("  # why", ""),
        ("# of the system", "# of the machine"),
        ("    # a comment of its own\n", "\n\n"),
        ('"""Do it."""\n\n', '"""Do it well.\n\n        At length.\n        """\n'),
        ("  # ü", "  # another"),
        ("\n", "\r\n"),
    ],
)
def test_words_do_not_count(old: str, new: str) -> None:
    assert old in PROGRAM
    assert code(PROGRAM.replace(old, new)) == code(PROGRAM)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("{10}", "{11}", "first"),
        ("a # no comment", "a # a comment", "first"),
        ("comment\n\n    and", "comment\n    and", "first"),
        ("line   \n", "line\n", "first"),
        ("@decorate(1)", "@decorate(2)", "first"),
        ("size = 1", "size = 2", "Thing"),
        ("ä #", "a #", "Thing.method"),
        ("import os", "import sys", ""),
    ],
)
def test_everything_else_counts_and_is_named(old: str, new: str, where: str) -> None:
    before, after = code(PROGRAM), code(PROGRAM.replace(old, new))
    assert {name for name in before if before[name] != after[name]} == {where}
    shown = changed_definitions({"a.py": before}, {"a.py": after})
    assert shown == [f"a.py ({where})" if where else "a.py"]


PARAMS = """
class P:
    k: Annotated[int, Field(ge=1), meaning("Nearest neighbours vote.", "neighbours")] = 20
    sizes: tuple[int, ...] = (1,)
"""
REWORDED = """
class P:
    k: Annotated[
        int,
        Field(ge=1),
        meaning(
            "This many of the nearest neighbours (by cosine similarity) vote, each with its own weight, ä.",  # long
            "neighbours",
        ),
    ] = 20

    sizes: tuple[int, ...] = (1,)
"""


def test_the_meaning_of_a_parameter_is_words() -> None:
    """Also where a formatter breaks the lines because of their length."""
    assert code(REWORDED) == code(PARAMS)
    for old, new in (("ge=1", "ge=2"), ("= 20", "= 21"), ("int, Field", "float, Field"), ("(1,)", "(1)")):
        assert old in PARAMS
        assert code(PARAMS.replace(old, new)) != code(PARAMS)


def test_the_order_of_definitions_counts() -> None:
    """A later function of the same name replaces an earlier one."""
    one, two = "def f():\n    return 1\n", "def g():\n    return 2\n"
    assert code(one + two) != code(two + one)
    twice = ("def f():\n    return 1\n", "def f():\n    return 2\n")
    assert code(twice[0] + twice[1]) != code(twice[1] + twice[0])


@given(st.lists(st.sampled_from(["x = 1", "y = '#'", "# c", "", "def f():\n    '''d'''\n    return '''\n# in\n'''"])))
def test_comments_and_blank_lines_never_count(statements: list[str]) -> None:
    bare = "\n".join(s for s in statements if s and not s.startswith("#"))
    spread = "\n\n# more\n".join(f"{s}   # end" if s and "\n" not in s else s for s in statements)
    assert code(bare + "\n") == code(spread + "\n")
    text = "\n".join(line for _, line in significant_lines(spread))
    stripped = ast.dump(ast.parse(text or "pass"))  # what is left is a program, and the same one
    assert stripped == ast.dump(ast.parse((bare or "pass").replace("    '''d'''\n", "")))


# ---- closures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "house/__init__.py": '"""A package."""\n',
        "house/top.py": "import house.low\n\n\ndef late():\n    from house.deep import inner\n    return inner.f\n",
        "house/low.py": (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house import typed\nPAGE = 'page.css'\n"
        ),
        "house/typed.py": "x = 1\n",
        "house/unused.py": "x = 1\n",
        "house/page.css": "a {}\n",
        "house/other.css": "b {}\n",
        "house/deep/__init__.py": "from house import started\n",
        "house/started.py": "RUNS_ALSO = ('house.named',)\n",
        "house/named.py": "x = 1\n",
        "house/deep/inner.py": "import house.top\n\n\ndef f():\n    return 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_closure_of_a_module(tree: Path) -> None:
    """Late imports, packages that are imported on the way, named files and declared modules; not what types name."""
    found = fingerprint(["house.top"], {"house": tree})
    assert sorted(found) == [
        "house/deep/__init__.py",
        "house/deep/inner.py",
        "house/low.py",
        "house/named.py",
        "house/page.css",
        "house/started.py",
        "house/top.py",
    ]


def test_a_change_shows_where_it_is(tree: Path) -> None:
    before = fingerprint(["house.top"], {"house": tree})
    (tree / "house/deep/inner.py").write_text("import house.top\n\n\ndef f():\n    return 2\n", encoding="utf-8")
    (tree / "house/page.css").unlink()
    (tree / "house/named.py").write_text("import house.unused\nx = 1\n", encoding="utf-8")
    after = fingerprint(["house.top"], {"house": tree})
    assert changed_definitions(before, after) == [
        "house/deep/inner.py (f)",
        "house/named.py",
        "house/page.css (no longer used)",
        "house/unused.py (new)",
    ]
    assert digest_of(before) != digest_of(after)


def test_a_damaged_cache_is_no_error(tree: Path) -> None:
    roots = {"house": tree}
    found = fingerprint(["house.top"], roots)
    for text in ("{", "[]", '{"form": 1, "records": {"x": 1}}', '{"form": 1, "records": []}'):
        CACHE.write_text(text, encoding="utf-8")
        assert fingerprint(["house.top"], roots) == found


def test_a_process_parses_a_file_once_also_in_another_folder(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = fingerprint(["house.top"], {"house": tree})
    here = CACHE.read_bytes()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.delattr("reprise.storage.code.fingerprint.read_source")
    assert fingerprint(["house.top"], {"house": tree}) == found
    assert CACHE.read_bytes() == here  # the next process is spared the work in this folder, too


def test_what_cannot_be_read_is_a_sentence(tree: Path) -> None:
    with pytest.raises(StorageError, match="no source file"):
        fingerprint(["house.absent"], {"house": tree})
    (tree / "house/low.py").write_text("def f(:\n", encoding="utf-8")
    with pytest.raises(StorageError, match=r"low\.py"):
        fingerprint(["house.top"], {"house": tree})
    (tree / "house/low.py").write_text("from . import typed\n", encoding="utf-8")
    with pytest.raises(StorageError, match="Name the module in full"):
        fingerprint(["house.top"], {"house": tree})


def test_the_project_s_digest_sees_parameters_code_and_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages").mkdir()
    digests = {digest_of_project(tmp_path)}
    for name, text in (
        ("params.yaml", "seeds: [0]\n"),
        ("stages/a.py", "x = 1\n"),
        ("stages/a.css", "a {}\n"),
        ("stages/a.py", "x = 2\n"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        digests.add(digest_of_project(tmp_path))
    assert len(digests) == 5
    (tmp_path / "stages/a.py").write_text("# only words\nx = 2\n", encoding="utf-8")
    assert digest_of_project(tmp_path) in digests
