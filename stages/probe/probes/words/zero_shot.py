"""Zero-shot accuracy: are images sorted by the names of their classes, without a labelled example?

Each class is described by sentences with its name; an image gets the class whose sentences lie nearest to it in the
space that images and texts share. Only runs with a text side (`clip`) can be asked; of others the protocol says so.
Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021, section 3.1:
the vectors of a class's sentences, each of length one, are averaged and brought to length one again.
Deviation: the sentences are parameters, and none is chosen; underscores in the name of a class are read as spaces.

Checked by: tests/stages/probe/images/test_words.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from reprise.config.params import StrictModel, meaning
from reprise.config.texts.text_forms import with_pattern
from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.probe import Probe, ProbeResult

if TYPE_CHECKING:
    from stages.probe.images.image_data import ImageData

Sentence = Annotated[
    str, Field(max_length=200), with_pattern(r"[^{}]*\{\}[^{}]*", "a sentence has one {}, where the class's name goes")
]


class ZeroShot(Probe):
    """Metrics: `top1`, `balanced_accuracy` on the test split, `top1_val` on val."""

    needs_labels: ClassVar[bool] = True

    class Params(StrictModel):
        """Parameters of `zero_shot`."""

        sentences: Annotated[
            list[Sentence],
            Field(min_length=1, max_length=100),
            meaning("Each class is described by these sentences; `{}` is its name."),
        ] = Field(default_factory=lambda: ["a {}", "a picture of a {}"])

    def run(self, data: ProbeData) -> ProbeResult:
        """Compare images with sentences; nothing is fitted and nothing is chosen."""
        from stages.probe.images.image_data import ImageData

        assert isinstance(data, ImageData), "this probe belongs to a group of `checks`"
        if data.text is None:
            return ProbeResult({}, {"note": "not run: this run has no text side, which `clip` and its like have"})
        classes = self._classes(data)
        test, features = scoring.labelled(data, data.test, BACKBONE)
        scores = data.in_shared_space(features) @ classes.T
        predicted = scores.argmax(axis=1)
        metrics = {
            "top1": scoring.top1(test, predicted, data.confidence),
            "balanced_accuracy": scoring.balanced_accuracy(test, predicted, data.confidence),
        }
        val, val_features = scoring.labelled(data, "val", BACKBONE)
        if data.test == "test" and len(val):
            answers = (data.in_shared_space(val_features) @ classes.T).argmax(axis=1)
            metrics["top1_val"] = scoring.top1(val, answers, data.confidence)
        protocol = {
            **scoring.counts_note(data),
            "tap": BACKBONE,
            "classes": f"{len(data.classes)}, of which the names of {self._frequent(data)} are one token a word",
            "sentences": "; ".join(self.params.sentences),
            "training images": "their labels are not read",
        }
        best = scores[np.arange(len(predicted)), predicted]
        return ProbeResult(metrics, protocol, scoring.predictions(test, predicted, best, data.classes))

    def _classes(self, data: ImageData) -> np.ndarray:
        """Return a vector of length one for each class: (c, z) float32."""
        assert data.text is not None
        names = [name.replace("_", " ") for name in data.classes]
        texts = [sentence.replace("{}", name) for name in names for sentence in self.params.sentences]
        vectors = data.text.encode(texts).numpy().reshape(len(names), len(self.params.sentences), -1)
        means = vectors.mean(axis=1)
        return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12))

    def _frequent(self, data: ImageData) -> int:
        """Count the classes whose words are single tokens, as words are that the captions often had."""
        assert data.text is not None
        tokenizer = data.text.tokenizer
        names = [name.replace("_", " ").split() for name in data.classes]
        return sum(all(len(tokenizer.encode(word)) == 1 for word in words) for words in names)
