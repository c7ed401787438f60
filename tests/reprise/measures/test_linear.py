"""The linear classifier against scikit-learn's objective, and where training or validation is degenerate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from reprise.measures import linear

PENALTIES = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)


def blobs(n: int, seed: int, classes: int = 4, d: int = 10) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    mixing = np.random.default_rng(99).normal(size=(d, d))  # strongly correlated features of unequal scales
    x = (rng.normal(size=(n, d)) + 1.5 * np.eye(classes, d)[y]) @ mixing * np.logspace(-2, 2, d) + 5
    return x, y


def objective(x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, penalty: float) -> float:
    logits = x @ weight + bias
    log_p = (
        logits
        - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
        - logits.max(1, keepdims=True)
    )
    return float(-log_p[np.arange(len(y)), y].mean() + penalty / 2 * (weight**2).sum())


@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
def test_reaches_scikit_learns_minimum(penalty: float) -> None:
    x, y = blobs(400, 0)
    standard = StandardScaler().fit_transform(x)
    peer = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-8, max_iter=5000).fit(standard, y)
    best = objective(standard, y, peer.coef_.T, peer.intercept_, penalty)
    found = linear.Problem(x, y).fit(penalty)
    assert found.converged
    assert found.objective == pytest.approx(best, abs=1e-7)
    # and the classifier handed out, on raw features, is that very solution
    assert found.logits(x)[:, :1] - found.logits(x) == pytest.approx(
        (standard @ (peer.coef_[:1] - peer.coef_).T) + peer.intercept_[0] - peer.intercept_, abs=2e-2
    )


def test_float32_reaches_the_same_objective() -> None:
    x, y = blobs(500, 1)
    for penalty in (0.1, 1e-3):
        exact, single = (linear.Problem(x, y, t).fit(penalty).objective for t in (torch.float64, torch.float32))
        assert single == pytest.approx(exact, abs=1e-5)


def test_separable_classes_stay_finite() -> None:
    x, y = np.repeat([[-1.0], [1.0]], 50, axis=0), np.repeat([0, 1], 50)
    found = linear.Problem(x, y).fit(1e-6)
    assert np.isfinite(found.weight).all()
    assert (found.predict(x)[0] == y).all()


def test_scale_and_offset_of_features_change_nothing() -> None:
    x, y = blobs(300, 2)
    a, b = linear.Problem(x, y).fit(0.01), linear.Problem(x * 1e3 - 7e4, y).fit(0.01)
    assert (a.predict(x)[0] == b.predict(x * 1e3 - 7e4)[0]).all()
    assert a.objective == pytest.approx(b.objective, abs=1e-8)


def test_same_input_same_bits() -> None:
    x, y = blobs(300, 3)
    assert (linear.Problem(x, y).fit(0.01).weight == linear.Problem(x, y).fit(0.01).weight).all()


def test_small_problems_do_not_depend_on_the_number_of_threads() -> None:
    x, y = blobs(300, 3)
    found = []
    for threads in (2, 1):
        torch.set_num_threads(threads)
        found.append(linear.Problem(x, y).fit(0.01).weight)
        assert torch.get_num_threads() == threads
    assert (found[0] == found[1]).all()


def test_large_problems_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are added up in their order, whoever computed them."""
    monkeypatch.setattr(linear, "SMALL", 0)
    monkeypatch.setattr(linear, "BLOCK", 64)
    x, y = blobs(300, 3)
    found = []
    for threads in (3, 1):
        torch.set_num_threads(threads)
        found.append(linear.Problem(x, y).fit(0.01))
        assert torch.get_num_threads() == threads
    assert (found[0].weight == found[1].weight).all()
    assert found[0].objective == pytest.approx(linear.Problem(x, y).fit(0.01).objective, abs=1e-9)


def test_the_features_handed_in_are_not_changed() -> None:
    x, y = blobs(50, 8)
    before = x.copy()
    linear.Problem(x, y).fit(0.01)
    assert (x == before).all()


def test_more_dimensions_than_examples() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(20, 60)), rng.integers(0, 3, 20)
    standard = StandardScaler().fit_transform(x)
    peer = LogisticRegression(C=1 / (0.01 * 20), tol=1e-8, max_iter=5000).fit(standard, y)
    best = objective(standard, y, peer.coef_.T, peer.intercept_, 0.01)
    assert linear.Problem(x, y).fit(0.01).objective == pytest.approx(best, abs=1e-7)


def test_the_penalty_is_chosen_on_held_out_rows() -> None:
    """Many useless dimensions: weak penalties overfit, and the held-out rows show it."""
    rng = np.random.default_rng(5)
    y = rng.integers(0, 2, 600)
    x = rng.normal(size=(600, 40))
    x[:, :3] += 1.0 * (2 * y - 1)[:, None]
    y[:200] = np.where(rng.random(200) < 0.3, 1 - y[:200], y[:200])  # wrong labels, to be fitted by weak penalties
    problem = linear.Problem(x[:200], y[:200])
    choice = linear.choose(problem, x[200:], y[200:], PENALTIES)
    best = max(choice.path, key=lambda step: (step[1], -step[2], step[0]))
    assert choice.classifier.penalty == best[0]
    assert choice.classifier.penalty > min(PENALTIES)
    assert choice.path[-1][1] < best[1] - 0.02
    assert [p for p, _, _ in choice.path] == sorted(PENALTIES, reverse=True)


