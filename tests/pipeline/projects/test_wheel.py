"""A wheel, where other packages are called `stages` and `pipeline` too: a project from nothing to its report."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from pipeline.processes.git import git

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]

SMALL = """
seeds: [0]
runs: [{name: random, method: random, labels: none}, {name: simclr, method: simclr, labels: none}]
methods: {random: {}, simclr: {}}
source: {name: digits}
image: {size: 8, channels: 1}
models: []
model_options: {}
features: []
extractors: {}
mines: []
mining: {}
train: {backbone: resnet_tiny, epochs: 1, batch_size: 256, optimizer: sgd, learning_rate: 0.2, weight_decay: 0.0001,
  warmup_epochs: 0}
suites: [{name: quality}, {name: label_free}]
"""


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy as `make wheel` builds it, because setuptools leaves a folder `build` behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in git("ls-files", "--cached", "--others", "--exclude-standard", "-z", cwd=repository).split("\0"):
        if name and not name.startswith(("tests/", "docs/")) and (repository / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(repository / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(folder), "."], cwd=folder / "source", check=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, the packages that it needs, and decoys of the same names as ours."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), *install], check=True)
    for name in ("stages", "pipeline"):
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(f"raise SystemExit('the decoy {name} was imported')\n")
    return folder


def call(environment: Path, folder: Path, *command: str) -> str:
    """Run a program of the environment, and return all that it printed."""
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    variables["PATH"] = f"{environment / 'bin'}{os.pathsep}{variables['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_wheel_has_one_top_level_package_and_every_file_of_ours(wheel: Path, repository: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert b"reprise.start:command" in archive.read(next(n for n in names if n.endswith("entry_points.txt")))
        assert archive.read(next(n for n in names if n.endswith("top_level.txt"))) == b"reprise\n"
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"reprise"}
    tracked = git("ls-files", "reprise", "stages", "pipeline", cwd=repository).split()
    missing = [n for n in tracked if n not in names and f"reprise/installed/{n}" not in names]
    assert [name for name in missing if (repository / name).is_file()] == []


def test_a_project_from_nothing_to_its_report(environment: Path, tmp_path: Path) -> None:
    """The second run does nothing; another version of a stage's code reruns that stage, with plain DVC too."""
    said = call(environment, tmp_path, "reprise", "init", "small")
    assert "next: cd small && reprise repro" in said
    project = tmp_path / "small"
    text = (project / "params.yaml").read_text(encoding="utf-8")
    rest = text[text.index("\n# ---- everything else") :]
    rest = re.sub(
        r"(?ms)^probes:.*?(?=^image_probes)",
        "probes: {quality: {knn: {}}, label_free: {clustering: {clusters: 5}}}\n",
        rest,
    )
    rest = re.sub(r"(?ms)^representations:.*?(?=^summary)", "representations: {}\n", rest)
    (project / "params.yaml").write_text(SMALL + rest, encoding="utf-8")
    said = call(environment, project, "reprise", "repro")
    assert "decoy" not in said
    assert (project / "data/report/index.html").is_file()
    rows = call(environment, project, "reprise", "clusters").splitlines()
    assert len(rows) == 6, "a header and five clusters: nothing is older than the folder"
    assert "copied" not in call(environment, project, "reprise", "clusters", "--export", str(tmp_path / "clusters"))
    pictures = list((tmp_path / "clusters").glob("cluster-*/*.png"))
    assert len(pictures) > 1000, "digits lie in an archive, so the shards' images were written"
    found = call(environment, project, "reprise", "search", str(pictures[0]), "--top", "3")
    assert re.search(r"(?m)^1\t1\.0000\t.*\(the same file\)$", found)
    assert (project / ".reprise/search.html").is_file()
    lock = (project / "dvc.lock").read_bytes()
    again = call(environment, project, "reprise", "repro")
    assert "stages." not in again
    assert (project / "dvc.lock").read_bytes() == lock
    assert "up to date" in call(environment, project, "python", "-P", "-m", "dvc", "status")

    page = next(environment.glob("lib/python*/site-packages/reprise/installed/stages/report/__main__.py"))
    page.write_text(page.read_text(encoding="utf-8").replace('"report: ', '"the report: '), encoding="utf-8")
    ran = re.findall(
        r"> python -P -m reprise\.start (\S+)", call(environment, project, "python", "-P", "-m", "dvc", "repro")
    )
    assert ran == ["stages.check", "stages.report"]


def test_prefect_loads_the_flows_by_the_names_in_a_project(environment: Path, tmp_path: Path) -> None:
    call(environment, tmp_path, "reprise", "init", "scheduled")
    text = (tmp_path / "scheduled/prefect.yaml").read_text(encoding="utf-8")
    entrypoints = re.findall(r"entrypoint: (\S+)", text)
    assert entrypoints == ["reprise.flows.reproduce", "reprise.flows.refresh"]
    program = (
        "import sys; from prefect.flows import load_flow_from_entrypoint as load;"
        " print([load(name, use_placeholder_flow=False).name for name in sys.argv[1:]])"
    )
    said = call(environment, tmp_path / "scheduled", "python", "-P", "-c", program, *entrypoints, "reprise.flows.sweep")
    assert said.strip().endswith("['reproduce', 'refresh', 'sweep']")
