"""Linear probe against scikit-learn's LogisticRegression, kNN against faiss's flat index, at 50,000 x 512.

    python benchmarks/probes.py [--rows 50000] [--queries 10000] [--repeats 3] [--k 200]

Synthetic features (ten classes, correlated, unequal scales), so nothing is downloaded. Peers run in the same process,
turn about, on the same arrays and as many threads. Printed as JSON: seconds of every repeat, the ratio of the medians
(above 1: we are faster), the same of processor seconds (on one thread they say more than the clock when the machine is
not idle; with several, waiting threads spin and count as well), and what makes the times comparable: the objective that
each reached (scikit-learn's default tolerance stops earlier; at 1e-6 the ratio is at equal objective), the share
of equal votes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from reprise.measures import linear
from reprise.measures.nearest import neighbours
from reprise.runtime.entry import prepare_process
from reprise.storage.provenance import machine, versions

if TYPE_CHECKING:
    from collections.abc import Callable

PENALTY = 1e-4
TEMPERATURE = 0.07


def features(n: int, d: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, d) float32 and (n,) labels: noisy classes, a decaying spectrum as backbones have, all columns of std 1."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(0)
    y = rng.integers(0, classes, n)
    centres, mixing = fixed.normal(size=(classes, d)), fixed.normal(size=(d, d)) / np.sqrt(d)
    latent = (rng.normal(size=(n, d)) + 0.25 * centres[y]) / np.sqrt(np.arange(1, d + 1))
    x = np.maximum(latent @ mixing + 0.02, 0)
    return ((x - x.mean(0)) / x.std(0)).astype(np.float32), y


Seconds = dict[str, list[float]]


def turns(repeats: int, **runs: Callable[[], Any]) -> tuple[Seconds, Seconds, dict[str, Any]]:
    """Seconds and processor seconds of each callable, taken turn about, and its last result."""
    seconds: Seconds = {name: [] for name in runs}
    processor: Seconds = {name: [] for name in runs}
    results = {}
    for _ in range(repeats):
        for name, call in runs.items():
            began, began_processor = time.perf_counter(), time.process_time()
            results[name] = call()
            processor[name].append(round(time.process_time() - began_processor, 3))
            seconds[name].append(round(time.perf_counter() - began, 3))
    return seconds, processor, results


def ratio(seconds: Seconds, peer: str, ours: str) -> float:
    """Median of the peer over ours."""
    return round(statistics.median(seconds[peer]) / statistics.median(seconds[ours]), 2)


def objective(x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> float:
    logits = torch.from_numpy(x.astype(np.float64) @ weight + bias)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y))
    return float(loss) + PENALTY / 2 * float((weight**2).sum())


def compare_linear(rows: int, d: int, classes: int, repeats: int) -> dict[str, Any]:
    x, y = features(rows, d, classes, 1)

    def peer(tolerance: float) -> LogisticRegression:
        return LogisticRegression(C=1 / (PENALTY * rows), tol=tolerance, max_iter=5000).fit(x, y)

    seconds, processor, results = turns(
        repeats,
        reprise_float64=lambda: linear.Problem(x, y).fit(PENALTY),
        reprise_float32=lambda: linear.Problem(x, y, torch.float32).fit(PENALTY),
        sklearn_default=lambda: peer(1e-4),
        sklearn_converged=lambda: peer(1e-6),
    )
    ours = {n: r for n, r in results.items() if n.startswith("reprise")}
    peers = {n: r for n, r in results.items() if n not in ours}
    reached = {n: objective(x, y, r.weight, r.bias) for n, r in ours.items()}
    for name, fitted in peers.items():
        reached[name] = objective(x, y, fitted.coef_.T.astype(np.float64), fitted.intercept_.astype(np.float64))
    return {
        "rows": rows,
        "dimensions": d,
        "classes": classes,
        "penalty": PENALTY,
        "seconds": seconds,
        "processor_seconds": processor,
        "objective": reached,
        "steps": {n: r.steps for n, r in ours.items()} | {n: int(r.n_iter_[0]) for n, r in peers.items()},
        "ratios": {f"{b} / {a}": ratio(seconds, b, a) for a in ours for b in peers},
        "processor_ratios": {f"{b} / {a}": ratio(processor, b, a) for a in ours for b in peers},
    }


def compare_neighbours(rows: int, queries: int, d: int, classes: int, k: int, repeats: int) -> dict[str, Any]:
    bank, labels = features(rows, d, classes, 1)
    asked, _ = features(queries, d, classes, 2)

    def peer() -> np.ndarray:
        index = faiss.IndexFlatIP(d)
        unit = [m / np.linalg.norm(m, axis=1, keepdims=True) for m in (bank, asked)]
        index.add(unit[0])
        similarity, row = index.search(unit[1], k)
        return neighbours.vote(similarity, labels[row], classes, TEMPERATURE)[0]

    seconds, processor, results = turns(
        repeats,
        reprise=lambda: neighbours.classify(asked, bank, labels, classes, k, TEMPERATURE)[0],
        faiss=peer,
    )
    return {
        "rows": rows,
        "queries": queries,
        "dimensions": d,
        "k": k,
        "seconds": seconds,
        "processor_seconds": processor,
        "equal_votes": float((results["reprise"] == results["faiss"]).mean()),
        "ratio": ratio(seconds, "faiss", "reprise"),
        "processor_ratio": ratio(processor, "faiss", "reprise"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--k", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    a = parser.parse_args()
    prepare_process()  # the allocator that stages run with
    found = {
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "linear": compare_linear(a.rows, a.dimensions, a.classes, a.repeats),
        "neighbours": compare_neighbours(a.rows, a.queries, a.dimensions, a.classes, a.k, a.repeats),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
