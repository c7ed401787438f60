"""What all tests share: no telemetry, no settings from the home directory, a quiet and bounded machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chromium import Chromium, missing
from tests.two_ranks import TwoRanks

# Tiny tensors: on a busy machine two threads mostly wait for each other (measured: 20 times slower). Before torch.
os.environ["OMP_NUM_THREADS"] = os.environ["REPRISE_THREADS"] = "1"

# A shell's background job ignores SIGINT, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope="session")
def _plain_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither the user's DVC and git settings nor a telemetry server may have a say in a test."""
    home = tmp_path_factory.mktemp("home")
    settings = {
        "DVC_NO_ANALYTICS": "1",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DVC_GLOBAL_CONFIG_DIR": str(home / "dvc-global"),
        "DVC_SYSTEM_CONFIG_DIR": str(home / "dvc-system"),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "a test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoRanks]:
    """Two processes that compute together (gloo)."""
    ranks = TwoRanks(tmp_path_factory.mktemp("ranks") / "store")
    yield ranks
    ranks.end()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """One browser for all tests of a process; they are skipped where there is none."""
    if reason := missing():
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = Chromium(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository under test; read, never written."""
    return REPOSITORY
