"""Hostile values in params.yaml are data: reported as wrong, shown as text, never run by a shell."""

from __future__ import annotations

import copy
import datetime as dt
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reprise.config.errors import ParameterError
from reprise.config.params import parameter_error, read_yaml
from stages.check.parameters import problems
from tests.faults.reduced import one_run, read, write
from tests.pipeline.dvc_project import Project

HOSTILE = {
    "command": "$(touch canary)",
    "separator": "; touch canary #",
    "backticks": "`touch canary`",
    "newline": "a\ntouch canary",
    "lookup": "${seeds}",
    "control": "\u202e\x1b[2J\x07",
    "markup": "[bold]<script>alert(1)</script>",
    "path": "../../etc/passwd",
    "empty": "",
    "huge": 10**400,
    "negative": -(10**400),
    "nan": float("nan"),
    "infinite": float("inf"),
    "date": dt.date(2026, 1, 1),
    "bytes": b"x",
    "list": [[[]]],
    "mapping": {"a": 1},
    "true": True,
    "null": None,
    "yes": "yes",
}
QUICK = ("command", "newline", "control", "huge", "nan", "null", "true", "list")
KINDS = [pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in HOSTILE]
TEXT = {"source.root"}  # any text may be a path; it reaches no shell
NULLABLE = {"embed.batch_size"} | {
    f"train.views.{name}" for name in ("crop_scale_min", "flip", "jitter", "grey", "blur", "solarize")
}
FLAGS = {"train.views.flip"}


@pytest.fixture(scope="module", autouse=True)
def _import_path(repository: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(repository))
        yield


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all values that are not filled lists or mappings."""
    if isinstance(value, dict | list) and value:
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    elif value != {}:
        yield path


@pytest.mark.parametrize("kind", KINDS)
def test_no_value_of_any_table_or_section_takes_it(repository: Path, kind: str) -> None:
    raw = read_yaml(repository / "params.yaml")
    for path in leaves(raw):
        wrong, dotted = copy.deepcopy(raw), ".".join(map(str, path))
        block = wrong
        for key in path[:-1]:
            block = block[key]
        block[path[-1]] = value = HOSTILE[kind]
        allowed = (
            (dotted in TEXT and isinstance(value, str) and value != "")
            or (dotted in NULLABLE and value is None)
            or (dotted in FLAGS and value is True)
            or (dotted == "train.backbone" and value == "yes")  # a name that timm may know one day
        )
        found = problems(wrong)
        assert bool(found) is not allowed, dotted
        said = str(parameter_error(found))
        assert all(c.isprintable() or c == "\n" for c in said), dotted
        assert len(said) < 3000, dotted


@pytest.mark.parametrize("kind", ["newline", "control", "huge", "null"])
def test_no_name_of_a_block_or_key_takes_it(repository: Path, kind: str) -> None:
    raw = read_yaml(repository / "params.yaml")
    for section in raw:
        if isinstance(raw[section], dict):
            wrong = copy.deepcopy(raw)
            wrong[section][HOSTILE[kind]] = {}
            assert problems(wrong), section
    assert problems({**raw, HOSTILE[kind]: {}})


def test_a_bomb_of_aliases_is_refused_before_it_is_written_out(repository: Path, tmp_path: Path) -> None:
    """Nine to the ninth entries, if anything walked through them (plain DVC does, before any stage could object)."""
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{c}: &{c} [{','.join(['*' + b] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)
    )
    text = (repository / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(bomb + text.replace("seeds: [0]", "seeds: *i"), encoding="utf-8")
    with pytest.raises(ParameterError, match="its aliases stand for") as refusal:
        read_yaml(tmp_path / "params.yaml")
    assert len(str(refusal.value)) < 1_000


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Project:
    return one_run(tmp_path_factory.mktemp("hostile") / "project", repository, epochs=1)


def poison(project: Project, **values: Any) -> None:
    """Set dotted keys (written with __) of the project's original params.yaml, also those that end up in commands."""
    project.call("git", "checkout", "--quiet", "--", "params.yaml")
    params = read(project.root / "params.yaml")
    for dotted, value in values.items():
        *parents, last = (int(word) if word.isdigit() else word for word in dotted.split("__"))
        block = params
        for parent in parents:
            block = block[parent]
        block[last] = value
    write(project.root / "params.yaml", params)


