"""fashion_mnist: 70,000 grey images of 28 x 28 pixels of clothes in 10 classes, from the official IDX files.

`source.root` is the folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
t10k-labels-idx1-ubyte, each with or without .gz: the names are those of MNIST's files, so the two need folders of their
own. Nothing is downloaded.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms",
arXiv:1708.07747.

Checked by: tests/stages/ingest/known/test_idx.py.
"""

from __future__ import annotations

from typing import Any, ClassVar

from stages.ingest.known.idx import IdxSource


class FashionMnist(IdxSource):
    """Fashion-MNIST, official training and test splits."""

    title: ClassVar[str] = "Fashion-MNIST"
    citation: ClassVar[str] = (
        "H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning "
        "Algorithms, arXiv:1708.07747, 2017"
    )
    licence: ClassVar[str] = "MIT"
    address_of_files: ClassVar[str] = "https://github.com/zalandoresearch/fashion-mnist"
    classes: ClassVar[tuple[str, ...]] = (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    )
    views: ClassVar[dict[str, Any]] = IdxSource.views | {"flip": True}
