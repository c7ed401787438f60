"""`reprise pull`, `push`, `verify`, `get` and `worker`: share results by the DVC remote, and compute for others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.described.description import command
from pipeline.cli.exit_codes import ExitCode
from pipeline.cli.output import answer, say, say_aside
from pipeline.cli.project import AsJson, Jobs, Wait, enter_project

app = typer.Typer(rich_markup_mode=None)


@command(
    app,
    examples=["reprise pull"],
    writes="DVC's cache, and the results of dvc.lock into the folder",
    busy=True,
    fields={
        "files": "integer: files that were received",
        "seconds": "number: how long it took",
        "missing": "integer: results of dvc.lock that neither the cache nor the remote has",
        "note": "text: the same in a sentence",
    },
)
def pull(wait: Wait = False, as_json: AsJson = False) -> None:
    """Fetch results from the DVC remote.

    The run cache is fetched as well. Everything is checked before the results of dvc.lock are put into the folder.
    """
    from pipeline.graph.remotes import remote
    from pipeline.graph.workspace import exclusive

    enter_project()
    with exclusive(Path(), wait=wait, say=say):
        done = remote.pull(on_line=say, checkout=True)
    if as_json:
        answer(done)
        return
    say(done.note)


@command(
    app,
    examples=["reprise push"],
    writes="to the default DVC remote",
    fields={
        "files": "integer: files that were sent",
        "seconds": "number: how long it took",
        "missing": "integer: results of dvc.lock that are not here and could not be sent",
        "note": "text: the same in a sentence",
    },
)
def push(as_json: AsJson = False) -> None:
    """Send results to the DVC remote.

    The run cache is sent as well.
    """
    from pipeline.graph.remotes import remote

    enter_project()
    done = remote.push(on_line=say)
    if as_json:
        answer(done)
        return
    say(done.note)


@command(
    app,
    examples=["reprise verify"],
    refused="something differs from dvc.lock",
    busy=True,
    fields={
        "passed": "yes/no: whether everything is what dvc.lock says",
        "outputs": "integer: outputs that dvc.lock records",
        "size": "integer: bytes that were read",
        "problems": "object: output -> what differs in the folder",
        "problems.*": "list of text: a sentence each",
        "cache": "object: output -> what differs in DVC's cache",
        "cache.*": "list of text: a sentence each",
        "missing": "list of text: outputs that are not in the folder",
        "uncached": "list of text: outputs of which DVC's cache lacks objects, which is no difference",
        "stored": "list of text: shards in a store that are not there as data/shards says",
        "unlisted": "object: file or folder that belongs to no output -> its number of files",
        "unlisted.*": "integer: number of files",
    },
)
def verify(wait: Wait = False, as_json: AsJson = False) -> None:
    """Compare every byte of the results with dvc.lock.

    All outputs in the folder and their objects in DVC's cache are hashed.
    """
    from pipeline.graph.remotes.verification import verify as verify_folder
    from pipeline.graph.workspace import exclusive

    enter_project()
    with exclusive(Path(), wait=wait, say=say):
        result = verify_folder(say=say_aside)
    if as_json:
        answer({"passed": result.passed, **vars(result)})
    else:
        for line in result.lines():
            say(line)
    if not result.passed:
        raise typer.Exit(ExitCode.REFUSED)


@command(
    app,
    examples=["reprise get simclr --out simclr-backbone", "reprise get data/report --rev HEAD~1 --out old-report"],
    writes="a new file or folder at the place that --out names",
    fields={
        "what": "text: what was asked for",
        "revision": "text: the revision",
        "place": "text: where the copy is",
    },
)
def get(
    what: Annotated[str, typer.Argument(help="A name under `artifacts:` in dvc.yaml (simclr), or a path in data/.")],
    out: Annotated[Path, typer.Option("--out", help="Where to put the copy; it must not exist.")],
    revision: Annotated[str, typer.Option("--rev", help="A git revision or tag.")] = "HEAD",
    as_json: AsJson = False,
) -> None:
    """Copy a result of any revision.

    It comes from DVC's cache or remote, and every file is compared with dvc.lock of that revision.
    """
    from pipeline.graph.remotes.revision_outputs import copy_at

    target = out.absolute()
    enter_project()
    copy_at(revision, what, target)
    if as_json:
        answer({"what": what, "revision": revision, "place": target})
        return
    say(f"{what} of {revision} is in {out}")


@command(
    app,
    examples=["reprise worker tcp://leader.example.org:8786", "reprise worker tcp://localhost:8786 --jobs 2"],
    writes="the leader's params.yaml and the outputs of its stages into this clone, and the results to the DVC remote",
    busy=True,
)
def worker(
    address: Annotated[str, typer.Argument(help="Dask scheduler: tcp://HOST:PORT, or tls://HOST:PORT.")],
    jobs: Jobs = None,
    memory_gib: Annotated[
        float | None, typer.Option(min=0.1, help="Memory for stages; by default that of the machine or container.")
    ] = None,
) -> None:
    """Compute stages in this clone for `reprise repro --workers ADDRESS` elsewhere.

    It runs until Ctrl-C or the end of the scheduler (`dask scheduler`). The clone must be at the leader's revision,
    with the same packages, and belongs to the worker: the leader's params.yaml is put into it. Results travel by the
    DVC remote. Each worker needs a clone of its own.
    """
    from pipeline.graph.machines.places import require_dask

    require_dask()
    from pipeline.graph.machines.worker import serve

    enter_project()
    if memory_gib is not None and not math.isfinite(memory_gib):
        raise typer.BadParameter(f"a finite number of GiB is needed, not {memory_gib}", param_hint="--memory-gib")
    serve(address, Path(), jobs=jobs, memory=int(memory_gib * 2**30) if memory_gib else None, say=say)
