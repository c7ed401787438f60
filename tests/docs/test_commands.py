"""The command lines of README.md and docs/ run as written, page by page, at a small size.

A page begins in a clone in which the graph has run, or in an empty folder beside its wheel. Lines run in their order,
in one shell; what a page shows below a line must be among what the line prints, apart from numbers and hashes.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.docs.blocks import Block, blocks
from tests.docs.shell import Shell, small
from tests.docs.test_blocks import merged
from tests.pipeline.dvc_project import Project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("documents")]

ELSEWHERE = {"docs/your-own-data.md", "docs/reference/command-line.md"}  # has a test of its own; examples
EMPTY = {
    "docs/how-to/compare-methods.md",
    "docs/how-to/new-project.md",
    "docs/tutorial.md",
}  # pages that begin in an empty folder, with a wheel
FRESH = {"README.md"}  # each block begins in the clone
CHANGED = {  # settings go into params.yaml
    "docs/how-to/change-parameters.md",
    "docs/how-to/clusters-and-search.md",
}
REMOTE = "dvc remote add --default store /path/to/store && git commit --quiet --all --message 'A remote'"
PICTURES = "cp -r /path/to/photos photos && for name in cat dog holiday; do cp photos/0.png $name.jpg; done"
EDIT = "sed -i 's/    loss = nt_xent(/    loss = 1.0 * nt_xent(/' stages/pretrain/methods/contrastive/simclr.py"
ANEW = "sed -i 's/  simclr: {temperature: 0.2}/  simclr: {temperature: 0.201}/' params.yaml"  # another, no worse one
COMMIT = "git commit --quiet --all --message 'Another backbone'"
WEIGHTS = (
    "from reprise.networks.torchvision_schemas import ensure_torchvision_imports as ensure; ensure(); import timm; "
)
WEIGHTS += "from safetensors.torch import save_file as save; "
WEIGHTS += "save(timm.create_model('resnet50').state_dict(), 'resnet50.safetensors')"
NIGHTS = [  # a project with images of yesterday and of tonight
    "reprise init nights --images /path/to/images",
    "cd nights && reprise repro shard && git add --all && git commit --quiet --message yesterday",
    "for label in cat dog; do cp /path/to/tonight/$label-* /path/to/images/$label/; done",
]
BEFORE = {  # page -> lines that its reader has run before
    "README.md": [REMOTE],
    "docs/explanation/reruns.md": [EDIT],
    "docs/how-to/change-parameters.md": ["dvc exp remove warmer"],
    "docs/how-to/clusters-and-search.md": [PICTURES],
    "docs/how-to/promote.md": [REMOTE, "reprise promote simclr", ANEW, "reprise repro", COMMIT],
    "docs/how-to/use-a-backbone.md": [PICTURES],
    "docs/how-to/watch-for-drift.md": NIGHTS,
    "docs/scaling.md": ["make wheel"],
    "docs/reference/probes.md": [f'python -c "{WEIGHTS}"'],
}
WHEEL = "reprise-0.2.0-py3-none-any.whl"


def pages() -> dict[str, list[Block]]:
    """The blocks of each page that has lines to run here."""
    found: dict[str, list[Block]] = {}
    for block in blocks():
        if block.page not in ELSEWHERE and not block.mark.startswith(("run by", "not run", "message of")):
            found.setdefault(block.page, []).append(block)
    return {page: own for page, own in found.items() if any(map(is_run, own))}


def is_run(block: Block) -> bool:
    """Whether a block holds lines to run, and is no file or setting."""
    return block.language in ("console", "python") and not block.marked("save as")


@pytest.mark.parametrize("page", pages())
def test_a_page_can_be_followed(page: str, finished: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    code = place / "reprise"
    shutil.copytree(finished / "reprise", code, symlinks=True)
    origin(Project(code), place / "path/to/repository")
    with Shell(code, place) as shell:
        if page in EMPTY:
            shell.run("make wheel")
            shell.folder = place / "empty"
            shell.folder.mkdir()
            shutil.copy(next((code / "dist").glob("*.whl")), shell.folder / WHEEL)
        for line in BEFORE.get(page, []):
            shell.run(line)
        for block in pages()[page]:
            if page in FRESH:
                shell.folder = code
            follow(block, shell)


def origin(project: Project, place: Path) -> None:
    """Give a clone the repository that it comes from."""
    project.call("git", "clone", "--quiet", "--bare", str(project.root), str(place))
    project.call("git", "remote", "add", "origin", str(place))
    project.call("git", "push", "--quiet", "--set-upstream", "origin", "main")


def follow(block: Block, shell: Shell) -> None:
    """Do what a block says."""
    if name := block.marked("save as"):
        file = shell.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, encoding="utf-8")
    elif block.language == "yaml" and block.page in CHANGED:
        change(shell.folder / "params.yaml", block.text)
    elif block.language == "python":
        (shell.folder / "block.py").write_text(block.text, encoding="utf-8")
        shell.run("python block.py")
    for line, expected in block.commands() if block.language == "console" else ():
        printed = {masked(each) for each in shell.run(line).splitlines()}
        missing = [each for each in expected if masked(each) not in printed]
        assert missing == [], f"{block}: $ {line}\n" + "\n".join(sorted(printed))


def change(file: Path, text: str) -> None:
    """Put settings into params.yaml."""
    yaml = YAML()
    yaml.width = 1000
    params = merged(yaml.load(file.read_text(encoding="utf-8")), yaml.load(text))
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(params, stream)
    small(file)


def masked(line: str) -> str:
    """Leave out what differs from run to run: numbers, hashes, and spaces that align."""
    line = re.sub(r"\b(?=\w*\d)[0-9a-f]{7,64}\b", "#", line)
    return re.sub(r"\s+", " ", re.sub(r"[+-]?\d+(?:[.,]\d+)*", "#", line)).strip()


def test_what_a_page_shows_must_be_printed(tmp_path: Path) -> None:
    text = "$ echo 12 images in 3.5 s\n1,204 images in 4 s\n$ echo two\nthree\n"
    with Shell(tmp_path, tmp_path, tmp_path) as shell, pytest.raises(AssertionError, match="echo two"):
        follow(Block("docs/a.md", 1, "console", text, ""), shell)
