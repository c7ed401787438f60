"""For each run a folder with what it starts from and learns from; of random weights there is only a note."""

from __future__ import annotations

import shutil
from pathlib import Path

from reprise.artifacts.models import FACTS, START, TEACHER
from reprise.config.tables import RANDOM, RunRow
from reprise.storage.atomic import write_json


def write_start(run: RunRow, models: Path, folder: Path) -> None:
    """Write the folder of one run.

    Args:
        run: its row.
        models: the folder that holds a folder for each row of `models`.
        folder: to write into; it exists.
    """
    write_json(folder / FACTS, {"from": run.start, "teacher": run.teacher})
    for name, place in ((run.start, START), (run.teacher, TEACHER)):
        if name not in (None, RANDOM):
            shutil.copytree(models / str(name).removeprefix("models/"), folder / place)
