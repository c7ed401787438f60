"""The fuzz harness, short in every run and long in `make test-slow`; and proof that it can find something."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz_images
from tests.fuzz.fuzz_images import check_image, run
from tests.stages.ingest import hostile

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


@pytest.mark.parametrize("mutations", [400, pytest.param(12_000, marks=pytest.mark.slow)])
def test_mutated_images_and_archives_are_taken_in_or_refused(mutations: int) -> None:
    summary = run(mutations, seed=1)
    assert summary["findings"] == {}
    assert summary["mutations"] == mutations
    assert {"taken in", "truncated", "undecodable", "not_an_image", "archive refused"} <= set(summary["counts"])


def test_the_harness_notices_what_it_looks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_image(hostile.PNG) == "taken in"

    def broken(*_: object) -> None:
        raise ZeroDivisionError("parser")

    monkeypatch.setattr(fuzz_images, "inspect", broken)
    assert check_image(hostile.PNG) == "!ZeroDivisionError: parser"
