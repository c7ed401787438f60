"""An edit while parameters are being checked leaves no fingerprints that a later check takes for right."""

from __future__ import annotations

import json
import shutil

import pytest

from reprise.artifacts.layout import CHECKED, CODE, PRESENT_CODE
from reprise.config.errors import InputsChanged
from stages.check import __main__ as check
from stages.check import code, parameters


@pytest.fixture
def project(tmp_path, monkeypatch, repository):
    """A project whose check does nothing but note which version of a file it saw."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(repository / "params.yaml", tmp_path)
    (tmp_path / "stages").mkdir()
    source = tmp_path / "stages/one.py"
    source.write_text("A = 1\n", encoding="utf-8")
    monkeypatch.setattr(parameters, "problems", lambda raw: [])
    during = {"begin": lambda: None, "end": lambda: None}

    def write_fingerprints(raw, folder):
        during["begin"]()
        (folder / "seen.json").write_text(json.dumps(source.read_text(encoding="utf-8")), encoding="utf-8")
        during["end"]()

    monkeypatch.setattr(code, "write_fingerprints", write_fingerprints)
    return source, during


def seen(folder):
    return json.loads((folder / "seen.json").read_text(encoding="utf-8"))


def test_an_edit_that_is_taken_back_meanwhile_is_noticed(project):
    source, during = project
    during["begin"] = lambda: source.write_text("A = 2\n", encoding="utf-8")
    during["end"] = lambda: source.write_text("A = 1\n", encoding="utf-8")
    with pytest.raises(InputsChanged, match=r"stages/one.py \(changed\).*Run it again"):
        check.main([])
    assert not CHECKED.exists()
    assert not CODE.exists()


def test_the_check_after_a_disturbed_one_takes_the_fingerprints_anew(project):
    source, during = project
    during["begin"] = lambda: source.write_text("A = 2\n", encoding="utf-8")
    with pytest.raises(InputsChanged):
        check.main([])
    source.write_text("A = 1\n", encoding="utf-8")  # back to what the disturbed check began with
    during["begin"] = lambda: None
    check.main([])
    assert seen(CODE) == seen(PRESENT_CODE) == "A = 1\n"


def test_an_undisturbed_check_is_not_repeated(project):
    _, during = project
    check.main([])
    during["begin"] = lambda: pytest.fail("the same project was checked again")
    check.main([])
    assert seen(CODE) == "A = 1\n"
