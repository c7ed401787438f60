"""The message about a run: the report's words, what changed, what was refused, the reader's zone, how it is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prefect.blocks.notifications import NotificationBlock
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from pipeline.compare import gate
from pipeline.compare.history.nights import read_nights
from pipeline.flows import message
from pipeline.flows.message import Ending, Inputs, Message, changes_since, compose
from pipeline.flows.reproduce import GraphRun, Wishes
from pipeline.flows.tasks import Tasks, notification_block
from pipeline.processes.redaction import make_redactor
from reprise.artifacts.report_words import ReportWords, read_report_words
from reprise.config.errors import ParameterError, ResultError

BERLIN = ZoneInfo("Europe/Berlin")
BEGAN, ENDED = datetime(2026, 7, 3, 22, 30, tzinfo=UTC), datetime(2026, 7, 3, 22, 41, tzinfo=UTC)
WORDS = ReportWords(
    "Digits",
    ["simclr is above the untrained network beyond chance."],
    ["the loss still falls"],
    ["simclr - random: above, p < 0.001"],
    ["3 files were refused: 2 truncated, 1 no image."],
)
DONE = Ending(BEGAN, ENDED, True, "2 ran, 30 cached in 660.0 s")
PARAMS = {"train": {"epochs": 60}, "runs": [{"name": "simclr", "method": "simclr"}, {"name": "random"}]}
DATA = {"source": "folder", "images": 100, "refused files": 3, "train": 80, "test": 20, "content": "a"}


def inputs(params: Mapping[str, Any] = PARAMS, ended: str = "2026-07-02T22:41:00+00:00", **data: object) -> Inputs:
    return Inputs(ended, message.by_name(params), DATA | data)


def test_it_says_what_the_report_says_and_what_changed_in_the_readers_zone() -> None:
    changes = ["train.epochs: 60 -> 80"]
    told = compose(DONE, WORDS, changes, ["simclr: up"], BERLIN, "http://127.0.0.1:1/report")
    assert told.subject == "Reprise: Digits: completed"
    text = told.text()
    wanted = [*WORDS.result, *WORDS.cautions, *changes, "simclr: up", *WORDS.verdicts, *WORDS.refused]
    places = [
        text.index(each) for each in [*wanted, "Saturday 4 July 2026, 00:30 to 00:41 (Europe/Berlin)", "Report: "]
    ]
    assert places == sorted(places)
    assert text.endswith("Report: http://127.0.0.1:1/report")
    assert "2 ran, 30 cached" in text
    for line in wanted:
        assert message.escape(line) in told.markdown()
    winter = replace(DONE, began=datetime(2026, 12, 3, 22, 30, tzinfo=UTC), ended=datetime(2026, 12, 4, 1, tzinfo=UTC))
    assert "3 December 2026, 23:30 to Friday 4 December 2026, 02:00 (Eu" in compose(winter, None, [], [], BERLIN).text()


def test_a_failed_run_names_what_failed_and_shows_no_earlier_result_as_its_own() -> None:
    ending = replace(DONE, completed=False, failures=["validate: too few images", "Skipped: 9 stages."])
    told = compose(ending, None, [], [], BERLIN, "file:///report")
    assert told.subject == "Reprise: the graph: failed"
    text = told.text()
    assert "What failed:\n- validate: too few images\n- Skipped: 9 stages." in text
    assert "The link leads to an earlier one" in text
    assert "Verdicts" not in text


def test_nothing_is_left_out_without_a_word() -> None:
    verdicts = [f"pair {i}" for i in range(40)]
    text = compose(DONE, replace(WORDS, verdicts=verdicts, refused=[]), [], [], None).text()
    assert "- pair 14\n- 25 more are in the report." in text
    assert "Refused:\n- Nothing." in text


def test_changes_are_named_by_their_row_and_their_key() -> None:
    params = {"train": {"epochs": 80}, "runs": [{"name": "simclr", "method": "byol"}, {"name": "new"}]}
    lines = changes_since(inputs(), inputs(params, images=112, train=92, content="b"), BERLIN)
    assert lines == [
        "train.epochs: 60 -> 80",
        "runs.simclr.method: simclr -> byol",
        "runs.new was added: {}",
        "runs.random was removed: {}",
        "data: images: 100 -> 112",
        "data: train: 80 -> 92",
        "That run ended on Friday 3 July 2026, 00:41 (Europe/Berlin).",
    ]
    assert changes_since(inputs(), inputs(content="b"), BERLIN)[0] == (
        "data: the images or their labels changed; their numbers did not"
    )
    assert changes_since(inputs(), inputs(), BERLIN) == [
        "Nothing since the run that ended on Friday 3 July 2026, 00:41 (Europe/Berlin)."
    ]
    assert "no earlier run" in changes_since(None, inputs(), None)[0]


def test_inputs_are_remembered_as_they_were(project: Path) -> None:
    now = message.read_inputs(project)
    assert now.data["images"] == 100
    assert len(now.data["content"]) == 64
    message.store_inputs(now, ENDED, project)
    assert message.load_previous_inputs(project) == replace(now, ended="2026-07-03T22:41:00+00:00")
    for damaged in ("{", "[]", '{"ended": "", "parameters": {}, "data": {}}', '{"ended": 3}'):
        (project / message.PREVIOUS_INPUTS).write_text(damaged)
        assert message.load_previous_inputs(project) is None


def test_hostile_words_are_text() -> None:
    hostile = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) \u202e\n# heading"
    told = compose(DONE, replace(WORDS, title=hostile, result=[hostile]), [hostile], [], BERLIN)
    page = told.markdown()
    assert "<img" not in page
    assert "](javascript" not in page
    for shown in (page, told.text(), told.subject):
        assert "\u202e" not in shown
        assert "\n# heading" not in shown


def write_words(words: ReportWords, root: Path) -> None:
    """Write them as the report stage does, below other results."""
    (root / "data/report").mkdir(parents=True, exist_ok=True)
    (root / "data/report/results.json").write_text(json.dumps({"figures": [], "message": asdict(words)}))


def test_the_words_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read_report_words(tmp_path) is None
    write_words(WORDS, tmp_path)
    assert read_report_words(tmp_path) == WORDS
    path = tmp_path / "data/report/results.json"
    for damaged in ("[]", '{"title": "x"}', path.read_text().replace('"result": [', '"result": 3, "x": [')):
        path.write_text(damaged)
        with pytest.raises(ResultError, match=r"results\.json"):
            read_report_words(tmp_path)


@dataclass(frozen=True)
class Recorded(Tasks):
    """Tasks without a server: what would go to Prefect is kept."""

    pages: dict[str, str] = field(default_factory=dict)

    def run(self, title: str, body: Callable[[], State], above: Any = ()) -> State:
        return body()

    def markdown(self, key: str, text: str, description: str) -> None:
        self.pages[key] = self.hide(text)


class Kept(NotificationBlock):
    """A notification block that keeps what it is told, or fails as a webhook does."""

    address: str = ""
    sent: list[tuple[str | None, str]] = Field(default_factory=list)

    def notify(self, body: str, subject: str | None = None) -> None:  # type: ignore[override]
        if self.address:
            raise OSError(f"no route to {self.address}")
        self.sent.append((subject, body))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder in which a run has ended."""
    (tmp_path / "data/ingest").mkdir(parents=True)
    raw = {"source": "folder", "kept": 100, "quarantined": 3, "counts": {"train": 80, "test": 20}}
    (tmp_path / "data/ingest/dataset.json").write_text(json.dumps(raw))
    (tmp_path / "data/ingest/manifest.parquet").write_bytes(b"rows")
    write_words(WORDS, tmp_path)
    (tmp_path / "data/report/index.html").write_text("the page")
    (tmp_path / "params.yaml").write_text(json.dumps(PARAMS))
    return tmp_path


