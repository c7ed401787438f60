"""Texts: what may be one, how files and shards hold captions, and what is counted of many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprise.config.errors import ImageRefused
from reprise.media.text.quality import quality
from reprise.media.text.rules import comparable, problem_of_captions, problem_of_text, problem_of_word
from reprise.media.text.stored import decode_captions, encode_captions

GOOD = (
    "A cat on a sofa.",
    "=1+1",
    "<script>alert(1)</script>",
    "猫が\u3000ソファで寝ている",  # an ideographic space
    "e\u0301t\u00e9",  # composed or not: both stay
    "👩\u200d👩\u200d👧 at the beach",  # joiners
    "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian needs the other joiner
    "prix\u00a0: 3\u00a0€",
    "\U0001fae8 a face of a later Unicode",
)
BAD = {
    "": "blank",
    " \u3000": "blank",
    "a\nb": "character 2 is a control character (U+000A)",
    "a\0": "control character",
    "a\tb": "control character",
    "\x1b[31mred": "control character",
    "safe\u202egpj.exe": "turns the direction of writing round (U+202E, RIGHT-TO-LEFT OVERRIDE)",
    "\u200fa": "turns the direction",
    "a\ufeffb": "invisible",
    "a\u2060b": "invisible",
    "a\U000e0041": "invisible",
    "a\u2028b": "line break",
    "a\ud800": "lone surrogate",
    "a\ufffe": "no character",
    "a\ue000": "private use",
    "x" * 4001: "4,001 characters",
}


def test_which_texts_may_be_captions() -> None:
    assert [problem_of_text(text) for text in GOOD] == [None] * len(GOOD)
    for text, said in BAD.items():
        assert said in (problem_of_text(text) or ""), ascii(text[:20])
    assert problem_of_text(3) == "it is a int and no text" and problem_of_text("x" * 4000) is None
    assert problem_of_word("x" * 201) == "it has 201 characters, and may have 200"
    assert problem_of_captions(["a"] * 101) == "there are 101, and an image has at most 100"


SEEN = st.characters(exclude_categories=("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"))


@given(st.lists(st.text(SEEN, max_size=30).map(lambda text: f"a{text}"), min_size=1, max_size=5))
def test_captions_come_back_from_their_stored_form(texts: list[str]) -> None:
    assert decode_captions(encode_captions(texts), "x") == tuple(text.strip() for text in texts)


@given(st.binary(max_size=60))
def test_any_bytes_are_captions_or_refused(data: bytes) -> None:
    try:
        texts = decode_captions(data, "x")
    except ImageRefused as refused:
        texts = ("refused",) * (refused.what == "bad_caption" and bool(refused.found))
    assert texts and all(problem_of_text(text) is None for text in texts)


def test_files_of_windows_and_files_that_are_no_captions() -> None:
    assert decode_captions(b"\xef\xbb\xbfone\r\n\r\n  two  \r\n", "x") == ("one", "two")
    for data, found in ((b"caf\xe9", "byte 4 is not UTF-8"), (b" \n", "it holds no text"), (b"a\0b", "U+0000")):
        with pytest.raises(ImageRefused) as refused:
            decode_captions(data, "x")
        assert found in refused.value.found


def test_what_is_counted() -> None:
    captions = [("A cat", "asleep"), ("a  CAT",), ("dog",), (), ("e\u0301t\u00e9",), ("\u00e9t\u00e9",)]
    counted = quality(captions, ["train", "test", "train", "train", "val", "test"])
    assert (counted.images, counted.known, counted.texts, counted.different) == (6, 5, 6, 4)
    assert counted.across == {"test": 1, "val": 0} and counted.repeated == 3
    assert (counted.longest, counted.words, counted.decomposed) == (6, 2, 1)
    said = " ".join(counted.sentences("caption"))
    assert "6 of 5 images, 4 of them different" in said and "1 of 6 images have no caption" in said
    assert "1 images of test have a caption that an image of train has too" in said and "of val" not in said
    assert comparable("\ufb01NE  Stra\u00dfe") == "fine strasse"
    assert quality([], []).sentences("x") == [
        "Captions (x): 0 of 0 images, 0 of them different, with up to 0 characters and 0 words."
    ]
