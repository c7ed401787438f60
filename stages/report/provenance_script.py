"""provenance.js: the facts that differ from run to run (time, machine, versions, revision), in a file beside the page.

The page is a pure function of its inputs; this file is not, so DVC does not track it. The page reads it where it
exists and says "not recorded" where it does not.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from reprise.artifacts.layout import REPORT_PROVENANCE
from reprise.storage.atomic import atomic_file
from reprise.storage.provenance import FOLDER
from stages.report.text import LONGEST, embed_json, one_line

VARIABLE = "REPRISE_PROVENANCE"
_MOST_RECORDS = 1000


def write_provenance_script(path: Path = REPORT_PROVENANCE) -> None:
    """Gather `.reprise/provenance/**.json` into a script that sets one global variable.

    Records that cannot be read are left out: no result depends on provenance.
    """
    files = sorted(FOLDER.rglob("*.json"))[:_MOST_RECORDS]
    records = [record for file in files if (record := _read(file)) is not None]
    with atomic_file(path, "w") as file:
        file.write(f"window.{VARIABLE} = {embed_json(records)};\n")


def _read(path: Path) -> dict[str, Any] | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(raw, dict):
        return None
    return {one_line(k): _plain(v) for k, v in raw.items()} | {
        "record": path.relative_to(FOLDER).with_suffix("").as_posix()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {one_line(k): _plain(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, int | float | bool | None) else one_line(value, LONGEST)
