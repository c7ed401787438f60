"""provenance.js: records that can be read, without markup or infinite numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.report.provenance_script import write_provenance_script


def test_provenance_gathers_what_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".reprise/provenance/pretrain/simclr"
    folder.mkdir(parents=True)
    facts = {"seconds": 1.5, "machine": "</script>\u2028", "packages": {"torch": "2.13"}, "images_per_second": 1e999}
    (folder / "0.json").write_text(json.dumps(facts), encoding="utf-8")
    (folder / "1.json").write_text("{", encoding="utf-8")
    (folder / "2.json").write_text("[1]", encoding="utf-8")
    write_provenance_script(tmp_path / "provenance.js")
    text = (tmp_path / "provenance.js").read_text(encoding="utf-8")
    assert "</script" not in text
    (record,) = json.loads(text.removeprefix("window.REPRISE_PROVENANCE = ").removesuffix(";\n"))
    assert record["record"] == "pretrain/simclr/0"
    assert record["seconds"] == 1.5
    assert record["images_per_second"] is None
