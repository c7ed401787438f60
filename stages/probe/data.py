"""The data of a probe: embeddings joined with the manifest by key. Each tap is read when it is first asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reprise.artifacts.embeddings import feature_taps_in, read_embeddings, taps_in
from reprise.artifacts.facts.table import read_facts
from reprise.artifacts.layout import ALL_FACTS, MANIFEST
from reprise.artifacts.manifest import read_manifest, scored_split
from reprise.artifacts.shifts import ShiftedFile
from reprise.artifacts.tables.columns import Texts, shared_objects
from reprise.config.errors import EmbeddingError

BACKBONE = "backbone"
AUGMENTED = "augmented.parquet"  # beside the embeddings: a column a change of the image
_COLUMNS = ["key", "split", "label", "group"]


@dataclass(frozen=True)
class Part:
    """The images of one split, sorted by key.

    Args:
        keys: (n,) strings, as objects.
        labels: (n,) int64 indices into the class names, -1 where an image has no label.
        groups: (n,) int64, or None where no image of the data set has a group. An image without one is a group alone.
    """

    keys: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None = field(default=None)

    @property
    def labelled(self) -> np.ndarray:
        """Which images have a label: (n,) booleans."""
        return self.labels >= 0

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Shifted:
    """A set of shifted images.

    Args:
        file: its name, the shift and the severity, notes.
        part: the images, sorted by key.
        features: (n, d) float32 features of the tap `backbone`.
        paired: whether they are the images of the scored split, changed, in the order of `part(data.test)`.
    """

    file: ShiftedFile
    part: Part
    features: np.ndarray
    paired: bool


class ProbeData:
    """Embeddings, splits, labels and groups of one run.

    Args:
        embeddings: path of an embeddings file.
        manifest: path of the manifest.
        confidence: of every interval.
        device: where probes compute, `cpu` or `cuda`.
        facts: folder of the facts of all images; one that is not there holds none.
        shifts: embeddings of this run on shifted images.

    Attributes:
        classes: names of the classes over all splits, sorted; a label is an index into them.
        taps: names of the taps that hold features, `backbone` first.
        facts: what the source and targets.csv say of each image besides its label; nothing for most data.
        test: name of the split that is scored; see `scored_split`.

    Raises:
        EmbeddingError: the file does not hold exactly the images of the manifest, in the same splits.
        ManifestError: the manifest or the facts cannot be used.
    """

    def __init__(
        self,
        embeddings: str | Path,
        manifest: str | Path = MANIFEST,
        confidence: float = 0.95,
        device: str = "cpu",
        facts: str | Path = ALL_FACTS,
        shifts: Sequence[ShiftedFile] = (),
    ) -> None:
        self._shifts = {file.name: file for file in shifts}
        self._path, self.confidence, self.device = Path(embeddings), confidence, device
        self.taps = tuple(feature_taps_in(embeddings))
        if BACKBONE not in self.taps:
            raise EmbeddingError(
                f"no tap '{BACKBONE}'",
                where=embeddings,
                found=", ".join(self.taps) or "no taps",
                fix="Run `dvc repro embed`.",
            )
        table = read_manifest(manifest, _COLUMNS)
        keys = np.asarray(Texts(table["key"]))
        splits, labels, groups = (shared_objects(table[c]) for c in _COLUMNS[1:])
        self._features: dict[str, np.ndarray] = {}
        self._join(keys, splits)
        self._keys, self._splits = keys, splits
        self.classes = tuple(sorted({label for label in labels if label is not None}))
        index = {name: i for i, name in enumerate(self.classes)}
        self._labels = np.array([index.get(label, -1) for label in labels], dtype=np.int64)
        self._groups = numbered(groups, keys)
        self.facts = read_facts(Path(facts)).joined(keys)
        self.test = scored_split(splits)

    def _join(self, keys: np.ndarray, splits: np.ndarray) -> None:
        found_keys, found_splits, values = read_embeddings(self._path, BACKBONE)
        if found_keys.tolist() != keys.tolist():
            here, there = set(found_keys), set(keys)
            missing, foreign = sorted(there - here), sorted(here - there)
            raise EmbeddingError(
                "the embeddings are of other images than the manifest",
                where=self._path,
                found=f"{len(missing)} images without embedding, {len(foreign)} embeddings without image"
                f", such as {(missing or foreign)[0]}",
                fix="Run `dvc repro embed` to write them again.",
            )
        if found_splits.tolist() != splits.tolist():
            raise EmbeddingError(
                "the embeddings name other splits than the manifest",
                where=self._path,
                found=f"{int((found_splits != splits).sum())} images",
                fix="Run `dvc repro embed` to write them again.",
            )
        self._features[BACKBONE] = values

    @property
    def test_note(self) -> str:
        """The scored split in words, for the protocol."""
        return self.test if self.test == "test" else f"{self.test} (there is no test split)"

    def part(self, split: str) -> Part:
        """Return keys, labels and groups of one split, which may be empty."""
        rows = self._splits == split
        return Part(self._keys[rows], self._labels[rows], None if self._groups is None else self._groups[rows])

    def features(self, split: str, tap: str = BACKBONE) -> np.ndarray:
        """Return the (n, d) float32 features of one split, in the order of `part(split)`.

        Raises:
            EmbeddingError: no such tap, or damaged.
        """
        if tap not in self._features:
            self._features[tap] = read_embeddings(self._path, tap)[2]
        return self._features[tap][self._splits == split]

    @property
    def attributes(self) -> list[str]:
        """Names of the facts that are 0 or 1."""
        return self.facts.named("flag")

    @property
    def quantities(self) -> list[str]:
        """Names of the facts that are numbers."""
        return self.facts.named("number")

    def target(self, name: str, split: str) -> np.ndarray:
        """Return a fact's (n,) values in the order of `part(split)`.

        Flags and numbers are float64, NaN where unknown; words are objects, None where unknown.
        """
        return self.facts.columns[name][self._splits == split]

    def choose(self, split: str, n: int) -> np.ndarray:
        """Choose up to n rows of a split by the hash of their keys, the same images in every run; rows increase."""
        keys = self.part(split).keys
        order = sorted(range(len(keys)), key=lambda i: hashlib.sha256(str(keys[i]).encode()).digest())
        return np.array(sorted(order[:n]), dtype=np.int64)

    @property
    def has_augmented(self) -> bool:
        """Whether features of changed images were written."""
        return self._path.with_name(AUGMENTED).is_file()

    def augmented(self) -> tuple[Part, dict[str, np.ndarray]]:
        """Return the images of which changed copies were embedded, and their float32 features.

        Returns:
            The images, and {"original": (n, d), change: (n, d), ...}.

        Raises:
            EmbeddingError: missing, damaged, or of images that the manifest does not have.
        """
        path = self._path.with_name(AUGMENTED)
        features = {name: read_embeddings(path, name) for name in taps_in(path)}
        keys = next(iter(features.values()))[0]
        rows = np.searchsorted(self._keys.astype(str), keys.astype(str))
        if (rows >= len(self._keys)).any() or (self._keys[rows] != keys).any():
            raise EmbeddingError(
                "the changed images are not those of the manifest",
                where=path,
                found=f"{len(keys)} images",
                fix="Run `dvc repro embed` to write them again.",
            )
        groups = None if self._groups is None else self._groups[rows]
        return Part(keys, self._labels[rows], groups), {name: found[2] for name, found in features.items()}

    @property
    def shift_names(self) -> tuple[str, ...]:
        """Names of the sets of shifted images, in the order of params.yaml."""
        return tuple(self._shifts)

    def shifted(self, name: str) -> Shifted:
        """Return the images of a shift with their features by this run.

        Raises:
            EmbeddingError: damaged, or of other images than the manifest.
        """
        file = self._shifts[name]
        keys, _, features = read_embeddings(file.embeddings, BACKBONE)
        if file.severity is None:
            return Shifted(file, of_elsewhere(file, keys, self.classes), features, paired=False)
        part = self.part(self.test)
        if keys.tolist() != part.keys.tolist():
            raise EmbeddingError(
                "the shifted images are not those of the scored split",
                where=file.embeddings,
                found=f"{len(keys)} images for {len(part)}",
                fix="Run `dvc repro embed_shift` to write them again.",
            )
        return Shifted(file, part, features, paired=True)

    def digest(self, labels: bool, augmented: bool = False, shifted: bool = False) -> str:
        """Return the SHA-256 of all that a probe can see.

        Labels, changed images and shifted images count for probes that read them.
        """
        found = hashlib.sha256(f"{self.confidence} {self.device}".encode())
        paths = [self._path, *([self._path.with_name(AUGMENTED)] if augmented else [])]
        for shift in self._shifts.values() if shifted else ():
            found.update(f"{shift.name} {shift.shift} {shift.severity}".encode())
            paths += [shift.embeddings, *sorted(p for p in shift.images.iterdir() if p.suffix != ".tar")]
        for path in paths:
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
        for fact in self.facts.declared:
            values = self.facts.columns.get(fact.name, self.facts.captions.get(fact.name))
            known = None if values is None else values.tolist()
            found.update(repr((fact, known)).encode("utf-8", "surrogatepass"))
        found.update(f"{self.facts.unmatched} {self.facts.examples}".encode("utf-8", "surrogatepass"))
        columns = [self._keys.tolist(), self._splits.tolist(), [] if self._groups is None else self._groups.tolist()]
        if labels:
            columns += [list(self.classes), self._labels.tolist()]
        found.update(repr(columns).encode("utf-8", "surrogatepass"))
        return found.hexdigest()


def of_elsewhere(file: ShiftedFile, keys: np.ndarray, classes: tuple[str, ...]) -> Part:
    """Read labels and groups of images from elsewhere.

    Args:
        file: says where their manifest is.
        keys: of the embeddings, sorted.
        classes: of the data set, to which labels are indices.

    Raises:
        EmbeddingError: the embeddings are of other images than their manifest.
        ManifestError: the manifest is missing or damaged.
    """
    path = file.images / MANIFEST.name
    table = read_manifest(path, ["key", "label", "group"])
    listed, (labels, groups) = np.asarray(Texts(table["key"])), (shared_objects(table[c]) for c in ("label", "group"))
    if listed.tolist() != keys.tolist():
        raise EmbeddingError(
            "the embeddings are of other images than the manifest of the shift",
            where=file.embeddings,
            found=f"{len(keys)} embeddings, {len(listed)} images",
            fix="Run `dvc repro embed_shift` to write them again.",
        )
    index = {name: i for i, name in enumerate(classes)}
    return Part(keys, np.array([index.get(label, -1) for label in labels], dtype=np.int64), numbered(groups, keys))


def numbered(groups: np.ndarray, keys: np.ndarray) -> np.ndarray | None:
    """Number the groups; an image without one is a group of its own. None when no image has one."""
    if all(g is None for g in groups):
        return None
    named = [("group", g) if g is not None else ("key", k) for g, k in zip(groups, keys, strict=True)]
    index = {name: i for i, name in enumerate(sorted(set(named)))}
    return np.array([index[name] for name in named], dtype=np.int64)
