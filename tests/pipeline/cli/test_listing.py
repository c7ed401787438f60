"""Methods are listed with a description, a source and their needs, without being imported."""

from __future__ import annotations

from pipeline.cli.listing import list_methods


def test_every_method_is_listed_with_its_source():
    rows = {name: rest for name, *rest in list_methods()}
    assert rows["byol"] == [
        "bootstrap your own latent; predict a slow copy of yourself, no negatives",
        'Grill et al., "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", NeurIPS 2020',
        "-",
    ]
    assert rows["moco_v2"][1].endswith("arXiv 2003.04297")
    assert rows["supcon"][2] == "a label set"
    assert rows["simmim"][2] == "its own network, its own crops"
    assert rows["patch_kmeans"][2] == "no gradients, its own network"
    without_source = {name for name, (_, source, _) in rows.items() if source == "-"}
    assert without_source == {"random", "supervised"}  # the references, which come from no paper


def test_a_users_file_that_cannot_be_read_is_still_a_row(tmp_path, monkeypatch):
    folder = tmp_path / "plugins/methods/own"
    folder.mkdir(parents=True)
    (folder / "broken.py").write_text("def (:\n", encoding="utf-8")
    (folder / "silent.py").write_text("x = 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    rows = {name: rest for name, *rest in list_methods()}
    assert rows["broken"][0].startswith("(cannot be read")
    assert rows["silent"] == ["(no docstring)", "-", "-"]
