"""Folders of the form <root>/<name>/<seed>, in which mine and pretrain write."""

from __future__ import annotations

from pathlib import Path


def seed_folders(root: Path) -> list[tuple[str, int, Path]]:
    """List (name, seed, folder) of every <root>/<name>/<seed>, sorted by name, then by seed as a number."""
    folders = [f for f in root.glob("*/*") if f.is_dir() and f.name.isdecimal() and f.name.isascii()]
    return sorted((f.parent.name, int(f.name), f) for f in folders)
