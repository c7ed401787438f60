"""The files of a new project, made from those of the repository, which a wheel brings along.

The graph is the repository's own, but for the command that starts a stage and for the code on which `check` depends.
Parameters come from a preset; what it leaves out stands below it, each section at its defaults.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.projects.presets import Preset
from reprise.artifacts.layout import run as run_folder
from reprise.config.params import read_yaml
from reprise.storage.code.places import LINKS, PROJECT_FILES

_COPIED = Path(__file__).with_name("copied_files.txt").read_text(encoding="utf-8").split()  # setup.py reads it too
_CODE = f"{LINKS.as_posix()}/reprise, {LINKS.as_posix()}/stages"
_IN_GRAPH = {  # what the repository's dvc.yaml says -> what the one of a project without code says
    "logic in stages/.": "logic in Reprise.",
    "python -P stages/run.py ": "python -P -m reprise.start ",
    "deps: [params.yaml, stages, reprise, plugins]": f"deps: [params.yaml, {_CODE}, plugins]",
}
_IN_SCHEDULES = {
    "entrypoint: pipeline/flows/entrypoints.py:": "entrypoint: reprise.flows.",
    "`make serve`": "`reprise flows serve`",
    "`make deploy`": "`reprise flows deploy`",
    "; docs/how-to/scheduling.md explains each line": "",
}
_LONGEST_TITLE = 200  # as stages/report/params.py allows
_WEEKLY = "\n  - name: weekly\n"  # begins the last deployment, of a sweep whose plan is about runs of the repository
_EVERYTHING_ELSE = """
# ---- everything else is at its defaults --------------------------------------------------------------------
# `reprise params` lists all parameters, `reprise params SECTION` those of a section with their meaning and range, and
# `reprise list` the methods, probes and other plug-ins whose names may stand above.
"""


def project_files(preset: Preset, images: Path | None, name: str, source: str | None = None) -> dict[str, str]:
    """Return the text of every file of a new project by its path.

    Args:
        preset: where the parameters come from.
        images: what the source reads, absolute; None leaves the preset's own.
        source: what reads the images in place of the source `folder`; None leaves the preset's own.
        name: of the project. The report of a project about the user's own images has it as its heading.
    """
    texts = {name: _read(name) for name in _COPIED}
    texts["params.yaml"] = params_text(preset, images, name if images else None, source)
    raw = YAML(typ="safe").load(texts["params.yaml"])
    texts["dvc.yaml"] = _replaced("dvc.yaml", _IN_GRAPH).partition("\n# `reprise get")[0] + _artifacts(raw)
    schedules = _replaced("prefect.yaml", _IN_SCHEDULES)
    texts["prefect.yaml"] = schedules.partition(_WEEKLY)[0]
    return texts


def params_text(preset: Preset, images: Path | None, title: str | None = None, source: str | None = None) -> str:
    """Return the params.yaml of a preset, with all tables and sections that the graph needs.

    Args:
        preset: the preset.
        images: what the source reads; None leaves the preset's own.
        source: what reads the images in place of the source `folder`; None leaves the preset's own.
        title: the heading of the report; None leaves it to the source.
    """
    text = preset.text
    if images is not None:
        root = json.dumps(str(images), ensure_ascii=False)
        text = re.sub(r"(?m)^(  root: )[^\s#]+", lambda found: found[1] + root, text, count=1)
    if source is not None:
        text = re.sub(r"(?m)^(source:\n  name: )folder$", lambda found: found[1] + source, text, count=1)
    if source == "webdataset":  # it has no folders that could be classes
        text = re.sub(r"(?m)^  options: \{layout: flat\}.*\n", "", text, count=1)
    raw = YAML(typ="safe").load(text)
    shipped = read_yaml(PROJECT_FILES / "params.yaml")
    declared = _declared_one_by_one()
    rest = {key: _at_defaults(key, value, raw, declared) for key, value in shipped.items() if key not in raw}
    if title and "report" in rest:
        rest["report"] |= {"title": title[:_LONGEST_TITLE]}
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = None  # the innermost level on one line
    yaml.width = 110
    yaml.dump(rest, stream)
    return text.rstrip("\n") + "\n" + _EVERYTHING_ELSE + stream.getvalue()


def _at_defaults(key: str, shipped: Any, raw: Mapping[str, Any], declared: Iterable[str]) -> Any:
    """Return what stands for a table or section that the preset leaves out.

    Tables have no rows then, and the sections of their rows no blocks. Which probes run is said by listing them, so
    those of the repository's own params.yaml are taken.
    """
    if key == "probes":
        return {row["name"]: shipped[row["name"]] for row in raw["suites"]}
    if key == "representations":
        return shipped
    if isinstance(shipped, list):
        return []
    return {name: value for name, value in shipped.items() if f"{key}.{name}" in declared}


def _declared_one_by_one() -> set[str]:
    """Return the parameters that dvc.yaml names by section and name: DVC stops where one of them is missing."""
    graph = YAML(typ="safe").load(_read("dvc.yaml"))
    names = {name for stage in graph["stages"].values() for name in stage.get("params", ())}
    return {name for name in names if "." in name and "$" not in name}


def _artifacts(raw: Mapping[str, Any]) -> str:
    """Return the end of dvc.yaml, which gives the backbone of each run a name."""
    rows = [
        f"  {row['name']}: {{path: {run_folder(row['name'], raw['seeds'][0]).as_posix()}, type: model, "
        f"desc: Backbone of the run {row['name']}, labels: [backbone]}}\n"
        for row in raw["runs"]
        if row["method"] != "random"
    ]
    return "\n# `reprise get RUN --out backbone`: weights and config.json of a run.\nartifacts:\n" + "".join(rows)


def _replaced(name: str, replacements: Mapping[str, str]) -> str:
    text = _read(name)
    for old, new in replacements.items():
        assert old in text, f"{name} no longer says {old!r}"
        text = text.replace(old, new)
    return text


def _read(name: str) -> str:
    return (PROJECT_FILES / name).read_text(encoding="utf-8")