def test_warm_start_ends_where_a_cold_start_ends() -> None:
    x, y = blobs(300, 6)
    problem = linear.Problem(x, y)
    warm = problem.fit(1e-3, problem.fit(0.1))
    assert warm.objective == pytest.approx(problem.fit(1e-3).objective, abs=1e-7)


def test_single_class_and_constant_features() -> None:
    only = linear.Problem(np.ones((5, 3)), np.full(5, 7)).fit(0.1)
    assert only.predict(np.zeros((2, 3)))[0].tolist() == [7, 7]
    constant = linear.Problem(np.full((6, 2), 0.1), np.array([0, 0, 0, 0, 1, 1])).fit(0.1)
    predicted, probability = constant.predict(np.full((1, 2), 0.1))
    assert predicted.tolist() == [0]
    assert probability[0] == pytest.approx(4 / 6, abs=1e-4)  # the bias is free: class shares


def test_held_out_classes_that_training_lacks_are_errors() -> None:
    x, y = blobs(200, 7, classes=3)
    unknown = np.full(50, 9)
    choice = linear.choose(
        linear.Problem(x, y), np.concatenate([x[:50], x[:50]]), np.concatenate([y[:50], unknown]), PENALTIES
    )
    assert all(accuracy <= 0.5 for _, accuracy, _ in choice.path)
    everything_unknown = linear.choose(linear.Problem(x, y), x[:5], np.full(5, 9), PENALTIES)
    assert everything_unknown.classifier.penalty == max(PENALTIES)


def test_empty_training_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        linear.Problem(np.ones((0, 2)), np.ones(0, int))


def test_squared_hinge_equals_linear_svc() -> None:
    """LinearSVC holds the bias down as well; with a large stand-in feature for it, hardly."""
    x, y = blobs(300, 9)
    x = x / np.abs(x).max(0)
    found = linear.Problem(x, y, loss="squared_hinge", scale=False).fit(1e-3)
    peer = LinearSVC(C=1 / (1e-3 * 300), dual=False, tol=1e-9, max_iter=10_000, intercept_scaling=100.0)
    peer.fit(x - x.mean(0), y)
    expected = (x - x.mean(0)) @ peer.coef_.T + peer.intercept_
    assert found.logits(x) == pytest.approx(expected, abs=2e-3)
    assert (found.predict(x)[0] == peer.predict(x - x.mean(0))).all()


def test_logistic_columns_equal_one_classifier_each_and_unknown_ones_count_for_nothing() -> None:
    x, _ = blobs(200, 10)
    rng = np.random.default_rng(0)
    signs = np.where(rng.random((200, 3)) < 0.4, 1, -1)
    signs[:50, 1] = 0
    found = linear.Problem(x, signs, loss="logistic").fit(0.01)
    standard = StandardScaler().fit_transform(x)
    for column in (0, 2):
        peer = LogisticRegression(C=1 / (0.01 * 200), tol=1e-9, max_iter=5000).fit(standard, signs[:, column])
        assert found.logits(x)[:, column] == pytest.approx(peer.decision_function(standard), abs=2e-3)
    known = linear.Problem(x, signs[:, 1:2], loss="logistic").fit(0.01)
    assert known.logits(x)[:, 0] == pytest.approx(found.logits(x)[:, 1], abs=1e-3)
    peer = LogisticRegression(C=1 / (0.01 * 200), tol=1e-9, max_iter=5000).fit(standard[50:], signs[50:, 1])
    assert found.logits(x)[:, 1] == pytest.approx(peer.decision_function(standard), abs=2e-3)


def test_softmax_takes_one_label_a_row() -> None:
    with pytest.raises(ValueError, match="one label a row"):
        linear.Problem(np.ones((2, 2)), np.ones((2, 2), int))


@pytest.mark.parametrize("loss", ["softmax", "squared_hinge"])
@pytest.mark.parametrize(("n", "d"), [(30, 60), (200, 40)])
def test_turning_the_features_first_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, n: int, d: int, loss: linear.Loss
) -> None:
    """In the span of few rows, in the principal axes of many columns, or in the features' own axes: one minimum."""
    rng = np.random.default_rng(11)
    x, y = rng.normal(size=(n, d)) * np.logspace(-1, 1, d), rng.integers(0, 3, n)
    x[:, 0] = 2.0
    turned = linear.Problem(x, y, loss=loss)
    monkeypatch.setattr(linear, "FEW", 0)
    plain = linear.Problem(x, y, loss=loss)
    assert turned.axes is not None
    assert plain.axes is None
    for penalty in (1.0, 1e-3):
        a, b = turned.fit(penalty, tolerance=1e-8), plain.fit(penalty, tolerance=1e-8)
        assert a.objective == pytest.approx(b.objective, abs=1e-10)
        assert a.logits(x) == pytest.approx(b.logits(x), abs=1e-4)
        assert turned.fit(penalty, b).steps <= 2  # a start from elsewhere is understood


def test_features_that_do_not_vary_at_all() -> None:
    found = linear.Problem(np.ones((20, 30)), np.arange(20) % 2).fit(0.1)
    assert np.abs(found.weight).max() == 0.0
