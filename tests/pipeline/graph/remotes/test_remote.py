"""Results to and from a folder and an S3 server; causes of failures; no secret in any output."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from pipeline.graph import dvc
from pipeline.graph.dvc import Outcome
from pipeline.graph.jobs.loaded_dvc import loaded_dvc
from pipeline.graph.remotes import remote
from reprise.config.errors import RemoteError
from tests.pipeline.dvc_project import Project
from tests.pipeline.graph.remotes.conftest import KEY, SECRET, clone, ran


def use_s3(project: Project, address: str, url: str) -> None:
    """In config.local, where credentials and addresses of one machine belong."""
    project.dvc("remote", "modify", "--local", "store", "url", url)
    project.dvc("remote", "modify", "--local", "store", "endpointurl", address)


def restored(project: Project, *, pull: bool = False) -> list[Outcome]:
    silent, never = (lambda line: None, lambda line: None), threading.Event()
    with loaded_dvc(project.root) as loaded:
        return [
            dvc.repro_stage(name, loaded, root=project.root, on_each_line=silent, cancelled=never, pull=pull)
            for name in ("first", "second")
        ]


def test_a_clone_restores_instead_of_computing(origin: Project, tmp_path: Path) -> None:
    assert remote.default_remote(origin.root) == "store"
    sent = remote.push(origin.root)
    assert sent.files == 7  # x, y and the listing of two folders, of which y is the same; two entries of the run cache
    assert "'store'" in sent.note
    elsewhere = clone(origin, tmp_path / "clone")
    lines: list[str] = []
    received = remote.pull(elsewhere.root, lines.append)
    assert received.files > 0
    assert any("fetched" in line for line in lines)
    assert not (elsewhere.root / "data/first").exists()  # the cache only: the folder belongs to the next run
    assert restored(elsewhere) == [Outcome.RESTORED] * 2
    assert ran(origin) == []
    assert (elsewhere.root / "data/second/x").read_bytes() == (origin.root / "data/second/x").read_bytes()
    assert elsewhere.call("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_an_old_revision_and_an_old_parameter_come_back(origin: Project, tmp_path: Path) -> None:
    """The revision by its dvc.lock; the parameter, which no commit holds, by the run cache."""
    remote.push(origin.root)
    origin.write("params.yaml", "first: 1\nsecond: 2\n")
    origin.dvc("repro")
    remote.push(origin.root)  # never committed
    origin.write("params.yaml", "first: 3\nsecond: 3\n")
    origin.dvc("repro")
    origin.commit("the third")
    remote.push(origin.root)
    ran(origin)

    elsewhere = clone(origin, tmp_path / "clone")
    remote.pull(elsewhere.root)
    assert restored(elsewhere) == [Outcome.RESTORED] * 2
    elsewhere.call("git", "checkout", "--quiet", "HEAD~1")
    remote.pull(elsewhere.root)
    assert restored(elsewhere) == [Outcome.RESTORED] * 2
    elsewhere.write("params.yaml", "first: 1\nsecond: 2\n")
    remote.pull(elsewhere.root)
    assert restored(elsewhere, pull=True) == [Outcome.CACHED, Outcome.RESTORED]
    assert "second: 2" in (elsewhere.root / "data/second/x").read_text()
    assert ran(origin) == []


@pytest.mark.slow
def test_files_missing_from_the_remote_are_counted_and_recomputed(origin: Project, tmp_path: Path) -> None:
    remote.push(origin.root)
    elsewhere = clone(origin, tmp_path / "clone")
    for path in sorted((tmp_path / "store/files").rglob("*")):
        if path.is_file():
            path.unlink()
    received = remote.pull(elsewhere.root)
    assert received.missing == 2
    assert "2 results of dvc.lock are missing from the remote and will be computed" in received.note
    assert restored(elsewhere, pull=True) == [Outcome.RAN] * 2


def test_no_remote(origin: Project) -> None:
    origin.dvc("remote", "remove", "store")
    assert remote.default_remote(origin.root) is None
    with pytest.raises(RemoteError, match="dvc remote add --default") as refused:
        remote.push(origin.root)
    assert not refused.value.transient


@pytest.mark.slow
def test_the_commands_pull_and_push(origin: Project, tmp_path: Path) -> None:
    assert "sent to 'store'" in origin.reprise("push").stdout
    elsewhere = clone(origin, tmp_path / "clone")
    assert "received from 'store'" in elsewhere.reprise("pull").stdout
    assert (elsewhere.root / "data/second/x").exists()
    origin.dvc("remote", "remove", "store")
    refused = origin.reprise("push", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: the project has no default DVC remote")


@pytest.mark.slow
def test_round_trip_through_s3(origin: Project, tmp_path: Path, s3: str, credentials: None) -> None:
    use_s3(origin, s3, "s3://reprise/store")
    lines: list[str] = []
    assert remote.push(origin.root, lines.append).files == 7
    elsewhere = clone(origin, tmp_path / "clone")
    use_s3(elsewhere, s3, "s3://reprise/store")
    assert remote.pull(elsewhere.root, lines.append).missing == 0
    assert restored(elsewhere) == [Outcome.RESTORED] * 2
    assert ran(origin) == []
    assert not any(canary in line for line in lines for canary in (KEY, SECRET))


@pytest.mark.slow
def test_the_run_cache_through_s3_and_a_bucket_that_is_not_there(
    origin: Project, tmp_path: Path, s3: str, credentials: None
) -> None:
    use_s3(origin, s3, "s3://reprise/another")
    elsewhere = clone(origin, tmp_path / "clone")
    use_s3(elsewhere, s3, "s3://reprise/another")
    elsewhere.write("params.yaml", "first: 1\nsecond: 2\n")
    assert restored(elsewhere, pull=True) == [Outcome.RAN] * 2
    remote.push(elsewhere.root)
    origin.write("params.yaml", "first: 1\nsecond: 2\n")
    remote.pull(origin.root)
    assert restored(origin, pull=True) == [Outcome.CACHED, Outcome.RESTORED]
    assert ran(origin) == ["first", "second"]  # elsewhere, once
    use_s3(origin, s3, "s3://absent/store")
    with pytest.raises(RemoteError, match="the remote's bucket does not exist") as refused:
        remote.push(origin.root)
    assert not refused.value.transient


@pytest.mark.parametrize(
    ("bucket", "what", "transient"),
    [
        ("503-slowdown", "the remote's server fails or is busy", True),
        pytest.param("403-accessdenied", "the remote refuses these credentials", False, marks=pytest.mark.slow),
        pytest.param(
            "403-signaturedoesnotmatch", "the remote refuses these credentials", False, marks=pytest.mark.slow
        ),
        pytest.param("400-expiredtoken", "the remote refuses", False, marks=pytest.mark.slow),
        pytest.param("500-internalerror", "the remote's server fails or is busy", True, marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_a_server_that_refuses_and_one_that_fails(
    origin: Project, refusing: str, credentials: None, bucket: str, what: str, transient: bool
) -> None:
    use_s3(origin, refusing, f"s3://{bucket}/store")
    for transfer in (remote.push, remote.pull):
        with pytest.raises(RemoteError) as refused:
            transfer(origin.root)
        assert refused.value.what.startswith(what)
        assert refused.value.transient is transient


def test_no_secret_in_any_output(origin: Project, credentials: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Canaries in the address, in its query, in DVC's settings and in the environment."""
    use_s3(origin, "http://user:canary-password@nohost.invalid:99/?X-Amz-Signature=canary-signature", "s3://reprise/x")
    origin.dvc("remote", "modify", "--local", "store", "access_key_id", KEY)
    origin.dvc("remote", "modify", "--local", "store", "secret_access_key", "canary-in-settings")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-session-token")
    lines: list[str] = []
    for transfer in (remote.push, remote.pull):
        with pytest.raises(RemoteError, match="the remote's URL is wrong") as refused:
            transfer(origin.root, lines.append)
        lines.append(str(refused.value))
    output = "\n".join(lines)
    assert "nohost.invalid" in output
    assert "canary" not in output
    assert KEY not in output


