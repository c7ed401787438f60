"""The ingest stage as DVC runs it: digits, determinism, the lock file, crashes of decoders, files that change."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from reprise.artifacts.manifest import read_manifest
from reprise.config.errors import ImageRefused, InputsChanged, ParameterError
from reprise.config.params import read_yaml
from reprise.media.image.decode import decode
from reprise.media.image.image import Image
from reprise.storage.listing import read_regular
from reprise.storage.walk import list_entries
from stages.ingest import ingest as ingesting
from stages.ingest.__main__ import main
from stages.ingest.candidates import examine as examining
from stages.ingest.candidates.examine import Limits, examine, examine_all
from stages.ingest.load import load_source
from stages.ingest.scan import scan
from tests.stages.ingest import hostile
from tests.stages.ingest.crashing import crash_on_marker

ROOT = Path(__file__).parents[3]
LIMITS = Limits(1_000_000, 4)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the repository's params.yaml, as the current one."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(**source: object) -> None:
    """Replace the block `source` of params.yaml."""
    Path("params.yaml").write_text(json.dumps({"source": source}))


def test_digits_are_the_digits(workspace: Path) -> None:
    main([])
    manifest = read_manifest().to_pylist()
    assert len(manifest) == 1797
    data = Path("data/ingest/images.tar").read_bytes()
    truth = load_digits()
    exact = {
        np.floor(i * 255 / 16 + 0.5).astype(np.uint8).tobytes(): str(t)
        for i, t in zip(truth.images, truth.target, strict=True)
    }
    for row in manifest:
        pixels = decode(data[row["offset"] : row["offset"] + row["bytes"]], row["key"], 1)
        assert exact[pixels.tobytes()] == row["label"]
    card = json.loads(Path("data/ingest/dataset.json").read_text())
    assert card["counts"] == {"train": 1286, "val": 138, "test": 373}  # golden: splits hang on content hashes
    assert card["near_copies"]["pairs"] == 0  # many digits are as alike as copies are
    assert card["near_copies"]["alike"] > 0
    assert json.loads(Path("data/ingest/views.json").read_text())["flip"] is False
    assert not [
        path.name for path in Path("data/ingest").iterdir() if path.name.startswith(("facts", "captions", "sides"))
    ]
    assert "facts" not in card  # digits have none


def test_the_tar_is_a_tar_and_the_manifest_points_into_it(workspace: Path) -> None:
    main([])
    rows = {row["key"]: row for row in read_manifest().to_pylist()}
    with tarfile.open("data/ingest/images.tar") as tar:
        for member in tar:
            row = rows[member.name.removesuffix(".png")]
            assert (member.offset_data, member.size) == (row["offset"], row["bytes"])


def test_the_same_source_gives_the_same_bytes(workspace: Path) -> None:
    main([])
    first = {p.name: p.read_bytes() for p in Path("data/ingest").iterdir()}
    shutil.rmtree("data/ingest")
    time.sleep(0.01)
    main([])
    assert {p.name: p.read_bytes() for p in Path("data/ingest").iterdir()} == first


def test_a_failure_leaves_the_earlier_artifacts(workspace: Path) -> None:
    main([])
    first = Path("data/ingest/manifest.parquet").read_bytes()
    configure(name="folder", root="nowhere")
    done = subprocess.run(
        [sys.executable, "-m", "stages.ingest"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "nowhere" in done.stderr
    assert "Set source.root" in done.stderr
    assert Path("data/ingest/manifest.parquet").read_bytes() == first
    assert [p.name for p in Path("data").iterdir()] == ["ingest"]


def test_the_committed_lock_file_is_that_of_the_default_source(workspace: Path) -> None:
    assert scan()
    assert not scan()
    assert Path("source.lock.json").read_bytes() == (ROOT / "source.lock.json").read_bytes()


def pictures(workspace: Path) -> Path:
    """Four pictures in a folder, which params.yaml and source.lock.json name."""
    folder = workspace / "pictures"
    folder.mkdir()
    for seed in range(4):
        (folder / f"{seed}.png").write_bytes(hostile.encoded(hostile.photo(seed), "PNG"))
    configure(name="folder", root="pictures")
    assert scan()
    return folder


def test_a_source_that_dvc_would_describe_wrongly_is_not_taken_in(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pictures(workspace)
    monkeypatch.setenv("DVC_STAGE", "ingest")
    main([])
    before = Path("data/ingest/manifest.parquet").read_bytes()
    (folder / "more.png").write_bytes(hostile.JPEG)
    with pytest.raises(InputsChanged, match="reprise repro"):
        main([])
    assert Path("data/ingest/manifest.parquet").read_bytes() == before
    assert scan()
    main([])
    assert Path("data/ingest/manifest.parquet").read_bytes() != before


@pytest.mark.parametrize("name", [".DS_Store", "cats/._0.png", "@eaDir/0.png"])
def test_what_is_left_out_may_come_while_pictures_are_taken_in(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = pictures(workspace)
    real = ingesting.resolve_duplicates

    def meanwhile(images):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"a note of a file manager")
        return real(images)

    monkeypatch.setattr(ingesting, "resolve_duplicates", meanwhile)
    main([])
    assert len(read_manifest()) == 4


def test_a_picture_that_changes_behind_a_link_stops_the_stage(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures(workspace)
    (workspace / "store").mkdir()
    shutil.copy(folder / "0.png", workspace / "store/9.png")
    (folder / "linked").symlink_to(workspace / "store")
    configure(name="folder", root="pictures", options={"link_roots": ["store"], "layout": "flat"})
    assert scan()
    real = ingesting.resolve_duplicates

    def meanwhile(images):
        (workspace / "store/9.png").write_bytes(hostile.JPEG)
        return real(images)

    monkeypatch.setattr(ingesting, "resolve_duplicates", meanwhile)
    with pytest.raises(InputsChanged, match=r"linked/9\.png"):
        main([])


@pytest.mark.parametrize("how", ["changed", "changed and back", "moved away and back", "new", "gone"])
def test_a_picture_that_changes_while_it_is_taken_in_stops_the_stage(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = pictures(workspace)
    first, kept = folder / "0.png", (folder / "0.png").read_bytes()
    real = ingesting.resolve_duplicates

    def meanwhile(images):
        if how in ("changed", "changed and back"):
            first.write_bytes(hostile.JPEG)
        if how == "changed and back":
            first.write_bytes(kept)
        if how == "moved away and back":
            first.rename(workspace / "0.png")
            (workspace / "0.png").rename(first)
        if how == "new":
            (folder / "4.png").write_bytes(hostile.JPEG)
        if how == "gone":
            first.unlink()
        return real(images)

    monkeypatch.setattr(ingesting, "resolve_duplicates", meanwhile)
    with pytest.raises(InputsChanged, match=r"4\.png" if how == "new" else r"0\.png"):
        main([])
    assert not Path("data/ingest").exists()


def test_the_scan_stays_light() -> None:
    modules = ("scan", *(f"sources.{name}" for name in ("folder", "digits", "cifar10", "cifar100")))
    code = f"import sys, {', '.join(f'stages.ingest.{m}' for m in modules)}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"numpy", "pandas", "torch", "PIL", "cv2", "sklearn", "pyarrow", "rich"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ({"name": "foldr"}, "folder"),
        ({"name": "folder", "val_fraction": 0.9}, "source.val_fraction"),
        ({"name": "folder", "options": {"layuot": "flat"}}, "source.options.layuot"),
        ({"name": "digits", "options": {"layout": "flat"}}, "source.options.layout"),
        ({"name": "folder", "root": ""}, "source.root"),
        ({"name": "folder", "root": "a\0b"}, "source.root"),
        ({"name": "../../evil"}, "source.name"),
        ({"name": "folder", "max_pixels": 10**12}, "source.max_pixels"),
    ],
)
def test_wrong_parameters_are_named(workspace: Path, source: dict, path: str) -> None:
    configure(**source)
    with pytest.raises(ParameterError) as caught:
        load_source(read_yaml())
    assert path in str(caught.value)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(hostile.PNG)
    read = os.read

    def grow(descriptor: int, size: int) -> bytes:
        data = read(descriptor, size)
        with open(path, "ab") as file:
            file.write(b"more")
        return data if len(data) < 10_000 else b""

    monkeypatch.setattr(os, "read", grow)
    with pytest.raises(ImageRefused, match="changed_while_reading"):
        read_regular(path, 9_000)
    monkeypatch.undo()
    monkeypatch.setattr(os, "read", lambda d, s: (os.utime(path, (1, 1)), read(d, s))[1])
    assert examine("a.png", str(path), LIMITS).reason == "changed_while_reading"


def test_files_are_never_opened_as_devices_or_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert examine("fifo", str(tmp_path / "fifo"), LIMITS).reason == "not_a_file"
    assert examine("zero", "/dev/zero", LIMITS).reason == "not_a_file"
    assert examine("folder", str(tmp_path), LIMITS).reason == "not_a_file"
    assert examine("gone", str(tmp_path / "gone"), LIMITS).reason == "unreadable"


def test_what_may_not_be_read_is_refused() -> None:
    """A file and a folder of another user; root steps back for it."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        root.chmod(0o755)
        place = root / "cat/a.png"
        place.parent.mkdir()
        place.write_bytes(hostile.PNG)
        place.chmod(0o000)
        (root / "locked").mkdir(mode=0o000)
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            assert examine("a.png", str(place), LIMITS).reason == "unreadable"
            assert {e.text: e.reason for e in list_entries(root)} == {"cat/a.png": None, "locked": "unreadable"}
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
            (root / "locked").chmod(0o755)


