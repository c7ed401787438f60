"""A folder with a local cluster of two workers, for all tests of this folder: starting one takes seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprise.runtime.blocks import use
from reprise.runtime.blocks.cluster import Cluster


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers on this machine, in a folder of their own."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(use.VARIABLE, "local:2")
        os.chdir(folder)
        found = use.cluster()
        assert found is not None
        yield found
        use.close()
        os.chdir(before)


def whole(cluster: Cluster) -> None:
    """Wait until a worker that an earlier test killed is back."""
    end = time.monotonic() + 120
    while cluster.workers() < 2 and time.monotonic() < end:
        time.sleep(0.2)
    assert cluster.workers() == 2