def told_by(project: Path, final: State, blocks: Mapping[str, NotificationBlock]) -> tuple[State, str]:
    """Let a run end in this state: the state that it returns, and the page of its message."""
    tasks = Recorded(project, make_redactor(project, {"TEAM_TOKEN": "canary-0123456789"}), print, [])
    run = GraphRun(tasks, wishes=Wishes(zone=BERLIN), states={"report": Completed()})
    state = run._tell(final, BEGAN, blocks, whole=True)
    return state, tasks.pages["message"]


def test_the_message_is_sent_through_every_block_without_secrets(project: Path) -> None:
    write_words(replace(WORDS, title="canary-0123456789"), project)
    first, second = Kept(), Kept()
    state, page = told_by(project, Completed(message="2 ran"), {"kept/a": first, "kept/b": second})
    ((subject, body),) = first.sent
    assert second.sent == first.sent
    assert subject == "Reprise: ***: completed"
    assert WORDS.result[0] in body
    assert "There is no earlier run" in body
    assert (project / "data/report/index.html").as_uri() in body
    assert "canary" not in page + body
    assert state.is_completed()
    assert state.message == "2 ran"
    told_by(project, Completed(message="30 cached"), {"kept/a": first})
    assert "Nothing since the run that ended on " in first.sent[-1][1]  # the first run was remembered


