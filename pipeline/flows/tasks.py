"""Create what Prefect shows of a flow: tasks with readable names and states, log lines, and artifacts.

Every text passes `hide` on its way to Prefect, so no secret leaves this module.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import allow_failure, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.blocks.core import Block
from prefect.blocks.notifications import NotificationBlock
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from pipeline.processes.commands import CommandFailed
from pipeline.processes.failure import failure_message, is_transient
from reprise.config.errors import ParameterError, RemoteError, RepriseError

TRANSIENT = "Transient"  # name of the state of a failure that another attempt may overcome


@dataclass(frozen=True)
class Tasks:
    """Creates the tasks of one flow run.

    Attributes:
        root: the project folder.
        hide: replaces secrets in a text.
        say: writes a line to the log of the flow run.
        delays: seconds before each retry of a task whose failure may be temporary.
    """

    root: Path
    hide: Callable[[str], str]
    say: Callable[[str], None]
    delays: Sequence[float]

    def run(self, title: str, body: Callable[[], State], above: Sequence[State] = ()) -> State:
        """Run `body` as a Prefect task.

        Args:
            title: name of the task run; its first word is the name of the task.
            body: returns the final state; the errors that it raises become failed states.
            above: final states of the tasks that this one depends on.
        """

        @task(
            name=title.split(maxsplit=1)[0],
            task_run_name=title.replace("{", "{{").replace("}", "}}"),
            cache_policy=NO_CACHE,
            retries=len(self.delays),
            retry_delay_seconds=list(self.delays),
            retry_jitter_factor=0.2,
            retry_condition_fn=lambda task, run, state: state.name == TRANSIENT,
        )
        def run_body() -> State:
            try:
                return body()
            except (CommandFailed, RepriseError) as error:
                return self.failure(error)
            except Exception as error:  # noqa: BLE001 — Prefect would log the error with any secret in its text
                self.log()(traceback.format_exc())
                return Failed(message=self.hide(f"a defect of Reprise: {type(error).__name__}: {error}"))

        # Prefect accepts no cancelled state in `wait_for`, not even with `allow_failure`.
        ended = [allow_failure(state) for state in above if not state.is_cancelled()]
        return run_body(return_state=True, wait_for=ended)

    def failure(self, error: CommandFailed | RepriseError) -> State:
        """Return the failed state for an expected error, named Transient if a retry may help."""
        if isinstance(error, CommandFailed):
            message, transient = failure_message(error, "the log of the task"), is_transient(error.lines)
        else:
            message, transient = str(error), isinstance(error, RemoteError) and error.transient
        return Failed(name=TRANSIENT if transient else None, message=self.hide(message))

    def log(self) -> Callable[[str], None]:
        """Return a function that writes lines to the log of the current task; any thread may call it."""
        logger = get_run_logger()
        return lambda line: logger.info("%s", self.hide(line))

    def markdown(self, key: str, text: str, description: str) -> None:
        """Attach a Markdown page to the flow run."""
        create_markdown_artifact(markdown=self.hide(text), key=key, description=description)

    def link(self, key: str, address: str, text: str, description: str) -> None:
        """Attach a link to the flow run."""
        create_link_artifact(link=self.hide(address), link_text=text, key=key, description=description)

    def notify(self, block: NotificationBlock, name: str, subject: str, text: str) -> State:
        """Send a text through one of Prefect's notification blocks.

        Args:
            block: the block.
            name: its name, "slack-webhook/team".
            subject, text: what is sent.
        """
        try:
            with block.raise_on_failure():
                block.notify(self.hide(text), self.hide(subject))
        except Exception as error:  # noqa: BLE001 — whatever the service or its client raises
            # Not the error's own text: it may hold the address of a webhook, which is a secret.
            return Failed(message=f"the message was not sent through {name}: {type(error).__name__}")
        return Completed(message=f"sent through {name}")


def notification_block(name: str) -> NotificationBlock:
    """Load one of Prefect's notification blocks.

    Args:
        name: "type/name", as `prefect block ls` shows it: "slack-webhook/team".

    Raises:
        ParameterError: there is no such block, or it does not send notifications.
    """
    try:
        block = Block.load(name)
    except ValueError as error:  # Prefect's, for a name that is unknown or malformed
        raise ParameterError(
            "there is no such block on the Prefect server",
            where="notify",
            found=name,
            fix="Create it on the page of the server, under Blocks; `prefect block ls` lists types and names.",
        ) from error
    if not isinstance(block, NotificationBlock):
        raise ParameterError(
            "this block does not send notifications",
            where="notify",
            found=f"{name}, a {type(block).__name__}",
            fix="Name a block such as slack-webhook/NAME, custom-webhook/NAME or sendgrid-email/NAME.",
        )
    return block
