"""Names of exported files: safe on every system, and no two alike."""

from __future__ import annotations

import pytest

from pipeline.images.file_names import LONGEST, FileNames, safe_name

KEY = "0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b/photo 1.JPG", "photo 1.JPG"),
        ("b/Zoo & Bär.jpg", "Zoo & Bär.jpg"),
        ("b/Ba\u0308r.jpg", "Bär.jpg"),
        ("x/a<b>:c|d?.png", "a_b__c_d_.png"),
        ("x/$(rm -rf ~)`id`.png", "_(rm -rf ~)_id_.png"),
        ("x/line\nbreak\x1b[31m\u202egpj.jpg", "line_break_[31m_gpj.jpg"),
        ("x/-rf.jpg", "_rf.jpg"),
        ("x/.hidden", "_hidden"),
        ("x/CON.jpg", "_CON.jpg"),
        ("x/nul", "_nul"),
        ("x/...jpg", "_.jpg"),
        ("x/a\\..\\b.jpg", "a_.._b.jpg"),
        ("x/lone\udcff.jpg", "lone_.jpg"),
        ("x/odd.p/ng", "ng"),
        ("x/odd.<svg>", "odd"),
    ],
)
def test_names_from_outside_become_safe(path: str, name: str) -> None:
    assert FileNames().of(path, KEY) == name


def test_no_two_names_are_alike_on_any_file_system() -> None:
    names = FileNames()
    found = [names.of(path, f"{i:024d}") for i, path in enumerate(("a/x.jpg", "b/x.jpg", "c/X.JPG", "d/x.jpg"))]
    assert found[0] == "x.jpg"
    assert len({name.casefold() for name in found}) == 4
    assert all(name.lower().endswith(".jpg") for name in found)


def test_long_names_are_cut_between_characters() -> None:
    assert len(safe_name("ä" * 500).encode()) <= LONGEST
    assert set(safe_name("€" * 500)) == {"€"}
