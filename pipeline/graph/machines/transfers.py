"""Move results of single stages between a folder and the DVC remote, in copies of a process that has loaded DVC."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from pipeline.graph.jobs.loaded_dvc import LoadedDvc
from pipeline.graph.remotes import remote
from pipeline.processes.redaction import make_redactor


class Transfers:
    """The transfers of one folder. Any thread may call them.

    Args:
        root: the project folder.
        loaded: what runs DVC.

    Raises:
        RemoteError: the project has no default remote.
    """

    def __init__(self, root: Path, loaded: LoadedDvc) -> None:
        name = remote.needed_remote(
            root, "several machines need a DVC remote that all of them reach, by which results travel"
        )
        self._name, self._loaded, self._hide = name, loaded, make_redactor(root)

    def fetch(self, names: Sequence[str], cancelled: threading.Event) -> None:
        """Fetch the outputs of stages, as dvc.lock has them, and put them into the folder; all are checked first.

        Raises:
            RemoteError: the transfer failed, or the remote does not have them.
            ObjectError: the remote holds other bytes than dvc.lock says.
        """
        if names:
            lines, _ = self._run("fetch", ["--wait-for-lock", "fetch", *names], cancelled)
            if cancelled.is_set():
                return
            self._run("checkout", ["--wait-for-lock", "checkout", "--force", *names], cancelled, lines)

    def send(self, names: Sequence[str], cancelled: threading.Event) -> None:
        """Send the outputs of stages and what the run cache says of them; what is there is not sent again.

        Raises:
            RemoteError: the transfer failed.
        """
        if names:
            self._run("push", ["send-stages", *names], cancelled)

    def fetch_known(self, name: str, cancelled: threading.Event) -> bool:
        """Fetch the outputs of a stage that has been computed for its present inputs before, here or elsewhere.

        Returns:
            Whether DVC can restore the stage now.

        Raises:
            RemoteError: the remote cannot be asked.
        """
        return self._run("fetch", ["fetch-known", name], cancelled, known=(3,))[1] == 0

    def call(self, verb: str, arguments: Sequence[str], cancelled: threading.Event) -> list[str]:
        """Run another command of `pipeline.graph.in_dvc` that talks to the remote, and return its output.

        Raises:
            RemoteError: the transfer failed.
        """
        return self._run(verb, [verb, *arguments], cancelled)[0]

    def _run(
        self,
        verb: str,
        arguments: Sequence[str],
        cancelled: threading.Event,
        before: Sequence[str] = (),
        known: Sequence[int] = (),
    ) -> tuple[list[str], int]:
        """Run a command, and return its output and status; statuses of `known` are answers and no failures."""
        lines = list(before)

        def keep(line: str) -> None:
            lines.append(self._hide(line))

        status = self._loaded.run(arguments, on_each_line=(keep, keep), cancelled=cancelled)
        if status not in known and not (status and cancelled.is_set()):
            remote.refuse_failed(self._name, verb, status, lines)
        return lines, status
