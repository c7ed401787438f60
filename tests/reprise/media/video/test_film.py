"""Films: what they say of themselves, every frame exactly, and everything that is no film refused with a sentence."""

from __future__ import annotations

import io
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from reprise.config.errors import ImageRefused, SourceError
from reprise.media.video import film as reading
from reprise.media.video.container import claims_film
from reprise.media.video.film import open_film
from reprise.media.video.shots import Shots, distance, histogram
from tests.films import LOSSLESS, scene, scenes, write_film

pytest.importorskip("av")
LIMIT = 10**6


def read(path: Path, max_pixels: int = LIMIT) -> tuple[reading.Described, list[np.ndarray], list[Fraction | None]]:
    with open(path, "rb") as file, open_film(file, path.name, max_pixels) as film:
        frames = [(frame.pixels(), frame.time, frame.index) for frame in film.frames()]
    assert [index for *_, index in frames] == list(range(len(frames)))
    return film.described, [pixels for pixels, *_ in frames], [time for _, time, _ in frames]


def refusal(path: Path, max_pixels: int = LIMIT) -> tuple[str, str]:
    with pytest.raises(ImageRefused) as refused:
        read(path, max_pixels)
    assert refused.value.fix.endswith(".")
    return refused.value.what, refused.value.found


def test_every_frame_of_a_lossless_film_is_the_one_that_was_drawn(tmp_path: Path) -> None:
    drawn = scenes(12)
    described, pixels, times = read(write_film(tmp_path / "a.mkv", drawn, **LOSSLESS))
    assert (described.container, described.codec, described.width, described.height) == ("matroska", "ffv1", 64, 48)
    assert all(np.array_equal(a, b) for a, b in zip(pixels, drawn, strict=True))
    assert times == [Fraction(i, 10) for i in range(12)] and described.remarks == {}


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("a.mp4", "libx264", "mov"),  # with frames that are stored in another order than they are shown
        ("a.webm", "libvpx-vp9", "matroska"),
        ("a.avi", "mpeg4", "avi"),
        ("a.ts", "libx264", "mpegts"),
        ("a.flv", "flv", "flv"),
        ("a.mpg", "mpeg2video", "mpeg"),
        ("a.y4m", "wrapped_avframe", "yuv4mpegpipe"),
    ],
)
def test_frames_come_in_the_order_in_which_they_are_shown(
    tmp_path: Path, name: str, codec: str, container: str
) -> None:
    drawn = scenes(20)
    path = write_film(tmp_path / name, drawn, codec, options={"b": "2M"} if codec == "mpeg2video" else None)
    described, pixels, times = read(path)
    assert described.container == container and len(pixels) == 20
    nearest = [int(np.argmin([np.abs(p.astype(int) - d).mean() for d in drawn])) for p in pixels]
    assert nearest == list(range(20)) and times == sorted(set(times))  # type: ignore[type-var]
    assert all(np.array_equal(a, b) for a, b in zip(pixels, read(path)[1], strict=True))


@pytest.mark.parametrize(("lines", "matrix"), [(48, (0.299, 0.114)), (720, (0.2126, 0.0722))])
def test_colours_follow_the_matrix_of_the_standard(tmp_path: Path, lines: int, matrix: tuple[float, float]) -> None:
    y, cb, cr = 120, 100, 160
    planes = np.concatenate([np.full((lines, 64), value, np.uint8) for value in (y, cb, cr)])
    path = tmp_path / "a.mkv"
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, lines, "yuv444p"  # type: ignore[union-attr]
        frame = av.VideoFrame(64, lines, "yuv444p")
        for plane, rows in zip(frame.planes, np.split(planes, 3), strict=True):
            plane.update(np.ascontiguousarray(rows).tobytes() if plane.line_size == 64 else rows.tobytes())
        container.mux(stream.encode(frame))  # type: ignore[union-attr]
        container.mux(stream.encode(None))  # type: ignore[union-attr]
    red, blue = matrix
    luma, b, r = (y - 16) / 219, (cb - 128) / 224, (cr - 128) / 224
    rgb = [luma + 2 * (1 - red) * r, 0.0, luma + 2 * (1 - blue) * b]
    rgb[1] = (luma - red * rgb[0] - blue * rgb[2]) / (1 - red - blue)
    pixels = read(path)[1][0]
    assert np.abs(pixels.reshape(-1, 3) - 255 * np.array(rgb)).max() <= 1.01