def test_a_huge_file_is_hashed_but_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.touch()
    os.truncate(path, LIMITS.max_bytes + 1)
    finding = examine("huge.png", str(path), LIMITS)
    assert finding.reason == "too_many_bytes"
    assert finding.sha256 is not None


def test_details_are_one_line_without_addresses(tmp_path: Path) -> None:
    finding = examine("x", b"II*\0" + b"\x08\0\0\0" + b"\xff" * 40, LIMITS)
    assert finding.reason == "truncated"
    assert "0x" not in finding.detail
    assert "\n" not in finding.detail


def test_a_crash_of_a_decoder_costs_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "_examine_chunk", crash_on_marker)
    good = hostile.encoded(hostile.photo(1), "PNG")
    items = [(f"{n}", b"crash" if n == 70 else good) for n in range(150)]
    findings = list(examine_all(items, LIMITS, 2))
    assert len(findings) == 150
    crashed = [n for n, finding in enumerate(findings) if finding.reason == "crashed_decoder"]
    assert crashed == [70]
    assert sum(bool(finding.samples) for finding in findings) == 149


def test_a_decoder_that_hangs_costs_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examining, "_examine_chunk", crash_on_marker)
    monkeypatch.setattr(examining, "_CHUNK_SECONDS", 1.5)
    monkeypatch.setattr(examining, "_IMAGE_SECONDS", 1.5)
    items = [(f"{n}", b"hang" if n == 3 else hostile.PNG) for n in range(6)]
    reasons = [finding.reason for finding in examine_all(items, LIMITS, 2)]
    assert reasons == ["", "", "", "crashed_decoder", "", ""]


def test_out_of_memory_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "inspect", hungry)
    assert examine("x", hostile.PNG, LIMITS).reason == "out_of_memory"


def test_killed_ingest_leaves_no_process_and_no_half_artifact(workspace: Path) -> None:
    folder = workspace / "pictures"
    folder.mkdir()
    for seed in range(600):
        buffer = io.BytesIO(
            hostile.encoded(
                np.random.default_rng(seed).integers(0, 256, (300, 300, 3), dtype=np.uint8), "PNG", compress_level=0
            )
        )
        (folder / f"{seed}.png").write_bytes(buffer.getvalue())
    configure(name="folder", root="pictures")
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.ingest"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "REPRISE_THREADS": "2"},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while len(_children(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    children = _children(process.pid)
    assert children
    process.kill()
    process.wait()
    while any(_alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(_alive(pid) for pid in children)
    assert not Path("data/ingest").exists()


def _children(pid: int) -> list[int]:
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
