"""What one stage needs of a remote's run cache is asked for alone, whatever else lies there."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.graph.remotes import remote
from tests.pipeline.dvc_project import Project
from tests.pipeline.graph.remotes.conftest import clone, ran

STRANGERS = 300
# DVC as `reprise repro` starts it, with a note of each folder that is listed and of each request that is sent.
COUNTED = """
import json, sys
from dvc_objects.fs.local import LocalFileSystem
import pipeline.graph.in_dvc.run_cache as run_cache
listed, sent = [], []
plain = run_cache._listed
run_cache._listed = lambda fs, folder: listed.append(folder) or plain(fs, folder)
if sys.argv[1] == "s3":
    from aiobotocore.httpsession import AIOHTTPSession
    plain_send = AIOHTTPSession.send
    async def send(self, request):
        sent.append(request.method + " " + request.url)
        return await plain_send(self, request)
    AIOHTTPSession.send = send
from pipeline.graph.in_dvc.command import run_command
status = run_command(sys.argv[3:])
with open(sys.argv[2], "w") as file:
    json.dump([listed, sent], file)
sys.exit(status)
"""


def counted(project: Project, remote_kind: str, *arguments: str) -> tuple[int, list[str], list[str], str]:
    """Exit status, folders that were listed, requests and output of one command."""
    note = project.root.parent / "counted.json"
    command = [sys.executable, "-c", COUNTED, remote_kind, str(note), *arguments]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[4])}
    done = subprocess.run(command, cwd=project.root, env=env, capture_output=True, text=True, check=False)
    listed, sent = json.loads(note.read_text())
    return done.returncode, listed, sent, done.stdout + done.stderr


def strangers(store: Path) -> None:
    """Entries of other stages, each of which would be refused if anybody read it."""
    for number in range(STRANGERS):
        key = hashlib.sha256(str(number).encode()).hexdigest()
        entry = store / "runs" / key[:2] / key / f"{number:064x}"
        entry.parent.mkdir(parents=True)
        entry.write_text("cmd: [")


@pytest.mark.parametrize("verb", ["fetch-known", "repro"])
def test_a_stage_lists_its_own_entries_and_no_others(origin: Project, tmp_path: Path, verb: str) -> None:
    remote.push(origin.root)
    strangers(tmp_path / "store")
    elsewhere = clone(origin, tmp_path / "clone")
    (elsewhere.root / "dvc.lock").unlink()
    arguments = ["first"] if verb == "fetch-known" else ["--pull", "--single-item", "first"]
    status, listed, _, said = counted(elsewhere, "folder", verb, *arguments)
    assert status == 0, said
    (folder,) = listed
    assert len(Path(folder).name) == 64
    assert len([path for path in (elsewhere.root / ".dvc/cache/runs").rglob("*") if path.is_file()]) == 1
    assert "refused" not in said
    assert ran(origin) == [], "it was restored"


def test_nothing_is_listed_by_a_repro_that_asks_no_remote(origin: Project) -> None:
    status, listed, _, said = counted(origin, "folder", "repro", "--single-item", "first")
    assert (status, listed) == (0, []), said


@pytest.mark.slow
def test_on_s3_the_number_of_requests_does_not_grow_with_the_runs(
    origin: Project,
    tmp_path: Path,
    s3: str,
    credentials: None,
) -> None:
    import s3fs

    text = (origin.root / ".dvc/config").read_text().partition("['remote")[0]
    place = "reprise/counted"
    origin.write(".dvc/config", f"{text}['remote \"store\"']\n    url = s3://{place}\n    endpointurl = {s3}\n")
    origin.commit()
    remote.push(origin.root)
    files = s3fs.S3FileSystem(endpoint_url=s3, skip_instance_cache=True)
    numbers = []
    for more in range(2):
        for number in range(more * STRANGERS):
            key = hashlib.sha256(str(number).encode()).hexdigest()
            files.pipe(f"{place}/runs/{key[:2]}/{key}/{number:064x}", b"cmd: [")
        elsewhere = clone(origin, tmp_path / f"clone-{more}")
        (elsewhere.root / "dvc.lock").unlink()
        status, listed, sent, said = counted(elsewhere, "s3", "fetch-known", "first")
        assert status == 0, said
        assert len(listed) == 1
        numbers.append(len(sent))
        assert sum("runs" in request for request in sent) <= 3, sent
    assert numbers[0] == numbers[1]
