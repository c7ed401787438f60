"""What a foreign web page and another user of the machine get from a server that runs: nothing."""

from __future__ import annotations

import http.server
import json
import os
import pwd
import queue
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from pipeline.flows.api_client import call
from pipeline.flows.serving import credentials, server
from tests.chromium import FOREIGN_NAME, Chromium
from tests.pipeline.dvc_project import Project
from tests.pipeline.flows.toy import Prefect

pytestmark = pytest.mark.xdist_group("flows")  # one server for all

SOCKETS = (
    "events/in",
    "events/out",
    "logs/out",
    "task_runs/subscriptions/scheduled",
    "work_pools/reprise/workers/connect",
)
_PAGE = """<!doctype html><title>any web page</title>
<script>
const api = "API", report = "REPORT", said = [];
const attempt = async (name, action) => {
  try { said.push([name, await action()]); } catch (error) { said.push([name, "failed"]); }
};
const post = async (path, body) => {
  const answer = await fetch(api + path,
    {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
  await answer.json();
  return "answered";
};
const loads = (tag, address) => new Promise((resolve, reject) => {
  const element = document.createElement(tag);
  element.onload = () => resolve("answered"); element.onerror = reject; element.src = address;
  document.body.append(element);
});
const opens = address => new Promise((resolve, reject) => {
  const socket = new WebSocket(address, "prefect"); socket.onopen = () => resolve("answered"); socket.onerror = reject;
});
addEventListener("load", async () => {
  await attempt("health", async () => (await fetch(api + "/health")).ok ? "answered" : "failed");
  await attempt("read", () => post("/work_pools/filter", {}));
  await attempt("make", () => post("/flows/", {name: "drive-by"}));
  await attempt("socket", () => opens(api.replace("http", "ws") + "/events/out"));
  await attempt("script", () => loads("script", report.replace("index.html", "provenance.js")));
  await attempt("report", async () => { await (await fetch(report)).text(); return "answered"; });
  await fetch(api + "/flows/", {method: "POST", mode: "no-cors", body: JSON.stringify({name: "drive-by"})})
    .catch(() => 0);
  await fetch("/said", {method: "POST", body: JSON.stringify(said)});
});
</script>"""


@dataclass(frozen=True)
class Page:
    """A web page of another origin.

    Attributes:
        address: its URL.
        said: what became of its attempts, once it has made all of them.
    """

    address: str
    said: queue.Queue[dict[str, str]]