def refuses(project: Project, command: Any, *expected: str) -> None:
    refused = command("repro", check=False)
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0
    assert "Traceback" not in said
    for words in expected:
        assert words in said
    assert "stages.ingest\n" not in said  # nothing ran but the check
    assert not list(project.root.rglob("canary"))
    assert not (project.root / "data/ingest").exists()


def test_what_would_end_in_a_command_is_refused_before_any_runs(project: Project) -> None:
    """DVC builds commands for a shell out of names and seeds; `check` stops it, with and without `reprise`."""
    poison(
        project,
        runs__0__name=HOSTILE["command"],
        runs__0__labels=HOSTILE["newline"],
        features=[{"name": HOSTILE["backticks"], "extractor": "pixels"}],
        mines=[{"name": HOSTILE["separator"], "miner": "kmeans", "on": "features/pixels"}],
        suites__0__name="$(touch canary)",
        seeds=["$(touch canary)", "0; touch canary"],
    )
    expected = (
        "runs[0].name: ", "runs[0].labels: ", "features[0].name: ", "mines[0].name: ", "suites[0].name: ",
        "seeds[0]: ", "seeds[1]: ", "nothing was run",
    )  # fmt: skip
    refuses(project, project.dvc, *expected)
    refuses(project, project.reprise, *expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("key", ["runs__0__name", "seeds__0", "source__name", "mines", "train__epochs"])
def test_each_is_refused_by_dvc_and_by_reprise(project: Project, key: str, kind: str) -> None:
    if isinstance(HOSTILE[kind], bytes):
        value: Any = HOSTILE[kind].decode()
    else:
        value = HOSTILE[kind]
    if key == "mines":
        value = [{"name": "sets", "miner": "kmeans", "on": value}]
    poison(project, **{key: value})
    refuses(project, project.dvc)
    refuses(project, project.reprise, key.split("__")[0])


@pytest.mark.parametrize(
    "line",
    [
        "x: !!python/object/apply:os.system ['touch canary']",
        "seeds: !canary [0]",
        "x: &x [*x]",
        "x: {{{",
    ],
)
def test_yaml_that_is_more_than_data_is_refused(project: Project, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPRISE_QUIET", "1")  # a slow machine would tell that the stage is at work
    poison(project)
    with (project.root / "params.yaml").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    refused = project.call(sys.executable, "-P", "stages/run.py", "stages.check", "--no-output", check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr
    assert not (project.root / "canary").exists()


@pytest.mark.slow
def test_hostile_names_of_classes_and_files_are_text_from_end_to_end(tmp_path: Path, repository: Path) -> None:
    """Classes with HTML, scripts, escape sequences and shell's words go through the whole graph as they are."""
    from PIL import Image

    project = one_run(tmp_path / "project", repository, epochs=1)
    classes = ["<script>alert(1)</script>".replace("/", "\u2215"), "\x1b[31mred", "$(touch canary)", "[bold]a[", "a\nb"]
    number = 0
    for name in classes:
        folder = project.root / "data/images" / name
        folder.mkdir(parents=True)
        for _ in range(40):
            number += 1
            pixels = bytes((number * 7 + i * (number % 5 + 1)) % 256 for i in range(300))
            Image.frombytes("RGB", (10, 10), pixels).save(folder / f"{number} <img src=x onerror=alert(1)>\x1b[2J.png")
    poison(project, source__name="folder", train__batch_size=32, probes__quality__knn__k=3)
    done = project.reprise("repro", check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    assert "\x1b" not in said
    assert not list(project.root.rglob("canary"))
    page = (project.root / "data/report/index.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x onerror" not in page
    assert "\x1b" not in page
    assert set(json.loads((project.root / "metrics.json").read_text())) == {"simclr"}
