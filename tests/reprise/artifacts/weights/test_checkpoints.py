"""Checkpoints: what goes in comes out to the bit, and damage is named and skipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.artifacts.weights.checkpoints import KEPT, latest_checkpoint, load_checkpoint, save_checkpoint
from reprise.config.errors import CheckpointError

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
TREES = st.recursive(
    LEAVES, lambda t: st.lists(t, max_size=4) | st.dictionaries(st.integers(0, 9) | st.text(max_size=3), t, max_size=4)
)


@given(st.dictionaries(st.text(max_size=5), TREES, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_tree_survives(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("tree")
    assert load_checkpoint(save_checkpoint(folder, 1, tree)) == tree


def test_arrays_keep_type_shape_and_bits(tmp_path):
    arrays = {
        "scalar": np.array(7, dtype=np.int64),
        "empty": np.zeros((0, 3), dtype=np.float32),
        "values": np.array([0.1, -0.0, np.inf, np.nan, 1e-45], dtype=np.float32),
        "strided": np.arange(12, dtype=np.float64).reshape(3, 4).T,
        "flags": np.array([True, False]),
    }
    got = load_checkpoint(save_checkpoint(tmp_path, 3, {"state": [arrays]}))["state"][0]
    for name, value in arrays.items():
        assert got[name].dtype == value.dtype
        assert got[name].shape == value.shape
        assert got[name].tobytes() == np.ascontiguousarray(value).tobytes()


def test_the_last_two_are_kept_and_the_newest_is_read(tmp_path):
    for step in (5, 40, 9, 100):
        save_checkpoint(tmp_path, step, {"step": step})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000040.safetensors", "step-000000100.safetensors"]
    assert KEPT == 2
    assert latest_checkpoint(tmp_path) == {"step": 100}
    assert latest_checkpoint(tmp_path / "nothing") is None


@pytest.mark.parametrize("damage", ["truncate", "empty", "garbage", "foreign"])
def test_a_damaged_newest_one_is_named_and_skipped(tmp_path, capsys, damage):
    save_checkpoint(tmp_path, 1, {"step": 1})
    newest = save_checkpoint(tmp_path, 2, {"step": 2, "weights": np.zeros(1000)})
    if damage == "truncate":
        newest.write_bytes(newest.read_bytes()[:-10])
    elif damage == "foreign":
        from safetensors.numpy import save

        newest.write_bytes(save({"a": np.zeros(3)}))
    else:
        newest.write_bytes(b"" if damage == "empty" else b"\x80\x04pickled" * 50)
    assert latest_checkpoint(tmp_path) == {"step": 1}
    assert "step-000000002.safetensors" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="continues from the previous one"):
        load_checkpoint(newest)


def test_the_library_reads_every_number_format_from_the_file(tmp_path):
    from safetensors.numpy import load_file

    kinds = ("bool", "i1", "u1", "i2", "u2", "f2", "i4", "u4", "f4", "i8", "u8", "f8")
    arrays = {kind: np.arange(3).astype(kind).reshape(3, 1)[::-1] for kind in kinds} | {"none": np.zeros((0, 2))}
    path = save_checkpoint(tmp_path, 3, arrays | {"single": np.float64(2.5), "turned": np.ones((2, 3)).T})
    read = load_file(path)
    assert sorted((str(a.dtype), a.shape, a.tobytes()) for a in read.values() if a.size) == sorted(
        (str(a.dtype), a.shape, a.tobytes()) for a in [*(arrays[k] for k in kinds), np.ones((3, 2))]
    )
    with pytest.raises(ValueError, match="complex64"):
        save_checkpoint(tmp_path, 4, {"w": np.zeros(2, np.complex64)})
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "nothing half-written stays"


def test_objects_are_refused_rather_than_pickled(tmp_path):
    with pytest.raises(CheckpointError, match="PosixPath"):
        save_checkpoint(tmp_path, 1, {"path": Path("x")})
    assert not list(tmp_path.iterdir())
