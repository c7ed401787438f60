"""The classes of ImageNet: WordNet's identifiers, their names, and the truth about the official validation images."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from stages.ingest.known.official_files import unreadable, whole_file

SYNSET = re.compile(r"n\d{8}")
NAMES = ("LOC_synset_mapping.txt", "synset_words.txt")
META = ("ILSVRC2012_devkit_t12/data/meta.mat", "data/meta.mat", "meta.mat")
SOLUTION = ("LOC_val_solution.csv",)
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
TRUTH = (f"ILSVRC2012_devkit_t12/data/{_TRUTH}", f"data/{_TRUTH}", _TRUTH)
_MOST_BYTES, _MOST_META = 64 << 20, 2 << 20  # of a table, and of meta.mat, whose content is packed
_LONGEST_NAME = 200
_NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG", re.IGNORECASE)

Truth = Callable[[str], str | None]  # name of a validation image -> its synset, None where nothing is known


def first_of(root: Path, names: Iterable[str]) -> Path | None:
    """Return the first of several files that exists below a folder."""
    return next((root / name for name in names if os.path.isfile(root / name)), None)


def names_of_synsets(path: Path) -> dict[str, str]:
    """Return a short name for each synset: the first of its words, with the synset behind it where two share that.

    Args:
        path: "n01440764 tench, Tinca tinca" a line, or the development kit's meta.mat.

    Raises:
        SourceError: it is damaged, or names a synset twice.
    """
    if path.suffix == ".mat":
        words = dict(meta_of(path).values())
    else:
        words = {}
        for number, line in enumerate(_text(path).splitlines(), start=1):
            synset, _, text = line.strip().partition(" ")
            if not synset:
                continue
            if not SYNSET.fullmatch(synset) or not text.strip() or synset in words:
                raise unreadable(path, f"line {number}: {line[:60]!r}; each is a synset, seen once, and its words")
            words[synset] = text
    short = {synset: text.partition(",")[0].strip() for synset, text in words.items()}
    if bad := next((n for n in short.values() if not 0 < len(n) <= _LONGEST_NAME or not n.isprintable()), None):
        raise unreadable(path, f"{bad[:40]!r}, which is no name")
    shared = Counter(short.values())
    return {s: name if shared[name] == 1 else f"{name} ({s})" for s, name in short.items()}


def meta_of(path: Path) -> dict[int, tuple[str, str]]:
    """Return synset and words by the number that the development kit gives a class.

    Raises:
        SourceError: it is no such file.
    """
    from scipy.io import loadmat

    data = whole_file(path, _MOST_META)
    try:
        rows = loadmat(io.BytesIO(data), squeeze_me=True)["synsets"]
        found = {
            int(number): (str(synset), str(words))
            for number, synset, words, children in zip(
                *(rows[field].tolist() for field in ("ILSVRC2012_ID", "WNID", "words", "num_children")), strict=True
            )
            if int(children) == 0
        }
    except (Exception, MemoryError) as error:  # scipy raises anything on files that are no MATLAB files
        raise unreadable(path, str(error)[:200] or type(error).__name__) from error
    if not found or not all(SYNSET.fullmatch(synset) for synset, _ in found.values()):
        raise unreadable(path, "no classes with synsets")
    return found


def solution_truth(path: Path) -> Truth:
    """Read LOC_val_solution.csv: the synset of an image is the first word of its row.

    Raises:
        SourceError: it is damaged, or says two things of one image.
    """
    truth: dict[str, str] = {}
    try:
        for row in csv.DictReader(io.StringIO(_text(path)), strict=True):
            image, words = row.get("ImageId"), (row.get("PredictionString") or "").split()
            if not image or not words or not SYNSET.fullmatch(words[0]):
                raise unreadable(path, f"a row {list(row.values())!s:.100}; each has ImageId and PredictionString")
            if truth.setdefault(image, words[0]) != words[0]:
                raise unreadable(path, f"two classes for {image[:60]!r}")
    except csv.Error as error:
        raise unreadable(path, error) from error
    return lambda name: truth.get(name.rpartition(".")[0])


def numbered_truth(path: Path, meta: Mapping[int, tuple[str, str]]) -> Truth:
    """Read ILSVRC2012_validation_ground_truth.txt: line i has the number of the class of image i.

    Args:
        path: the file.
        meta: synset of each number.

    Raises:
        SourceError: a line is no number of a class.
    """
    lines = _text(path).split()
    if bad := next((line for line in lines if not line.isdecimal() or len(line) > 6 or int(line) not in meta), None):
        raise unreadable(path, f"{bad[:40]!r}, which is the number of no class in meta.mat")
    numbers = [int(line) for line in lines]

    def truth(name: str) -> str | None:
        match = _NUMBERED.fullmatch(name)
        number = int(match[1]) if match else 0
        return meta[numbers[number - 1]][0] if 1 <= number <= len(numbers) else None

    return truth


def _text(path: Path) -> str:
    try:
        return whole_file(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unreadable(path, "bytes that are not UTF-8") from error
