"""The tokenizer: it does not depend on the order of the captions, equals a plain restatement, and loses nothing."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.networks.text.tokenizer import (
    END,
    FIRST_MERGE,
    PADDING,
    START,
    Tokenizer,
    tokenizer_from_json,
    train_tokenizer,
    words_of,
)
from reprise.networks.text.tower import TextTower
from stages.ingest.sources.shapes import Shapes, captions
from tests.limits import at_most

TEXTS = [
    "A red square on blue.",
    "a red circle, on  blue",
    "Été: a RED house (red!)",
    "the the the them",
    "日本 日本語",
]


def merged_plainly(texts: list[str], merges: int) -> list[tuple[int, int]]:
    """The definition: count all pairs anew for each merge; of the most frequent, take the smallest."""
    words = [list(word.encode()) for text in texts for word in words_of(text)]
    found = []
    for number in range(merges):
        pairs = Counter(pair for word in words for pair in pairwise(word))
        if not pairs or max(pairs.values()) < 2:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        for i, word in enumerate(words):
            out, j = [], 0
            while j < len(word):
                joins = tuple(word[j : j + 2]) == best
                out.append(FIRST_MERGE + number if joins else word[j])
                j += 2 if joins else 1
            words[i] = out
    return found


def test_training_equals_counting_anew_for_each_merge() -> None:
    assert train_tokenizer(TEXTS, FIRST_MERGE + 40).merges == merged_plainly(TEXTS, 40)
    drawn = [text for i in range(30) for text in shapes_captions(i)]
    assert train_tokenizer(drawn, FIRST_MERGE + 60).merges == merged_plainly(drawn, 60)


def shapes_captions(i: int) -> tuple[str, str]:
    return captions(Shapes(Path(), Shapes.Params()).drawn(i)[0])


def test_the_order_of_the_captions_changes_nothing_and_json_keeps_all() -> None:
    first = train_tokenizer(TEXTS, 300)
    assert train_tokenizer(TEXTS[::-1], 300).as_json() == first.as_json()
    again = tokenizer_from_json(json.loads(json.dumps(first.as_json())))
    assert [again.encode(text) for text in TEXTS] == [first.encode(text) for text in TEXTS]
    assert first.size <= 300


TRAINED = train_tokenizer(TEXTS, 300)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_no_text_is_unknown_and_nothing_is_lost_but_case_and_spaces(text: str) -> None:
    plain = "".join(words_of(text)).strip()
    try:
        plain.encode("utf-8")
    except UnicodeEncodeError:
        return
    assert TRAINED.decode(TRAINED.encode(text)) == plain


def test_rows_have_start_end_and_padding_and_say_what_was_cut() -> None:
    tokenizer = train_tokenizer(TEXTS, 280)
    rows, cut = tokenizer.rows(["", "a red square on blue."], 8)
    assert rows[0] == [START, END] + [PADDING] * 6
    assert (len(rows[1]), rows[1][-1], cut) == (8, END, 1)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"version": 2, "merges": []},
        {"version": 1, "merges": [[1, 2, 3]]},
        {"version": 1, "merges": [[FIRST_MERGE, 1]]},  # names itself
        {"version": 1, "merges": [[END, 1]]},
        {"version": 1, "merges": [[1.0, 2]]},
        {"version": 1, "merges": [[True, 2]]},
        {"version": 1, "merges": [[-1, 2]]},
        {"version": 1, "merges": [[1, 2]] * 70_000},
    ],
)
def test_a_damaged_tokenizer_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"tokenizer of version|merge|vocabulary"):
        tokenizer_from_json(value)


def test_training_is_bounded() -> None:
    """One word of a million letters, and many words, take neither memory nor time without end."""
    rng = np.random.default_rng(0)
    many = ["".join(chr(97 + c) for c in rng.integers(0, 26, 12)) for _ in range(3000)]
    with at_most(megabytes=200, seconds=20):
        tokenizer = train_tokenizer(["ab" * 500_000, *many], 600)
    assert tokenizer.size == 600


def test_padding_and_later_tokens_change_no_text() -> None:
    torch.manual_seed(0)
    tower = TextTower(300, 12, 16, 2, 2).eval()
    rows, _ = Tokenizer([]).rows(["red", "red square"], 12)
    tokens = torch.tensor(rows)
    other = tokens.clone()
    other[0, 6:] = 7  # behind its end
    assert torch.equal(tower(tokens)[0], tower(other)[0])
    short = torch.tensor(Tokenizer([]).rows(["red"], 6)[0])
    torch.testing.assert_close(tower(short)[0], tower(tokens)[0], rtol=0, atol=1e-6)
