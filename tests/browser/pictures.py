"""Make the pictures of docs/how-to/compare-over-time.md: `python -m tests.browser.pictures FOLDER`.

FOLDER becomes a small project of digits with four committed states, a promoted version and the record of a refused
night, which is made up. The pages of `reprise compare` and of `reprise history` are photographed in Chromium at the
width of a desk and of a phone, into docs/images. It takes some minutes.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import sync_playwright

from pipeline.compare.history.outcomes import REFUSED_RUNS, store_refused
from tests.chromium import Chromium
from tests.conftest import REPOSITORY
from tests.pipeline.dvc_project import Project
from tests.pipeline.real_project import edit_params, real_project

STATES = {  # subject of a commit -> what it changed
    "Four epochs": {"train__epochs": 4},
    "A higher temperature": {"methods__gsimclr__temperature": 0.5},
    "Ten epochs in place of four": {"train__epochs": 10},
    "More test images": {"source__test_fraction": 0.3},
}
PAGES = {  # name of a picture -> the command that makes its page
    "compare-page": ("compare", "HEAD~2", "HEAD~1"),
    "history-page": ("history", "knn.top1", "linear.top1"),
}
SIZES = {"": (1280, 1500), "-phone": (390, 1700)}  # ending of a picture's name -> width and height in pixels
WHOLE = "history-page"  # to its end, where versions and refused runs stand


def make_states(project: Project) -> None:
    """Run the graph in each state, and commit it; states that are there already are kept."""
    for subject, changes in STATES.items():
        if subject not in project.call("git", "log", "--format=%s").stdout.splitlines():
            edit_params(project, **changes)
            project.reprise("repro", PYTHONPATH=str(REPOSITORY))
            project.commit(subject)


def make_outcomes(project: Project) -> None:
    """Promote a run, and leave the record of a night that ended in drift, as `refresh` does; both are kept."""
    if not project.call("git", "tag", "--list").stdout:
        project.reprise("promote", "gsimclr", PYTHONPATH=str(REPOSITORY))
    if not (project.root / REFUSED_RUNS).is_dir():
        head = project.call("git", "rev-parse", "HEAD").stdout.strip()
        why = "The new images differ from the others: light (p 0.002, threshold 0.01). No run was trained."
        store_refused(datetime.now(UTC), head, "Drift", why, project.root)


def photograph(project: Project, folder: Path) -> None:
    """Write a picture of each page at each size."""
    with sync_playwright() as playwright:
        browser = Chromium(playwright)
        for name, command in PAGES.items():
            page = project.root / f"{name}.html"
            project.reprise(*command, "--page", str(page), PYTHONPATH=str(REPOSITORY))
            for ending, (width, height) in SIZES.items():
                with browser.opened(page, width) as opened:
                    whole = opened.page.evaluate("document.documentElement.scrollHeight")
                    opened.page.set_viewport_size(
                        {"width": width, "height": whole if name == WHOLE else min(height, whole)}
                    )
                    opened.page.screenshot(path=folder / f"{name}{ending}.png")
        browser.close()


if __name__ == "__main__":
    root = Path(sys.argv[1]).absolute()
    project = Project(root) if root.exists() else real_project(root, REPOSITORY)
    make_states(project)
    make_outcomes(project)
    photograph(project, REPOSITORY / "docs/images")
