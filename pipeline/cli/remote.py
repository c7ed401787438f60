"""`reprise pull`, `push`, `verify`, `get` and `worker`: share results by the DVC remote, and compute for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.output import say, say_aside
from pipeline.cli.project import Jobs, Wait, enter_project

app = typer.Typer(rich_markup_mode=None)


@app.command()
def pull(wait: Wait = False) -> None:
    """Fetch results from the DVC remote.

    The run cache is fetched as well. Everything is checked before the results of dvc.lock are put into the folder.
    """
    from pipeline.graph.remotes import remote
    from pipeline.graph.workspace import exclusive

    enter_project()
    with exclusive(Path(), wait=wait, say=say):
        say(remote.pull(on_line=say, checkout=True).note)


@app.command()
def push() -> None:
    """Send results to the DVC remote.

    The run cache is sent as well.
    """
    from pipeline.graph.remotes import remote

    enter_project()
    say(remote.push(on_line=say).note)


@app.command()
def verify(wait: Wait = False) -> None:
    """Compare every byte of the results with dvc.lock.

    All outputs in the folder and their objects in DVC's cache are hashed. The exit status is 1 if anything differs.
    """
    from pipeline.graph.remotes.verification import verify as verify_folder
    from pipeline.graph.workspace import exclusive

    enter_project()
    with exclusive(Path(), wait=wait, say=say):
        result = verify_folder(say=say_aside)
    for line in result.lines():
        say(line)
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def get(
    what: Annotated[str, typer.Argument(help="A name under `artifacts:` in dvc.yaml (simclr), or a path in data/.")],
    out: Annotated[Path, typer.Option("--out", help="Where to put the copy; it must not exist.")],
    revision: Annotated[str, typer.Option("--rev", help="A git revision or tag.")] = "HEAD",
) -> None:
    """Copy a result of any revision.

    It comes from DVC's cache or remote, and every file is compared with dvc.lock of that revision.
    """
    from pipeline.graph.remotes.revision_outputs import copy_at

    target = out.absolute()
    enter_project()
    copy_at(revision, what, target)
    say(f"{what} of {revision} is in {out}")


@app.command()
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
    serve(address, Path(), jobs=jobs, memory=int(memory_gib * 2**30) if memory_gib else None, say=say)
