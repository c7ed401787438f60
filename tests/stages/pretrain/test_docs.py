"""The method of docs/how-to/own-method.md runs as written; docs/reference/methods.md is complete."""

from __future__ import annotations

import importlib.util
import re

import pytest
import torch

from reprise.config.params import read_yaml
from reprise.config.plug_ins.registry import load_class, names, subclass_in
from reprise.config.tables import tables
from reprise.networks.backbone import build_backbone
from stages.check.parameters import problems
from stages.pretrain.method import Batch, Context, Method
from stages.pretrain.strategy import Strategy


def test_the_documented_method_learns(repository, tmp_path):
    code = re.search(
        r"```python\n(.*?)```", (repository / "docs/how-to/own-method.md").read_text(encoding="utf-8"), re.DOTALL
    ).group(1)
    (tmp_path / "agree.py").write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("agree", tmp_path / "agree.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kind = subclass_in(module, Method)
    torch.manual_seed(0)
    context = Context(images=8, clusters=0, steps=20, size=16, channels=3, mean=(0,) * 3, std=(1,) * 3, seed=0)
    method = kind(build_backbone("resnet_tiny", 3, 16), kind.Params(output=16), context)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    losses = []
    batch = Batch([torch.randn(8, 3, 16, 16) for _ in range(2)], torch.arange(8))
    for _ in range(20):
        loss, logs = method.step(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert logs["features"].shape == (8, 64)
    assert set(method.heads()) == {"projector"}


def test_the_documented_backbone_builds(repository, tmp_path, monkeypatch):
    page = (repository / "docs/how-to/own-method.md").read_text(encoding="utf-8")
    _, code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "plugins/backbones").mkdir(parents=True)
    (tmp_path / "plugins/backbones/one_layer.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    network = build_backbone("one_layer", 3, 8)
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, network.num_features) == (2, 64)


def test_the_table_of_methods_is_complete_and_names_real_parameters(repository):
    """A row for each file and no other; what it calls a parameter is one."""
    text = (repository / "docs/reference/methods.md").read_text(encoding="utf-8")
    rows = {r[1]: r[4] for line in text.splitlines() if (r := line.split("|"))[1:] and r[1].startswith(" `")}
    rows = {name.strip(" `"): named for name, named in rows.items()}
    assert sorted(rows) == names("methods")
    for name, named in rows.items():
        known = load_class("methods", name, Method, "").Params.model_fields
        assert set(re.findall(r"`(\w+)`", named)) <= set(known), name


def test_the_page_lists_the_methods_that_take_volumes(repository):
    text = (repository / "docs/reference/methods.md").read_text(encoding="utf-8")
    listed = re.search(r"take \[volumes\][^:]*: ([^.]*)\.", text)[1]
    declared = [name for name in names("methods") if "volume" in load_class("methods", name, Method, "").modalities]
    assert re.findall(r"`(\w+)`", listed) == sorted(declared)


@pytest.mark.parametrize("study", ["methods-digits.yaml", "methods-cifar10.yaml"])
def test_a_study_is_valid_and_compares_every_method(repository, study):
    raw = read_yaml(repository / "studies" / study)
    assert problems(raw) == []
    kinds = {name: load_class("methods", name, Method, "") for name in names("methods")}
    # These need weights, the backbone of another run, pairs, which come from videos, or facts, which neither has.
    strategies = {name for name, kind in kinds.items() if issubclass(kind, Strategy)}
    elsewhere = {n for n, k in kinds.items() if k.needs_start or k.needs_teacher or k.needs_pairs or k.reads}
    elsewhere |= strategies | {n for n, k in kinds.items() if "given" in k.needs}  # and no label set has given labels
    elsewhere |= {"obow"} if raw["image"]["size"] < 24 else set()  # it needs a larger map
    assert {run.method for run in tables(raw).runs} == set(kinds) - elsewhere
    assert f"studies/{study}" in (repository / "docs/reference/methods.md").read_text(encoding="utf-8")