def test_a_turned_film_is_turned_upright(tmp_path: Path) -> None:
    drawn = scenes(3)
    described, pixels, _ = read(write_film(tmp_path / "a.mov", drawn, "png", "rgb24", turned=90))
    assert (described.width, described.height, described.turns) == (48, 64, 1)
    assert all(np.array_equal(p, np.rot90(d)) for p, d in zip(pixels, drawn, strict=True))
    assert described.remarks["turned"] == "are turned by 90 degrees, as the film says"


def test_deep_grey_and_transparent_frames(tmp_path: Path) -> None:
    grey = [np.full((16, 16), 1000 + i, np.uint16) for i in range(2)]
    described, pixels, _ = read(write_film(tmp_path / "g.mkv", grey, "ffv1", "gray16le", source="gray16le"))
    assert described.bits == 16 and [p.shape for p in pixels] == [(16, 16, 1)] * 2 and pixels[1][0, 0, 0] == 1001
    ten = [np.full((16, 16, 3), 65535, np.uint16)]
    described, pixels, _ = read(write_film(tmp_path / "d.mkv", ten, "ffv1", "yuv444p10le", source="rgb48le"))
    assert described.bits == 10 and pixels[0].dtype == np.uint16 and pixels[0].min() > 65000
    clear = [np.dstack([scene(0), np.full((48, 64), alpha, np.uint8)]) for alpha in (255, 0)]
    described, pixels, _ = read(write_film(tmp_path / "c.mov", clear, "png", "rgba", source="rgba"))
    assert described.alpha and np.array_equal(pixels[0], scene(0)) and (pixels[1] == 255).all()
    assert "transparency" in described.remarks


def test_frames_of_different_lengths_keep_their_times(tmp_path: Path) -> None:
    at = [0, 5, 30, 31, 90]
    _, pixels, times = read(write_film(tmp_path / "v.mkv", scenes(5), times=at, **LOSSLESS))
    assert times == [Fraction(t, 100) for t in at] and len(pixels) == 5


