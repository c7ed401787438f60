"""video: a folder of films; their frames become images, and each film is a group.

The frames are decoded by FFmpeg through PyAV (`pip install "reprise[video]"`) in processes of their own, kept without
loss, and named FILM/00000012.png by their number in the film. A frame's number, its time and its shot are facts, which
methods and miners may read. Folders mean what they mean for the source `folder`.

Source: no publication; the films are the user's own.

Checked by: tests/stages/ingest/sources/test_video.py; tests/reprise/media/video/test_film.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from reprise.config.errors import SourceError, printable
from reprise.config.facts import Fact
from reprise.config.params import meaning
from reprise.config.texts.text_forms import wrong_value
from reprise.media.lookup import IMAGE
from reprise.storage.listing import digest_folder
from reprise.storage.walk import LEFT_OUT, list_entries
from stages.ingest.names.groups import Grouping, check_grouping, group_finder
from stages.ingest.names.layout import understand
from stages.ingest.names.reading import FolderParams
from stages.ingest.source import Candidate, Extent, LeftOut, Refused, Source
from stages.ingest.source_state import refuse_own_artifacts

if TYPE_CHECKING:
    from stages.ingest.films.take import Choice, Result, Task

_NAMED = 3  # films in a sentence
_OTHERS = ("not_a_film", "empty")  # refused only where the name says that it is a film
_DIGITS = 8


@dataclass(frozen=True)
class _Film:
    """A file that may be a film: its path below the root, what is wanted of it, and what its frames have in common."""

    name: str
    task: Task
    whole: Candidate


class Video(Source):
    """Films of the user, frame by frame."""

    class Params(FolderParams):
        """Options of video."""

        group: Annotated[
            Literal["film", "folder"],
            meaning(
                "Images of one group stay in one split: those of a film, or of all films in a folder below the class; "
                "a film that lies in no such folder is a group."
            ),
        ] = "film"
        group_level: Annotated[
            int, Field(ge=1, le=100), meaning("With `group: folder`, this folder counted from the class is the group.")
        ] = 1
        stride: Annotated[
            int, Field(ge=1, le=1_000_000), meaning("The first of so many frames is taken.", "frames")
        ] = 1
        fps: Annotated[
            float | None,
            Field(gt=0, le=1000),
            meaning("So many frames a second are taken, in place of `stride`; null leaves it to `stride`.", "1/s"),
        ] = None
        most_frames: Annotated[
            int | None,
            Field(ge=1),
            meaning("At most so many frames of a film are taken, from its beginning; null takes all.", "frames"),
        ] = None
        longest_film: Annotated[int, Field(ge=1), meaning("Films of more frames than this are refused.", "frames")] = (
            1_000_000
        )
        max_gigabytes: Annotated[
            float,
            Field(gt=0),
            meaning("Films are refused whose frames, kept without loss, take more than this on disk.", "GiB"),
        ] = 100.0
        max_side: Annotated[
            int | None,
            Field(ge=1),
            meaning("Frames are kept scaled down to this longer side; null keeps their size.", "pixels"),
        ] = None
        shots: Annotated[
            Literal["none", "detect"],
            meaning("With `detect`, the number of the shot becomes a fact and part of a frame's name."),
        ] = "none"
        shot_threshold: Annotated[
            float,
            Field(gt=0, lt=1),
            meaning("A shot begins where the colours of two frames differ by more than this share of the picture."),
        ] = 0.5
        link_roots: Annotated[
            list[Annotated[str, Field(min_length=1, max_length=4096)]],
            Field(default_factory=list, max_length=100),
            meaning("Links that lead into these folders are followed; other links that leave the root are refused."),
        ]

        @model_validator(mode="after")
        def _whole(self) -> Self:
            """Refuse options that contradict each other."""
            if self.fps is not None and self.stride != 1:
                raise wrong_value("stride and fps say the same thing: set one of them")
            return self

    reads: ClassVar[str] = "a film or a folder of films"
    title: ClassVar[str] = "Frames of films"
    citation: ClassVar[str] = ""
    licence: ClassVar[str] = "as the owner of the films says"
    keeps_names: ClassVar[bool] = True
    views: ClassVar[dict[str, Any]] = {
        "crop_scale_min": 0.2,
        "flip": True,
        "jitter": 0.8,
        "grey": 0.2,
        "blur": 0.5,
        "solarize": 0.0,
    }

    def __init__(self, root: Path | str, options: Any) -> None:
        super().__init__(root, options)
        self._understood: list[str] = []
        self._taken: dict[str, Result] = {}

    def facts(self) -> Sequence[Fact]:
        """Declare what is known of a frame; methods may read it, since it comes with the film as the pixels do."""
        shot = Fact("shot", "number", "given", "Number of the shot in the film, from 0.")
        return (
            Fact("frame", "number", "given", "Number of the frame in the film, from 0."),
            Fact("time", "number", "given", "Seconds after the first frame of the film."),
            *([shot] if self.options.shots == "detect" else []),
        )

    def candidates(self) -> Iterator[Candidate | Refused | LeftOut]:
        """Yield the frames of every film, in the order of the films' names.

        Raises:
            SourceError: the root cannot be read, its folders can be read in two ways, PyAV is not installed, or
                volumes are wanted.
            MachineError: films cannot be decoded, and the machine is the reason.
        """
        from reprise.media.video.film import require_pyav
        from reprise.runtime.entry import workers
        from stages.ingest.films.decode import decode_films

        refuse_own_artifacts(self.root)
        require_pyav("source.name: video")
        if self.modality != IMAGE:
            raise SourceError(
                "the frames of films are images",
                where="source.modality",
                found=self.modality,
                fix="Set it to `image`, or remove it.",
            )
        entries = list_entries(self.root, self.link_roots())
        films = self._films([entry.text for entry in entries if entry.reason is None])
        results = decode_films([film.task for film in films.values()], self.max_pixels, workers())
        for entry in entries:
            path = str(self.root / entry.text)
            if entry.reason is not None:
                yield (LeftOut if entry.reason in LEFT_OUT else Refused)(path, entry.reason, entry.detail)
            elif entry.text in films:
                yield from self._frames(films[entry.text], next(results))
            else:
                detail = "it lies in no folder that is a split (source.options.splits names further ones)"
                yield Refused(path, "outside_splits", detail)

    def _films(self, names: list[str]) -> dict[str, _Film]:
        """Place each file by its name, and say what is wanted of it.

        Raises:
            SourceError: the folders can be read in two ways, or no film has a group.
        """
        from reprise.media.video.container import claims_film
        from stages.ingest.films.decode import scratch_folder
        from stages.ingest.films.take import Task

        options, scratch, choice = self.options, scratch_folder(self), self._choice()
        claimed = [name for name in names if claims_film(name)] or names
        grouping = Grouping("folder" if options.group == "folder" else "none", options.group_level)
        layout = understand(
            claimed, self.root, options.layout, options.labels, options.splits, grouping.rule == "folder"
        )
        group_of = group_finder(grouping, names)
        films: dict[str, _Film] = {}
        for name in names:
            place, path = layout.place(name), str(self.root / name)
            if place is not None:
                split, label, below = place
                task = Task(path, path, choice, str(scratch / str(len(films))))
                films[name] = _Film(name, task, Candidate(path, path, split, label, group_of(name, below)))
        said = check_grouping(grouping, [films[name].whole for name in claimed if name in films], self.root)
        self._understood, self._taken = [*layout.sentences, said or "Each film is a group."], {}
        return films

    def _choice(self) -> Choice:
        from stages.ingest.films.take import Choice

        options = self.options
        return Choice(
            options.stride,
            options.fps,
            options.most_frames,
            options.longest_film,
            int(options.max_gigabytes * 2**30),
            options.max_side,
            options.shot_threshold if options.shots == "detect" else None,
            self.max_pixels,
        )

    def _frames(self, film: _Film, result: Result) -> Iterator[Candidate | Refused | LeftOut]:
        """Yield the frames of a film, or say why there are none."""
        from reprise.media.video.container import claims_film
        from stages.ingest.films.take import Kept

        path = film.task.path
        if result.reason in _OTHERS and not claims_film(film.name):
            yield LeftOut(path, "other_file", f"it is no film and has no film's name: {result.detail}")
            return
        if result.reason:
            yield Refused(path, result.reason, result.detail)
            return
        self._taken[path] = result
        for frame in result.frames:
            shot = "" if frame.shot is None else f"shot-{frame.shot:04d}/"
            known = {"frame": frame.index, "time": frame.seconds, "shot": frame.shot}
            yield replace(
                film.whole,
                name=f"{path}/{shot}{frame.index:0{_DIGITS}d}.png",
                reference=Kept(film.task.output, frame.offset, frame.size),
                group=film.name if film.whole.group is None else film.whole.group,
                facts={name: value for name, value in known.items() if value is not None},
            )

    def link_roots(self) -> tuple[str, ...]:
        """Return the folders that the options name."""
        return tuple(self.options.link_roots)

    def extent(self) -> Extent:
        """Compute the digest of names and contents, without reading unchanged films again."""
        refuse_own_artifacts(self.root)
        return Extent(*digest_folder(self.root, link_roots=self.link_roots()))

    def understood(self) -> list[str]:
        """Say what the folders mean, what a group is, and how many frames were taken."""
        results = list(self._taken.values())
        taken, decoded = sum(len(result.frames) for result in results), sum(result.decoded for result in results)
        counts = sorted(Counter(result.codec for result in results).items())
        codecs = ", ".join(f"{codec} {count:,}" for codec, count in counts) or "none"
        how = f"{self.options.fps:g} a second" if self.options.fps else f"one of {self.options.stride}"
        said = f"Films: {len(self._taken):,} ({codecs}), of which {taken:,} of {decoded:,} frames are taken ({how})."
        return [*self._understood, said]

    def notes(self) -> list[str]:
        """Say what a person should know of the frames of some films."""
        by_code: dict[str, list[tuple[str, str]]] = {}
        for name, result in self._taken.items():
            for code, text in result.remarks.items():
                by_code.setdefault(code, []).append((name, text))
        notes = []
        for films in (by_code[code] for code in sorted(by_code)):
            shown = ", ".join(printable(name, 120) for name, _ in films[:_NAMED])
            more = f" and {len(films) - _NAMED:,} more" if len(films) > _NAMED else ""
            notes.append(f"Frames of {len(films):,} film{'s' * (len(films) > 1)} ({shown}{more}) {films[0][1]}.")
        return notes
