"""What a stage that DVC runs depends on, taken when it starts and compared before it publishes.

DVC hashes parameters, code and data after a command has ended, so an edit during an hour of training would be recorded
as if the training had used it. A stage therefore notes its declared inputs first, works from what it read then, and
compares before each output gets its name, and once more at the very end. Where they differ it fails, and DVC records
nothing; its work folder keeps what was computed, for when the inputs return.

A few milliseconds remain between that last comparison and DVC's own reading. For these, the stage leaves a note of what
it used (reprise/runtime/used_inputs.py), which is held against dvc.lock afterwards.

Edited comments, docstrings and blank lines are no change of the code, as everywhere
(reprise/storage/code/fingerprint.py).
"""

from __future__ import annotations

import importlib.abc
import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reprise.artifacts.layout import CODE, READS
from reprise.config.dvc_file import GRAPH_FILE, Stage, overlaps, stages_of
from reprise.config.errors import InputsChanged, RepriseError, listed
from reprise.config.params import PARAMS_FILE, keep_content, read_yaml
from reprise.runtime.earlier_outputs import refuse_altered_outputs
from reprise.runtime.used_inputs import dvc_process, refuse_wrong_records, write_note
from reprise.storage import atomic
from reprise.storage.code.fingerprint import (
    Fingerprint,
    changed_definitions,
    file_in_closure,
    present_definitions,
    source_file,
)
from reprise.storage.content_hashes import md5_of_small_file
from reprise.storage.system.signatures import Signature, changed_files, signature_of, signatures
from reprise.storage.work_folder import difference

_LOOK_SECONDS = 2.0  # between two looks at the inputs while a stage works
_FRESH_SECONDS = 2.0  # Python tells two versions of a source apart by whole seconds and length only
_SHOWN = 12  # changes named in a message


class DeclaredInputs:
    """The inputs of one stage as they were when it started.

    Attributes:
        stage: its entry in dvc.yaml, expanded.
        params: the values of the parameters that it declares, by dotted name.
    """

    def __init__(self, stage: Stage, raw: dict[str, Any]) -> None:
        """Take the inputs.

        Args:
            stage: the stage that this process runs.
            raw: the content of params.yaml, from which the process works.

        Raises:
            InputsChanged: the code is no longer that of the fingerprint on which the stage depends.
        """
        self.stage = stage
        self.params = {key: value_at(raw, key) for key in stage.params}
        self._files = signatures(stage.deps)
        self._used = {dep: md5_of_small_file(dep) for dep in stage.deps}
        self._code = _recorded_code(stage)
        self._sources = self._source_signatures()
        changed = changed_definitions(self._code, present_definitions(self._code))
        if changed:
            raise InputsChanged(
                "the code changed after its fingerprint was taken",
                where=stage.title,
                found=listed(changed[:_SHOWN]),
                fix="Run `reprise repro` (or `dvc repro`) again: it begins with the present code.",
            )

    def changes(self) -> list[str]:
        """Name every declared input that differs from what this stage took at its start, one line each."""
        try:
            raw = read_yaml(PARAMS_FILE, now=True)
            now = {key: value_at(raw, key) for key in self.stage.params}
            lines = [f"{PARAMS_FILE}: {line}" for line in difference(self.params, now)]
            lines += self._changes_of_stage(raw)
        except RepriseError as error:
            lines = [str(error)]
        lines += changed_files(self._files, signatures(self.stage.deps))
        if self._source_signatures() != self._sources:
            lines += changed_definitions(self._code, present_definitions(self._code))
        return lines

    def glance(self) -> tuple[object, ...]:
        """Return what the file system says of all inputs: as long as it stays equal, nothing was edited.

        It takes a fraction of a millisecond, whereas `changes` reads params.yaml and dvc.yaml.
        """
        graph = signature_of(PARAMS_FILE), signature_of(GRAPH_FILE)
        return *graph, signatures(self.stage.deps), self._source_signatures()

    def refuse_changes(self) -> None:
        """Stop the stage if an input differs.

        Raises:
            InputsChanged: naming what differs.
        """
        changed = self.changes()
        if changed:
            more = [f"and {len(changed) - _SHOWN} more"] if len(changed) > _SHOWN else []
            raise InputsChanged(
                "inputs changed while the stage ran, and nothing is recorded,",
                where=self.stage.title,
                found=listed(changed[:_SHOWN] + more),
                fix="Run `reprise repro` again. Unfinished work is kept: it goes on once these inputs are back, and "
                "with the new ones the stage starts from the beginning.",
            )

    def finish(self) -> None:
        """Compare for the last time, and leave the note of what was used.

        Raises:
            InputsChanged: naming what differs.
        """
        self.refuse_changes()
        write_note(self.stage, self.params, self._used)

    def refuse_changed_module(self, module: str) -> None:
        """Stop the stage where it is about to load a module whose source is no longer the one it started with.

        Raises:
            InputsChanged: naming what differs.
        """
        file = file_in_closure(module)
        if file is None:
            return
        now = signature_of(source_file(file))
        # Python takes a compiled file for current if length and whole second agree with the source: none is written
        # from a source so young that an edit could go unnoticed.
        sys.dont_write_bytecode = now is not None and time.time() - now[1] / 1e9 < _FRESH_SECONDS
        if file in self._code and now != self._sources.get(source_file(file)):
            expected = {file: self._code[file]}
            changed = changed_definitions(expected, present_definitions(expected))
            if changed:
                raise InputsChanged(
                    "the code changed while the stage ran",
                    where=self.stage.title,
                    found=listed(changed),
                    fix="Run `reprise repro` again: unfinished work is kept.",
                )

    def publishes(self, path: Path) -> bool:
        """Return whether a path is one of the stage's outputs, holds one or lies in one."""
        if path.is_absolute():
            return False
        return any(overlaps(out, path.as_posix()) for out in self.stage.outs)

    def _changes_of_stage(self, raw: dict[str, Any]) -> list[str]:
        """Name a changed entry of dvc.yaml, or a changed row of the tables in params.yaml from which it is expanded."""
        present = [s for s in stages_of(read_yaml(GRAPH_FILE), raw) if s.name == self.stage.name]
        if present == [self.stage]:
            return []
        return [f"{GRAPH_FILE} or a table in {PARAMS_FILE}: the entry of {self.stage.title}"]

    def _source_signatures(self) -> dict[Path, Signature | None]:
        return {path: signature_of(path) for path in map(source_file, self._code)}


