"""How the processes of one training are placed, watched and ended; small programs stand for them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from reprise.config.errors import TrainingError
from reprise.runtime.ranks import start
from reprise.runtime.ranks.place import STORE, Place, follows, place_of
from reprise.runtime.ranks.start import _Others, together
from reprise.runtime.world import ALONE, RankLostError, naming_losses

LASTING = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
TORCHRUN = {"MASTER_ADDR": "host", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}


def test_torchruns_variables_place_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place_of(TORCHRUN) == Place(5, 8, 1)
    assert place_of({"RANK": "1", "WORLD_SIZE": "2", STORE: "file"}) == Place(1, 2, 1)
    for name in ("MASTER_ADDR", "RANK", "WORLD_SIZE"):
        assert place_of({key: value for key, value in TORCHRUN.items() if key != name}) is None
    assert place_of(TORCHRUN | {"RANK": "first"}) is None
    assert not follows()
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert follows()
    monkeypatch.setenv("RANK", "0")
    assert not follows()


def test_one_process_is_alone_and_another_number_than_torchruns_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with together(1, "cpu", []) as world:
        assert world is ALONE
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match="another number of processes"), together(2, "cpu", []):
        pass
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    with together(1, "cpu", []) as world:
        assert world is ALONE


def others(tmp_path: Path, program: str, size: int = 2) -> _Others:
    (tmp_path / "meeting").mkdir()
    found = _Others(size, [sys.executable, "-S", "-c", program], tmp_path / "meeting")
    found.start()
    return found


def test_the_reason_of_a_failure_names_the_process_and_its_last_words(tmp_path: Path) -> None:
    started = others(tmp_path, "import os, sys; print('no memory'); sys.exit(int(os.environ['RANK']) == 2 and 3)", 3)
    error = started.reason()
    assert error is not None
    assert "process 2 of the 3 that train together has ended" in str(error)
    assert "ended with status 3; it said: no memory" in str(error)
    started.end()
    assert not (tmp_path / "meeting").exists()


def test_processes_that_live_are_no_reason_and_are_killed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "_GRACE_SECONDS", 0.2)
    started = others(tmp_path, LASTING[-1])
    assert started.reason() is None
    began = time.monotonic()
    started.end()
    assert time.monotonic() - began < 5
    assert not any(psutil.pid_exists(process.pid) for process in started.processes)


WATCHING = """
import sys, time
from pathlib import Path
from reprise.runtime.ranks.start import _Others
folder = Path(sys.argv[1]); folder.mkdir()
others = _Others(3, [sys.executable, "-S", "-c", sys.argv[2]], folder)
others.start()
print(*[process.pid for process in others.processes], flush=True)
with others.watched():
    time.sleep(60)
"""


def test_the_first_process_ends_with_a_sentence_when_another_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WATCHING, str(tmp_path / "meeting"), LASTING[-1]]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert first.stdout is not None
    pids = [int(word) for word in first.stdout.readline().split()]
    psutil.Process(pids[1]).kill()
    _, said = first.communicate(timeout=20)
    assert first.returncode == 1
    assert said.startswith("error: process 2 of the 3 that train together has ended")
    assert "ended by SIGKILL" in said
    assert not psutil.pid_exists(pids[0])
    assert not (tmp_path / "meeting").exists()


UNDER_TORCHRUN = """
import os, signal, sys, time
from reprise.runtime.entry import run_stage

def main(argv):
    from reprise.runtime.ranks.start import together
    with together(2, "cpu", []) as world:
        import torch
        if world.first:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it about now
        x = torch.ones(1, requires_grad=True)
        for step in range(1000):
            world.gather(x).sum().backward()
            if step == 3 and not world.first:
                os.kill(os.getpid(), signal.SIGKILL)

run_stage(main)
"""


def test_a_rank_of_torchrun_that_dies_ends_the_others_with_a_sentence(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "stage.py").write_text(UNDER_TORCHRUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    options = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--redirects", "3", "--log-dir", "logs"]
    done = subprocess.run(
        [*command, *options, "stage.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    (first,) = (tmp_path / "logs").rglob("0/stderr.log")
    said = first.read_text()
    assert "error: another process of this training has ended or cannot be reached (train.processes). Found:" in said
    assert said.rstrip().endswith("by torchrun: the training continues from the last checkpoint.")
    assert "Traceback" not in said


def test_only_what_torch_says_of_other_processes_is_their_loss() -> None:
    import torch.distributed as dist

    gloo = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"
    for error in (RuntimeError(gloo), dist.DistBackendError("NCCL error"), dist.DistNetworkError("no address")):
        with pytest.raises(RankLostError, match=re.escape(str(error))), naming_losses():
            raise error
    with pytest.raises(RuntimeError, match="shapes differ") as defect, naming_losses():
        raise RuntimeError("shapes differ")
    assert not isinstance(defect.value, RankLostError)


def test_a_process_that_was_killed_is_named_before_those_that_failed_because_of_it(tmp_path: Path) -> None:
    program = "import os, sys, time; os.environ['RANK'] == '1' and sys.exit(1); os.kill(os.getpid(), 9)"
    started = others(tmp_path, program, 3)
    for process in started.processes:
        process.wait()
    assert "process 2 of the 3 that train together has ended" in str(started.reason())
    started.end()


def test_torchrun_takes_the_command_of_the_documents() -> None:
    from torch.distributed.run import get_args_parser

    text = (Path(__file__).parents[4] / "docs/scaling.md").read_text(encoding="utf-8")
    command = re.search(r"^\$ torchrun (.*)\\\n(.*)$", text, re.MULTILINE)
    assert command is not None
    found = get_args_parser().parse_args([*command[1].split(), *command[2].split()])
    assert found.training_script == "stages/run.py"
    assert found.training_script_args == ["stages.pretrain", "--run", "simclr", "--seed", "0"]
