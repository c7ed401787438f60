"""A byte-pair tokenizer that is trained from the captions of a data set.

Source: Sennrich, Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016, on bytes as
in GPT-2 and CLIP. Every text has a code, since every byte has one: there is no unknown token.

Texts are put into one form of accents and into lower case, and cut into words and signs, each with the space before it.
Training joins the most frequent pair of neighbouring tokens within words, again and again; of pairs that are equally
frequent, the one with the smaller numbers. So the same captions give the same tokenizer, whatever their order.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

PADDING, START, END = 256, 257, 258  # after the 256 bytes
FIRST_MERGE = 259
LARGEST_VOCABULARY = 65_536
VERSION = 1  # of the rules above: another one cuts texts otherwise
_MOST_WORDS = 200_000  # different ones that training looks at, the most frequent first
_LONGEST_WORD = 64  # bytes; longer ones are cut, so that no word makes training slow
_WORDS = re.compile(r" ?\w+| ?[^\w\s]+")
Pair = tuple[int, int]


class Tokenizer:
    """Cuts texts into tokens by the pairs that training joined.

    Args:
        merges: pairs of tokens in the order in which they were joined; merge i makes the token FIRST_MERGE + i.

    Raises:
        ValueError: a merge names a token that is not there yet, or there are too many.
    """

    def __init__(self, merges: Sequence[Pair]) -> None:
        if FIRST_MERGE + len(merges) > LARGEST_VOCABULARY:
            raise ValueError(f"a vocabulary has at most {LARGEST_VOCABULARY} tokens")
        for i, pair in enumerate(merges):
            if len(pair) != 2 or not all(
                0 <= token < FIRST_MERGE + i and not PADDING <= token <= END for token in pair
            ):
                raise ValueError(f"merge {i} joins tokens that are not there: {pair}")
        self.merges = [(int(first), int(second)) for first, second in merges]
        self._rank = {pair: i for i, pair in enumerate(self.merges)}
        self._known: dict[str, tuple[int, ...]] = {}

    @property
    def size(self) -> int:
        """Number of tokens: bytes, three signs, and merges."""
        return FIRST_MERGE + len(self.merges)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without start and end."""
        return [token for word in words_of(text) for token in self._word(word)]

    def rows(self, texts: Sequence[str], length: int) -> tuple[list[list[int]], int]:
        """Return a row of `length` tokens for each text: start, tokens, end, padding.

        Returns:
            The rows, and the number of texts that have more tokens and were cut before their end.
        """
        rows, cut = [], 0
        for text in texts:
            tokens = self.encode(text)
            cut += len(tokens) > length - 2
            row = [START, *tokens[: length - 2], END]
            rows.append(row + [PADDING] * (length - len(row)))
        return rows, cut

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens in its lower-case form; signs of start, end and padding are left out."""
        return (
            b"".join(self._bytes(token) for token in tokens if not PADDING <= token <= END)
            .decode("utf-8", "replace")
            .strip()
        )

    def as_json(self) -> dict[str, Any]:
        """Return what `tokenizer_from_json` reads."""
        return {"version": VERSION, "size": self.size, "merges": [list(pair) for pair in self.merges]}

    def _bytes(self, token: int) -> bytes:
        stack, found = [token], []
        while stack:
            last = stack.pop()
            if last < 256:
                found.append(last)
            else:
                stack += reversed(self.merges[last - FIRST_MERGE])
        return bytes(found)

    def _word(self, word: str) -> tuple[int, ...]:
        known = self._known.get(word)
        if known is None:
            known = tuple(token for part in _parts(word) for token in self._joined(list(part)))
            if len(self._known) < _MOST_WORDS:
                self._known[word] = known
        return known

    def _joined(self, tokens: list[int]) -> list[int]:
        while len(tokens) > 1:
            rank, pair = min((self._rank.get(pair, len(self.merges)), pair) for pair in pairwise(tokens))
            if rank == len(self.merges):
                break
            tokens = _replaced(tokens, pair, FIRST_MERGE + rank)
        return tokens


def tokenizer_from_json(value: Any) -> Tokenizer:
    """Make the tokenizer that `as_json` described.

    Raises:
        ValueError: it is something else.
    """
    merges = value.get("merges") if isinstance(value, dict) else None
    if not isinstance(merges, list) or value.get("version") != VERSION:
        raise ValueError(f"no tokenizer of version {VERSION}")
    if not all(isinstance(pair, list) and all(type(token) is int for token in pair) for pair in merges):
        raise ValueError("merges are pairs of whole numbers")
    return Tokenizer([tuple(pair) for pair in merges])


def words_of(text: str) -> list[str]:
    """Cut a text into words and signs, each with the space before it."""
    plain = " ".join(unicodedata.normalize("NFC", text).lower().split())
    return _WORDS.findall(f" {plain}") if plain else []


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Train a tokenizer.

    Args:
        texts: captions in any order.
        vocabulary: largest number of tokens, from FIRST_MERGE to LARGEST_VOCABULARY. Training also ends where no pair
            occurs twice.
    """
    counts: Counter[bytes] = Counter()
    for text in texts:
        for word in words_of(text):
            counts.update(_parts(word))
    words = sorted(counts, key=lambda word: (-counts[word], word))[:_MOST_WORDS]
    tokens, times = [list(word) for word in words], [counts[word] for word in words]
    pairs: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for i, present in enumerate(tokens):
        for pair in pairwise(present):
            pairs[pair] += times[i]
            places[pair].add(i)
    queue = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(queue)
    merges: list[Pair] = []
    while queue and FIRST_MERGE + len(merges) < vocabulary:
        count, best = heapq.heappop(queue)
        if pairs[best] != -count:
            continue  # an older count; the present one lies in the queue too
        if -count < 2:
            break
        merges.append(best)
        changed: set[Pair] = set()
        for i in sorted(places.pop(best)):
            before, after = tokens[i], _replaced(tokens[i], best, FIRST_MERGE + len(merges) - 1)
            for pair in pairwise(before):
                pairs[pair] -= times[i]
                changed.add(pair)
            for pair in pairwise(after):
                pairs[pair] += times[i]
                places[pair].add(i)
                changed.add(pair)
            tokens[i] = after
        for pair in changed:
            if pairs[pair] > 0:
                heapq.heappush(queue, (-pairs[pair], pair))
    return Tokenizer(merges)


def _parts(word: str) -> list[bytes]:
    data = word.encode("utf-8", "surrogatepass")
    return [data[i : i + _LONGEST_WORD] for i in range(0, len(data), _LONGEST_WORD)]


def _replaced(tokens: Sequence[int], pair: Pair, token: int) -> list[int]:
    """Replace each occurrence of a pair, from the left."""
    found: list[int] = []
    i = 0
    while i < len(tokens):
        if i + 1 < len(tokens) and (tokens[i], tokens[i + 1]) == pair:
            found.append(token)
            i += 2
        else:
            found.append(tokens[i])
            i += 1
    return found
