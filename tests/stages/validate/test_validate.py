"""Each expectation fails on data made to break it, and only then; the verdict is deterministic."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import shutil
import socket
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reprise.artifacts.manifest import MANIFEST_SCHEMA, QUARANTINE_SCHEMA, write_manifest, write_quarantine
from reprise.config.errors import ValidationFailed
from stages.validate.__main__ import main
from stages.validate.check import SUITE, check, load_suite, require
from stages.validate.facts import gather
from stages.validate.page import render_page
from stages.validate.params import ValidateParams

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own imports
    import great_expectations  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:great_expectations")
ROOT = Path(__file__).parents[3]
PARAMS = ValidateParams(min_train_images=20, min_images_per_class=5, max_imbalance=3.0)


def rows(
    train: int = 40, test: int = 10, val: int = 5, labels: tuple[str | None, ...] = ("cat", "dog")
) -> list[dict[str, Any]]:
    """A sound manifest."""
    made = []
    for n in range(train + test + val):
        sha256 = hashlib.sha256(b"%d" % n).hexdigest()
        split = "train" if n < train else "test" if n < train + test else "val"
        made.append(
            {
                "key": sha256[:24],
                "path": f"{n}.png",
                "offset": 0,
                "bytes": 10,
                "split": split,
                "label": labels[n % len(labels)],
            }
            | {"width": 8, "height": 8, "channels": 1, "format": "PNG", "plain": True}
            | {"pixels": sha256, "sha256": sha256, "group": None}
        )
    return made


def verdicts(manifest: list[dict[str, Any]], refused: int = 0, params: ValidateParams = PARAMS) -> list[dict[str, Any]]:
    quarantine = [{"path": f"bad{n}.png", "reason": "empty", "detail": "", "sha256": None} for n in range(refused)]
    return check(
        gather(pa.Table.from_pylist(manifest, MANIFEST_SCHEMA), pa.Table.from_pylist(quarantine, QUARANTINE_SCHEMA)),
        params,
    )


def failed(found: list[dict[str, Any]]) -> list[str]:
    return [v["says"] for v in found if not v["success"]]


def test_sound_data_pass_everything() -> None:
    found = verdicts(rows())
    assert failed(found) == []
    assert len(found) == len(json.loads(SUITE.read_text()))
    require(found, Path("x"))


def test_every_expectation_is_explained_and_every_threshold_used() -> None:
    entries = json.loads(SUITE.read_text())
    assert all(
        e["says"] and e["severity"] in ("error", "warning") and e["table"] in ("images", "classes", "totals")
        for e in entries
    )
    used = {v[1:] for e in entries for v in e["kwargs"].values() if isinstance(v, str) and v.startswith("$")}
    assert used == set(ValidateParams.model_fields)
    filled = [e["kwargs"] for e in load_suite(PARAMS, labelled=True)]
    assert {"column": "train_images", "min_value": 20} in filled


def spoil(row: int = 0, **changes: Any) -> list[dict[str, Any]]:
    made = rows()
    made[row].update(changes)
    return made


@pytest.mark.parametrize(
    ("manifest", "refused", "says"),
    [
        (spoil(1, key=rows()[0]["key"]), 0, "every key is there once"),
        (spoil(key="not hexadecimal"), 0, "keys are 24 hexadecimal digits"),
        (spoil(split="training"), 0, "splits are train, val and test"),
        (spoil(pixels=rows()[45]["pixels"]), 0, "no two images with the same pixels lie in different splits"),
        (spoil(pixels=rows()[54]["pixels"]), 0, "no two images with the same pixels lie in different splits"),
        ([row | {"group": f"patient {row['key'][0]}"} for row in rows()], 0, "no group lies in two splits"),
        (spoil(width=0), 0, "widths are positive"),
        (spoil(height=-1), 0, "heights are positive"),
        (spoil(channels=0), 0, "images have from 1 to 64 bands"),
        (spoil(bytes=0), 0, "no image is an empty file"),
        (rows(train=19), 0, "there are enough images to train on"),
        (rows(), 10, "few files had to be refused, apart from copies of images that stay"),
        (rows(labels=("cat",)), 0, "there are enough classes"),
        (rows(labels=("a", "b", "c", "d", "e", "f", "g", "h", "i")), 0, "every class has enough images in train"),
    ],
)
def test_an_error_is_found_named_and_stops(manifest: list, refused: int, says: str) -> None:
    found = verdicts(manifest, refused)
    assert says in failed(found)
    verdict = next(v for v in found if v["says"] == says)
    assert verdict["severity"] == "error"
    with pytest.raises(ValidationFailed) as caught:
        require(found, Path("verdict.json"))
    message = str(caught.value)
    assert says in message
    assert verdict["expectation"] in message
    assert "verdict.json" in message
    assert all(example in message for example in verdict["examples"])


def test_the_fix_names_the_parameters_of_the_limits_that_were_broken() -> None:
    def fix(manifest: list[dict[str, Any]], refused: int = 0) -> str:
        with pytest.raises(ValidationFailed) as caught:
            require(verdicts(manifest, refused), Path("verdict.json"))
        return caught.value.fix

    end = "in params.yaml; all verdicts are in verdict.json."
    assert fix(rows(train=19), 10) == (
        f"Correct the data, or lower validate.min_train_images and raise validate.max_quarantined {end}"
    )
    assert fix(spoil(width=0)) == "Correct the data; all verdicts are in verdict.json."


@pytest.mark.parametrize(
    ("manifest", "says"),
    [
        (rows(val=0), "there are images to choose on (val)"),
        (rows(test=0), "there are images to report on (test)"),
        (rows(labels=("a", "a", "a", "a", "b")), "classes are of comparable size in train"),
        (spoil(label=None), "every image has a label"),
    ],
)
def test_a_warning_is_kept_and_does_not_stop(manifest: list, says: str) -> None:
    found = verdicts(manifest)
    assert failed(found) == [says]
    assert next(v for v in found if v["says"] == says)["severity"] == "warning"
    require(found, Path("x"))


def test_examples_are_keys_of_the_rows_at_fault() -> None:
    manifest = rows()
    for n in range(8):
        manifest[n]["width"] = 0
    verdict = next(v for v in verdicts(manifest) if v["column"] == "width")
    assert verdict["examples"] == [manifest[n]["key"] for n in range(5)]
    assert verdict["observed"] == {"rows": 55, "unexpected": 8}
    small = next(v for v in verdicts(rows(labels=("a",) * 19 + ("b",))) if v["table"] == "classes")
    assert small["observed"] == {"label": "b", "train_images": 2}
    assert set(small["examples"]) == {row["key"] for row in rows(labels=("a",) * 19 + ("b",)) if row["label"] == "b"}
    refused = next(v for v in verdicts(rows(), refused=10) if v["column"] == "quarantined_share")
    assert refused["examples"] == [f"bad{n}.png" for n in range(5)]


def test_label_checks_are_left_out_where_there_are_none() -> None:
    found = verdicts(rows(labels=(None,)))
    assert failed(found) == []
    assert not any("class" in v["says"] or "label" in v["says"] for v in found)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    place(rows(train=200))
    return tmp_path


def place(manifest: list[dict[str, Any]]) -> None:
    write_manifest("data/ingest/manifest.parquet", pa.Table.from_pylist(manifest, MANIFEST_SCHEMA))
    write_quarantine("data/ingest/quarantine.parquet", pa.Table.from_pylist([], QUARANTINE_SCHEMA))


def test_images_of_many_bands_pass_where_networks_see_as_many(workspace: Path) -> None:
    place([row | {"channels": 7} for row in rows(train=200)])
    with pytest.raises(ValidationFailed, match="Set image.channels to 7"):
        main([])
    params = Path("params.yaml")
    params.write_text(re.sub(r"(?m)^  channels: \d+", "  channels: 7", params.read_text()))
    main([])
    assert Path("data/validate/passed.json").exists()


@pytest.fixture(scope="module")
def poor() -> list[dict[str, Any]]:
    """Verdicts on too few images, with names from the data that are markup, unreadable or both."""
    names = ["<script src=//evil.example/x.js></script>", "\u202egnp.exe\n\x1b", '"><img src=http://evil.example/>']
    quarantine = [{"path": path, "reason": "empty", "detail": "", "sha256": None} for path in names]
    manifest = pa.Table.from_pylist(rows(train=19, val=0, labels=("dog", "<b>cat</b>", *"abcdefg")), MANIFEST_SCHEMA)
    return check(gather(manifest, pa.Table.from_pylist(quarantine, QUARANTINE_SCHEMA)), PARAMS)


def test_the_page_says_what_holds_and_what_does_not(poor: list[dict[str, Any]]) -> None:
    shown = render_page(poor).decode("utf-8")
    assert "<h1>The data do not pass</h1>" in shown
    assert "19 (at least 20)" in shown
    assert [shown.count(f'<td class="{result}">') for result in ("error", "warning")] == [3, 1]
    warned = [verdict | {"success": verdict["success"] or verdict["severity"] == "error"} for verdict in poor]
    assert "<h1>The data pass with warnings</h1>" in render_page(warned).decode("utf-8")
    sound = render_page([verdict | {"success": True} for verdict in poor]).decode("utf-8")
    assert "<h1>The data pass</h1>" in sound
    assert f"{len(poor)} of {len(poor)} expectations hold" in sound
    assert sound.count('<td class="holds">') == len(poor)


def test_the_page_asks_no_host_and_runs_nothing(poor: list[dict[str, Any]]) -> None:
    shown = render_page(poor).decode("utf-8")
    assert "default-src 'none'; style-src 'sha256-" in html.unescape(shown)
    foreign = re.compile(r"<(script|img|link|iframe|object|a|form)\b|@import|url\(|\b(src|href|action)=[\"']")
    assert foreign.search(shown) is None
    assert "&lt;script src=//evil.example" in shown
    assert "\\u202egnp.exe\\n\\x1b" in shown
    assert "&lt;b&gt;cat" in shown


def test_the_stage_writes_a_deterministic_verdict_and_data_docs(workspace: Path) -> None:
    main([])
    folders = ("data/validate", "data/validation_docs")
    first = {path: path.read_bytes() for folder in folders for path in Path(folder).iterdir()}
    assert {path.name for path in first} == {"validation.json", "passed.json", "index.html"}
    main([])
    assert {path: path.read_bytes() for folder in folders for path in Path(folder).iterdir()} == first
    assert not Path(".reprise/validation_failed.json").exists()


def test_a_failure_leaves_the_verdict_to_read_and_no_pass(workspace: Path) -> None:
    main([])
    place(rows(train=30))
    with pytest.raises(ValidationFailed) as failed:
        main([])
    assert "there are enough images to train on" in str(failed.value)
    assert ".reprise/validation_failed.json" in str(failed.value)
    assert [v["says"] for v in json.loads(Path(".reprise/validation_failed.json").read_text()) if not v["success"]] == [
        "there are enough images to train on"
    ]
    assert not Path("data/validate/passed.json").exists()
    place(rows(train=200))
    main([])
    assert Path("data/validate/passed.json").exists()
    assert not Path(".reprise/validation_failed.json").exists()


def test_warnings_are_said(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place(rows(train=200, val=0))
    main([])
    assert (
        "warning: the data do not meet the expectation that there are images to choose on (val)"
        in capsys.readouterr().err
    )


def test_nothing_is_sent_anywhere(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: called.append(address))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: called.append(address) or [])
    main([])
    assert called == []
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"