@pytest.fixture
def page(serving: tuple[Project, object]) -> Iterator[Page]:
    """A web page of another origin, which knows even the secret address of the report."""
    note = json.loads((serving[0].root / server.NOTE).read_text())
    text = _PAGE.replace("API", note["api"], 1).replace("REPORT", note["report"], 1).encode()
    said: queue.Queue[dict[str, str]] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text)

        def do_POST(self) -> None:
            said.put(dict(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (named by the base class)
            pass

    files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=files.serve_forever, args=(0.1,), daemon=True).start()
    yield Page(f"http://127.0.0.1:{files.server_port}/page.html", said)
    files.shutdown()
    files.server_close()


def flows_made(prefect: Prefect) -> list[str]:
    flows = call(prefect.address, "POST", "/flows/filter", {"flows": {"name": {"any_": ["drive-by"]}}})
    return [flow["name"] for flow in flows]


@pytest.mark.slow
@pytest.mark.browser
def test_a_page_in_a_browser_reads_nothing_and_makes_nothing(prefect: Prefect, page: Page, chromium: Chromium) -> None:
    with chromium.opened(page.address):
        said = page.said.get(timeout=180)
    assert said == dict.fromkeys(["health", "read", "make", "socket", "script", "report"], "failed")
    assert flows_made(prefect) == []


@pytest.mark.slow
@pytest.mark.browser
def test_a_name_that_is_pointed_to_this_machine_shows_a_refusal(prefect: Prefect, chromium: Chromium) -> None:
    port = prefect.address.rpartition(":")[2].partition("/")[0]
    with chromium.opened(f"http://{FOREIGN_NAME}:{port}/") as opened:
        shown = opened.page.content()
    assert "This server does not go by the name in the Host header" in shown
    assert "Prefect" not in shown
    with chromium.opened(f"http://127.0.0.1:{port}/") as opened:  # its own page is there
        opened.page.wait_for_function("document.documentElement.outerHTML.toLowerCase().includes('login')")


def answer(address: str, body: object | None = None, **headers: str) -> int:
    """The status of an answer to a request without a password."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=30) as answered:
            return int(answered.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_every_request_needs_the_password(prefect: Prefect) -> None:
    api = prefect.address
    assert answer(f"{api}/health") == 200  # says nothing but that the server runs
    for path in ("/admin/version", "/version", "/admin/settings", "/flows/name/reproduce", "/docs", "/openapi.json"):
        assert answer(f"{api}{path}") == 401, path
    for path in ("/flows/", "/deployments/", "/flow_runs/filter", "/logs/filter", "/block_documents/filter"):
        assert answer(f"{api}{path}", {"name": "drive-by"}) == 401, path
    assert answer(f"{api}/flows/", {"name": "drive-by"}, Authorization="Basic cmVwcmlzZTp3cm9uZw==") == 401
    assert answer(f"{api}/flows/", {"name": "drive-by"}, Origin="http://evil.example") == 403
    assert answer(f"{api}/health", Host="evil.example") == 403
    assert answer(api.removesuffix("/api"), Host="evil.example") == 403
    assert flows_made(prefect) == []


@pytest.mark.parametrize("path", SOCKETS)
def test_every_websocket_needs_the_password_and_its_own_origin(prefect: Prefect, path: str) -> None:
    address = f"{prefect.address.replace('http', 'ws', 1)}/{path}"
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"additional_headers": {"Host": "evil"}}):
        with pytest.raises(InvalidHandshake), connect(address, subprotocols=["prefect"], **headers):
            pass
    for token in (None, "reprise:wrong"):
        with connect(address, subprotocols=["prefect"]) as websocket:
            websocket.send(json.dumps({"type": "auth", "token": token}))
            with pytest.raises(ConnectionClosed):
                websocket.recv(timeout=30)
    with pytest.raises((InvalidHandshake, ConnectionClosed)), connect(address) as websocket:  # an old client
        websocket.recv(timeout=30)
    with connect(address, subprotocols=["prefect"]) as websocket:
        websocket.send(json.dumps({"type": "auth", "token": os.environ[credentials.CLIENT_VARIABLE]}))
        assert json.loads(websocket.recv(timeout=30)) == {"type": "auth_success"}


def test_secrets_stand_on_no_command_line_and_in_no_log(prefect: Prefect, serving: tuple[Project, object]) -> None:
    project, process = serving
    secrets = [
        credentials.read_secret(project.root / name) for name in (credentials.PASSWORD, credentials.REPORT_TOKEN)
    ]
    assert secrets[0] == os.environ[credentials.CLIENT_VARIABLE]
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert len(family) >= 3
    shown = [" ".join(each.cmdline()) for each in family]
    logs = [project.root / "serve.log", *(project.root / server.HOME).glob("*.log")]
    shown += [path.read_text(errors="replace") for path in logs]
    assert "cat .reprise/prefect/password" in shown[len(family)]
    for secret in secrets:
        assert not [text for text in shown if secret in text or secret.partition(":")[2] in text.split()]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
@pytest.mark.skipif(not all(map(shutil.which, ("su", "curl"))), reason="there is no su or curl on this machine")
def test_another_user_of_the_machine_reads_nothing_and_makes_nothing(
    prefect: Prefect, serving: tuple[Project, object]
) -> None:
    pwd.getpwnam("nobody")
    root = serving[0].root
    note = json.loads((root / server.NOTE).read_text())

    def nobody(command: str) -> str:
        """Run a shell command as `nobody`; its output, in which Latin-1 keeps every byte."""
        done = subprocess.run(["su", "nobody", "-s", "/bin/sh", "-c", command], capture_output=True, timeout=120)
        return done.stdout.decode("latin-1")

    status = "curl -s -o /dev/null -w '%{http_code}'"
    json_body = "-H 'Content-Type: application/json' -d '{\"name\": \"drive-by\"}'"
    assert nobody(f"{status} {note['api']}/health") == "200"  # so the requests do arrive
    assert nobody(f"{status} {json_body} {note['api']}/flows/") == "401"
    assert nobody(f"{status} -X POST -d '{{}}' {note['api']}/work_pools/filter") == "401"
    token = credentials.read_secret(root / credentials.REPORT_TOKEN)
    assert nobody(f"{status} {note['report'].replace(token, 'index')}") == "404"
    command_lines = nobody("cat /proc/[0-9]*/cmdline 2>/dev/null")
    assert "guarded_server" in command_lines
    for secret in (token, credentials.read_secret(root / credentials.PASSWORD)):
        assert secret not in command_lines
    assert nobody(f"cat /proc/{note['process']}/environ 2>/dev/null") == ""
    assert flows_made(prefect) == []
