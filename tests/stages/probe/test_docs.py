"""The example in docs/how-to/own-probe.md works as it stands."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from reprise.config.plug_ins.registry import subclass_in
from stages.probe.probe import Probe
from stages.probe.running.suite import run_suite

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[3] / "docs/how-to/own-probe.md"


def test_the_example_runs(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "prototype.py"
    file.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("prototype", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "prototype", module)
    spec.loader.exec_module(module)
    kind = subclass_in(module, Probe)
    data = make(spread=1.5)
    assert run_suite({"prototype": kind(kind.Params())}, data, "test").computed == ["prototype"]
    result = kind(kind.Params()).run(data)
    unit = {s: data.features(s) / np.linalg.norm(data.features(s), axis=1, keepdims=True) for s in ("train", "test")}
    means = np.stack([unit["train"][data.part("train").labels == c].mean(0) for c in range(3)])
    peer = KNeighborsClassifier(1).fit(means / np.linalg.norm(means, axis=1, keepdims=True), np.arange(3))
    assert result.predictions["predicted"].to_pylist() == [data.classes[i] for i in peer.predict(unit["test"])]
