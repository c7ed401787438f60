"""What Prefect adds to a run in which everything is cached: `python -m benchmarks.flows [--repeats 3] [--json FILE]`.

Run it in a project whose graph is up to date; it changes nothing there but `.reprise/`. Measured, each `--repeats`
times after one that does not count: `dvc repro` (the peer), `reprise flows run reproduce` without a server (it starts
and stops one), the same with a server running, and a deployment's run on a worker, from asking to its end. Limits:
10 s and 5 s beyond DVC's own time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.flows.api_client import call
from pipeline.flows.serving import server
from pipeline.processes.commands import environment
from reprise.storage.provenance import machine

REPRISE = [sys.executable, "-c", "from pipeline.cli.main import main; main()"]
LIMITS = {"without a server": 10.0, "with a server": 5.0}
_ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class Times:
    """Seconds of each call: on the clock, and of processors by all that it started."""

    wall: list[float]
    processor: list[float]


def seconds(work: Callable[[], None], repeats: int) -> Times:
    """Of `repeats` calls after one that does not count."""
    work()
    times = Times([], [])
    for _ in range(repeats):
        began, spent = time.perf_counter(), _spent()
        work()
        times.wall.append(time.perf_counter() - began)
        times.processor.append(_spent() - spent)
    return times


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def quiet_call(command: list[str], **variables: str) -> None:
    done = subprocess.run(command, env={**environment(), **variables}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


def deployed(address: str, name: str) -> None:
    """One run of a deployment on the worker, to its end."""
    found = call(address, "GET", f"/deployments/name/reproduce/{name}")
    run = call(address, "POST", f"/deployments/{found['id']}/create_flow_run", {})["id"]
    while (state := call(address, "GET", f"/flow_runs/{run}")["state_type"]) not in _ENDS:
        time.sleep(0.1)
    if state != "COMPLETED":
        sys.exit(f"the deployment's run ended as {state}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if server.find_running_server(Path()) or os.environ.get("PREFECT_API_URL"):
        sys.exit("stop the server of this folder first (Ctrl-C in `make serve`), and unset PREFECT_API_URL")
    changed = subprocess.run([sys.executable, "-m", "dvc", "status", "-q"], env=environment(), check=False)
    if changed.returncode:
        sys.exit("something would run here: `make repro` first")
    run = [*REPRISE, "flows", "run", "reproduce"]
    times: dict[str, Times] = {
        "dvc repro": seconds(lambda: quiet_call([sys.executable, "-m", "dvc", "repro"]), options.repeats),
        "without a server": seconds(lambda: quiet_call(run), options.repeats),
    }
    with tempfile.TemporaryFile() as log:
        with server.listening(server.LOOPBACK, 0) as listener:
            port = str(listener.getsockname()[1])
        process = subprocess.Popen(
            [*REPRISE, "flows", "serve"], env={**environment(), "PREFECT_SERVER_API_PORT": port}, stdout=log, stderr=log
        )
        try:
            while not (address := server.find_running_server(Path())) and process.poll() is None:
                time.sleep(0.2)
            if address is None:
                log.seek(0)
                sys.exit(log.read().decode())
            os.environ.update(server.client_variables(Path()))
            times["with a server"] = seconds(lambda: quiet_call(run), options.repeats)
            quiet_call([*REPRISE, "flows", "deploy"])
            times["on a worker, from asking to the end"] = seconds(
                lambda: deployed(address, "nightly"), options.repeats
            )
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
    alone = times["dvc repro"]
    found: dict[str, Any] = {"machine": machine(), "load": os.getloadavg(), "repeats": options.repeats, "seconds": {}}
    for name, each in times.items():
        median = statistics.median(each.wall)
        told = {"median": median, "low": min(each.wall), "high": max(each.wall)}
        if name != "on a worker, from asking to the end":  # its processes are not children of this one
            told["processor"] = statistics.median(each.processor)
        if name != "dvc repro":
            told["beyond dvc"] = median - statistics.median(alone.wall)
        if name in LIMITS:
            told["limit"] = LIMITS[name]
        found["seconds"][name] = {key: round(value, 2) for key, value in told.items()}
    text = json.dumps(found, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
