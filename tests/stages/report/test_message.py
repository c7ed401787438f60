"""results.json: what a message about a run says is what the page says."""

from __future__ import annotations

import pytest

from reprise.artifacts.report_words import read_report_words
from stages.report.__main__ import main
from tests.stages.report.conftest import Build
from tests.stages.report.test_page import HOSTILE, read


@pytest.mark.parametrize("arguments", [{"seeds": (0, 1, 2)}, {"labelled": False}, {"names": HOSTILE}])
def test_every_sentence_of_the_message_is_on_the_page(build: Build, arguments: dict) -> None:
    folder = build(**arguments)
    main([])
    text = read((folder / "data/report/index.html").read_bytes()).text
    words = read_report_words(folder)
    assert words is not None
    assert words.title == "Digits"
    assert words.result
    for sentence in (*words.result, *words.cautions):
        assert " ".join(sentence.split()) in text
    for verdict in words.verdicts:
        assert verdict.partition(": ")[2].partition(" (")[0] in text
    assert [line for line in words.refused if line.startswith("2 files: ")]
    assert [line for line in words.refused if "classes are of comparable size" in line]
    if "seeds" in arguments:
        assert words.cautions
        assert words.verdicts[0].startswith("kNN top-1 accuracy, simclr − random: simclr is above random (+46.7 [")
        assert "no difference shown" in words.verdicts[-1]  # those that differ come first