# ---- messages of DVC and of its remotes, as they were seen in practice ---------------------------------------

MESSAGES = [
    ("s3 is supported, but requires 'dvc-s3' to be installed: No module named 'dvc_s3'", "the package", False),
    ("The specified bucket does not exist: An error occurred (NoSuchBucket) when calling PutObject", "bucket", False),
    ("Unable to locate credentials", "credentials", False),
    ("An error occurred (403) when calling the HeadObject operation: Forbidden", "credentials", False),
    ('Could not connect to the endpoint URL: "http://127.0.0.1:1/reprise/store/runs"', "cannot be reached", True),
    ('Read timeout on endpoint URL: "https://s3.example.org/b"', "cannot be reached", True),
    ("[Errno 104] Connection reset by peer", "cannot be reached", True),
    ("[Errno -3] Temporary failure in name resolution", "cannot be reached", True),
    ("An error occurred (503) when calling the PutObject operation: Service Unavailable", "fails or is busy", True),
    ("Please reduce your request rate.", "fails or is busy", True),
    ("Unable to acquire lock. Most likely another DVC process is running", "another DVC", True),
    ("[Errno 28] No space left on device", "no space left", False),
    ("[Errno 2] No such file or directory: '/gone/store'", "URL", False),
    ("failed to transfer '/c/runs/40/403/503' - an unknown message", "the transfer failed", False),
]