def test_a_failed_run_is_told_and_is_not_what_the_next_is_compared_with(project: Path) -> None:
    block = Kept()
    (project / "metrics.json").write_text('{"simclr": {"knn": {"top1": 0.5}}}')
    told_by(project, Failed(message="mine: out of memory"), {"kept/a": block})
    assert block.sent[0][0] == "Reprise: Digits: failed"
    assert "mine: out of memory" in block.sent[0][1]
    assert message.load_previous_inputs(project) is None
    assert read_nights(project) == ([], [])
    told_by(project, Completed(message="2 ran"), {})
    assert len(read_nights(project)[0]) == 1  # which `reprise history` shows


def test_what_is_not_sent_is_said_without_the_address(project: Path) -> None:
    secret = "https://hooks.example.org/services/T000/B000/abcdef"
    state, page = told_by(project, Completed(message="2 ran"), {"kept/a": Kept(address=secret)})
    assert state.is_completed()
    assert state.message == "2 ran; the message was not sent through kept/a: OSError"
    assert WORDS.result[0] in page


def test_a_gate_refuses_results_and_the_message_says_so(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def judge(metric: str, *, champion: str, root: Path) -> SimpleNamespace:
        asked.append((metric, champion, root))
        return SimpleNamespace(lines=lambda: ["simclr: FAILS", "gate failed: a rule"], passed=False)

    monkeypatch.setattr(gate, "judge", judge)
    tasks = Recorded(project, str, print, [])
    run = GraphRun(tasks, wishes=Wishes(gate="knn.top1_val", champion="main", zone=BERLIN))
    final = run._judge(Completed(message="2 ran"))
    assert asked == [("knn.top1_val", "main", project)]
    assert final.is_failed()
    run._tell(final, BEGAN, {}, whole=True)
    page = tasks.pages["message"]
    assert page.startswith("## Reprise: the graph: failed")
    assert "The gate refused the results: gate failed: a rule" in page
    assert "- simclr: FAILS" in page


@pytest.mark.parametrize(("answer", "error"), [(ValueError("unable to find"), "no such block"), (object(), "does not")])
def test_a_block_that_cannot_send_is_refused_before_anything_runs(
    answer: object, error: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("pipeline.flows.tasks.Block.load", load)
    with pytest.raises(ParameterError, match=error):
        notification_block("slack-webhook/team")
    run = GraphRun(Recorded(project, str, print, []), wishes=Wishes(notify=["slack-webhook/team"]))
    monkeypatch.setattr(GraphRun, "_bring_up_to_date", lambda *_: pytest.fail("it ran"))
    with pytest.raises(ParameterError, match=r"slack-webhook/team"):
        run.reproduce([])


def test_the_page_of_a_message_links_to_the_report() -> None:
    assert "[The report](<file:///a (b)/index.html>)" in Message("s", [], "file:///a (b)/index.html").markdown()
