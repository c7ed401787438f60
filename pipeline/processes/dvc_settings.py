"""Read DVC's settings without starting DVC: the same files in the same order, with the parser that DVC uses itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import platformdirs
from configobj import ConfigObj, ConfigObjError


def settings_files(root: Path, environment: Mapping[str, str]) -> list[Path]:
    """Return the files of settings that DVC reads in a folder: of the system, the user, the project and the machine.

    A later file takes precedence. The project may be a folder of a larger DVC repository.

    Args:
        root: the project folder.
        environment: environment variables, which may name other folders of settings.
    """
    root = root.resolve()
    above = next((folder for folder in (root, *root.parents) if (folder / ".dvc").is_dir()), root)
    folders = [
        environment.get("DVC_SYSTEM_CONFIG_DIR") or platformdirs.site_config_dir("dvc", "iterative"),
        environment.get("DVC_GLOBAL_CONFIG_DIR") or platformdirs.user_config_dir("dvc", "iterative"),
    ]
    return [*(Path(folder) / "config" for folder in folders), above / ".dvc/config", above / ".dvc/config.local"]


def dvc_setting(root: Path, environment: Mapping[str, str], section: str, name: str) -> Any:
    """Return the value of a setting of DVC as it is written ("true"), or None if no file sets it."""
    value = None
    for path in settings_files(root, environment):
        try:
            tree = parse_settings(path.read_bytes().decode("utf-8-sig", "replace"))
        except OSError:
            continue
        for title, block in tree.items():
            if title.strip().lower() == section and isinstance(block, dict):
                value = next((each for key, each in block.items() if key.lower() == name), value)
    return value


def parse_settings(text: str, *, interpolate: bool = False) -> dict[str, Any]:
    """Return the sections of a file of settings; of one that DVC refuses, what can be read.

    Args:
        text: content of the file.
        interpolate: whether to replace `%(name)s`, as DVC does.
    """
    try:
        tree = ConfigObj(text.splitlines(), interpolation=interpolate)
    except ConfigObjError as error:
        tree = error.config
    try:
        return tree.dict() if tree is not None else {}
    except ConfigObjError:  # a name that is not there
        return {}


def leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield name and value of every entry of nested mappings, without the names above it."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, str(key))
    else:
        yield name, tree
