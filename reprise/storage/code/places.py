"""Where the code of a project lies: beside its params.yaml, as in a clone, or in a Reprise that is installed.

A project that `reprise init` made holds no code. Its stage `check` depends on `.reprise/installed`, which holds a link
to each installed package. So DVC sees the content of the code, as it does in a clone, and plain `dvc repro` notices
another version of Reprise. The links belong to one machine: git ignores them, and `reprise repro` renews them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from reprise.config.errors import GraphError
from reprise.storage.atomic import explained_storage

PACKAGES = ("reprise", "stages")  # whose code can be part of a fingerprint
LINKS = Path(".reprise/installed")
_TOP = Path(__file__).resolve().parents[3]
INSTALLED = _TOP / "reprise" / "installed"  # what a wheel moves there: setup.py
PROJECT_FILES = INSTALLED / "project" if INSTALLED.is_dir() else _TOP  # dvc.yaml and what else a new project needs


def folder_of(package: str) -> Path:
    """Return the folder that holds one of our packages (`reprise`, `stages` or `pipeline`) for this process."""
    return INSTALLED if package != "reprise" and INSTALLED.is_dir() else _TOP


def uses_installed_code(root: Path) -> bool:
    """Tell whether a project has no code of its own, which its dvc.yaml says by depending on links."""
    with suppress(OSError):
        return f"{LINKS.as_posix()}/" in (root / "dvc.yaml").read_text(encoding="utf-8", errors="replace")
    return False


def code_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each of PACKAGES on which the project's `check` depends."""
    parent = root / LINKS if uses_installed_code(root) else root
    return {package: parent / package for package in PACKAGES}


def link_installed_code(root: Path) -> None:
    """Renew the links of a project without code, so that they lead to the packages of this process.

    Raises:
        StorageError: a link cannot be written.
    """
    if not uses_installed_code(root):
        return
    for package, link in code_folders(root).items():
        target = str(folder_of(package) / package)
        if link.is_symlink() and os.readlink(link) == target:
            continue
        with explained_storage(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            new = link.with_name(f".partial-{package}-{os.getpid()}")
            new.unlink(missing_ok=True)
            new.symlink_to(target, target_is_directory=True)
            new.replace(link)


def refuse_other_installation(root: Path) -> None:
    """Stop where DVC looks at the code of another installation than the one that runs.

    Raises:
        GraphError: a link leads elsewhere, or is missing.
    """
    if not uses_installed_code(root):
        return
    for package, link in code_folders(root).items():
        if link.resolve() != (folder_of(package) / package).resolve():
            raise GraphError(
                "this project is linked to another installation of Reprise than the one that runs",
                where=link,
                found=os.path.realpath(link) if link.is_symlink() else "no link",
                fix="Run `reprise repro`, which renews the links, in the environment that you mean.",
            )
