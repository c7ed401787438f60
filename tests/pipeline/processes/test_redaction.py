"""Secrets of every form are hidden wherever they come from, and ordinary text stays as it is."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline.processes.redaction import make_redactor
from pipeline.processes.secret_values import SECRET_NAME
from reprise.config.errors import RemoteError
from reprise.config.texts.credentials import hide_credentials

CANARY = "c4nary/with+signs%&<x>"


def in_environment(root: Path, name: str, value: str, text: str) -> str:
    return make_redactor(root, {name: value, "HOME": str(root)})(text)


NAMES = """
    AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID AWS_SESSION_TOKEN MY_PASSWORD PASSWD DB_PWD MYSQL_PWD PGPASSWORD SSHPASS
    DB_PASS SSH_PASSPHRASE HTTP_AUTH PREFECT_API_AUTH_STRING AUTHORIZATION OAUTH2_HEADER SESSION_COOKIE SENTRY_DSN
    PWD AZURE_STORAGE_CONNECTION_STRING AZURE_STORAGE_SAS_TOKEN AZURE_STORAGE_KEY
    PREFECT_API_DATABASE_CONNECTION_URL SIGNING_KEY GITHUB_PAT GIT_CREDENTIALS apiKey clientSecret authToken
    LICENSE_KEY_2 SLACK_WEBHOOK MONGO_CONN_STR JWT DEPLOYKEY
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_names_of_variables_that_hold_a_secret(tmp_path: Path, name: str) -> None:
    assert in_environment(tmp_path, name, CANARY, f"a {CANARY} b") == "a *** b"


@pytest.mark.parametrize(
    "name",
    ["KEYBOARD", "TOKENIZERS_PARALLELISM", "GIT_AUTHOR_NAME", "XAUTHORITY", "DBUS_SESSION", "KEYRING_BACKEND", "PATH"],
)
def test_names_that_only_look_like_it(tmp_path: Path, name: str) -> None:
    assert in_environment(tmp_path, name, "german-layout", "a german-layout b") == "a german-layout b"


def test_the_working_folder_and_other_places_are_no_secrets_but_a_file_may_hold_one(tmp_path: Path) -> None:
    held = tmp_path / "password.txt"
    held.write_text("canary-in-a-file\n")
    (tmp_path / "account.json").write_text(json.dumps({"type": "service_account", "private_key": "-----\nABCDEF01\n"}))
    environment = {
        "PWD": "/somewhere/else",
        "OLDPWD": str(tmp_path),
        "SSH_AUTH_SOCK": str(tmp_path),
        "DB_PASSWORD_FILE": str(held),
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "account.json"),
    }
    hide = make_redactor(tmp_path, {**environment, "HOME": str(tmp_path)})
    text = f"/somewhere/else {tmp_path} {held}"
    assert hide(text) == text
    assert hide("canary-in-a-file and ABCDEF01 of a service_account") == "*** and *** of a service_account"


@pytest.mark.parametrize(
    ("name", "value", "text", "expected"),
    [
        ("PASSWORD", "images", "12 images, PASSWORD=images", "12 images, PASSWORD=***"),
        ("AUTH", "basic", "{'AUTH': 'basic'} basic", "{'AUTH': '***'} basic"),
        ("MY_TOKEN", "1", "MY_TOKEN=1 MY_TOKEN: 1 MY_TOKEN=12 step 1", "MY_TOKEN=*** MY_TOKEN: *** MY_TOKEN=12 step 1"),
        ("KEY", "123456", "loss 0.123456", "loss 0.123456"),
        ("KEY", "simclr", "pretrain simclr", "pretrain simclr"),
        ("KEY", "cifar10", "source cifar10", "source cifar10"),
        ("SECRET", "swordfish", "swordfish, swordfishes", "***, swordfishes"),
        ("SECRET", "", "SECRET=", "SECRET="),
        ("DB_PASS", "our-own-row", "our-own-row", "***"),
    ],
)
def test_short_values_and_ordinary_words_are_hidden_beside_their_name_only(
    tmp_path: Path, name: str, value: str, text: str, expected: str
) -> None:
    assert in_environment(tmp_path, name, value, text) == expected


