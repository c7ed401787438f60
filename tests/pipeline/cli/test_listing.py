"""Methods are listed with a line, a source and their needs, without being imported."""

from __future__ import annotations

from pipeline.cli.listing import described_methods


def test_every_method_is_listed_with_its_source(repository):
    rows = {name: rest for name, *rest in described_methods(repository / "stages/pretrain/methods")}
    assert rows["byol"] == [
        "bootstrap your own latent; predict a slow copy of yourself, no negatives",
        'Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020',
        "-",
    ]
    assert rows["moco_v2"][1].endswith("arXiv 2003.04297")
    assert rows["supcon"][2] == "a label set"
    assert rows["simmim"][2] == "a network of its own, crops of its own"
    assert rows["patch_kmeans"][2] == "no gradients, a network of its own"
    without = {name for name, (_, source, _) in rows.items() if source == "-"}
    assert without == {"random", "supervised"}  # a floor and a ceiling, nobody's papers


def test_a_file_that_cannot_be_read_is_still_a_row(tmp_path):
    (tmp_path / "broken.py").write_text("def (:\n", encoding="utf-8")
    (tmp_path / "silent.py").write_text("x = 1\n", encoding="utf-8")
    rows = described_methods(tmp_path)
    assert [row[0] for row in rows] == ["broken", "silent"]
    assert rows[0][1].startswith("(cannot be read")
    assert rows[1][1:] == ("(no docstring)", "-", "-")
