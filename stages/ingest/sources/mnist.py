"""mnist: 70,000 grey images of 28 x 28 pixels of handwritten digits, from the official IDX files, packed or not.

`source.root` is the folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
t10k-labels-idx1-ubyte, each with or without .gz. Nothing is downloaded. A mirrored digit is not the same digit, so
views are not flipped.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE 1998.

Checked by: tests/stages/ingest/known/test_idx.py.
"""

from __future__ import annotations

from typing import ClassVar

from stages.ingest.known.idx import IdxSource


class Mnist(IdxSource):
    """MNIST, official training and test splits."""

    title: ClassVar[str] = "MNIST"
    citation: ClassVar[str] = (
        "Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document recognition, "
        "Proceedings of the IEEE 86(11), 1998"
    )
    licence: ClassVar[str] = "CC BY-SA 3.0, as distributors of the files state"
    address_of_files: ClassVar[str] = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
