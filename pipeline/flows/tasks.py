"""What Prefect shows of a flow: tasks with readable names and states, log lines, artifacts. No secret passes here."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import allow_failure, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from pipeline.processes.failure import is_transient, message_of
from pipeline.processes.processes import CommandFailed
from reprise.config.errors import RemoteError, RepriseError

TRANSIENT = "Transient"  # name of the state of a failure that a second try may mend


@dataclass(frozen=True)
class Tasks:
    """Makes the tasks of one flow run.

    Attributes:
        hide: takes secrets out of text.
        say: writes a line to the flow's log.
        delays: seconds before each further try of a task whose failure may pass.
    """

    root: Path
    hide: Callable[[str], str]
    say: Callable[[str], None]
    delays: Sequence[float]

    def run(self, title: str, body: Callable[[], State], above: Sequence[State] = ()) -> State:
        """Run `body` as a Prefect task of that name, after the tasks of `above`; its failures are states."""

        @task(
            name=title.split(maxsplit=1)[0],
            task_run_name=title.replace("{", "{{").replace("}", "}}"),
            cache_policy=NO_CACHE,
            retries=len(self.delays),
            retry_delay_seconds=list(self.delays),
            retry_jitter_factor=0.2,
            retry_condition_fn=lambda task, run, state: state.name == TRANSIENT,
        )
        def unit() -> State:
            try:
                return body()
            except (CommandFailed, RepriseError) as error:
                return self.failure(error)
            except Exception as error:  # noqa: BLE001 — Prefect would log it with whatever secret is in its words
                self.log()(traceback.format_exc())
                return Failed(message=self.hide(f"a defect of Reprise: {type(error).__name__}: {error}"))

        ended = [allow_failure(state) for state in above if not state.is_cancelled()]  # Prefect refuses these
        return unit(return_state=True, wait_for=ended)

    def failure(self, error: CommandFailed | RepriseError) -> State:
        """The state that tells of an expected error."""
        if isinstance(error, CommandFailed):
            told, passes = message_of(error), is_transient(error.lines)
        else:
            told, passes = str(error), isinstance(error, RemoteError) and error.transient
        return Failed(name=TRANSIENT if passes else None, message=self.hide(told))

    def log(self) -> Callable[[str], None]:
        """Writes lines to the log of the task that asks, from any thread."""
        logger = get_run_logger()
        return lambda line: logger.info("%s", self.hide(line))

    def markdown(self, key: str, text: str, description: str) -> None:
        """Leave a page beside the run."""
        create_markdown_artifact(markdown=self.hide(text), key=key, description=description)

    def link(self, key: str, address: str, text: str, description: str) -> None:
        """Leave a link beside the run."""
        create_link_artifact(link=address, link_text=text, key=key, description=description)
