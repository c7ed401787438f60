"""A folder with a local cluster of two workers, for all tests of a module."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprise.runtime.blocks import use
from reprise.runtime.blocks.cluster import Cluster


@pytest.fixture(scope="module")
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
