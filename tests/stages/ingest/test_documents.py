"""docs/reference/data-rules.md and the code name the same reasons."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from reprise.media.image import inspect, ranges
from reprise.media.image.readers import raster
from reprise.media.volume import inspect as volume_inspect
from reprise.media.volume import nifti

ROOT = Path(__file__).parents[3]
FILES = [
    *(ROOT / "reprise/media").rglob("*.py"),
    ROOT / "reprise/storage/listing.py",
    ROOT / "reprise/storage/walk.py",
    *(ROOT / "stages/ingest").rglob("*.py"),
    *(ROOT / "reprise/storage/stores").glob("*.py"),
]
CALLS = {
    "ImageRefused": 0,
    "Refused": 1,
    "BadRow": 1,
    "RefusedRow": 0,
    "LeftOut": 1,
    "_refuse": 1,
    "Entry": 2,
    "Finding": 3,
    "Object": 3,
    "refused": 0,  # of a member of an archive
}  # function -> where the reason stands
CODE = re.compile(r"^[a-z][a-z0-9_]+$")


def reasons_in_code() -> set[str]:
    """Literal reasons in calls that refuse, in tables of them, and in what the damage of a file is called."""
    found: set[str] = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and called in CALLS:
                place = CALLS[called]
                if len(node.args) > place:
                    argument = node.args[place]
                    found |= {
                        n.value for n in ast.walk(argument) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                    }
            if isinstance(node, ast.FunctionDef) and node.name in ("damage", "plain_name", "_problem"):
                returned = [n.value for n in ast.walk(node) if isinstance(n, ast.Return) and n.value is not None]
                found |= {c.value for r in returned for c in ast.walk(r) if isinstance(c, ast.Constant)}
            if (
                isinstance(node, ast.Assign)
                and getattr(node.targets[0], "id", "") in ("reasons", "_REFUSED")
                and isinstance(node.value, ast.Dict)
            ):
                found |= {v.elts[0].value for v in node.value.values if isinstance(v, ast.Tuple)}
    return {reason for reason in found if isinstance(reason, str) and CODE.match(reason)}


def test_every_note_is_explained_and_every_explanation_has_a_note() -> None:
    codes = {
        value
        for module in (raster, inspect, ranges, nifti, volume_inspect)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and CODE.match(value)
    }
    text = (ROOT / "docs/reference/data-rules.md").read_text(encoding="utf-8")
    table = text[text.index("| property | note | rule |") :].split("\n\n")[0].splitlines()[2:]
    assert codes == {match[1] for row in table if (match := re.match(r"\| [^|]+ \| `([a-z_]+)` \|", row))}


def test_every_reason_is_explained_and_every_explanation_has_a_reason() -> None:
    rows = [
        line
        for line in (ROOT / "docs/reference/data-rules.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    cells = [match[1] for row in rows if (match := re.search(r"\| ((?:`[a-z0-9_]+`(?:, )?)+) \|$", row))]
    documented = {code for cell in cells for code in re.findall(r"[a-z0-9_]+", cell)}
    assert reasons_in_code() == documented


def test_every_expectation_of_validation_is_in_the_table_with_its_level_and_threshold() -> None:
    text = (ROOT / "docs/reference/data-rules.md").read_text(encoding="utf-8")
    table = text[text.index("| expectation | level | threshold |") :].split("\n\n")[0].splitlines()[2:-1]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    suite = json.loads((ROOT / "stages/validate/suite.json").read_text(encoding="utf-8"))
    wanted = []
    for entry in suite:
        named = [f"`validate.{v[1:]}`" for v in entry["kwargs"].values() if isinstance(v, str) and v.startswith("$")]
        wanted.append([entry["says"], entry["severity"], *(named or [""])])
    assert rows == wanted
