"""A canary of every form goes through graph, flow, sweep and push to S3, and is in nothing that they leave."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.pipeline.flows.toy import toy_project
from tests.pipeline.graph.remotes.conftest import KEY, SECRET

pytestmark = pytest.mark.slow

IN_ENVIRONMENT = {
    "MYSQL_PWD": "canary-pwd-7f3a",
    "OLD_PASSWD": "canary-passwd-1c9d",
    "HTTP_AUTH": "someone:canary-auth-44b0",
    "SESSION_COOKIE": "canary-cookie-9e1f; Path=/",
    "SENTRY_DSN": "https://canarydsn77aa55@sentry.example.org/1",
    "HTTPS_PROXY_OF_MINE": "http://me:canary-proxy-3d@proxy.example.org:3128",
    "AZURE_STORAGE_CONNECTION_STRING": "AccountName=n;AccountKey=canary+account/key==;EndpointSuffix=x",
    "SSH_PRIVATE_KEY": "-----BEGIN PRIVATE KEY-----\nCANARYLINE1abcdef\nCANARYLINE2abcdef\n-----END PRIVATE KEY-----",
    "apiKey": "canary%api&key<1>",
    "SHORT_TOKEN": "images",  # an ordinary word: hidden beside its name only
}
SETTINGS = """\
['remote "store"']
    url = s3://reprise/canaries  # a bucket
    secret_access_key = "canary # of settings"  # with a sign of a comment in it
        access_key_id = CANARYID0123456789
    endpointurl = http://me:canary-endpoint-0b@127.0.0.1:9/
"""
GLOBAL = "['remote \"other\"']\n url = azure://x/y\n sas_token = sv=2024&sig=canarysas%3D\n"
PRINTED = """
print("GET https://b.s3.amazonaws.com/k?X-Amz-Credential=canaryaws1&X-Amz-Signature=canaryaws2")
print("https://storage.googleapis.com/b/k?X-Goog-Signature=canarygcs")
print("https://a.blob.core.windows.net/c/b?sv=1&sig=canaryazure%3D")
print("https://me:canary/slash@host/x", {"Authorization": "Bearer canarybearer1"}, file=sys.stderr)
print("ordinary images stay as they are", repr(os.environ["apiKey"]))
"""


def forms() -> set[str]:
    """Every canary as it may stand in a file."""
    values = {line for value in IN_ENVIRONMENT.values() for line in value.splitlines() if "canary" in line.lower()}
    parts = {"canary-auth-44b0", "canarydsn77aa55", "canary-proxy-3d", "canary+account/key=="}
    settings = {"canary # of settings", "CANARYID0123456789", "canarysas", "canary-endpoint-0b", SECRET, KEY}
    printed = {"canaryaws1", "canaryaws2", "canarygcs", "canaryazure", "canary/slash", "canarybearer1"}
    plain = values | parts | settings | printed
    coded = {base64.b64encode(value.encode()).decode().rstrip("=") for value in values | parts}
    return plain | coded | {quote(value, safe="") for value in plain}


def seen(texts: dict[str, bytes]) -> list[str]:
    return sorted(f"{form} in {place}" for place, text in texts.items() for form in forms() if form.encode() in text)


def test_no_canary_is_in_anything_that_is_left(
    tmp_path: Path, repository: Path, s3: str, credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    for name, value in IN_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CANARY_SECRET", "canary-in-the-address")  # which the toy prints inside a URL
    user = tmp_path / "user"
    user.mkdir()
    (user / "config").write_text(GLOBAL)
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(user))
    toy = toy_project(tmp_path / "toy", repository)
    toy.write(".dvc/config.local", SETTINGS)
    toy.replace("stages/work.py", 'if "leak" in text:\n', 'if "leak" in text:\n' + indented(PRINTED))
    toy.write("input.txt", "leak")
    toy.write("methods/left.txt", "leak fail")
    toy.write("sweeps/one.yaml", "name: one\npoints: [{word: other}]\n")
    toy.commit()
    said: dict[str, bytes] = {}

    def call(title: str, *arguments: str) -> str:
        done = toy.reprise(*arguments, check=False)
        said[f"the output of {title}"] = (done.stdout + done.stderr).encode()
        return done.stdout + done.stderr

    assert "https://***@example.org/x" in call("repro", "repro")
    assert "SHORT_TOKEN=***" in call("flow", "flows", "run", "reproduce")
    assert "ordinary images stay as they are" in said["the output of flow"].decode()
    assert "failed" in call("sweep", "sweep", "sweeps/one.yaml", "--verbose")
    toy.write("methods/left.txt", "2")
    call("second repro", "repro")
    toy.dvc("remote", "default", "--local", "store")
    assert "error: the remote" in call("push", "push")
    toy.dvc("remote", "modify", "--local", "store", "endpointurl", s3)
    assert "sent to 'store'" in call("second push", "push")
    assert "CANARY" not in (toy.root / ".dvc/config").read_text()
    own = {toy.root / ".dvc/config.local", toy.root / "stages/work.py"}
    files = [
        path for path in toy.root.rglob("*") if path.is_file() and path not in own and "pipeline" not in path.parts
    ]
    databases = [path for path in files if path.name == "prefect.db"]
    assert databases
    assert any(path.name == "server.log" for path in files)
    assert any(path.name == "log.txt" for path in files)
    assert any("cache/runs" in str(path) for path in files)
    left = {str(path.relative_to(toy.root)): path.read_bytes() for path in files if ".git" not in path.parts}
    assert seen({**said, **left}) == []


def indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.strip().splitlines())
