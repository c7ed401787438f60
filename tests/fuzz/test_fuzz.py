"""The fuzz harness, short in every run and long in `make test-slow`; and proof that it can find something."""

from __future__ import annotations

import pytest

from tests.fuzz import fuzz_films, fuzz_images
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


@pytest.mark.parametrize("mutations", [100, pytest.param(6000, marks=pytest.mark.slow)])
def test_mutated_films_are_taken_in_or_refused(mutations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    summary = fuzz_films.run(mutations, seed=1)
    assert summary["findings"] == [] and sum(summary["counts"].values()) == mutations
    assert {"taken", "truncated", "undecodable", "not_a_film"} <= set(summary["counts"])

    def broken(*_: object) -> None:
        raise ZeroDivisionError("parser")

    monkeypatch.setattr(fuzz_films, "take_frames", broken)
    assert "ZeroDivisionError" in fuzz_films.run(2, seed=1)["findings"][0]
