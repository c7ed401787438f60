"""Folders of volumes through ingest and shard: what is kept, what each hostile file becomes, and the bytes of both."""

from __future__ import annotations

import gc
import gzip
import io
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from reprise.artifacts.layout import INGEST, MANIFEST, SHARDS
from reprise.artifacts.manifest import read_left_out, read_manifest, read_notes, read_quarantine
from reprise.artifacts.shards import Shards
from reprise.config.errors import SourceError
from reprise.config.facts import Fact
from reprise.media.modality import Examined
from reprise.storage.work_folder import file_digest
from stages.ingest.candidates.select import Image
from stages.ingest.facts import write_source_facts
from stages.ingest.source import Candidate
from tests.reprise.media.volume.test_volume_files import GOOD, HOSTILE_NIFTI, HOSTILE_NPY, npy
from tests.stages.ingest.hostile import PNG
from tests.volumes import take_in, write_shards_of_it, write_volumes


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def hostile_folder(root: Path) -> dict[str, str]:
    """Volumes beside every hostile file of both formats, pictures and sidecars; the reason of each file by its name."""
    write_volumes(root, 12)
    reasons = {}
    for ending, files in ((".npy", HOSTILE_NPY), (".nii.gz", HOSTILE_NIFTI)):
        for number, (data, reason) in enumerate(files.values()):
            path = root / "ball" / f"hostile {number}{ending}"
            path.write_bytes(data)
            reasons[str(path)] = reason
    (root / "ball/good.nii").write_bytes(GOOD)
    (root / "ball/picture.png").write_bytes(PNG)
    (root / "ball/notes.txt").write_text("hello")
    return reasons | {str(root / "ball/picture.png"): "other_modality"}


def test_every_hostile_file_is_refused_by_itself_and_all_others_are_taken_in() -> None:
    reasons = hostile_folder(Path("solids"))
    card = take_in(Path("solids"))
    table = read_quarantine()
    assert dict(zip(table["path"].to_pylist(), table["reason"].to_pylist(), strict=True)) == reasons
    assert read_left_out()["path"].to_pylist() == ["solids/ball/notes.txt"]
    assert card["kept"] == 13
    manifest = read_manifest()
    assert set(manifest["modality"].to_pylist()) == {"volume"}
    assert sorted(set(manifest["format"].to_pylist())) == ["NIFTI", "NPY"]
    assert card["near_copies"]["looked_for"] is False


def test_one_range_holds_for_all_volumes_of_a_type_and_the_shards_hold_8_bits() -> None:
    root = Path("solids")
    root.mkdir()
    for number, top in enumerate((1000, 4000, 2000, 500)):
        (root / f"{number}.npy").write_bytes(npy(np.linspace(0, top, 6 * 7 * 8).astype("u2").reshape(6, 7, 8)))
    take_in(root, val_fraction=0, test_fraction=0)
    write_shards_of_it()
    shards, manifest = Shards.open(), read_manifest()
    assert set(zip(manifest["low"].to_pylist(), manifest["high"].to_pylist(), strict=True)) == {(0.0, 4095.0)}
    tops = sorted(int(np.load(io.BytesIO(shards.read(row))).max()) for row in range(4))
    assert tops == [round(top * 255 / 4095) for top in (500, 1000, 2000, 4000)]
    assert shards.sides.tolist() == [[6, 7, 8]] * 4
    assert "range" in read_notes()["note"].to_pylist()


def test_the_same_folder_gives_the_same_bytes_and_shards_that_plain_webdataset_reads() -> None:
    write_volumes(Path("solids"), 12, 10)
    digests = []
    for _ in range(2):
        take_in(Path("solids"))
        write_shards_of_it(max_side=8)
        digests.append((file_digest(INGEST), file_digest(SHARDS)))
        for folder in (INGEST, SHARDS):
            folder.rename(folder.with_name(f"{folder.name}{len(digests)}"))
    assert digests[0] == digests[1]
    tars = sorted(map(str, Path("data/shards1").glob("*.tar")))
    with warnings.catch_warnings():  # it leaves files open
        warnings.simplefilter("ignore")
        import webdataset

        samples = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode())
        gc.collect()
    assert len(samples) == 12
    for sample in samples:
        assert sample["npy"].shape == (8, 8, 8, 1)
        assert sample["npy"].dtype == np.uint8
        assert [sample["json"][name] for name in ("depth", "height", "width")] == [8, 8, 8]


def test_equal_values_are_copies_whatever_the_file() -> None:
    root = Path("solids")
    write_volumes(root, 8)
    values = np.load(root / "ball/000.npy")
    (root / "ball/again.npy").write_bytes(npy(np.asfortranarray(values)))
    nibabel = pytest.importorskip("nibabel")
    scan = nibabel.Nifti1Image(values.transpose(2, 1, 0), np.eye(4))
    (root / "ball/scan.nii.gz").write_bytes(gzip.compress(scan.to_bytes()))
    take_in(root)
    assert read_quarantine()["reason"].to_pylist() == ["duplicate"] * 2
    assert read_manifest().num_rows == 8


def test_volumes_where_images_are_expected_are_left_out_with_a_sentence() -> None:
    write_volumes(Path("solids"), 4)
    with pytest.raises(SourceError, match=r"named as a volume, and source.modality is image"):
        take_in(Path("solids"), "image")


@pytest.mark.parametrize("kind", ["remote", "archive", "webdataset"])
def test_volumes_are_read_wherever_they_lie(kind: str) -> None:
    from stages.ingest.sources.archive import Archive
    from stages.ingest.sources.remote import Remote
    from stages.ingest.sources.webdataset import Webdataset

    files = {"in/a.npy": npy(np.zeros((8, 8, 8), "u1")), "in/b.nii.gz": gzip.compress(GOOD), "in/c.png": PNG}
    for name, data in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(data)
    with tarfile.open("in.tar", "w") as tar:
        tar.add("in")
    made = {"remote": (Remote, Path("in").absolute().as_uri()), "archive": (Archive, "in.tar")}
    source_class, root = made.get(kind, (Webdataset, "in.tar"))
    source = source_class(root, source_class.Params())
    source.modality = "volume"
    candidates = {Path(item.name).name for item in source.candidates() if isinstance(item, Candidate)}
    # A picture is fetched, so that ingest says what it is; a sample of shards without a volume is refused.
    assert candidates == {"a.npy", "b.nii.gz"} | (set() if kind == "webdataset" else {"c.png"})


def test_a_folder_of_pictures_where_volumes_are_expected_says_so() -> None:
    Path("pictures").mkdir()
    for number in range(3):
        Path(f"pictures/{number}.png").write_bytes(PNG)
    with pytest.raises(SourceError, match="a data set holds samples of one kind, and source.modality is volume"):
        take_in(Path("pictures"))
    assert not MANIFEST.exists()


def test_a_mask_of_a_volume_is_refused_because_it_lies_in_no_picture() -> None:
    sample = Examined({"depth": 4, "height": 4, "width": 4})
    row = Image(Candidate("x", b"", "train"), "0" * 64, 1, sample.facts, sample)
    with pytest.raises(SourceError, match="volumes have none.*the fact 'organ' of kind mask"):
        write_source_facts([Fact("organ", "mask", "given")], [row], Path())
