"""The pages that the product writes, made once from small artifacts: ordinary ones and hostile ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from reprise.artifacts.facts.table import Facts, objects, write_facts
from reprise.artifacts.labels.image_clusters import FILE as CLUSTERS
from reprise.artifacts.labels.image_clusters import SCHEMA
from reprise.artifacts.layout import MANIFEST, QUARANTINE, REPORT
from reprise.artifacts.manifest import QUARANTINE_SCHEMA, read_manifest, write_manifest, write_quarantine
from reprise.artifacts.shards import Shards
from reprise.artifacts.tables.parquet import write_table
from reprise.config.facts import Fact
from stages.embed.search_page import page as search_page
from stages.report.__main__ import main as report
from stages.validate.page import render_page
from tests.browser.comparisons import comparison_page, history_page
from tests.chromium import Chromium
from tests.stages.report.conftest import IMAGES, Tree

IMAGE = "<img src=x onerror=alert(1)>"
HOSTILE = (
    IMAGE,
    "<script>alert(1)</script>",
    "</script><script src=//evil.example/x.js></script>",
    "</title></style>",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "\u202egnp.exe",
    "javascript:alert(1)",
    "w" * 300,
    "a name of several words that goes on and on until no column of a telephone has room for it " * 3,
    "\U0001f600 \u0645\u0631\u062d\u0628\u0627",
)


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def report_of(
    names: list[str], seeds: int = 1, *, labelled: bool = True, change: Callable[[], None] = lambda: None
) -> None:
    """Write the report of a small graph of three runs below the current folder."""
    Path("params.yaml").write_text(json.dumps({"report": {"samples": 24}}), encoding="utf-8")
    Tree(names, labelled, tuple(range(seeds))).write()
    for place in Path("data/probe").glob("*/*/*/label_free"):
        rows = [{"key": key, "cluster": i % 11, "distance": 0.1, "certainty": 0.5} for i, key in enumerate(all_keys())]
        write_table(place / CLUSTERS, pa.Table.from_pylist(rows, schema=SCHEMA))
    change()
    report([])


def all_keys() -> list[str]:
    """List the keys of all images."""
    return read_manifest(columns=["key"])["key"].to_pylist()


def nearest_images() -> str:
    """Render the page of `reprise search` from the images of the current folder, with their names."""
    found = [
        image | {"rank": rank, "similarity": 1 / rank, "is_the_image": rank == 1}
        for rank, image in enumerate(read_manifest(columns=["key", "path", "split", "label"]).to_pylist()[:24], 1)
    ]
    return search_page(f"pictures/{IMAGE}.png", Shards.open(), Shards.open(), found, "simclr, seed 0")


def with_hostile_words() -> None:
    """Put hostile text wherever a data set or a run may bring its own."""
    table = read_manifest()
    paths = pa.array([f"{HOSTILE[i % len(HOSTILE)]}/{i}.png" for i in range(IMAGES)], pa.string())
    write_manifest(MANIFEST, table.set_column(table.column_names.index("path"), "path", paths))
    refused = [{"path": word, "reason": word[:40], "detail": word, "sha256": None} for word in HOSTILE]
    write_quarantine(QUARANTINE, pa.Table.from_pylist(refused, QUARANTINE_SCHEMA))
    dataset = Path("data/ingest/dataset.json")
    words = {"name": IMAGE, "citation": HOSTILE[8], "licence": IMAGE, "notes": list(HOSTILE), "source": HOSTILE[4]}
    dataset.write_text(json.dumps(json.loads(dataset.read_text()) | words), encoding="utf-8")
    config = Path("data/runs/simclr/0/config.json")
    words = {"method": IMAGE, "architecture": HOSTILE[7], "device": IMAGE, "parameters": {IMAGE: {IMAGE: IMAGE}}}
    config.write_text(json.dumps(json.loads(config.read_text()) | words), encoding="utf-8")
    declared = (Fact("site", "word", "label", IMAGE, IMAGE), Fact("text", "caption", "given"))
    sites = {"site": objects([HOSTILE[i % len(HOSTILE)][:90] for i in range(IMAGES)])}
    captions = {"text": objects([(IMAGE, HOSTILE[4])] * IMAGES)}
    folder = Path("data/facts/all")
    folder.mkdir(parents=True)
    write_facts(folder, Facts(declared, objects(table["key"].to_pylist()), sites, captions))


def verdicts() -> bytes:
    """Render validation's page with a failed, a doubtful and a sound expectation, and hostile examples."""
    verdict = {
        "expectation": "expect_column_values_to_be_unique",
        "says": "every key is there once",
        "table": "images",
        "column": "key",
        "severity": "error",
        "success": True,
        "observed": {"rows": 120, "unexpected": 0},
        "threshold": {},
        "examples": [],
    }
    failed = {"success": False, "says": "names can be read", "examples": list(HOSTILE)}
    doubtful = {
        "success": False,
        "severity": "warning",
        "says": "classes are comparable",
        "table": "totals",
        "observed": 7.5,
    }
    return render_page([verdict, verdict | failed, verdict | doubtful])


def views() -> str:
    """Render the page of views of a run with a hostile name."""
    from reprise.training.views import change_named
    from stages.pretrain.show_views import page
    from stages.pretrain.views.settings import ViewSettings

    changes = [change_named("crop"), change_named("grey", probability=0.5)]
    pixels = [np.full((12, 16, 3), shade, dtype=np.uint8) for shade in (40, 200)]
    return page(IMAGE, changes, ViewSettings(16, 3, (0.0,) * 3, (1.0,) * 3, tuple(changes)), pixels)


def _write(folder: Path) -> dict[str, Path]:
    digits = [str(digit) for digit in range(10)]
    kinds = {
        "report": lambda: report_of(digits, 3),
        "hostile report": lambda: report_of(list(HOSTILE), change=with_hostile_words),
        "report without labels": lambda: report_of(digits, labelled=False),
    }
    written = {}
    for name, write in kinds.items():
        place = folder / name
        place.mkdir()
        with inside(place):
            write()
            if name == "hostile report":
                searched = nearest_images()
        written[name] = place / REPORT
    contents = {
        "validation": verdicts(),
        "views": views().encode(),
        "search": searched.encode(),
        "comparison": comparison_page(HOSTILE).encode(),
        "history": history_page(HOSTILE).encode(),
    }
    for name, content in contents.items():
        written[name] = folder / f"{name}.html"
        written[name].write_bytes(content)
    return written


@pytest.fixture(scope="session")
def pages(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file of each page, by what it is. They are made only where there is a browser."""
    return _write(tmp_path_factory.mktemp("pages"))
