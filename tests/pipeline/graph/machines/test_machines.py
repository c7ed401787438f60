"""`reprise repro --workers` and `reprise worker` on a toy graph: clones that share nothing but git and a remote."""

from __future__ import annotations

from tests.pipeline.dvc_project import Project
from tests.pipeline.graph.machines.machines import Machines, clone, log


def one_machine(leader: Project) -> bytes:
    """The dvc.lock of a run on one machine, in a clone without a remote's help."""
    alone = clone(leader, "alone")
    alone.dvc("remote", "default", "--unset")
    alone.reprise("repro", "--jobs", "2")
    return alone.lock()


def test_two_workers_end_with_the_lock_of_one_machine(leader: Project, cluster: Machines) -> None:
    want = one_machine(leader)
    first, second = clone(leader, "first"), clone(leader, "second")
    for each in (first, second):
        cluster.worker(each, "--jobs", "1")
    leader.reprise("repro", "--workers", cluster.address)
    assert leader.lock() == want
    where = {stage: folder for stage, folder, _ in log(leader) if folder != "alone"}
    assert where["shard"] == where["summary"] == "leader"
    assert {where[f"pretrain@run{n}-0"] for n in (0, 1)} == {"first", "second"}
