"""`reprise init`: what a new project holds, what is refused, and what a kill leaves. Nothing here runs the graph."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.processes.git import git
from pipeline.projects import presets
from pipeline.projects.contents import params_text, project_files
from pipeline.projects.init import STAGING, make_project
from pipeline.projects.presets import load_preset, preset_names, preset_table
from reprise.config.dvc_file import stages_of
from reprise.config.errors import GitError, ParameterError, StorageError
from reprise.config.params import read_yaml
from reprise.storage.code.places import LINKS
from stages.check.parameters import problems
from stages.ingest import look

THINGS = {".dvc", ".dvcignore", ".git", ".gitignore", ".reprise", "data", "dvc.yaml", "params.yaml", "plugins"}
THINGS |= {"prefect.yaml", "shifts.lock.json", "targets.csv"}


def named_images(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_valid_and_gives_dvc_all_that_its_graph_names(name: str) -> None:
    preset = load_preset(name)
    texts = project_files(preset, Path("/images of mine/#1: old") if preset.takes_images else None, "my: pictures")
    yaml = YAML(typ="safe")
    raw, graph = yaml.load(texts["params.yaml"]), yaml.load(texts["dvc.yaml"])
    assert problems(raw) == []
    assert raw["source"].get("root") == ("/images of mine/#1: old" if preset.takes_images else None)
    assert raw["report"].get("title") == ("my: pictures" if preset.takes_images else None)
    for stage in stages_of(graph, raw):
        assert stage.cmd.startswith("python -P -m reprise.start stages.")
        for key in stage.params:
            value = raw
            for part in key.split("."):
                assert part in value, f"{stage.name} names {key}"
                value = value[part]
    names = [deployment["name"] for deployment in yaml.load(texts["prefect.yaml"])["deployments"]]
    assert names == ["nightly", "source"], "a sweep needs a plan, which a new project does not have"
    outs = {out for stage in stages_of(graph, raw) for out in stage.outs}
    assert {artifact["path"] for artifact in graph["artifacts"].values()} <= outs
    assert len(preset.text.splitlines()) < 70, "a preset holds what matters, and no more"


def test_what_a_preset_leaves_out_is_what_the_repository_runs(repository: Path) -> None:
    shipped = read_yaml(repository / "params.yaml")
    raw = YAML(typ="safe").load(params_text(load_preset("digits"), None))
    assert raw.keys() == shipped.keys()
    assert raw["probes"] == shipped["probes"]
    assert raw["representations"] == shipped["representations"]
    assert raw["runs"] == shipped["runs"]
    assert {row["name"] for row in raw["runs"]} == raw["methods"].keys()


def test_presets_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine", "silent"):
        text = load_preset("digits").text
        text = text if name == "mine" else text.replace("# Time:", "# Clock:")
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(presets, "FOLDER", tmp_path)
    assert preset_names() == ["mine", "silent"]
    assert load_preset("mine").score.startswith("kNN top-1")
    with pytest.raises(ParameterError, match=r"`# Time:`.*Found: 4 lines of comment, Images, Score"):
        load_preset("silent")
    with pytest.raises(ParameterError, match=r"Use one of: mine, silent\. Did you mean 'mine'"):
        load_preset("mien")
    (tmp_path / "silent.yaml").unlink()
    assert [row[0] for row in preset_table()] == ["preset", "mine"]


def test_a_new_project(tmp_path: Path) -> None:
    made = make_project(tmp_path / "new")
    assert made.preset == "digits"
    assert any("without --images" in line for line in made.lines)
    assert set(os.listdir(tmp_path / "new")) == THINGS
    assert [(tmp_path / "new" / LINKS / p / "__init__.py").is_file() for p in ("reprise", "stages")] == [True, True]
    tracked = git("ls-files", cwd=tmp_path / "new").split()
    assert {"dvc.yaml", "params.yaml", ".dvc/config", "plugins/README.md", "data/.gitignore"} <= set(tracked)
    assert not any(name.startswith(".reprise/") for name in tracked)
    assert git("log", "--format=%s", cwd=tmp_path / "new") == "Begin with the preset digits\n"
    assert git("status", "--porcelain", cwd=tmp_path / "new") == ""


def test_a_preset_that_needs_images_says_where_to_put_them_if_none_were_named(tmp_path: Path) -> None:
    without = make_project(tmp_path / "without", "compare-methods")
    assert without.lines[0].startswith("no --images: put yours into data/images")
    (tmp_path / "images").mkdir()
    for made in (
        make_project(tmp_path / "with", "compare-methods", tmp_path / "images"),
        make_project(tmp_path / "digits", "digits"),
    ):
        assert not any("--images" in line for line in made.lines)


def test_git_commits_only_in_a_person_s_name_and_only_in_a_repository_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    made = make_project(tmp_path / "new")
    assert "set user.name and user.email" in made.lines[-1]
    with pytest.raises(GitError):
        git("rev-parse", "--verify", "HEAD", cwd=tmp_path / "new")
    inner = make_project(tmp_path / "new" / "inner")
    assert str(tmp_path / "new") in inner.lines[-1]
    assert not (tmp_path / "new" / "inner" / ".git").exists()


@pytest.mark.parametrize(
    ("names", "preset", "said"),
    [
        (("cat/1.jpg", "dog/2.jpg"), "photos-labelled", "The first folder is the class."),
        (("1.jpg", "2.jpg"), "photos-unlabelled", "there are no labels"),
        (("2021/a/1.jpg", "2022/2.jpg"), "photos-unlabelled", "It is not clear whether folders are classes"),
    ],
)
def test_the_folders_decide_on_the_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], preset: str, said: str
) -> None:
    images = named_images(tmp_path / "images", *names, "Thumbs.db", "notes.txt")
    monkeypatch.setattr(
        "pipeline.projects.chosen.capture", lambda command, cwd: json.dumps(look.look(Path(command[-1])))
    )
    made = make_project(tmp_path / "new", images=images)
    assert made.preset == preset
    assert said in made.lines[0]
    assert f"{len(names)} pictures" in made.lines[0]
    assert preset in made.lines[1]
    assert read_yaml(tmp_path / "new/params.yaml")["source"]["root"] == str(images)
    assert sorted(str(p.relative_to(images)) for p in images.rglob("*.*")) == sorted([*names, "Thumbs.db", "notes.txt"])


def write_zip(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"")
    return path


def write_tar(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w") as file:
        for name in names:
            file.addfile(tarfile.TarInfo(name))
    return path


SHARD = ("0.jpg", "0.cls", "1.jpg", "1.cls")


@pytest.mark.parametrize("preset", [None, "photos-labelled"])
@pytest.mark.parametrize(
    ("kind", "source", "fitting"),
    [
        ("zip", "archive", "photos-labelled"),
        ("folder of archives", "archive", "photos-labelled"),
        ("shards", "webdataset", "photos-unlabelled"),
        ("tar", "archive", "photos-labelled"),
    ],
)
def test_archives_are_read_by_the_source_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str | None, kind: str, source: str, fitting: str
) -> None:
    monkeypatch.setattr(
        "pipeline.projects.chosen.capture", lambda command, cwd: json.dumps(look.look(Path(command[-1])))
    )
    images = tmp_path / "pictures"
    images.mkdir()
    if kind == "zip":
        images = write_zip(tmp_path / "pictures.zip", "cat/1.jpg", "dog/2.jpg", "README")
    elif kind == "tar":
        images = write_tar(tmp_path / "pictures.tar", "cat/1.jpg", "dog/2.jpg", "dog/2.txt")
    elif kind == "shards":
        write_tar(images / "train-0.tar", *SHARD)
        write_tar(images / "train-1.tar", *SHARD)
    else:
        write_zip(images / "cat.zip", "1.jpg")
        write_tar(images / "dog.tar", "2.jpg")
    made = make_project(tmp_path / "new", preset, images)
    assert made.preset == (preset or fitting)
    assert f"the source `{source}`" in " ".join(made.lines)
    assert ("source.options.label: cls" in made.lines[0]) == (source == "webdataset")
    raw = read_yaml(tmp_path / "new/params.yaml")
    assert (raw["source"]["name"], raw["source"]["root"]) == (source, str(images))
    assert problems(raw) == []


def test_init_says_what_to_write_about_a_table_and_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pipeline.projects.chosen.capture", lambda command, cwd: json.dumps(look.look(Path(command[-1])))
    )
    images = named_images(tmp_path / "images", "2021/a/1.jpg", "2022/2.jpg", "labels.csv")
    said = " ".join(make_project(tmp_path / "new", images=images).lines)
    assert "Set source.options.labels in params.yaml: `none`" in said
    assert "labels.csv is a table" in said
    assert "`name: table`" in said


def test_a_folder_without_pictures_is_refused_unless_a_preset_says_what_will_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.projects.chosen.capture", lambda command, cwd: json.dumps(look.look(Path(command[-1])))
    )
    images = named_images(tmp_path / "images", "notes.txt", "code/train.py")
    with pytest.raises(ParameterError, match="no file there has the name of a picture"):
        make_project(tmp_path / "new", images=images)
    assert not (tmp_path / "new").exists()
    assert make_project(tmp_path / "new", "photos-unlabelled", images).preset == "photos-unlabelled"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(StorageError, match=r"nothing is overwritten in .*\n  mine\.txt\n"):
        make_project(tmp_path)
    assert os.listdir(tmp_path) == ["mine.txt"]
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("preset", "images", "match"),
    [
        (None, "absent", "there are no such images"),
        ("digits", "images", "brings its own images"),
        (None, "images/1.jpg", "a file that is no archive"),
        (None, "labels.csv", "without --images, and write `name: table`"),
        ("nothing", None, "there is no preset called 'nothing'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_written(
    tmp_path: Path, preset: str | None, images: str | None, match: str
) -> None:
    named_images(tmp_path / "images", "1.jpg")
    (tmp_path / "labels.csv").write_text("image\n")
    with pytest.raises(ParameterError, match=match):
        make_project(tmp_path / "new", preset, tmp_path / images if images else None)
    with pytest.raises(ParameterError, match="cannot lie inside the folder of its images"):
        make_project(tmp_path / "images/new", "photos-unlabelled", tmp_path / "images")
    assert sorted(os.listdir(tmp_path)) == ["images", "labels.csv"]


class Killed(BaseException):
    """Stands for a kill: nothing is cleaned up by the test's replacement of what would have run next."""