def test_names_of_the_project_are_ordinary_words(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("runs: [{name: zebrafinch}]\n")
    assert in_environment(tmp_path, "TOKEN", "zebrafinch", "run zebrafinch") == "run zebrafinch"
    assert in_environment(tmp_path, "TOKEN", "zebrafinches", "run zebrafinches") == "run ***"


@pytest.mark.parametrize(
    "spelt",
    [
        CANARY,
        quote(CANARY, safe=""),
        quote(CANARY, safe="").lower(),
        json.dumps({"a": CANARY}),
        repr(f"\n{CANARY}"),
        CANARY.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        base64.b64encode(CANARY.encode()).decode(),
    ],
)
def test_a_secret_is_recognised_in_other_spellings(tmp_path: Path, spelt: str) -> None:
    assert "c4nary" not in in_environment(tmp_path, "A_SECRET", CANARY, spelt).lower()
    assert base64.b64encode(CANARY.encode()).decode()[:12] not in in_environment(tmp_path, "A_SECRET", CANARY, spelt)


def test_a_secret_of_several_lines_and_one_inside_another(tmp_path: Path) -> None:
    key = "-----BEGIN KEY-----\nAAAABBBBCCCC\n-----END KEY-----"
    assert in_environment(tmp_path, "SSH_KEY", key, "line AAAABBBBCCCC") == "line ***"
    assert in_environment(tmp_path, "HTTP_AUTH", "someone:canary-pw", "the password canary-pw") == "the password ***"
    text = "host=h password=canary-pw dbname=d"
    assert in_environment(tmp_path, "PG_DSN", text, "password canary-pw") == "password ***"
    assert (
        in_environment(tmp_path, "HTTPS_PROXY", "http://me:canary%2Fpw@proxy:3128", "canary/pw, canary%2Fpw")
        == "***, ***"
    )
    assert in_environment(tmp_path, "DATA", "https://h/x?X-Amz-Signature=canary-sig&n=1", "canary-sig") == "***"


# ---- DVC's settings ---------------------------------------------------------------------

SETTINGS = {
    "an inline comment": "['remote \"s\"']\nurl = s3://b/x\npassword = {}  # of the store\n",
    "indented keys": "[core]\n    remote = s\n['remote \"s\"']\n    url = s3://b/x\n        secret_access_key = {}\n",
    "quotes": "['remote \"s\"']\n  url = s3://b/x\n  session_token = '{}'\n",
    "upper case": "['remote \"s\"']\n  url = s3://b/x\n  SAS_TOKEN = {}\n",
    "a byte order mark": "\ufeff['remote \"s\"']\n  url = s3://b/x\n  account_key = {}\n",
    "lines of Windows": "['remote \"s\"']\r\n  url = s3://b/x\r\n  sse_customer_key = {}\r\n",
    "a nested section": "['remote \"s\"']\n  url = s3://b/x\n[[more]]\n  oss_key_secret = {}\n",
    "a section without a name": "[studio]\n token={}\n",
    "a database": "['db \"d\"']\n url = sqlite:///x\n password = {}\n",
    "a line that DVC refuses": "['remote \"s\"']\n  url = s3://b/x\n  password = {}\n  and nonsense\n",
    "a percent sign": "[core]\n  x = %(y)s\n['remote \"s\"']\n  url = s3://b/x\n  client_secret = {}\n",
}


@pytest.mark.parametrize("level", ["system", "global", "local", "repo", "above"])
@pytest.mark.parametrize("form", sorted(SETTINGS))
def test_dvcs_settings_of_every_level_and_form(tmp_path: Path, form: str, level: str) -> None:
    project = tmp_path / "top" / "project"
    project.mkdir(parents=True)
    place = {
        "system": tmp_path / "system/config",
        "global": tmp_path / "global/config",
        "local": project / ".dvc/config.local",
        "repo": project / ".dvc/config",
        "above": tmp_path / "top/.dvc/config",  # the project is a folder of a larger DVC repository
    }[level]
    place.parent.mkdir(parents=True)
    place.write_bytes(SETTINGS[form].format("canary-in-settings").encode())
    environment = {"DVC_SYSTEM_CONFIG_DIR": str(tmp_path / "system"), "DVC_GLOBAL_CONFIG_DIR": str(tmp_path / "global")}
    hide = make_redactor(project, {**environment, "HOME": str(tmp_path)})
    assert hide("canary-in-settings at s3://b/x") == "*** at s3://b/x"


def test_files_that_dvcs_settings_name(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/aws").write_text("[default]\naws_secret_access_key = canary-of-aws\n")
    (tmp_path / "keys/id").write_text("-----BEGIN PRIVATE KEY-----\ncanaryLINEofKEY0\n-----END PRIVATE KEY-----\n")
    settings = "['remote \"s\"']\n url = s3://b/x\n credentialpath = ../keys/aws\n keyfile = ../keys/id\n"
    (tmp_path / ".dvc/config").write_text(settings)
    hide = make_redactor(tmp_path, {"HOME": str(tmp_path)})
    assert hide("canary-of-aws, canaryLINEofKEY0 at ../keys/aws") == "***, *** at ../keys/aws"


# Settings of DVC whose values are no secrets; whoever updates DVC says here which of its new settings are none.
HARMLESS = """
    url checksum_jobs jobs worktree no_traverse version_aware region profile credentialpath configpath endpointurl
    listobjects use_ssl allow_anonymous_login ssl_verify sse sse_customer_algorithm acl grant_read grant_read_acp
    grant_write_acp grant_full_control cache_regions read_timeout connect_timeout verify projectname type port user
    keyfile timeout max_sessions allow_agent replication kerberos kerberos_principal proxy_to use_https
    data_proxy_target account_name tenant_id client_id connection_timeout exclude_managed_identity_credential
    oss_endpoint gdrive_use_service_account gdrive_client_id gdrive_service_account_user_email
    gdrive_service_account_json_file_path gdrive_trash_only gdrive_acknowledge_abuse method cert_path protected
    shared slow_link_warning username repo_url offline
"""


def test_every_setting_of_a_remote_is_a_secret_or_known_to_be_none() -> None:
    from dvc.config_schema import REMOTE_SCHEMAS, SCHEMA

    def names(schemas: dict) -> Iterator[str]:
        for schema in schemas.values():
            yield from (str(getattr(key, "schema", key)) for key in schema)

    known = set(names({k: v for k, v in REMOTE_SCHEMAS.items() if k != "remote"}))
    known |= {str(getattr(key, "schema", key)) for key in [*SCHEMA["studio"], *SCHEMA["db"][str]]}
    assert {"password", "token", "custom_auth_header", "kerb_ticket"} < known
    assert sorted(name for name in known if not SECRET_NAME.search(name) and name not in HARMLESS) == []


# ---- credentials that show by their form -------------------------------------------------

FORMS = [
    ("https://me:canary@host/x", "https://***@host/x"),
    ("https://me:ca/na@ry@host/x", "https://***@host/x"),
    ("postgresql+asyncpg://me:canary@host:5432/db", "postgresql+asyncpg://***@host:5432/db"),
    ("proxy me:canary@proxy.example.org:3128", "proxy ***@proxy.example.org:3128"),
    ("s3.aws/b/k?X-Amz-Credential=canary%2F2&X-Amz-Signature=canary ok", "s3.aws/b/k?*** ok"),
    ("https://storage.googleapis.com/b/k?X-Goog-Signature=canary", "https://storage.googleapis.com/b/k?***"),
    ("https://a.blob.core.windows.net/c/b?sv=2024&sig=canary%3D&se=x", "https://a.blob.core.windows.net/c/b?***"),
    ("GET /file?token=canary HTTP/1.1", "GET /file?*** HTTP/1.1"),
    ("https://h/x?AWSAccessKeyId=canary&Signature=canary&Expires=1", "https://h/x?***"),
    ("https://h/#access_token=canary", "https://h/#***"),
    ("Authorization: Basic Y2FuYXJ5", "Authorization: ***"),
    ("{'authorization': 'Bearer canary1'}", "{'authorization': '***'}"),
    ("curl -H 'Cookie: session=canary; x=canary'", "curl -H 'Cookie: ***'"),
    ("AccountName=n;AccountKey=canary==;EndpointSuffix=core", "AccountName=n;AccountKey=***;EndpointSuffix=core"),
    ('{"client_secret": "canary", "n": 1}', '{"client_secret": ***, "n": 1}'),
    ("password=canary, user=me", "password=***, user=me"),
    ("x-amz-security-token = canary", "x-amz-security-token = ***"),
    ("key AKIACANARYCANARY0101 refused", "key *** refused"),
    ("ghp_canarycanarycanarycanarycanary12", "***"),
    (
        "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY-----",
    ),
]


@pytest.mark.parametrize(("text", "expected"), FORMS, ids=[form[0][:30] for form in FORMS])
def test_credentials_that_show_by_their_form(text: str, expected: str) -> None:
    assert hide_credentials(text) == expected
    assert hide_credentials(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:4200/runs/gsimclr@v1.0.0",
        "models:gsimclr@v1.0.0, a@b.org, error: me@example.org",
        "basic training with 12 tokens; key: patch, the token: cls",
        "Missing key (?P<name>.*) in data/shards?",
        "secret: unknown parameter. Found: 3.",
        "['remote \"s\"'] url = s3://bucket/folder",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert hide_credentials(text) == text


_PRINT = """
import os, sys
from pathlib import Path
from pipeline.processes.redaction import run_shown
code = "import os, sys; t = os.environ['A_TOKEN']; print('out', t); print('err', t, file=sys.stderr); sys.exit(3)"
sys.exit(run_shown([sys.executable, "-c", code], Path()))
"""


def test_a_command_that_writes_to_our_own_output_shows_no_secret_and_keeps_its_streams(tmp_path: Path) -> None:
    environment = {**os.environ, "A_TOKEN": "canary-in-output", "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", _PRINT]
    apart = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (apart.returncode, apart.stdout, apart.stderr) == (3, "out ***\n", "err ***\n")


def test_errors_show_no_credentials() -> None:
    error = RemoteError(
        "x", where="https://me:canary@h/x", found="GET /k?sig=canary", fix="Try https://h/?token=canary again."
    )
    assert "canary" not in str(error)
    assert "https://***@h/x" in str(error)
