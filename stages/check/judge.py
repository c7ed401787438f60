"""Parameters and code are judged together, and the verdict is kept as long as neither changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reprise.artifacts.layout import CHECKED, NEEDS, PRESENT_CODE
from reprise.config.errors import InputsChanged, printable
from reprise.config.params import PARAMS_FILE, Problem, read_yaml
from reprise.storage.atomic import atomic_directory, write_json
from reprise.storage.code.fingerprint import digest_of_project
from reprise.storage.code.places import code_folders, refuse_other_installation
from reprise.storage.system.signatures import Signature, changed_files, signatures

SHOWN = 12  # files named in a message


def judge() -> tuple[dict[str, Any] | None, list[Problem]]:
    """Check parameters and take the fingerprints of all code, unless the same project was found valid before.

    Returns:
        params.yaml where it was read, and its problems.

    Raises:
        InputsChanged: somebody edited the project meanwhile. The fingerprints would be of neither version, and they
            would stay, because the next check would take them for those of the version before the edit.
        GraphError: the project is linked to another installation of Reprise.
    """
    refuse_other_installation(Path())
    before, digest = _signatures(), digest_of_project(Path())
    if PRESENT_CODE.is_dir() and _checked_before() == digest:
        return None, []
    from stages.check.code import write_fingerprints
    from stages.check.needs import training_needs
    from stages.check.parameters import problems

    raw = read_yaml()
    found = problems(raw)
    if not found:
        CHECKED.unlink(missing_ok=True)  # until the fingerprints fit again
        with atomic_directory(PRESENT_CODE) as folder:
            write_fingerprints(raw, folder)
        write_json(NEEDS, training_needs(raw))
    if changed := changed_files(before, _signatures()):
        raise InputsChanged(
            "the project changed while it was being checked",
            where="params.yaml and code",
            found=", ".join(changed[:SHOWN]),
            fix="Run it again: it begins with the present parameters and code.",
        )
    if not found:
        write_json(CHECKED, {"digest": digest})
    return raw, found


def as_json(found: Sequence[Problem], warnings: Sequence[Problem]) -> str:
    """Return problems and warnings as JSON: of each the parameter, the rule, what was found, and a fix or ""."""

    def parts(problem: Problem) -> dict[str, str]:
        fix = problem.hint.strip()
        return {"parameter": printable(problem.path), "rule": problem.rule, "found": problem.shown, "fix": fix}

    return json.dumps({"problems": [*map(parts, found)], "warnings": [*map(parts, warnings)]})


def _signatures() -> dict[str, Signature | None]:
    return signatures([PARAMS_FILE, *code_folders(Path()).values(), "plugins"])


def _checked_before() -> str | None:
    """Return the digest of the project that was found valid last, or None."""
    try:
        return json.loads(CHECKED.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
