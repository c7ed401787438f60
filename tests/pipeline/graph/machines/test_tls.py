"""Scheduler, worker and leader over TLS, with certificates that are made for the test, as docs/scaling.md has it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from distributed.security import Security

from tests.pipeline.dvc_project import Project
from tests.pipeline.graph.machines.machines import PARAMS, clone, machines


def certificates(folder: Path) -> dict[str, str]:
    """Make a key and a certificate that is its own authority, and return the settings of Dask that name them."""
    made = Security.temporary()
    folder.mkdir()
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    key.write_text(str(made.tls_worker_key))
    key.chmod(0o600)
    certificate.write_text(str(made.tls_worker_cert))
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    roles = ("SCHEDULER", "WORKER", "CLIENT")
    return {
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        f"{tls}CA_FILE": str(certificate),
        **{f"{tls}{role}__KEY": str(key) for role in roles},
        **{f"{tls}{role}__CERT": str(certificate) for role in roles},
    }


@pytest.mark.slow
def test_a_graph_is_computed_over_tls_and_strangers_are_refused(leader: Project, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    leader.write("params.yaml", PARAMS.replace("  - {name: b}\n", "").replace("b: {}", ""))
    leader.commit()
    ours, others = certificates(tmp_path / "ours"), certificates(tmp_path / "others")
    with machines(tmp_path / "machines", "--protocol", "tls", **ours) as cluster:
        assert cluster.address.startswith("tls://")
        first, second = clone(leader, "first"), clone(leader, "second")
        missing = ours | {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(tmp_path / "nothing.pem")}
        what = "error: TLS needs certificates, which Dask's settings name"
        for settings, said in (({}, what), (missing, what), (others, "error: no Dask scheduler answers")):
            for project, command in (
                (leader, ("repro", "--workers", cluster.address)),
                (second, ("worker", cluster.address)),
            ):
                refused = project.reprise(*command, check=False, **settings)
                assert refused.returncode == 1, (said, command, refused.stderr)
                assert said in refused.stderr, refused.stderr
                assert "Traceback" not in refused.stderr, refused.stderr
        cluster.worker(first, **ours)
        assert "has no TLS" not in cluster.said(first)
        done = leader.reprise("repro", "--workers", cluster.address, **ours)
        assert f"on {os.uname().nodename}:{first.root}" in done.stdout
        plain = cluster.address.replace("tls://", "tcp://")
        refused = leader.reprise("repro", "--workers", plain, "--force", check=False, **ours)
        assert "error: Dask's settings ask for encryption" in refused.stderr, refused.stderr
