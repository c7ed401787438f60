"""Whether the blocks of a stage are done by a Dask cluster, and by which.

`REPRISE_DASK` says it: `local` (workers of this machine, for as long as the stage runs), `local:N`, or the address of a
scheduler, `tcp://HOST:PORT` or `tls://HOST:PORT`. It is a variable and no parameter because results do not depend on
it: a parameter would be a part of what `check` and people compare, and an address belongs to a machine.

Dask is loaded, and a cluster opened, by the first stage that has enough blocks. This module loads neither.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from reprise.config.errors import ParameterError
from reprise.runtime.blocks.closing import close_at_end
from reprise.runtime.ranks.place import follows
from reprise.runtime.workers import Workers

if TYPE_CHECKING:
    from reprise.runtime.blocks.cluster import Cluster

Task = TypeVar("Task")
VARIABLE = "REPRISE_DASK"
_FORM = re.compile(r"(?P<local>local)(:(?P<count>[1-9]\d{0,3}))?|(?P<address>(tcp|tls)://[^\s/@]+:\d{1,5})/?")
_open: list[Cluster] = []  # the one of this process


def asked() -> tuple[str | None, int | None] | None:
    """Return the address of a scheduler (None: this machine) and the number of workers (None: as many as fit).

    Raises:
        ParameterError: REPRISE_DASK has another form.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    form = _FORM.fullmatch(text)
    if form is None:
        raise ParameterError(
            "this names no Dask cluster",
            where=VARIABLE,
            found=text,
            fix="Set it to local, local:N, tcp://HOST:PORT or tls://HOST:PORT, or unset it.",
        )
    return form["address"], int(form["count"]) if form["count"] else None


def cluster() -> Cluster | None:
    """Return the cluster that does blocks, opened now if it was not; None where this process does them itself.

    Raises:
        ParameterError: REPRISE_DASK has another form, or Dask is not installed.
        MachineError: the scheduler cannot be reached, or it has no worker.
    """
    if _open:
        return _open[0]
    wanted = asked()
    if wanted is None or follows():
        return None
    from reprise.runtime.blocks.cluster import open_cluster

    _open.append(open_cluster(*wanted))
    close_at_end(close)
    return _open[0]


def run_apart(
    pool: Workers[Task, Any], tasks: Sequence[Task], seconds: float, code: Sequence[str] = (), least: int = 2
) -> Iterator[Any]:
    """Do tasks that may end their process: by the cluster where one is in use, else by the pool of this machine.

    Args:
        pool: says what a task is. It starts no process for tasks that the cluster does.
        tasks, seconds: as for `Workers.run`, whose results these are: a `Lost` where a task lost its process.
        code: modules that the function looks up by name.
        least: tasks that are worth a cluster.
    """
    found = cluster() if len(tasks) >= least else None
    if found is None:
        return pool.run(tasks, seconds)
    return found.apart(pool.function, pool.prepare, tasks, seconds, code)


def close() -> None:
    """Close the cluster of this process, if there is one: local workers end."""
    while _open:
        _open.pop().close()
