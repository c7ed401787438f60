"""What helps where entries are refused: the fix fits the reasons and the source, and examples say what is wrong."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from reprise.config.errors import SourceError
from stages.ingest.__main__ import main
from stages.ingest.account.remedy import examples
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.source import Refused, Source
from stages.ingest.sources.archive import Archive
from stages.ingest.sources.folder import Folder
from stages.ingest.sources.table import Table
from tests.stages.ingest.hostile import encoded, photo


def fix_of(source: Source, name: str, output: Path) -> str:
    output.mkdir()
    with pytest.raises(SourceError) as caught:
        ingest(source, SourceParams(name=name), output, 0)
    return caught.value.fix


def test_encrypted_members_are_to_be_packed_without_a_password(tmp_path: Path) -> None:
    path = tmp_path / "secret.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/1.png", encoded(photo(1, 6, 6), "PNG"))
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + place] |= 1
    path.write_bytes(data)
    fix = fix_of(Archive(path, Archive.Params()), "archive", tmp_path / "out")
    assert "without a password" in fix
    assert "a/1.png" in fix
    assert "Set source.root" not in fix


def test_a_table_of_missing_files_says_where_it_looked(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("image\nphotos/1.png\n")
    fix = fix_of(Table(tmp_path / "table.csv", Table.Params()), "table", tmp_path / "out")
    assert str(tmp_path / "photos/1.png") in fix
    assert "the table's folder" in fix
    assert "source.options.base" in fix


@pytest.mark.parametrize(("kind", "wanted"), [(Folder, "the folder that"), (Archive, Archive.reads)])
def test_a_missing_root_says_what_the_source_reads(tmp_path: Path, kind: type[Source], wanted: str) -> None:
    with pytest.raises(SourceError) as caught:
        list(kind(tmp_path / "absent", kind.Params()).candidates())
    assert caught.value.what == "the root of the source is missing"
    assert caught.value.fix.startswith(f"Set source.root in params.yaml to {wanted}")


def test_examples_are_few_and_bounded_and_leave_out_copies() -> None:
    rows = [Refused(f"row {n}", f"reason_{n % 5}", "x" * 9000) for n in range(9)] + [Refused("c", "duplicate", "copy")]
    said = list(examples(rows))
    assert [sentence.split(",")[0] for sentence in said[:-1]] == [f"Refused as reason_{n}" for n in range(3)]
    assert "data/ingest/quarantine.parquet" in said[-1]
    assert max(map(len, said)) < 500
    assert list(examples(rows[-1:])) == []


def test_the_stage_prints_examples_and_keeps_them_out_of_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for n in range(3):
        Path(f"{n}.png").write_bytes(encoded(photo(n, 6, 6), "PNG"))
    Path("table.csv").write_text("image\n0.png\n1.png\n2.png\nabsent.png\n")
    Path("params.yaml").write_text(json.dumps({"source": {"name": "table", "root": "table.csv"}}))
    main([])
    printed = capsys.readouterr().out
    said = next(line for line in printed.splitlines() if "missing_file, for instance" in line)
    assert said.startswith("ingest: Refused as missing_file, for instance table.csv")
    assert said.endswith("absent.png: no such file.")
    assert "data/ingest/quarantine.parquet lists each refused entry" in printed
    assert "for instance" not in Path("data/ingest/dataset.json").read_text()
