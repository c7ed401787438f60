"""The JSON of the commands that need trained runs holds exactly what the commands declare."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.faults.reduced import read, write
from tests.pipeline.cli.answers import undeclared
from tests.pipeline.cli.test_json import answered, asked, fields_of
from tests.pipeline.dvc_project import Project

pytestmark = pytest.mark.slow
RUN = "gsimclr"


@pytest.fixture(scope="module")
def trained(first_run: tuple[Project, str], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with results, a DVC remote, and a folder `photos` beside it with a file that is no image."""
    root = tmp_path_factory.mktemp("documents") / "project"
    shutil.copytree(first_run[0].root, root, symlinks=True)
    project = Project(root)
    params = read(root / "params.yaml")
    params["probes"]["label_free"]["clustering"] = {}
    write(root / "params.yaml", params)
    project.reprise("repro")
    project.dvc("remote", "add", "--default", "store", str(root.with_name("store")))
    project.commit("a remote")
    photos = root.with_name("photos")
    photos.mkdir()
    shard = min((root / "data/shards").glob("test-*.tar"))
    with tarfile.open(shard) as tar:
        images = [member for member in tar if not member.name.endswith(".json")]
        for number, member in enumerate(images):
            content = tar.extractfile(member)
            assert content is not None
            label = photos / str(number % 2)
            label.mkdir(exist_ok=True)
            (label / f"{number}{Path(member.name).suffix}").write_bytes(content.read())
    (photos / "0/no\nimage.png").write_bytes(b"no image")
    return project


def test_images(trained: Project) -> None:
    root, photos = trained.root, trained.root.with_name("photos")
    assert answered(root, "clusters", "--run", RUN)["clusters"]
    export = answered(root, "clusters", "--run", RUN, "--export", str(root.with_name("clusters.csv")))["export"]
    assert export["images"] > 0
    picture = next(path for path in sorted((photos / "1").iterdir()))
    nearest = answered(root, "search", str(picture), "--run", RUN, "--top", "3")
    assert [row["rank"] for row in nearest] == [1, 2, 3]
    found = answered(root, "predict", str(photos), "--run", RUN)["images"]
    assert sum(row["refused"] is not None for row in found) == 1
    assert any("no\nimage.png" in row["path"] or "no\\nimage.png" in row["path"] for row in found)
    assert answered(root, "views", "--run", RUN)["page"]
    assert answered(root, "views", "--run", RUN, "--moments")["moments"]
    assert answered(root, "croissant", "--out", str(root.with_name("croissant.json")))["record_sets"]


def test_comparisons(trained: Project) -> None:
    root = trained.root
    assert answered(root, "compare")["comparisons"]
    assert answered(root, "compare", "random", RUN)["comparisons"]
    assert answered(root, "history")["points"]
    assert answered(root, "gate")["passed"] is True
    assert answered(root, "compare-representations", "HEAD", "workspace", "--run", RUN)["encoders"]
    assert answered(root, "drift", "HEAD", "--run", RUN)["drifted"] == []


def test_publishing(trained: Project) -> None:
    root = trained.root
    assert answered(root, "export", RUN, "--out", str(root.with_name("exported")))["files"]
    assert answered(root, "track", "tensorboard")["written"]
    assert answered(root, "track", "tensorboard")["written"] == []
    assert answered(root, "promote", RUN)["promoted"]["tag"] == f"{RUN}@v1.0.0"
    assert answered(root, "promote", RUN)["challenge"]["passed"] is True
    assert answered(root, "push")["files"] > 0
    assert answered(root, "pull")["missing"] == 0
    assert answered(root, "get", "data/report", "--out", str(root.with_name("report")))["place"]


def test_any_backbone(trained: Project) -> None:
    root, photos = trained.root, trained.root.with_name("photos")
    backbone = ["--backbone", str(root / f"data/runs/{RUN}/0"), "--data", str(photos)]
    done = answered(root, "embed", *backbone, "--out", str(root.with_name("photos.parquet")))
    assert sum(done["refused"].values()) == 1
    out = root.with_name("found.json")
    found = answered(root, "probe", *backbone, "--out", str(out))
    assert json.loads(out.read_text(encoding="utf-8")) == found


def test_a_sweep(trained: Project) -> None:
    root = trained.root
    plan = root.with_name("plan.yaml")
    plan.write_text("name: t\ngrid: {methods.gsimclr.temperature: [0.2]}\nmetric: knn.top1_val\n", encoding="utf-8")
    assert [point["state"] for point in answered(root, "sweep", str(plan), "--list")["points"]] == ["waiting"]
    assert answered(root, "sweep", str(plan), "--forget")["forgotten"] == []


def test_flows(trained: Project) -> None:
    root = trained.root
    status, document, said = asked(root, "flows run reproduce", "shard")
    assert (status, undeclared(document, fields_of("flows run reproduce"))) == (0, []), said
    assert document["state"] == "Completed"
    assert answered(root, "flows close-dead-runs") == {"server": False, "closed": []}
