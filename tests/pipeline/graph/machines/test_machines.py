"""`reprise repro --workers` and `reprise worker` on a toy graph: clones that share nothing but git and a remote.

These are the commands of docs/scaling.md, with addresses of this machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.faults.killing import family
from tests.pipeline.dvc_project import REPRISE, Project, wait_for
from tests.pipeline.graph.machines.machines import PARAMS, Machines, add_remote, clone, log, nothing_runs_in

_TRAINING = {"TOY_STEPS": "12", "TOY_SECONDS": "1"}


def one_machine(leader: Project, name: str = "alone") -> bytes:
    """The dvc.lock of a run on one machine, in a clone without a remote's help."""
    alone = clone(leader, name)
    (alone.root / "params.yaml").write_bytes((leader.root / "params.yaml").read_bytes())
    alone.dvc("remote", "default", "--unset")
    alone.reprise("repro", "--jobs", "2")
    return alone.lock()


def start(leader: Project, cluster: Machines, *options: str) -> subprocess.Popen[str]:
    """`reprise repro --workers` in the background."""
    command = [*REPRISE, "repro", "--workers", cluster.address, *options]
    return subprocess.Popen(
        command, cwd=leader.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def steps(clone: Project) -> int:
    """How many steps the trainings in a clone have saved."""
    found = sorted((clone.root / ".reprise/work/pretrain").glob("*/*/*/step-*.safetensors"))
    return len(found)


def test_a_worker_computes_what_is_not_local(leader: Project, cluster: Machines) -> None:
    """The stages with `local` run with the leader, and dvc.lock is that of one machine."""
    leader.write("params.yaml", PARAMS.replace("  - {name: b}\n", "").replace("b: {}", ""))
    want = one_machine(leader)
    worker = cluster.worker(clone(leader, "first"), "--jobs", "1")
    listening = [each.laddr.ip for each in psutil.Process(worker.pid).net_connections() if each.status == "LISTEN"]
    assert set(listening) == {"127.0.0.1"}, "other machines cannot reach the worker of a scheduler on this one"
    done = leader.reprise("repro", "--workers", cluster.address)
    assert leader.lock() == want
    where = {stage: folder for stage, folder, _ in log(leader) if folder != "alone"}
    here = dict.fromkeys(("shard", "summary"), "leader")
    assert where == {**here, "pretrain@run0-0": "first", "probe@run0-0": "first"}
    assert "pretrain a seed 0 | step 2" in done.stdout


@pytest.mark.slow
def test_two_workers_end_with_the_lock_of_one_machine(leader: Project, cluster: Machines) -> None:
    """An edit that is not committed travels; afterwards a run with workers finds nothing to do."""
    leader.replace("params.yaml", "rate: 0.1", "rate: 0.2")
    want = one_machine(leader)
    for name in ("first", "second"):
        cluster.worker(clone(leader, name), "--jobs", "1")
    leader.reprise("repro", "--workers", cluster.address)
    assert leader.lock() == want
    where = {stage: folder for stage, folder, _ in log(leader) if folder != "alone"}
    assert where["shard"] == where["summary"] == "leader"
    assert {where[f"pretrain@run{n}-0"] for n in (0, 1)} == {"first", "second"}


@pytest.mark.slow
@pytest.mark.parametrize("sharing", [True, False])
def test_a_killed_worker_is_replaced(leader: Project, cluster: Machines, sharing: bool) -> None:
    """With shared checkpoints the next worker goes on where the first was lost, else it begins again; same bytes."""
    leader.write("params.yaml", PARAMS.replace("  - {name: b}\n", "").replace("b: {}", ""))
    leader.commit()
    want = one_machine(leader)
    first, second = clone(leader, "first"), clone(leader, "second")
    worker = cluster.worker(first, **_TRAINING)
    run = start(leader, cluster, *(["--share-checkpoints", "1"] if sharing else []))
    shared = leader.root.parent / "store/checkpoints"
    wait_for(lambda: steps(first) >= 4 and (not sharing or any(shared.rglob("*.tar"))))
    os.killpg(worker.pid, signal.SIGKILL)
    cluster.worker(second, **_TRAINING)
    said, _ = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert leader.lock() == want
    attempts = [(folder, begun > 0) for stage, folder, begun in log(leader) if stage == "pretrain@run0-0"]
    assert attempts == [("alone", False), ("first", False), ("second", sharing)]
    assert ("going on from the checkpoint of another worker, step" in said) == sharing
    assert not any(shared.rglob("*")), "what was shared is removed with the result"
    wait_for(lambda: nothing_runs_in(first), 15)


@pytest.mark.slow
def test_a_worker_that_is_asked_to_end_shares_its_last_checkpoint(leader: Project, cluster: Machines) -> None:
    leader.write("params.yaml", PARAMS.replace("  - {name: b}\n", "").replace("b: {}", ""))
    leader.commit()
    want = one_machine(leader)
    first, second = clone(leader, "first"), clone(leader, "second")
    worker = cluster.worker(first, **_TRAINING)
    run = start(leader, cluster, "--share-checkpoints", "600")
    wait_for(lambda: steps(first) >= 3)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0, cluster.said(first)
    assert nothing_runs_in(first)
    cluster.worker(second, **_TRAINING)
    said, _ = run.communicate(timeout=300)
    assert run.returncode == 0, said
    assert leader.lock() == want
    assert next(begun for stage, folder, begun in log(leader) if (stage, folder) == ("pretrain@run0-0", "second")) >= 3


@pytest.mark.slow
def test_the_last_checkpoint_is_there_for_a_worker_that_waits(leader: Project, cluster: Machines) -> None:
    leader.write("params.yaml", PARAMS.replace("  - {name: b}\n", "").replace("b: {}", ""))
    leader.commit()
    clones = {name: clone(leader, name) for name in ("first", "second")}
    slow = {**_TRAINING, "TOY_ENDING": "12"}  # as a training that saves much
    workers = {name: cluster.worker(each, "--jobs", "1", **slow) for name, each in clones.items()}
    run = start(leader, cluster, "--share-checkpoints", "600")
    wait_for(lambda: any(steps(each) >= 3 for each in clones.values()))
    (busy,) = [name for name, each in clones.items() if steps(each)]
    workers[busy].send_signal(signal.SIGTERM)
    said, _ = run.communicate(timeout=300)
    assert run.returncode == 0, said
    other = ({"first", "second"} - {busy}).pop()
    assert [(folder, begun >= 3) for stage, folder, begun in log(leader) if stage == "pretrain@run0-0"] == [
        (busy, False),
        (other, True),
    ]
    assert workers[busy].wait(30) == 0


@pytest.mark.slow
def test_another_revision_or_edit_is_refused_with_the_difference(leader: Project, cluster: Machines) -> None:
    """Other workers do the work; without any, the run ends with the difference, and nothing has run."""
    behind, edited, right = (clone(leader, name) for name in ("behind", "edited", "right"))
    leader.write("stages/work.py", (leader.root / "stages/work.py").read_text().replace("step + 1))", "1 + step))"))
    leader.commit()
    for each in (edited, right):
        each.call("git", "pull", "--quiet")
    edited.write("stages/more.py", "")
    cluster.worker(behind)
    refused = leader.reprise("repro", "--workers", cluster.address, check=False)
    assert refused.returncode == 1
    for part in ("behind is left out", "revision: ", "file: stages/work.py differs", "git reset --hard"):
        assert part in refused.stdout + refused.stderr, part
    assert "Traceback" not in refused.stderr
    cluster.worker(edited)
    cluster.worker(right)
    done = leader.reprise("repro", "--workers", cluster.address)
    assert "edited is left out" in done.stdout and "stages/more.py is missing there" in done.stdout
    assert {folder for _, folder, _ in log(leader)} == {"leader", "right"}
    assert leader.lock() == one_machine(leader)


@pytest.mark.slow
def test_two_leaders_at_once(leader: Project, cluster: Machines) -> None:
    """With the same parameters each stage is computed once; with others they take turns in a clone."""
    twin, other = clone(leader, "twin"), clone(leader, "other")
    other.replace("params.yaml", "rate: 0.1", "rate: 0.3")
    want, want_other = one_machine(leader), one_machine(other, "alone-other")
    Path(os.environ["TOY_LOG"]).unlink()
    workers = [clone(leader, name) for name in ("first", "second")]
    for each in workers:
        cluster.worker(each, "--jobs", "2", TOY_STEPS="3", TOY_SECONDS="1")
    runs = [start(each, cluster) for each in (leader, twin, other)]
    said = [run.communicate(timeout=400)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    assert (leader.lock(), twin.lock(), other.lock()) == (want, want, want_other)
    trained = [(stage, folder) for stage, folder, _ in log(leader) if stage.startswith("pretrain")]
    assert len(trained) == 4, trained  # two of leader and twin, two of the other


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_a_leader_that_ends_leaves_nothing_running(leader: Project, cluster: Machines, signum: int) -> None:
    want = one_machine(leader)
    first = clone(leader, "first")
    cluster.worker(first, "--jobs", "2", **_TRAINING)
    run = start(leader, cluster)
    wait_for(lambda: steps(first) >= 4)
    os.kill(run.pid, signum)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == {signal.SIGINT: 130}.get(signal.Signals(signum), -signum), said
    wait_for(lambda: not any("stages.work" in " ".join(each.cmdline()) for each in family(first.root)), 30)
    begun = leader.reprise("repro", "--workers", cluster.address)
    assert begun.returncode == 0
    assert leader.lock() == want
    again = [begun for stage, folder, begun in log(leader) if folder == "first" and stage == "pretrain@run0-0"]
    assert len(again) == 2 and again[1] > 0, "the worker's own checkpoint is used"


@pytest.mark.slow
def test_a_scheduler_that_ends_is_a_sentence_everywhere(leader: Project, cluster: Machines) -> None:
    first = clone(leader, "first")
    worker = cluster.worker(first, **_TRAINING)
    run = start(leader, cluster)
    wait_for(lambda: steps(first) >= 1)
    cluster.processes[0].kill()
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 1
    assert "the Dask scheduler has ended" in said
    assert "Traceback" not in said
    assert worker.wait(90) == 1
    assert "error: the connection to the Dask scheduler has ended" in cluster.said(first)
    assert nothing_runs_in(first)


@pytest.mark.slow
def test_a_failing_stage_fails_with_its_own_words(leader: Project, cluster: Machines) -> None:
    first, reason = clone(leader, "first"), leader.root.parent / "fail"
    cluster.worker(first, TOY_FAIL=str(reason))
    reason.touch()
    failed = leader.reprise("repro", "--workers", cluster.address, check=False)
    assert failed.returncode == 1
    assert "failed: pretrain a seed 0; error: the toy was told to fail" in failed.stderr
    assert "not run, because they depend on it: probe a seed 0, probe b seed 0, summary" in failed.stderr
    reason.unlink()
    leader.reprise("repro", "--workers", cluster.address)
    assert leader.lock() == one_machine(leader)


@pytest.mark.slow
def test_a_forced_run_records_equal_results_and_refuses_others(leader: Project, cluster: Machines) -> None:
    leader.write("params.yaml", PARAMS.replace("  - {name: b}\n", "").replace("b: {}", ""))
    leader.commit()
    want = one_machine(leader)
    first, odd = clone(leader, "first"), clone(leader, "odd")
    worker = cluster.worker(first)
    for _ in range(2):
        leader.reprise("repro", "--force", "--workers", cluster.address)
        assert leader.lock() == want
    assert [folder for stage, folder, _ in log(leader) if stage == "pretrain@run0-0"] == ["alone", "first", "first"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    cluster.worker(odd, TOY_ODD="a processor that computes something else")
    stored = sorted(path for path in (leader.root.parent / "store").rglob("*") if path.is_file())
    refused = leader.reprise("repro", "--force", "--workers", cluster.address, check=False)
    assert refused.returncode == 1
    assert "error: a worker computed something else from the same inputs than dvc.lock records" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert leader.lock() == want
    assert sorted(path for path in (leader.root.parent / "store").rglob("*") if path.is_file()) == stored
    assert "everything is up to date" in leader.reprise("repro").stdout


@pytest.mark.slow
def test_what_is_missing_is_said_in_a_sentence(leader: Project, cluster: Machines) -> None:
    """No remote, a wrong address, no scheduler, a store that is gone, a clone with edits, a folder that is in use."""
    first = clone(leader, "first")

    def refused(project: Project, *arguments: str) -> str:
        done = project.reprise(*arguments, check=False)
        assert done.returncode in (1, 4) and "Traceback" not in done.stderr, done.stderr
        return done.stderr

    assert "this is no address of a Dask scheduler" in refused(first, "worker", "http://127.0.0.1:1")
    assert "no Dask scheduler answers" in refused(leader, "repro", "--workers", "tcp://127.0.0.1:9")
    first.replace("params.yaml", "rate: 0.1", "rate: 0.4")
    assert "leaders would replace files of this clone that somebody has edited" in refused(
        first, "worker", cluster.address
    )
    first.call("git", "checkout", "params.yaml")
    cluster.worker(first)
    assert "another run works in this folder" in refused(first, "worker", cluster.address)
    (leader.root.parent / "store").write_text("no folder")
    assert "no Dask" not in refused(leader, "repro", "--workers", cluster.address)
    leader.dvc("remote", "default", "--unset")
    assert "several machines need a DVC remote" in refused(leader, "repro", "--workers", cluster.address)


@pytest.mark.slow
def test_an_s3_server_is_as_good_as_a_folder(leader: Project, cluster: Machines, s3: str, credentials: None) -> None:
    text = (leader.root / ".dvc/config").read_text()
    leader.write(".dvc/config", text.partition("['remote")[0].replace("    remote = store\n", ""))
    add_remote(leader, "s3://reprise/machines", f"    endpointurl = {s3}\n")
    leader.commit()
    want = one_machine(leader)
    for name in ("first", "second"):
        cluster.worker(clone(leader, name), "--jobs", "1")
    leader.reprise("repro", "--workers", cluster.address, "--share-checkpoints", "1")
    assert leader.lock() == want
    assert {folder for _, folder, _ in log(leader)} == {"alone", "leader", "first", "second"}


@pytest.mark.slow
def test_a_flow_shows_stages_of_workers_as_its_tasks(leader: Project, cluster: Machines) -> None:
    want = one_machine(leader)
    first = clone(leader, "first")
    cluster.worker(first)
    done = leader.reprise("flows", "run", "reproduce", "--workers", cluster.address)
    said = done.stdout + done.stderr
    assert leader.lock() == want
    assert {folder for _, folder, _ in log(leader)} == {"alone", "leader", "first"}
    assert "pretrain a seed 0" in said and f"on {os.uname().nodename}:{first.root}" in said
    again = leader.reprise("flows", "run", "reproduce", "--workers", cluster.address)
    assert "6 cached" in again.stdout, again.stdout


def test_sharing_without_workers_is_refused(leader: Project) -> None:
    refused = leader.reprise("repro", "--share-checkpoints", "5", check=False)
    assert refused.returncode == 2
    assert "checkpoints are shared between workers only" in refused.stderr
