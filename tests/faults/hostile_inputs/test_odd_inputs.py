"""What nobody expects in a folder, a params.yaml or a weights file: it ends in a table or in a sentence."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from reprise.artifacts.weights.backbones import CONFIG, HEADS, WEIGHTS, read_config, read_weights
from reprise.artifacts.weights.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from reprise.config.errors import BackboneError, CheckpointError, ImageRefused, ParameterError
from reprise.config.params import read_yaml
from reprise.media.image.inspect import inspect
from reprise.media.image.transform import resize_to_square
from stages.ingest.ingest import ingest
from stages.ingest.params import SourceParams
from stages.ingest.sources.folder import Folder
from tests.stages.ingest.hostile import PNG, encoded, photo

BIG = zlib.compress(bytes(20_000_000), 9)


def with_chunk(name: bytes, body: bytes) -> bytes:
    """A sound PNG with one more chunk, right behind its header."""
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return PNG[:33] + chunk + PNG[33:]


def jpeg_of(height: int, width: int) -> bytes:
    """A JPEG of 24 x 32 pixels whose header says otherwise."""
    data = bytearray(encoded(photo(60), "JPEG"))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def tiff_with(tag: int, value: int) -> bytes:
    from PIL import TiffImagePlugin

    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[tag] = value
    return encoded(photo(61), "TIFF", tiffinfo=info)


def looping_tiff() -> bytes:
    """Its second page is its first."""
    data = bytearray(encoded(photo(62), "TIFF"))
    first = struct.unpack_from("<I", data, 4)[0]
    struct.pack_into("<I", data, first + 2 + 12 * struct.unpack_from("<H", data, first)[0], first)
    return bytes(data)


def rle_bmp() -> bytes:
    """24 runs of 32 pixels, a line each."""
    runs = b"".join(bytes((32, y % 16, 0, 0)) for y in range(24)) + b"\0\1"
    palette = bytes(v for i in range(16) for v in (i * 16, i * 7, 255 - i * 3, 0))
    head = struct.pack("<IiiHHIIiiII", 40, 32, 24, 1, 8, 1, len(runs), 0, 0, 16, 0)
    return b"BM" + struct.pack("<IHHI", 118 + len(runs), 0, 0, 118) + head + palette + runs


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(with_chunk(b"zTXt", b"Comment\0\0" + BIG), "undecodable", id="a bomb in a comment"),
        pytest.param(with_chunk(b"iCCP", b"x\0\0" + BIG), "undecodable", id="a bomb in a profile"),
        pytest.param(with_chunk(b"eXIf", b"MM\0*" + b"\0" * 4 + bytes(3_000_000)), None, id="megabytes of EXIF"),
        pytest.param(with_chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1\x01\x12\0\2\0\0\0\4six\0"), None, id="a turn in words"),
        pytest.param(with_chunk(b"IHDR", struct.pack(">2I5B", 64, 64, 8, 2, 0, 0, 0)), "undecodable", id="two headers"),
        pytest.param(jpeg_of(60_000, 60_000), "too_many_pixels", id="a header of billions"),
        pytest.param(jpeg_of(0, 32), "undecodable", id="a header of nothing"),
        pytest.param(jpeg_of(400, 32), None, id="a header of more rows than there are"),
        pytest.param(encoded(np.zeros((1, 100_000), np.uint8), "PNG"), "too_small", id="a line"),
        pytest.param(encoded(np.zeros((8, 100_000), np.uint8), "PNG"), None, id="a strip"),
        pytest.param(rle_bmp(), None, id="runs in a BMP"),
        pytest.param(looping_tiff(), None, id="pages in a circle"),
        pytest.param(tiff_with(254, 1), "not_an_image", id="a preview"),
        pytest.param(tiff_with(50706, 1), "not_an_image", id="a camera's raw file"),
        pytest.param(tiff_with(254, 2), None, id="a page of several"),
        pytest.param(encoded(photo(63), "JPEG2000"), "not_an_image", id="JPEG 2000"),
        pytest.param(encoded(photo(64), "ICO"), "not_an_image", id="an icon"),
        pytest.param(PNG.replace(b"\r\n", b"\n"), "undecodable", id="a PNG sent as text"),
        pytest.param(encoded(photo(65), "JPEG") + b"PK\3\4" + bytes(100), None, id="a JPEG that is an archive as well"),
    ],
)
def test_an_odd_image_is_taken_in_or_refused(data: bytes, reason: str | None) -> None:
    try:
        found = inspect(data, "odd", min_side=4)
    except ImageRefused as refusal:
        fate: str | None = refusal.what
    else:
        fate = None
        assert found.channels in (1, 3)
    assert fate == reason


@pytest.mark.parametrize("shape", [(1, 512, 3), (512, 1, 3), (8, 100_000, 1)])
def test_a_strip_becomes_a_square_of_its_centre_without_gigabytes(shape: tuple[int, int, int]) -> None:
    strip, shorter = np.zeros(shape, np.uint8), min(shape[:2])
    middle = [slice(max(0, side // 2 - 2 * shorter), side // 2 + 2 * shorter) for side in shape[:2]]
    strip[tuple(middle)] = 200
    found = resize_to_square(strip, 256)
    assert found.shape == (256, 256, shape[2])
    assert (found == 200).all()


def test_odd_names_are_classes_and_all_that_was_found_is_accounted_for(tmp_path: Path) -> None:
    root, number = tmp_path / "images", 300
    names = (
        "CON",
        "trailing",
        "trailing ",
        "trailing.",
        "rtl\u202egnp.exe",
        "caf\u00e9",
        "cafe\u0301",
        "-rf",
        "nan",
        "a\\b",
    )
    for name in names:
        (root / name).mkdir(parents=True)
        for _ in range(2):
            number += 1
            (root / name / f"{number}.png").write_bytes(encoded(photo(number), "PNG"))
    os.link(root / f"{names[-1]}/{number}.png", root / names[-1] / "hard.png")
    here = os.open(root / "CON", os.O_RDONLY)  # folders in folders, to a path that no system call takes
    for _ in range(25):
        os.mkdir("e" * 200, dir_fd=here)
        below = os.open("e" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    output = tmp_path / "out"
    output.mkdir()
    card = ingest(Folder(root, Folder.Params()), SourceParams(name="folder", root=str(root)), output, 0)
    assert (card["found"], card["kept"]) == (22, 20)
    assert set(card["classes"]) == set(names)
    reasons = pq.read_table(output / "quarantine.parquet").column("reason").to_pylist()
    assert sorted(reasons) == ["duplicate", "unreadable"]
    notes = "\n".join(card["notes"])
    assert "'cafe\\u0301', 'caf\\xe9' look alike" in notes
    assert "'trailing', 'trailing ' look alike" in notes


def tensors(*described: object, body: int = 8) -> bytes:
    """A safetensors file with this header."""
    head = json.dumps(dict(described)).encode() if described else b"{}"  # type: ignore[call-overload]
    return struct.pack("<Q", len(head)) + head + bytes(body)


def tensor(kind: str = "F32", shape: tuple[int, ...] = (2,), end: int = 8) -> dict[str, object]:
    return {"dtype": kind, "shape": list(shape), "data_offsets": [0, end]}


def tree(value: object) -> tuple[str, dict[str, str]]:
    return "__metadata__", {"tree": value if isinstance(value, str) else json.dumps(value)}


ARRAY = {"dict": [[{"value": "w"}, {"array": "a", "shape": [2]}]]}
FOREIGN: dict[str, bytes] = {
    "a header of 2^60 bytes": struct.pack("<Q", 1 << 60) + b"{}",
    "overlapping tensors": tensors(("a", tensor()), ("b", tensor())),
    "more bytes than there are": tensors(("a", tensor(shape=(2000,), end=8000))),
    "a shape that overflows": tensors(("a", tensor(shape=(1 << 62, 4)))),
    "a type of another library": tensors(("a", tensor("BF16", (4,))), tree(ARRAY)),
    "a type that nobody has": tensors(("a", tensor("F77")), tree(ARRAY)),
    "a pickle of torch.save": b"PK\3\4" + bytes(100),
}
FOREIGN_TREES: dict[str, object] = {
    "no mapping": {"value": 3},
    "a list": [],
    "nothing": None,
    "a word": "array",
    "another array": {"dict": [[{"value": "w"}, {"array": "b", "shape": [2]}]]},
    "a shape in words": {"dict": [[{"value": "w"}, {"array": "a", "shape": "x"}]]},
    "a list as a key": {"dict": [[{"list": []}, {"value": 1}]]},
    "thousands of levels": '{"list":[' * 3000 + "]}" * 3000,
}


@pytest.mark.parametrize(
    "data",
    [
        *(pytest.param(data, id=name) for name, data in FOREIGN.items()),
        *(pytest.param(tensors(("a", tensor()), tree(value)), id=name) for name, value in FOREIGN_TREES.items()),
    ],
)
def test_a_foreign_checkpoint_is_passed_over(tmp_path: Path, data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path, 1, {"good": 1})
    newest = tmp_path / "step-000000002.safetensors"
    newest.write_bytes(data)
    with pytest.raises(CheckpointError, match="Remove it"):
        load_checkpoint(newest)
    assert latest_checkpoint(tmp_path) == {"good": 1}
    assert str(newest) in capsys.readouterr().err


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_weights_are_a_sentence(tmp_path: Path, name: str) -> None:
    for file in (WEIGHTS, HEADS):
        (tmp_path / file).write_bytes(FOREIGN[name])
    with pytest.raises(BackboneError, match="the weights cannot be read"):
        read_weights(tmp_path)
    (tmp_path / CONFIG).write_text("[" * 100_000)
    with pytest.raises(BackboneError, match="the backbone's configuration cannot be read"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("  epochs: 60", "  epochs: 60\n  epochs: 2"), 'duplicate key "epochs"'),
        (lambda text: text.replace("  epochs: 60", "\tepochs: 60"), "cannot start any token"),
        (lambda text: text.replace("epochs: 60", "epochs: " + "9" * 5000), "digits"),
        (lambda text: text + "\n---\nseeds: [1]\n", "another document"),
        (lambda text: text + "\0", "special characters are not allowed"),
        (lambda text: text + "x: " + "[" * 500 + "]" * 500, "recursion"),
    ],
)
def test_an_odd_params_yaml_is_a_sentence(
    tmp_path: Path, repository: Path, change: Callable[[str], str], words: str
) -> None:
    text = (repository / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(change(text), encoding="utf-8")
    with pytest.raises(ParameterError, match=words):
        read_yaml(tmp_path / "params.yaml")
