"""What a worker answers: its form, the error that it tells, and how its hashes differ from those that arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.graph.machines.message import FORM
from reprise.config.errors import GraphError, RemoteError, RepriseError


def compared(ours: Mapping[str, Any], theirs: Any) -> list[str]:
    """Say where the hashes of two entries of dvc.lock differ."""
    lines = []
    for key in ("deps", "outs"):
        here, there = _hashes(ours.get(key)), _hashes(theirs.get(key))
        names = [path for path in sorted(here.keys() | there.keys()) if here.get(path) != there.get(path)]
        lines += [f"{path} has {there.get(path)} there and {here.get(path)} here" for path in names]
    return lines


def not_reproduced(recorded: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> list[str]:
    """Say where outputs of the same command and inputs differ from those that dvc.lock records.

    Args:
        recorded: the entry of dvc.lock; None where there is none to compare with.
        entry: the new one.
    """
    if recorded is None:
        return []
    same = all(recorded.get(key) == entry.get(key) for key in ("cmd", "params"))
    same = same and _hashes(recorded.get("deps")) == _hashes(entry.get("deps"))
    return compared({"outs": recorded.get("outs")}, {"outs": entry.get("outs")}) if same else []


def _hashes(files: Any) -> dict[str, Any]:
    listed = files if isinstance(files, list) else []
    return {str(each["path"]): each.get("md5") for each in listed if isinstance(each, dict) and "path" in each}


def other_result(stage: str, host: object, lines: Sequence[str]) -> GraphError:
    """Return the error of a forced stage that gave something else than before; `lines` are of `not_reproduced`."""
    return GraphError(
        "a worker computed something else from the same inputs than dvc.lock records",
        where=stage,
        found=f"{host}: {'; '.join(lines)}",
        fix="Nothing was replaced. Run `reprise repro --force` for this stage without --workers: what this machine "
        "computes is recorded then. If that is what was recorded before, look into that worker.",
    )


def other_than_sent(stage: str, host: object, lines: Sequence[str]) -> GraphError:
    """Return the error of a worker whose answer is not what it has sent; `lines` are of `compared`."""
    return GraphError(
        "a worker computed something else than its results in the remote say",
        where=stage,
        found=f"{host}: {'; '.join(lines)}",
        fix="Stop that worker, remove its clone, and run again with --force for this stage.",
    )


def checked(answer: Any) -> dict[str, Any]:
    """Hold an answer against its form.

    Raises:
        GraphError: it has another.
    """
    states: dict[str, dict[str, type]] = {
        "done": {"entry": dict, "outcome": str},
        "failed": {"status": int, "lines": list},
        "error": {"error": dict},
        "refused": {"error": dict, "address": str},
        "cancelled": {},
    }
    if isinstance(answer, dict) and isinstance(answer.get("host"), str) and answer.get("state") in states:
        wanted = states[answer["state"]]
        fits = all(isinstance(answer.get(name), kind) for name, kind in wanted.items())
        if fits and (answer["state"] == "refused" or answer.get("form") == FORM):
            return answer
    raise GraphError(
        "a worker gave an answer of another form",
        where="a worker",
        found=repr(answer)[:500],
        fix="Start workers with the same version of Reprise.",
    )


def error_of(answer: Mapping[str, Any]) -> RepriseError:
    """Return the error that an answer tells; of anything else than a remote, it is one of the graph."""
    what, where, found, fix = (str(answer["error"].get(name, "?")) for name in ("what", "where", "found", "fix"))
    if answer.get("transient") is True:
        return RemoteError(what, where=where, found=found, fix=fix, transient=True)
    return GraphError(what, where=where, found=found, fix=fix)
