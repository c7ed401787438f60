"""Secrets are hidden wherever they come from."""

from __future__ import annotations

from pathlib import Path

from pipeline.processes.redaction import make_redactor


def test_secrets_are_hidden_wherever_they_come_from(tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config.local").write_text("['remote \"s\"']\n    password = hunter-22\n    url = s3://b/public\n")
    key = "-----BEGIN KEY-----\nAAAABBBBCCCC\n-----END KEY-----"
    environment = {"AWS_SECRET_ACCESS_KEY": "abcdef123", "MY_TOKEN": "1", "SSH_PASSPHRASE": key, "HOME": "home-folder"}
    hide = make_redactor(tmp_path, {**environment, "DVC_GLOBAL_CONFIG_DIR": str(tmp_path / "none")})
    assert hide("abcdef123 hunter-22 https://me:pw@host/x") == "*** *** https://***@host/x"
    assert hide("line AAAABBBBCCCC") == "line ***"
    for name in ("SIGNING_KEY", "DB_PASS", "GITHUB_PAT", "SSH_PRIVATE_KEY", "PREFECT_API_DATABASE_CONNECTION_URL"):
        assert (
            make_redactor(tmp_path, {name: "abcdef123", "KEYBOARD": "german", "PWD": "home-folder"})(
                "abcdef123 german home-folder"
            )
            == "*** german home-folder"
        ), name
    assert hide("1 home-folder s3://b/public a@b.org") == "1 home-folder s3://b/public a@b.org"