@pytest.mark.parametrize("moves", [0, 1, 5, len(THINGS)])
def test_a_kill_while_entries_move_is_finished_by_the_next_init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    rename, remove, done = Path.rename, shutil.rmtree, []

    def killed_after_some(self: Path, target: Path) -> Path:
        if self.parent.name == STAGING and len(done) == moves:
            raise Killed
        if self.parent.name == STAGING:
            done.append(self.name)
        return rename(self, target)

    def killed_at_the_end(path: Path, **options: bool) -> None:
        if len(done) == len(THINGS):
            raise Killed
        remove(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed_after_some)
        patch.setattr("pipeline.projects.init.shutil.rmtree", killed_at_the_end)
        with pytest.raises(Killed):
            make_project(tmp_path / "new", "photos-unlabelled")
    assert (tmp_path / "new" / STAGING).is_dir()
    made = make_project(tmp_path / "new", "digits")
    assert made.preset == "photos-unlabelled"
    assert "interrupted" in made.lines[0]
    assert set(os.listdir(tmp_path / "new")) == THINGS


def test_what_a_kill_left_unfinished_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "new" / STAGING).mkdir(parents=True)
    (tmp_path / "new" / STAGING / "params.yaml").write_text("half", encoding="utf-8")
    make_project(tmp_path / "new")
    assert set(os.listdir(tmp_path / "new")) == THINGS
    assert read_yaml(tmp_path / "new/params.yaml")["seeds"] == [0]
