"""The source `video`: frames as images with group, number, time and shot; one bad film costs that film alone."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from reprise.artifacts.facts.names import read_names
from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.manifest import read_left_out, read_manifest, read_quarantine
from reprise.config.errors import SourceError
from reprise.media.image.decode import decode
from stages.ingest.films import decode as side_by_side
from stages.ingest.films.take import CPU_SECONDS, Result, Task, take_frames
from stages.ingest.ingest import ingest
from stages.ingest.look import look
from stages.ingest.params import SourceParams
from stages.ingest.source import Candidate, LeftOut, Part, Refused
from stages.ingest.sources.folder import Folder
from stages.ingest.sources.video import Video
from tests.films import LOSSLESS, scenes, write_film

pytest.importorskip("av")


def in_this_process(tasks: Sequence[Task], max_pixels: int, workers: int) -> Iterator[Result]:
    return map(take_frames, tasks)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(side_by_side, "decode_films", in_this_process)


def video(root: Path | str = "films", **options: object) -> Video:
    return Video(root, Video.Params.model_validate(options))


def frames(source: Video) -> list[Candidate]:
    return [item for item in source.candidates() if isinstance(item, Candidate)]


def pixels(frame: Candidate) -> np.ndarray:
    assert isinstance(frame.reference, Part) and not frame.reference.stays
    return decode(frame.reference.read(10**6), frame.name, 3)


def test_frames_have_the_class_of_the_folder_and_the_group_of_the_film(tmp_path: Path) -> None:
    write_film(tmp_path / "films/cat/a.mkv", scenes(5), **LOSSLESS)
    write_film(tmp_path / "films/dog/a.mkv", scenes(4, seed=1), **LOSSLESS)
    source = video()
    found = frames(source)
    assert [(f.name, f.label, f.group) for f in found] == [
        *((f"films/cat/a.mkv/{i:08d}.png", "cat", "cat/a.mkv") for i in range(5)),
        *((f"films/dog/a.mkv/{i:08d}.png", "dog", "dog/a.mkv") for i in range(4)),
    ]
    drawn = [*scenes(5), *scenes(4, seed=1)]
    assert all(np.array_equal(pixels(f), d) for f, d in zip(found, drawn, strict=True))
    assert [f.facts for f in found[:2]] == [{"frame": 0, "time": 0.0}, {"frame": 1, "time": 0.1}]
    assert "Films: 2 (ffv1 2), of which 9 of 9 frames are taken (one of 1)." in source.understood()


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"stride": 4}, [0, 4, 8]),
        ({"fps": 2.5}, [0, 4, 8]),
        ({"fps": 3}, [0, 4, 7, 10]),  # the first frame at or after each third of a second
        ({"fps": 100}, list(range(12))),
        ({"most_frames": 2, "stride": 3}, [0, 3]),
    ],
)
def test_frames_are_chosen_by_stride_or_by_time(tmp_path: Path, options: dict[str, object], taken: list[int]) -> None:
    write_film(tmp_path / "films/a.mkv", scenes(12), **LOSSLESS)
    source = video(**options)
    found = frames(source)
    assert [f.facts["frame"] for f in found] == taken
    assert all(np.array_equal(pixels(f), scenes(12)[f.facts["frame"]]) for f in found)
    cut = [note for note in source.notes() if "longer film" in note]
    assert bool(cut) == ("most_frames" in options)


def test_shots_are_part_of_names_and_facts(tmp_path: Path) -> None:
    write_film(tmp_path / "films/a.mkv", [*scenes(4), *scenes(3, background=(220, 220, 200))], **LOSSLESS)
    source = video(shots="detect")
    assert [(f.name.removeprefix("films/a.mkv/"), f.facts["shot"]) for f in frames(source)] == [
        *((f"shot-0000/{i:08d}.png", 0) for i in range(4)),
        *((f"shot-0001/{i:08d}.png", 1) for i in range(4, 7)),
    ]
    assert [fact.name for fact in source.facts()] == ["frame", "time", "shot"]
    assert {fact.use for fact in source.facts()} == {"given"}


def test_one_bad_film_costs_that_film_alone(tmp_path: Path) -> None:
    root = tmp_path / "films"
    whole = write_film(root / "good.mkv", scenes(3), **LOSSLESS).read_bytes()
    (root / "cut.mkv").write_bytes(whole[:-100])
    (root / "list.m3u8").write_text("#EXTM3U\nfile:///etc/passwd\n")
    (root / "notes.txt").write_text("not a film")
    (root / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(50))
    (root / ".hidden.mp4").write_bytes(whole)
    (root / "link.mkv").symlink_to("/etc/hostname")
    (root / b"\xff.mkv".decode("utf-8", "surrogateescape")).write_bytes(whole)
    os.mkfifo(root / "pipe.mp4")
    items = list(video().candidates())
    ends = {Path(i.name).name: i.reason for i in items if isinstance(i, Refused | LeftOut)}
    assert ends == {
        "cut.mkv": "truncated",
        "list.m3u8": "not_a_film",
        "notes.txt": "other_file",
        "photo.jpg": "other_file",
        ".hidden.mp4": "hidden",
        "link.mkv": "outside_root",
        r"\xff.mkv": "name_not_utf8",
        "pipe.mp4": "not_a_file",
    }
    assert sum(isinstance(item, Candidate) for item in items) == 3


def test_limits_refuse_a_film_with_a_sentence(tmp_path: Path) -> None:
    write_film(tmp_path / "films/a.mkv", scenes(9), **LOSSLESS)
    cases = {"longest_film": (8, "too_many_frames"), "max_gigabytes": (1e-6, "too_many_bytes")}
    for option, (value, reason) in cases.items():
        (refused,) = video(**{option: value}).candidates()
        assert isinstance(refused, Refused) and refused.reason == reason and option in refused.detail
    large = video()
    large.max_pixels = 1000
    (refused,) = large.candidates()
    assert isinstance(refused, Refused) and refused.reason == "too_many_pixels"
    source = video(max_side=16)
    small = frames(source)
    assert pixels(small[0]).shape == (12, 16, 3)


def test_ingest_keeps_frames_and_removes_its_scratch(tmp_path: Path) -> None:
    for seed in range(4):
        write_film(tmp_path / f"films/{seed}.mkv", scenes(6, seed=seed), **LOSSLESS)
    (tmp_path / "films/empty.mp4").touch()
    out = tmp_path / "out"
    out.mkdir()
    source = video()
    card = ingest(source, SourceParams(name="video", root="films"), out, 1, published=out)
    manifest = read_manifest(out / "manifest.parquet").to_pylist()
    assert card["kept"] == 24 and read_quarantine(out / "quarantine.parquet").num_rows == 1
    assert read_left_out(out / "left_out.parquet").num_rows == 0
    names = read_names(out)
    assert len({row["group"] for row in manifest}) == 4
    assert all(names[row["key"]].startswith(f"films/{row['group']}/") for row in manifest)
    by_group: dict[str, set[str]] = {}
    for row in manifest:
        by_group.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in by_group.values())
    facts = read_facts(out)
    assert set(facts.columns["frame"].tolist()) == set(range(6)) and facts.columns["time"].max() == 0.5
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    again = tmp_path / "again"
    again.mkdir()
    ingest(video(), SourceParams(name="video", root="films"), again, 1, published=out)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == before
    del source
    gc.collect()
    assert not list((tmp_path / side_by_side.SCRATCH).iterdir())


def test_frames_of_more_than_eight_bits_go_through_the_range_of_the_source(tmp_path: Path) -> None:
    for seed in range(3):
        deep = [scene.astype(np.uint16) * 257 for scene in scenes(3, seed=seed)]
        write_film(tmp_path / f"films/{seed}.mkv", deep, "ffv1", "yuv444p10le", source="rgb48le")
    out = tmp_path / "out"
    out.mkdir()
    card = ingest(video(), SourceParams(name="video", root="films"), out, 1, published=out)
    rows = read_manifest(out / "manifest.parquet").to_pylist()
    assert {(row["sample"], row["low"], row["high"]) for row in rows} == {("uint16", 0.0, 65535.0)} and len(rows) == 9
    assert any("have 10 bits, which fill 16" in note for note in card["notes"])
    assert any("(range): 9 images" in sentence for sentence in card["changed"])


def test_groups_of_folders_and_options_that_contradict_each_other(tmp_path: Path) -> None:
    for place in ("cat/home/a.mkv", "cat/home/b.mkv", "dog/park/c.mkv", "dog/d.mkv"):
        write_film(tmp_path / "films" / place, scenes(2, seed=len(place)), **LOSSLESS)
    found = frames(video(group="folder", labels="folders"))
    assert [f.group for f in found[::2]] == ["home", "home", "dog/d.mkv", "park"]
    with pytest.raises(ValidationError, match="stride and fps"):
        video(stride=2, fps=1)
    with pytest.raises(SourceError, match="cannot be read|does not exist|missing|no such"):
        list(video("nowhere").candidates())


def test_the_source_for_images_points_to_this_one_and_films_are_no_volumes(tmp_path: Path) -> None:
    write_film(tmp_path / "films/a.mkv", scenes(2), **LOSSLESS)
    said = "1 files have the name of a film"
    assert look(tmp_path / "films")["films"] == 1
    folder = Folder(tmp_path / "films", Folder.Params())
    list(folder.candidates())
    assert folder.notes() == [f"{said}, for instance a.mkv: the source `video` reads films."]
    source = video()
    source.modality = "volume"
    with pytest.raises(SourceError, match="the frames of films are images"):
        list(source.candidates())


def test_the_extent_follows_the_bytes(tmp_path: Path) -> None:
    film = write_film(tmp_path / "films/a.mkv", scenes(3), **LOSSLESS)
    before = video().extent()
    data = bytearray(film.read_bytes())
    data[-1] ^= 1
    film.write_bytes(data)
    assert video().extent().digest != before.digest


def end_process(task: Task) -> Result:
    if "killer" in task.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    return take_frames(task)


@pytest.mark.slow
def test_a_film_that_ends_its_decoder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(side_by_side, "take_frames", end_process)
    for name in ("a", "killer", "z"):
        write_film(tmp_path / f"films/{name}.mkv", scenes(3), **LOSSLESS)
    items = list(video().candidates())
    assert [type(item) for item in items] == [Candidate] * 3 + [Refused] + [Candidate] * 3
    assert items[3].reason == "crashed_decoder" and "SIGSEGV" in items[3].detail  # type: ignore[union-attr]
    assert CPU_SECONDS <= 60


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / side_by_side.SCRATCH / "999999999-gone"
    left.mkdir(parents=True)
    write_film(tmp_path / "films/a.mkv", scenes(2), **LOSSLESS)
    source = video()
    list(source.candidates())
    assert not left.exists() and len(list((tmp_path / side_by_side.SCRATCH).iterdir())) == 1