def test_what_is_no_film_is_refused(tmp_path: Path) -> None:
    secret = write_film(tmp_path / "secret.mp4", scenes(3))
    contents = {
        "empty.mp4": (b"", "empty"),
        "text.mp4": (b"hello", "not_a_film"),
        "list.mp4": (f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n".encode(), "not_a_film"),
        "concat.mkv": (f"ffconcat version 1.0\nfile {secret}\n".encode(), "not_a_film"),
        "dash.mp4": (f"<?xml version='1.0'?><MPD><BaseURL>{secret}</BaseURL></MPD>".encode(), "not_a_film"),
        "stream.avi": (b"v=0\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n", "not_a_film"),
        "picture.mp4": (b"\0\0\0\x1cftypavif" + bytes(100), "not_a_film"),
        "photo.mp4": (b"\xff\xd8\xff\xe0" + bytes(100), "not_a_film"),
        "zeros.mp4": (b"\0\0\0\x10ftypisom" + bytes(4), "undecodable"),
        "noise.mkv": (b"\x1aE\xdf\xa3" + bytes(range(256)) * 8, "undecodable"),
        "huge.mkv": (b"\x1aE\xdf\xa3\x01" + b"\x7f" * 20, "truncated"),
        "cut.mp4": (secret.read_bytes()[:-40], "truncated"),
    }
    for name, (data, code) in contents.items():
        (tmp_path / name).write_bytes(data)
        assert refusal(tmp_path / name)[0] == code, name
    assert "names other files" in refusal(tmp_path / "list.mp4")[1]
    assert refusal(secret, 3000)[0] == "too_many_pixels"
    assert claims_film("x/list.M3U8") and not claims_film("x/mp4") and not claims_film("a.mp4/b.txt")


def test_pixels_that_cannot_be_converted_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_film(tmp_path / "a.mkv", scenes(2), **LOSSLESS)

    def unknown(_: object) -> None:
        raise ValueError("Conversion to numpy array with format `xyz12le` is not yet supported")

    monkeypatch.setattr(reading, "pixels_of", unknown)
    assert refusal(path) == ("undecodable", "bgr0 pixels cannot be converted (ValueError)")


def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    assert refusal(path) == ("no_pictures", "streams of audio")


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
def test_a_film_that_is_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    whole = write_film(tmp_path / name, scenes(30), "mpeg4", options=options).read_bytes()
    for part in (0.4, 0.7, 0.95):
        (tmp_path / f"cut-{name}").write_bytes(whole[: int(len(whole) * part)])
        assert refusal(tmp_path / f"cut-{name}")[0] == "truncated", part


def test_a_damaged_frame_ends_a_film_with_a_sentence(tmp_path: Path) -> None:
    whole = write_film(tmp_path / "a.mp4", scenes(30)).read_bytes()
    found = set()
    for place in range(len(whole) // 4, len(whole) * 3 // 4, len(whole) // 40):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        (tmp_path / "b.mp4").write_bytes(damaged)
        try:
            assert len(read(tmp_path / "b.mp4")[1]) == 30
        except ImageRefused as refused:
            found.add(refused.what)
    assert found and found <= {"undecodable", "truncated", "unsupported_codec", "no_pictures", "too_many_pixels"}


@pytest.mark.parametrize(
    ("form", "text"), [("hls", "#EXTM3U\n#EXTINF:1,\nfile://{0}\n#EXT-X-ENDLIST\n"), ("concat", "file '{0}'\n")]
)
def test_no_other_file_is_opened_even_if_a_playlist_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, text: str
) -> None:
    film, asked = write_film(tmp_path / "secret.mp4", scenes(3)), []
    refuse = reading._refuse_other_files

    def recorded(url: str, flags: int, options: dict[str, str]) -> None:
        asked.append(url)
        refuse(url, flags, options)

    monkeypatch.setattr(reading, "_refuse_other_files", recorded)
    monkeypatch.setattr(reading, "container_of", lambda *_: form)
    file = io.BytesIO(text.format(film).encode())
    with pytest.raises(ImageRefused) as refused, open_film(file, "x", LIMIT):
        pass
    assert refused.value.what == "undecodable" and all("secret" in url for url in asked)


def test_without_pyav_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"PyAV, which is not installed .*pip install .reprise\[video\]"):
        reading.require_pyav("source.name: video")


def test_only_the_reader_of_films_imports_pyav(repository: Path) -> None:
    files = [path for folder in ("reprise", "stages", "pipeline") for path in (repository / folder).rglob("*.py")]
    found = {
        path.name for path in files if re.search(r"^ *(import av$|from av\b)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert found == {"film.py", "pixels.py"}


def test_a_cut_is_a_change_of_colours_and_motion_is_none() -> None:
    pictures = [*scenes(6), *scenes(4, background=(200, 210, 190)), *scenes(3)]
    shots = Shots(0.5)
    assert [shots.add(picture) for picture in pictures] == [0] * 6 + [1] * 4 + [2] * 3
    one, other = scene(0), scene(1)
    counts = np.zeros((2, 8, 8, 8))
    for number, picture in enumerate((one, other)):
        for r, g, b in (picture.reshape(-1, 3) // 32).tolist():
            counts[number, r, g, b] += 1
    expected = np.abs(counts[0] - counts[1]).sum() / (2 * 48 * 64)
    assert distance(histogram(one), histogram(other)) == pytest.approx(expected)
    assert distance(histogram(one), histogram(255 - one)) == 1.0