@pytest.mark.parametrize(("message", "what", "transient"), MESSAGES, ids=[case[0][:30] for case in MESSAGES])
def test_messages_become_causes(monkeypatch: pytest.MonkeyPatch, message: str, what: str, transient: bool) -> None:
    def transfer(verb: str, *, on_line: object, **_: object) -> int:
        on_line(f"ERROR: unexpected error - {message}")  # type: ignore[operator]
        return 255

    monkeypatch.setattr(dvc, "transfer", transfer)
    monkeypatch.setattr(remote, "default_remote", lambda root: "store")
    with pytest.raises(RemoteError) as refused:
        remote.pull(cancelled=threading.Event())
    assert what in refused.value.what
    assert refused.value.transient is transient
    assert json.dumps(message.split(" - ")[-1])[1:-1] in json.dumps(refused.value.found)


@pytest.mark.parametrize(("status", "name"), [(137, "SIGKILL"), (143, "SIGTERM")])
def test_a_killed_transfer_says_that_it_was_killed(monkeypatch: pytest.MonkeyPatch, status: int, name: str) -> None:
    def transfer(verb: str, *, on_line: object, **_: object) -> int:
        on_line("2 files pushed")  # type: ignore[operator]
        return status

    monkeypatch.setattr(dvc, "transfer", transfer)
    monkeypatch.setattr(remote, "default_remote", lambda root: "store")
    with pytest.raises(RemoteError, match=rf"the transfer was killed \(dvc push\) .* signal {name}") as killed:
        remote.push()
    assert not killed.value.transient


def test_a_run_cache_that_could_not_be_sent_is_an_error_although_dvc_exits_with_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def transfer(verb: str, *, on_line: object, **_: object) -> int:
        on_line("ERROR: failed to transfer '/cache/runs/17/1786' - Connection was closed before a valid response")  # type: ignore[operator]
        on_line("1 file pushed")  # type: ignore[operator]
        return 0

    monkeypatch.setattr(dvc, "transfer", transfer)
    monkeypatch.setattr(remote, "default_remote", lambda root: "store")
    with pytest.raises(RemoteError) as refused:
        remote.push()
    assert refused.value.transient