def take_inputs(argv: Sequence[str]) -> DeclaredInputs | None:
    """Take the inputs of the stage that DVC started in this process, or return None where DVC did not start it.

    From here on the process reads params.yaml as it is now, whatever becomes of the file.

    Args:
        argv: the command line with the interpreter, as in sys.orig_argv.

    Raises:
        InputsChanged: dvc.yaml, params.yaml or the code is no longer what DVC and `check` read.
        ObjectError: an output of an earlier stage is not what dvc.lock records.
        ParameterError, GraphError: params.yaml or dvc.yaml cannot be read.
    """
    name = os.environ.get("DVC_STAGE", "").rpartition(":")[2]
    if not name or not Path(GRAPH_FILE).is_file():
        return None
    raw = keep_content(PARAMS_FILE)
    stages = stages_of(read_yaml(GRAPH_FILE), raw)
    stage = next((s for s in stages if s.name == name), None)
    if stage is None or shlex.join(argv[1:]) not in shlex.join(shlex.split(stage.cmd)):
        raise InputsChanged(
            "the graph changed after DVC read it",
            where=name,
            found=f"the command {shlex.join(argv[1:])}, and the entry now has {stage.cmd if stage else 'gone'}",
            fix="Run `reprise repro` (or `dvc repro`) again: it begins with the present dvc.yaml and params.yaml.",
        )
    refuse_wrong_records(dvc_process())
    refuse_altered_outputs(stage, stages)
    inputs = DeclaredInputs(stage, raw)
    atomic.before_publishing(lambda path: inputs.refuse_changes() if inputs.publishes(path) else None)
    sys.meta_path.insert(0, _ModuleGuard(inputs))
    threading.Thread(target=_warn_of_changes, args=(inputs,), name="inputs", daemon=True).start()
    return inputs


class _ModuleGuard(importlib.abc.MetaPathFinder):
    """Looks at the source of each of our modules before it is loaded, and leaves the loading to the others."""

    def __init__(self, inputs: DeclaredInputs) -> None:
        self._inputs = inputs

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        self._inputs.refuse_changed_module(fullname)


def _warn_of_changes(inputs: DeclaredInputs) -> None:
    """Tell the person at once, and once for each change: at the end of a long training it is late to learn of it."""
    said: list[str] = []
    seen: tuple[object, ...] = ()
    while True:
        time.sleep(_LOOK_SECONDS)
        now = inputs.glance()
        if now == seen:
            continue
        seen, changed = now, inputs.changes()
        if changed and changed != said:
            print(
                f"warning: inputs of {inputs.stage.title} changed while it runs: {'; '.join(changed[:3])}. It works on "
                "with what it read at its start; unless the change is taken back, its results will not be recorded.",
                file=sys.stderr,
                flush=True,
            )
        said = changed


def value_at(raw: Mapping[str, Any], key: str, missing: Any = None) -> Any:
    """Return the value of a dotted parameter, or `missing` where there is none."""
    value: Any = raw
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return missing
        value = value[part]
    return value


def _recorded_code(stage: Stage) -> Fingerprint:
    """Read the fingerprints of code on which a stage depends."""
    code: Fingerprint = {}
    for dep in stage.deps:
        if Path(dep).is_relative_to(CODE) and Path(dep) != READS:
            try:
                code |= json.loads(Path(dep).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise InputsChanged(
                    "the fingerprint of the code cannot be read",
                    where=dep,
                    found=error,
                    fix="Run `dvc repro check`, which writes it.",
                ) from error
    return code
