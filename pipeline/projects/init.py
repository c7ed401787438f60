"""`reprise init`: make a project in a folder that is new or empty.

Everything is written into `.partial-init` inside the folder first, and then each entry moves to its place. So a kill
leaves either a folder that holds nothing but `.partial-init`, which the next `init` begins anew, or one whose entries
are listed there, which the next `init` finishes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.processes.git import git
from pipeline.projects.chosen import chosen_by_names, look_at, read_by, table_hints
from pipeline.projects.contents import project_files
from pipeline.projects.presets import EXAMPLE, UNLABELLED, Preset, load_preset
from pipeline.projects.sizes import expected_train_images, fit_to_images
from reprise.config.errors import GitError, ParameterError, StorageError, WorkspaceBusyError, listed
from reprise.storage.atomic import atomic_file, explained_storage, flock_refusal, write_json
from reprise.storage.code.places import link_installed_code

STAGING = ".partial-init"
_READY = "ready.json"  # lists what moves; exists once all of it has been written
_SHOWN = 8
_PUT_IMAGES = "put yours into data/images of the project, or name their folder as source.root in its params.yaml"


@dataclass(frozen=True)
class NewProject:
    """What `init` has made.

    Attributes:
        folder: the project.
        preset: the preset of its parameters.
        lines: what a person must know: why this preset, what was done about git, what an earlier `init` left.
    """

    folder: Path
    preset: str
    lines: list[str]


def make_project(folder: Path, preset: str | None = None, images: Path | None = None) -> NewProject:
    """Make a project.

    Args:
        folder: where; it is made unless it exists, and must be empty.
        preset: name of a preset; by default what the images show.
        images: what the source reads; by default what the preset names.

    Raises:
        ParameterError: there is no such preset, or it and the images do not go together.
        StorageError: the folder holds something, or cannot be written.
        WorkspaceBusyError: another `reprise init` works in it.
        GitError: git is missing or fails.
        CommandFailed: the folder of images cannot be read; the process has explained why.
    """
    folder, images = Path(os.path.abspath(folder)), Path(os.path.abspath(images)) if images else None
    _refuse_images(folder, images)
    shown = look_at(images, preset) if images is not None else None
    chosen, lines = _chosen(preset, images, shown)
    if images is not None and not chosen.takes_images:
        raise ParameterError(
            f"the preset '{chosen.name}' brings its own images",
            where="--images",
            found=str(images),
            fix=f"Leave --images out, or take another preset, such as {UNLABELLED}.",
        )
    made = not folder.exists()
    with explained_storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        try:
            finished = _finish(folder)
            if finished is not None:
                return NewProject(folder, finished, ["an interrupted `reprise init` was finished, with its own preset"])
            _refuse_content(folder)
            lines += _write(folder, chosen, images, shown["source"] if shown else None)
        except BaseException:
            if not (folder / STAGING / _READY).exists():
                shutil.rmtree(folder / STAGING, ignore_errors=True)
                with suppress(OSError):
                    if made:
                        folder.rmdir()
            raise
        _finish(folder)
    return NewProject(folder, chosen.name, lines)


def _refuse_images(folder: Path, images: Path | None) -> None:
    if images is None:
        return
    if not images.exists():
        raise ParameterError(
            "there are no such images",
            where="--images",
            found=f"nothing called {images}",
            fix="Name the folder or archive that holds them.",
        )
    if folder.resolve().is_relative_to(images.resolve()):
        raise ParameterError(
            "a project cannot lie inside the folder of its images",
            where=folder,
            found=f"images in {images}",
            fix="Make the project elsewhere: the images stay where they are.",
        )


def _chosen(name: str | None, images: Path | None, shown: dict[str, Any] | None) -> tuple[Preset, list[str]]:
    """Return the preset that was named, or the one that fits the images, and sentences that say why.

    Sizes that few images cannot meet are smaller in it than in its file.
    """
    if name is not None:
        named = load_preset(name)
        if shown is None:
            return named, [f"no --images: {_PUT_IMAGES}"] if named.takes_images and images is None else []
        fitting, said = named, []
        if shown["source"] != "folder":
            said = [f"{images}: {' '.join(shown['said'])}", read_by(shown)]
    elif images is None or shown is None:
        return load_preset(EXAMPLE), [f"without --images, the preset is `{EXAMPLE}`, an example with images of its own"]
    else:
        hints = [read_by(shown)] if shown["source"] != "folder" else table_hints(images, shown["tables"])
        fitting, said = chosen_by_names(images, shown, hints)
    preset, changed = fit_to_images(fitting, expected_train_images(fitting, shown) if shown["complete"] else None)
    return preset, said + changed


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder itself, as far as its file system has locks.

    Raises:
        WorkspaceBusyError: another `reprise init` holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # NFS locks no folder that is only read: EBADF
            if isinstance(flock_refusal(descriptor), BlockingIOError):
                raise WorkspaceBusyError(
                    "another `reprise init` works in this folder",
                    where=folder,
                    found="a lock on the folder",
                    fix="Wait until it ends.",
                )
        yield
    finally:
        os.close(descriptor)


def _finish(folder: Path) -> str | None:
    """Move what has been written to its place; return the preset's name, or None where nothing is complete.

    Raises:
        StorageError: something else has taken a place meanwhile.
    """
    staging = folder / STAGING
    if not (staging / _READY).is_file():
        return None
    ready = json.loads((staging / _READY).read_text(encoding="utf-8"))
    for name in ready["entries"]:
        if not os.path.lexists(staging / name):
            continue
        if os.path.lexists(folder / name):
            raise _not_empty(folder, [name])
        with explained_storage(folder / name):
            (staging / name).rename(folder / name)
    with explained_storage(staging):
        shutil.rmtree(staging)
    return str(ready["preset"])


def _refuse_content(folder: Path) -> None:
    found = sorted(set(os.listdir(folder)) - {STAGING})
    if found:
        raise _not_empty(folder, found)


def _not_empty(folder: Path, found: list[str]) -> StorageError:
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return StorageError(
        "a new project needs an empty folder, and nothing is overwritten",
        where=folder,
        found=listed([*found[:_SHOWN], *more]),
        fix="Name a folder that does not exist yet.",
    )


def _write(folder: Path, preset: Preset, images: Path | None, source: str | None) -> list[str]:
    """Write everything into the staging folder; return what a person must know about git."""
    staging = folder / STAGING
    with explained_storage(staging):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        for name, text in project_files(preset, images, folder.name, source).items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(staging / name, "w") as file:
                file.write(text)
    link_installed_code(staging)
    around = _repository(folder)
    said = f"git: the folder belongs to the repository {around}" if around else _begin_repository(staging, preset)
    write_json(staging / _READY, {"preset": preset.name, "entries": sorted(os.listdir(staging))})
    return [said]


def _begin_repository(folder: Path, preset: Preset) -> str:
    """Make a git repository, and commit what the project begins with where git knows who does."""
    git("init", "--quiet", cwd=folder)
    try:
        git("-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT", cwd=folder)  # a made-up name is none
    except GitError:
        return "git: a new repository; set user.name and user.email, then `git add --all && git commit`"
    settings = ("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false")
    git("add", "--all", cwd=folder)
    git(*settings, "commit", "--quiet", "--message", f"Begin with the preset {preset.name}", cwd=folder)
    return "git: a new repository with one commit, of what the project begins with"


def _repository(folder: Path) -> str | None:
    """Return the git repository that the folder lies in, if there is one."""
    try:
        return git("rev-parse", "--show-toplevel", cwd=folder).strip() or None
    except GitError as error:
        if "not in a git repository" in error.what:
            return None
        raise
