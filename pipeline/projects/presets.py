"""Presets: one file each, whose name is the preset's, from which `reprise init` makes the params.yaml of a new project.

Adding a file to `presets/` adds a preset. It holds the tables and sections of params.yaml that matter for one purpose,
with a comment for each. The lines at its top say what it is for, and then, each after its word:

- `# Images:` what `--images` names, or `none` where the source needs nothing from the user,
- `# Time:` how long the graph took, on which machine; `not measured` where nobody has measured it,
- `# Score:` what came out of it, likewise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from reprise.config.errors import ParameterError
from reprise.config.texts.suggest import nearest

FOLDER = Path(__file__).with_name("presets")
EXAMPLE, LABELLED, UNLABELLED = "digits", "photos-labelled", "photos-unlabelled"
VOLUMES, FILMS = "volumes", "films"
_FACTS = ("Images", "Time", "Score")
_NAME = re.compile(r"[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Preset:
    """One preset.

    Attributes:
        name: the file's name.
        purpose: what it is for, in a sentence.
        images: what `--images` names; `none` where there is nothing to name.
        time: how long the graph takes, with the machine; `not measured` where nobody knows.
        score: what comes out, likewise.
        text: the file.
    """

    name: str
    purpose: str
    images: str
    time: str
    score: str
    text: str

    @property
    def takes_images(self) -> bool:
        """Whether `--images` means anything for it."""
        return self.images != "none"


def preset_names() -> list[str]:
    """List the names of all presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if _NAME.fullmatch(path.stem))


def load_preset(name: str) -> Preset:
    """Read a preset.

    Raises:
        ParameterError: there is no preset of that name, or its first lines leave out what they must say.
    """
    known = preset_names()
    if name not in known:
        raise ParameterError(
            f"there is no preset called '{name}'",
            where="--preset",
            found=name,
            fix=f"Use one of: {', '.join(known)}.{nearest(name, known)}",
        )
    path = FOLDER / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    head = re.match(r"(#[^\n]*\n)+", text)
    lines = [line.removeprefix("#").strip() for line in head[0].splitlines()] if head else []
    facts = {word: line.removeprefix(f"{word}:").strip() for line in lines for word in _FACTS if line.startswith(word)}
    if not lines or sorted(facts) != sorted(_FACTS):
        raise ParameterError(
            "the first lines of a preset say what it is for, and then `# Images:`, `# Time:` and `# Score:`",
            where=path,
            found=f"{len(lines)} lines of comment, {', '.join(facts) or 'none'} among them",
            fix="Complete these lines.",
        )
    return Preset(name, lines[0], facts["Images"], facts["Time"], facts["Score"], text)


def preset_table() -> list[list[str]]:
    """Return a header and a row for each preset."""
    presets = [load_preset(name) for name in preset_names()]
    rows = [[p.name, p.purpose, p.images, p.time, p.score] for p in presets]
    return [["preset", "purpose", "images", "time", "score"], *rows]
