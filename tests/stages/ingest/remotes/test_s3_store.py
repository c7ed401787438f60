"""The remote source on S3: pages, ETags, refused buckets, and credentials that reach no artifact."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from reprise.artifacts.manifest import read_manifest
from reprise.config.errors import MachineError, SourceError
from reprise.storage.stores import in_order
from stages.ingest.source import Candidate
from stages.ingest.sources.remote import Remote
from stages.ingest.sources.webdataset import Webdataset
from tests.stages.ingest import hostile
from tests.stages.ingest.remotes.conftest import BUCKET, KEY, SECRET

pytestmark = pytest.mark.slow
NAMES = ["train/cat/1.png", "train/dog/2 ü+%.png", "test/cat/3.png", "test/dog/4.png"]


def png(seed: int) -> bytes:
    return hostile.encoded(hostile.photo(seed), "PNG")


def put(bucket: Any, names: list[str] = NAMES) -> None:
    for i, name in enumerate(names):
        bucket.put_object(Bucket=BUCKET, Key=f"set/{name}", Body=png(i))


def source(server: str, place: str = f"{BUCKET}/set", **options: object) -> Remote:
    return Remote(f"s3://{place}", Remote.Params(endpoint=server, **{"attempts": 2, "threads": 3, **options}))


def outcome(one: Remote) -> dict[str, str]:
    return {item.name.removeprefix(f"{one.address}/"): getattr(item, "reason", "") for item in one.candidates()}


def test_objects_are_listed_page_by_page_and_read_with_their_etags(
    bucket: Any, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put(bucket)
    bucket.put_object(Bucket=BUCKET, Key="set/train/", Body=b"")  # a folder, as the web page of a store makes it
    bucket.put_object(Bucket=BUCKET, Key="settings/5.png", Body=png(5))  # not below the prefix
    monkeypatch.setattr("reprise.storage.stores.s3_store._MOST_KEYS", 2)
    one = source(s3_server)
    first = one.extent()
    assert first.files == len(NAMES)
    assert first.digest == source(s3_server).extent().digest
    assert outcome(source(s3_server)) == dict.fromkeys(NAMES, "")
    bucket.put_object(Bucket=BUCKET, Key="set/train/cat/1.png", Body=png(0)[::-1])
    bucket.delete_object(Bucket=BUCKET, Key="set/test/cat/3.png")
    assert source(s3_server).extent().digest != first.digest
    for path in Path(".reprise/remote").rglob("*"):
        if path.is_file():
            path.unlink()
    assert outcome(one) == dict.fromkeys(NAMES, "") | {
        "train/cat/1.png": "changed_while_reading", "test/cat/3.png": "changed_while_reading"
    }  # fmt: skip
    Path("names.txt").write_text("train/cat/1.png\nmissing.png\n", encoding="utf-8")
    assert outcome(source(s3_server, names="names.txt")) == {"train/cat/1.png": "", "missing.png": "unreadable"}


def test_buckets_that_refuse_and_servers_that_are_gone_are_explained(
    bucket: Any, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(in_order, "_PAUSE", 0.001)
    with pytest.raises(SourceError, match="NoSuchBucket"):
        source(s3_server, "no-such-bucket/x").extent()
    with pytest.raises(SourceError, match="nothing at this address"):
        source(s3_server, f"{BUCKET}/nothing").extent()
    with pytest.raises(MachineError, match="2 times in a row"):
        source("http://127.0.0.1:9", timeout=1.0).extent()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(SourceError, match="no credentials"):
        source(s3_server).extent()
    put(bucket)
    assert source(s3_server, anonymous=True).extent().files == len(NAMES)


def test_no_credential_reaches_an_artifact_or_a_message(bucket: Any, s3_server: str, tmp_path: Path) -> None:
    """Scan and ingest as DVC starts them, with and without success; then everything that they wrote is searched."""
    put(bucket)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[4]), "AWS_ENDPOINT_URL": s3_server}
    said = ""
    for root, works in (
        (f"s3://{BUCKET}/set", True),
        (f"s3://{BUCKET}-2/set", False),
        (f"s3://{KEY}:x@{BUCKET}/a", False),
    ):
        block = f"source:\n  name: remote\n  root: {root}\n  options: {{attempts: 1, threads: 2}}\n"
        (tmp_path / "params.yaml").write_text(block, encoding="utf-8")
        for module in ("stages.ingest.scan", "stages.ingest"):
            command = [sys.executable, "-m", module]
            ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert (ended.returncode == 0) == works, ended.stderr
            said += ended.stdout + ended.stderr
    (tmp_path / "params.yaml").unlink()
    assert read_manifest(tmp_path / "data/ingest/manifest.parquet").num_rows == len(NAMES)
    canaries = [KEY, SECRET, SECRET.replace("/", "%2F"), "X-Amz-Signature"]
    assert [word for word in canaries if word in said] == []
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    found = [(path, word) for path in written for word in canaries if word.encode() in path.read_bytes()]
    assert found == []


def test_shards_on_s3_are_listed_or_named_by_a_pattern(
    bucket: Any, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for n in range(2):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for i in range(3):
                header = tarfile.TarInfo(f"{i}.png")
                header.size = len(png(3 * n + i))
                tar.addfile(header, io.BytesIO(png(3 * n + i)))
        bucket.put_object(Bucket=BUCKET, Key=f"set/train-{n}.tar", Body=buffer.getvalue())
    named, below = (
        Webdataset(f"s3://{BUCKET}/set{end}", Webdataset.Params(endpoint=s3_server, attempts=2))
        for end in ("/train-{0..1}.tar", "")
    )
    assert named.extent() == below.extent()
    rows = [
        [(item.name, item.split) for item in one.candidates() if isinstance(item, Candidate)] for one in (named, below)
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 6
    assert {split for _, split in rows[0]} == {"train"}
    digests = set()
    for body in (b"about", b"edited"):
        bucket.put_object(Bucket=BUCKET, Key="set/README.md", Body=body)
        listed = Webdataset(f"s3://{BUCKET}/set", Webdataset.Params(endpoint=s3_server, attempts=2))
        extent = listed.extent()
        assert extent.bytes == below.extent().bytes
        digests.add(extent.digest)
        others = [item for item in listed.candidates() if not isinstance(item, Candidate)]
        assert [(item.name, item.reason) for item in others] == [(f"s3://{BUCKET}/set/README.md", "no_archive")]
    # The account of what was left out names the file, so that the digest follows its name, and not what it holds.
    assert len(digests - {below.extent().digest}) == 1
