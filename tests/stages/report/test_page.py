"""The whole page: what it says; that it is safe, self-contained and the same every time; what it does without parts."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from reprise.artifacts.facts.table import Facts, objects, write_facts
from reprise.artifacts.layout import MANIFEST
from reprise.artifacts.manifest import read_manifest, write_manifest
from reprise.artifacts.near_copies import NEAR_COPIES_SCHEMA
from reprise.config.errors import ManifestError, ResultError, ShardError
from reprise.config.facts import Fact
from reprise.storage.atomic import write_json
from stages.facts.gather import captions_of
from stages.report.__main__ import main
from stages.report.readers.images.near_copies import NearCopies
from stages.report.text import LONGEST
from tests.stages.report.conftest import Build, rendered

CANARY = "<script>alert(1)</script>"
HOSTILE = [
    CANARY,
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "line one\nline two\x00\x1b[31m",
    "\u202egnp.exe\u2028\u200f",
    "w" * 10_000,
    "&amp;</title></style>",
    "</script><script src=//example.org/x.js></script>",
    "javascript:alert(1)",
    "\U0001f600 \u05e9\u05dc\u05d5\u05dd",
]


class Reader(HTMLParser):
    """Collects tags and text as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "img", "br", "link", "input"}:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(page: bytes) -> Reader:
    """Parse a page; every element must be closed in order."""
    reader = Reader()
    reader.feed(page.decode("utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def test_the_stage_writes_the_page_and_provenance_beside_it(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    folder = build()
    main([])
    reader = read((folder / "data/report/index.html").read_bytes())
    for words in (
        "Digits",
        "train",
        "not an image",
        "passed with warnings",
        "Silhouette",
        "gsimclr",
        "25.0 %",
        "knn.top1",
        "train.epochs",
        "SHA-256",
    ):
        assert words in reader.text, words
    assert "index.html" in capsys.readouterr().out
    assert json.loads((folder / "data/report/results.json").read_text(encoding="utf-8"))["title"] == "Digits"
    assert (folder / "data/report/results.csv").read_text(encoding="utf-8").startswith("run,method,labels,metric,value")
    assert (folder / "data/report/results.tex").read_text(encoding="utf-8").count(r"\\") == 4
    script = (folder / "data/report/provenance.js").read_text(encoding="utf-8")
    records = json.loads(script.removeprefix("window.REPRISE_PROVENANCE = ").removesuffix(";\n"))
    assert [r["record"] for r in records] == ["report"]
    assert records[0]["seconds"] > 0


def test_the_outcome_claims_no_more_than_one_seed_allows(build: Build) -> None:
    build()
    text = read(rendered()).text
    assert "simclr and gsimclr are above the untrained network (random)" in text
    assert "no difference was shown between it and gsimclr" in text
    assert "With one seed this is a statement about these trained models, not about the methods" in text


def test_three_seeds_speak_of_methods_and_show_every_seed(build: Build) -> None:
    build(seeds=(0, 1, 2))
    page = rendered()
    assert "With 3 seeds this is a statement about the methods" in read(page).text
    assert page.count(b'class="seed"') == 9  # three runs, three seeds
    assert "sd 0.019 over 3 seeds: 0.900, 0.867 and 0.867" in read(page).text


def test_two_renders_are_equal_also_under_another_hash_seed(build: Build, repository: Path) -> None:
    folder = build(HOSTILE)
    first = rendered()
    assert rendered() == first
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(repository)}
        subprocess.run(
            [sys.executable, "-W", "error", "-m", "stages.report"],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        )
        assert (
            hashlib.sha256((folder / "data/report/index.html").read_bytes()).digest() == hashlib.sha256(first).digest()
        )


def test_nothing_of_a_run_of_the_stage_is_in_the_page(build: Build) -> None:
    folder = build()
    page = rendered()
    assert str(folder).encode() not in page
    assert re.search(rb"20\d\d-\d\d-\d\dT", page) is None
    assert b"not recorded" in page


def test_names_from_the_data_are_shown_as_bounded_text(build: Build) -> None:
    build(HOSTILE)
    page = rendered()
    reader = read(page)
    ours = [attributes for tag, attributes in reader.tags if tag == "script"]
    assert ours == [{"type": "application/json", "id": "map-data"}, {"src": "provenance.js"}, {}]
    assert not [a for tag, a in reader.tags for name in a if name.startswith("on")]
    text = page.decode()
    assert CANARY not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "w" * 200 not in text
    assert "10,000 characters" in text
    for invisible in "\u202e\u2028\u200f\x00\x1b":
        assert invisible not in text
    assert "{{ 7 * 7 }}" in reader.text  # not 49
    assert "\\u202egnp.exe" in reader.text


def test_hostile_paths_reasons_and_metadata_are_text(build: Build) -> None:
    folder = build()
    import pyarrow as pa

    from reprise.artifacts.manifest import QUARANTINE_SCHEMA, write_quarantine

    rows = [{"path": CANARY + "x" * 5000, "reason": CANARY, "detail": "\u202e" + CANARY, "sha256": None}]
    write_quarantine(folder / "data/ingest/quarantine.parquet", pa.Table.from_pylist(rows, QUARANTINE_SCHEMA))
    dataset = json.loads((folder / "data/ingest/dataset.json").read_text(encoding="utf-8"))
    dataset |= {"name": CANARY, "citation": CANARY, "licence": CANARY, "notes": [CANARY * 200], "source": CANARY}
    (folder / "data/ingest/dataset.json").write_text(json.dumps(dataset), encoding="utf-8")
    config = folder / "data/runs/simclr/0/config.json"
    raw = json.loads(config.read_text(encoding="utf-8"))
    raw |= {"method": CANARY, "architecture": CANARY, "device": CANARY, "parameters": {CANARY: {"x": CANARY}}}
    config.write_text(json.dumps(raw), encoding="utf-8")
    page = rendered()
    assert CANARY not in page.decode()
    assert [a for tag, a in read(page).tags if tag == "script"] == [
        {"type": "application/json", "id": "map-data"},
        {"src": "provenance.js"},
        {},
    ]
    assert len(page) < 1_000_000


def test_the_page_asks_no_network_and_says_so_in_its_policy(build: Build) -> None:
    build()
    page = rendered()
    reader = read(page)
    for tag, attributes in reader.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name)
            if value is not None:
                saved = tag == "a" and attributes.get("download") and value.startswith("data:")
                assert saved or value.startswith(("data:image/", "#")) or value == "provenance.js", (tag, value)
        assert "style" not in attributes, "the policy forbids style attributes"
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
    policy = next(a["content"] for tag, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    text = page.decode()
    for element in ("style", "script"):
        content = re.search(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
        assert content
        digest = base64.b64encode(hashlib.sha256(content.group(1).encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy
    assert re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?://", content.group(1)) is None


def test_every_picture_is_whole(build: Build) -> None:
    build()
    page = rendered()
    data = json.loads(re.search(r'id="map-data">(.*?)</script>', page.decode()).group(1))
    uris = [a["src"] for tag, a in read(page).tags if tag == "img"] + [data["sprite"]["uri"]]
    assert max(map(len, uris)) > LONGEST  # longer than any text may be
    for uri in uris:
        image = cv2.imdecode(
            np.frombuffer(base64.b64decode(uri.split(",", 1)[1], validate=True), np.uint8), cv2.IMREAD_COLOR
        )
        assert image is not None
        assert image.size


def test_the_page_can_be_read_without_eyes_or_mouse(build: Build) -> None:
    build()
    reader = read(rendered())
    assert reader.headings.count("h1") == 1
    for before, after in zip(reader.headings, reader.headings[1:], strict=False):
        assert int(after[1]) <= int(before[1]) + 1, "no level is skipped"
    assert ("html", {"lang": "en"}) in reader.tags
    for tag, attributes in reader.tags:
        if tag == "img":
            assert attributes.get("alt")
        if tag == "th":
            assert attributes.get("scope") in {"col", "row"}
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    anchors = {a["href"][1:] for tag, a in reader.tags if tag == "a" and not a.get("download")}
    ids = [a["id"] for _, a in reader.tags if a.get("id")]
    assert anchors <= set(ids)
    assert len(ids) == len(set(ids))
    labelled = {a["aria-labelledby"] for _, a in reader.tags if a.get("aria-labelledby")}
    assert labelled <= set(ids)


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("data/ingest/dataset.json", "Unnamed data set"),
        ("data/ingest/manifest.parquet", "There is no manifest"),
        ("data/ingest/quarantine.parquet", "There is no quarantine table"),
        ("data/ingest/near_copies.parquet", "There is no table of near-copies"),
        ("data/ingest", "There is no manifest"),
        ("data/validate", "There is no verdict"),
        ("data/shards", "There are no images to show"),
        ("data/mine", "No label set holds clusters"),
        ("data/mine/dae_kmeans/0/quality.json", "unknown miner"),
        ("data/trained", "No model is trained"),
        ("data/trained/0/models/dae/metrics.json", "trained on 75 images for 0 epochs."),
        ("data/runs", "Nothing has been trained yet"),
        ("data/runs/simclr/0/config.json", "gsimclr"),
        ("data/runs/simclr/0/history.csv", "random , simclr"),
        ("data/probe", "No run has a map"),
        ("data/probe", "No run was looked at"),
        ("data/probe/simclr", "No run was shown to be the best"),
        ("data/summary", "There are no verdicts"),
    ],
)
def test_a_missing_part_becomes_a_sentence(build: Build, missing: str, sentence: str) -> None:
    target = build() / missing
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert sentence in read(rendered()).text


def test_an_empty_project_has_a_page(build: Build) -> None:
    folder = build()
    shutil.rmtree(folder / "data")
    text = read(rendered()).text
    assert "Nothing has been trained yet" in text
    for words in (
        "No run has a training history",
        "No run used guided batches",
        "There are no predictions to count",
        "There are no inputs",
    ):
        assert words in text


def test_what_was_changed_in_images_is_a_table(build: Build) -> None:
    """Two kinds from the notes, and the image that the shards hold smaller than the manifest says."""
    build()
    manifest = read_manifest()
    keys, place = manifest["key"].to_pylist(), manifest.schema.get_field_index("width")
    widths = pa.array([16 if key == keys[0] else 8 for key in keys], pa.int32())
    write_manifest(MANIFEST, manifest.set_column(place, manifest.schema.field(place), widths))
    page = rendered().decode("utf-8")
    (table,) = re.findall(r"<caption>What was done to images.*?</table>", page, re.DOTALL)
    rows = [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in table.split("<tr>")[2:]]
    assert [row.split(" digits/")[0] for row in rows] == [
        "turned upright 2",
        "a range of values becomes 0 to 255 1",
        "stored scaled down (shard.max_side) 1",
    ]
    assert "16 x 8 pixels become 8 x 8" in rows[2]
    assert "&lt;b&gt;values" in table


def test_facts_are_a_table_and_runs_that_read_them_are_marked(build: Build) -> None:
    build()
    assert "Facts beyond the class" not in rendered().decode()
    keys = read_manifest(columns=["key"])["key"].to_pylist()
    declared = (
        Fact("age", "number", "label", "Years <b>of</b> life.", "targets.csv"),
        Fact("site", "word"),
        Fact("text", "caption", "given"),
    )
    columns = {"age": np.array([3.5, 1.0, *[np.nan] * (len(keys) - 2)]), "site": objects(["Bern"] * len(keys))}
    captions = {"text": objects([(CANARY, "two"), ("x" * 300,), ("three",)] + [()] * (len(keys) - 3))}
    Path("data/facts/all").mkdir(parents=True)
    facts = Facts(declared, objects(keys), columns, captions)
    write_facts(Path("data/facts/all"), facts)
    write_json(Path("data/facts/all/captions.json"), {n: c.as_json() for n, c in captions_of(facts).items()})
    config = Path("data/runs/simclr/0/config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"reads": ["text"]}))
    page = rendered().decode()
    assert "Facts beyond the class" in page
    for cell in ("1 to 3.5", "1 words", "Years &lt;b&gt;of&lt;/b&gt; life.", "<td>given</td>", "none; reads text"):
        assert cell in page, cell
    shown = "\u201c&lt;script&gt;alert(1)&lt;/script&gt;\u201d; \u201c" + "x" * 80 + "... (220 more characters)\u201d"
    assert shown in page and CANARY not in page
    assert f"{len(keys) - 3} of {len(keys)} images have no caption (text)." in page


def test_near_copies_and_other_lookalikes_are_shown_in_pairs(build: Build) -> None:
    build()
    page = rendered(1).decode("utf-8")
    section = page[page.index('id="copies"') :]
    section = section[: section.index("</section>")]
    copies, others = section.split("<h3>Images that networks hardly tell apart</h3>")
    assert "Near-copies: 3 pairs among 5 images." in copies
    assert copies.count("<li><span>") == 2  # not the pair of which an image was refused
    assert "1 in two splits, 1 kept in one split, 1 one or both refused" in copies
    assert copies.index("in two splits, distance 0.010") < copies.index("kept in one split, distance 0.010, labels")
    assert "2 of the 3 pairs" in copies
    assert others.count("<li><span>") == 1  # the pair that ingest found is not shown again
    assert "listed by random, simclr, gsimclr" in others
    assert others.count(": 2 of 7 test images that lie") == 3  # what a run left out is said


def test_the_copies_shown_first_are_chosen_from_the_whole_table() -> None:
    names = NEAR_COPIES_SCHEMA.names
    rows = [
        ("a", f"k{i:04d}", "p", "q", "train", "train", i / 1e4, i == 7, "nothing" if i != 2000 else "in_two_splits")
        for i in range(2500)
    ]
    rows.append(("a", "z", "p", "q", "train", None, 1.0, True, "one_refused"))
    table = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], NEAR_COPIES_SCHEMA)
    copies = NearCopies(table, ())
    order = [pair.keys[1] for pair in copies.by_interest()]
    assert order[:4] == ["k2000", "k0007", "k2499", "k2498"]
    assert len(order) == 2500
    assert copies.among({"a", "k0003", "k0004", "other"}) == {frozenset(("a", "k0003")), frozenset(("a", "k0004"))}
    assert copies.counts() == {"in_two_splits": 1, "nothing": 2499, "one_refused": 1}


def test_without_a_test_split_the_page_says_that_figures_are_optimistic(build: Build) -> None:
    build()
    table = read_manifest()
    place = table.column_names.index("split")
    for splits, words in (
        (["train", "val"], "scored on val, on which choices are made too"),
        (["train"], "scored on train"),
    ):
        write_manifest(
            MANIFEST, table.set_column(place, table.schema.field(place), [(splits * table.num_rows)[: table.num_rows]])
        )
        text = read(rendered()).text
        assert f"There is no test split: probes are {words}, so their figures are optimistic." in text
        assert "test 0 images" in text


def test_unlabelled_images_have_a_page(build: Build) -> None:
    build(labelled=False)
    page = rendered()
    text = read(page).text
    assert "There are no labels: classes, accuracies and confusion are left out" in text
    assert "There is no accuracy without labels and probes" in text
    assert "There are no predictions to count" in text
    assert "The images have neither labels nor clusters" in text  # the map holds test images, clusters are of train
    assert page.count(b"<img") >= 24
    assert "spectrum.rankme" in text


def test_unlabelled_map_is_coloured_by_cluster_where_images_have_one(build: Build) -> None:
    build(labelled=False)
    import pyarrow.parquet as pq

    from reprise.artifacts.tables.parquet import write_table

    labels = pq.read_table("data/mine/dae_kmeans/0/pseudo_labels.parquet")
    for run in ("random", "simclr", "gsimclr"):
        path = f"data/probe/{run}/0/features/label_free/map.parquet"
        table = pq.read_table(path)
        write_table(path, table.set_column(0, "key", labels["key"][: table.num_rows].combine_chunks()))
    assert "cluster of dae_kmeans" in read(rendered()).text


@pytest.mark.parametrize(
    ("damaged", "error"),
    [
        ("data/ingest/manifest.parquet", ManifestError),
        ("data/ingest/quarantine.parquet", ManifestError),
        ("data/ingest/near_copies.parquet", ManifestError),
        ("data/ingest/dataset.json", ResultError),
        ("data/validate/validation.json", ResultError),
        ("data/shards/all-000000.tar", ShardError),
        ("data/mine/dae_kmeans/0/quality.json", ResultError),
        ("data/runs/simclr/0/config.json", ResultError),
        ("data/probe/simclr/0/features/quality/metrics.json", ResultError),
        ("data/probe/simclr/0/features/label_free/map.parquet", ResultError),
        ("data/summary/comparison.json", ResultError),
    ],
)
def test_a_damaged_part_is_an_error_that_names_it(build: Build, damaged: str, error: type[Exception]) -> None:
    target = build() / damaged
    content = target.read_bytes()
    for cut in (content[: len(content) // 3], b"[3]" if damaged.endswith(".json") else content[:100]):
        target.write_bytes(cut)
        with pytest.raises(error, match=re.escape(Path(damaged).name)):
            rendered()


def test_lineage_holds_the_hashes_of_the_inputs(build: Build) -> None:
    folder = build()
    text = read(rendered()).text
    for path in (
        "data/ingest/manifest.parquet",
        "data/shards/index.parquet",
        "data/runs/simclr/0/config.json",
        "data/summary/comparison.json",
    ):
        assert (
            f"{path} {(folder / path).stat().st_size:,} {hashlib.sha256((folder / path).read_bytes()).hexdigest()}"
            in text
        )


def test_parameters_that_differ_come_first(build: Build) -> None:
    build()
    text = read(rendered()).text
    assert text.index("method.temperature") < text.index("train.batch_size") < text.index("train.epochs")
