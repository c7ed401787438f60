"""What a Dask worker must have in common with the stage, so that a block has the same bytes wherever it is computed.

A worker of another machine may lie in another folder, hold another revision, have other libraries or another number of
threads. Any of these could change results without a word, so every block comes with the stage's terms, and a worker
that does not meet them answers with what differs instead of computing.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from reprise.config.errors import RepriseError
from reprise.runtime.entry import THREAD_VARIABLES, threads
from reprise.storage.code.fingerprint import Fingerprint, changed_definitions, digest_of, fingerprint
from reprise.storage.provenance import libraries, machine

SHARED = Path(".reprise/blocks")  # a folder for each stage that uses a cluster
MARK = "mark"  # a file there; who reads its content sees the folder of the project
START = "Start workers in the project's folder with `python -m reprise.runtime.blocks.worker ADDRESS`"
_SHOWN = 5  # differences in a message
_OURS = "reprise.runtime.blocks.at_worker"


@dataclass(frozen=True)
class Arithmetic:
    """What the last bits of products of matrices depend on, besides the code and its libraries.

    Attributes:
        machine: processor and system.
        threads: REPRISE_THREADS, or one.
        variables: threads of the libraries of linear algebra.
        torch_threads: threads of torch; None where the stage has not loaded it.
        torch_strict: torch's mode of deterministic algorithms.
    """

    machine: str
    threads: int
    variables: tuple[tuple[str, str | None], ...]
    torch_threads: int | None
    torch_strict: int

    @classmethod
    def here(cls) -> Arithmetic:
        """Describe this process."""
        torch: Any = sys.modules.get("torch")
        every = os.environ.get("OMP_NUM_THREADS")  # which the libraries take where their own is not set
        variables = tuple((name, os.environ.get(name, every)) for name in THREAD_VARIABLES)
        if torch is None:
            return cls(machine(), threads(), variables, None, 0)
        return cls(machine(), threads(), variables, torch.get_num_threads(), torch.get_deterministic_debug_mode())


@dataclass(frozen=True)
class Terms:
    """What a worker must meet.

    Attributes:
        token: of the stage's run: the name of its folder below SHARED, and the content of the mark there.
        modules: whose code the block runs.
        code: digest of their fingerprint.
        libraries: versions of Python and of the packages that results depend on.
        arithmetic: of blocks that compute with matrices; None for blocks whose result does not depend on it.
    """

    token: str
    modules: tuple[str, ...]
    code: str
    libraries: tuple[tuple[str, str], ...]
    arithmetic: Arithmetic | None

    @property
    def folder(self) -> Path:
        """The folder of the stage's run, from the project's folder."""
        return SHARED / self.token


@dataclass(frozen=True)
class Unfit:
    """The answer of a worker that does not meet the terms.

    Attributes:
        who: the process and its machine.
        found: what differs.
        fix: the way out.
        code: the worker's fingerprint, where that differs.
    """

    who: str
    found: str
    fix: str
    code: Fingerprint | None = None

    def explained(self, modules: Sequence[str]) -> str:
        """Say what differs, file by file where it is the code."""
        if self.code is None:
            return self.found
        changed = changed_definitions(self.code, fingerprint(modules))
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        return f"{self.found}: {', '.join(changed[:_SHOWN])}{more}"


def modules_of(function: Callable[..., Any], further: Sequence[str]) -> tuple[str, ...]:
    """Name the modules whose code a block runs: that of the function, and those that it looks up by name."""
    found, waiting = {_OURS, *further}, [function]
    while waiting:
        call = waiting.pop()
        if isinstance(call, partial):  # also a function that is an argument of another
            waiting += [call.func, *filter(callable, call.args)]
        else:
            found.add(call.__module__)
    return tuple(sorted(found))


def terms_of(token: str, modules: tuple[str, ...], computes: bool) -> Terms:
    """State what workers must meet, as this process is."""
    found = tuple(sorted(libraries().items()))
    return Terms(token, modules, digest_of(fingerprint(modules)), found, Arithmetic.here() if computes else None)


class Fitness:
    """Judges terms in a worker's process, once for each stage; code that it has loaded stays as it was loaded."""

    def __init__(self) -> None:
        self._answers: dict[Terms, Unfit | None] = {}
        self._loaded: Fingerprint = {}

    def judge(self, terms: Terms) -> Unfit | None:
        """Return why this process may not compute blocks with these terms, or None where it may."""
        if terms not in self._answers:
            self._answers = {known: answer for known, answer in self._answers.items() if known.token == terms.token}
            self._answers[terms] = self._difference(terms)
        return self._answers[terms]

    def _difference(self, terms: Terms) -> Unfit | None:
        who = f"process {os.getpid()} on {os.uname().nodename}"
        restart = f"End this worker. {START}."
        try:
            seen = (terms.folder / MARK).read_text(encoding="utf-8") == terms.token
        except (OSError, ValueError):
            seen = False
        if not seen:
            return Unfit(who, f"it does not see the project's folder; it works in {Path.cwd()}", restart)
        if multiprocessing.current_process().daemon:
            return Unfit(who, "its process may start no other, which decoding needs", restart)
        found = tuple(sorted(libraries().items()))
        if found != terms.libraries:
            there, here = dict(found), dict(terms.libraries)
            differ = sorted({name for name, _ in set(found) ^ set(terms.libraries)})
            pairs = (f"{name} {there.get(name)} there, {here.get(name)} here" for name in differ)
            return Unfit(who, f"it has other versions: {', '.join(pairs)}", "Install requirements.lock there.")
        return self._other_code(terms, who, restart) or _other_arithmetic(terms, who, restart)

    def _other_code(self, terms: Terms, who: str, restart: str) -> Unfit | None:
        try:
            code = fingerprint(terms.modules)
        except RepriseError as error:
            return Unfit(who, f"it lacks code: {error}", "Bring its clone to the revision of the stage.")
        if digest_of(code) != terms.code:
            return Unfit(who, "it has other code", "Bring its clone to the revision of the stage.", code)
        if any(self._loaded.get(file, digests) != digests for file, digests in code.items()):
            return Unfit(who, "it has loaded this code as it was before it changed", restart)
        self._loaded |= code
        return None


def _other_arithmetic(terms: Terms, who: str, restart: str) -> Unfit | None:
    wanted, fix = terms.arithmetic, restart
    if wanted is None:
        return None
    if wanted.torch_threads is not None:
        import torch

        torch.set_num_threads(wanted.torch_threads)
        torch.set_deterministic_debug_mode(wanted.torch_strict)
        torch.utils.deterministic.fill_uninitialized_memory = False
    here = Arithmetic.here()
    if here.machine != wanted.machine:
        found = f"its processor may round differently: {here.machine} there, {wanted.machine} here"
        return Unfit(who, found, "Use workers on machines of one kind.")
    if here.threads != wanted.threads or here.variables != wanted.variables:
        there = {"REPRISE_THREADS": str(here.threads), **dict(here.variables)}
        asked = {"REPRISE_THREADS": str(wanted.threads), **dict(wanted.variables)}
        differ = (f"{name} is {there[name]} there, {asked[name]} here" for name in asked if there[name] != asked[name])
        return Unfit(who, f"it has other threads: {', '.join(differ)}", f"Set REPRISE_THREADS={wanted.threads}. {fix}")
    return None
