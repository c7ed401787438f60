"""Every miner: what it finds where the answer is known, and what it says where there is none."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans as ReferenceKMeans

from reprise.clustering import centres as parts
from reprise.clustering.neighbour_graph import mutual, neighbours
from reprise.config.errors import MiningError
from reprise.config.plug_ins.registry import load_class, names
from reprise.measures.cluster_quality import agreement
from stages.mine import mixture
from stages.mine.miner import Images, Miner
from stages.mine.miners import balanced_kmeans, finch, frame_matching, transitive_pairs

OF_A_TAP = ("assigned", "patterns")  # read what a run learned, not features: tests of their own
MINERS = [name for name in names("miners") if name not in OF_A_TAP]
BY_NUMBER = ("kmeans", "spherical_kmeans", "balanced_kmeans", "minibatch_kmeans", "spectral", "spectral_membership")
PAIRS_ONLY = ("frame_matching", "transitive_pairs", "views")
VIDEOS = Images([f"v{i % 20}/{i // 20:04d}.png" for i in range(400)], [f"v{i % 20}" for i in range(400)])


def blobs(n: int = 400, clusters: int = 8, d: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Far apart, in directions too; about equal sizes."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(d, d)))[0][:clusters] * 10
    y = np.arange(n) % clusters
    return (centres[y] + rng.normal(size=(n, d)) * 0.7).astype(np.float32), y


def mined(name: str, features: np.ndarray, tmp_path: Path, seed: int = 0, images: Images | None = VIDEOS, **options):
    kind = load_class("miners", name, Miner, "")
    if name in BY_NUMBER:
        options.setdefault("clusters", 8)
    work = tmp_path / f"work-{len(list(tmp_path.iterdir()))}"
    work.mkdir()
    labels = [str(i % 8) if i < 100 else None for i in range(len(features))] if kind.uses_truth else None
    return kind(kind.Params(**options), seed, images).mine(features, labels, work)


@pytest.mark.parametrize("name", [*BY_NUMBER, "finch", "hdbscan", "gaussian_mixture", "semi_supervised_mixture"])
def test_clusters_that_are_there_are_found(name, tmp_path):
    features, y = blobs()
    options = {"kmeans": {"starts": 10}, "minibatch_kmeans": {"rows": 50, "passes": 10}, "finch": {"clusters": 8}}
    found = mined(name, features, tmp_path, seed=1, **options.get(name, {}))
    assert agreement(found.clusters, y)["nmi"] > (0.9 if name == "minibatch_kmeans" else 0.99)
    labelled = found.clusters >= 0
    assert labelled.mean() > 0.9
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    assert found.confidence[labelled].mean() > 0.5
    first = [np.flatnonzero(found.clusters == c)[0] for c in range(found.clusters.max() + 1)]
    assert first == sorted(first)


@pytest.mark.parametrize("name", MINERS)
def test_what_cannot_be_mined_is_refused_and_what_is_odd_has_a_stated_end(name, tmp_path):
    """NaN, constant features, more asked for than there is, and copies of few images."""
    features, _ = blobs()
    broken = features.copy()
    broken[3, 2] = np.nan
    with pytest.raises(MiningError, match=r"finite.*1 rows"):
        mined(name, broken, tmp_path)
    with pytest.raises(MiningError, match=r"same features.*400 equal rows"):
        mined(name, np.ones_like(features), tmp_path)
    too_many = {
        **{n: ({"clusters": 401}, "400 images, 401 clusters") for n in BY_NUMBER},
        "finch": ({"clusters": 401}, "400 images, 401 clusters"),
        "gaussian_mixture": ({"clusters": 401}, "400 images, 401 clusters"),
        "semi_supervised_mixture": ({"clusters": 401}, "400 images, 401 clusters"),
        "hdbscan": ({"smallest": 401}, "400 images, 401 needed"),
        "mutual_neighbours": ({"neighbours": 400}, "400 images, 401 clusters"),
        "transitive_pairs": ({"neighbours": 40}, "40 images, 41 clusters"),
        "frame_matching": ({"frame": r"(x)"}, "no number by the pattern"),
        "views": ({"nearest": 401}, "no object has two views"),
    }
    options, message = too_many[name]
    with pytest.raises(MiningError, match=message):
        mined(name, features, tmp_path, **options)
    copies = np.repeat(features[:4], 100, axis=0)  # four different images, eight clusters asked for
    found = mined(name, copies, tmp_path)
    if name in PAIRS_ONLY:
        assert (found.clusters == -1).all()
        return
    labelled = found.clusters >= 0
    parting = ("balanced_kmeans", "mutual_neighbours", "semi_supervised_mixture", "spectral", "spectral_membership")
    if name not in parting:
        for copy in range(4):
            assert len(np.unique(found.clusters[100 * copy : 100 * (copy + 1)])) == 1
        assert len(np.unique(found.clusters[labelled])) <= 4
    assert np.isfinite(found.confidence).all()


THREADS = """
import os, sys
os.environ["REPRISE_THREADS"] = sys.argv[1]
from reprise.runtime.entry import prepare_process
prepare_process()
import hashlib, tempfile, numpy as np, torch
from pathlib import Path
torch.set_num_threads(int(sys.argv[1]))
from tests.stages.mine.test_miners import MINERS, mined
from reprise.clustering import coarse
features = np.random.default_rng(0).normal(size=(400, 40)).astype(np.float32)
for name in [*MINERS, "kmeans"]:
    with tempfile.TemporaryDirectory() as folder:
        found = mined(name, features, Path(folder))
    pairs = b"" if found.pairs is None else found.pairs.rows.tobytes()
    print(name, hashlib.sha256(found.clusters.tobytes() + pairs).hexdigest())
    if name == MINERS[-1]:
        coarse.is_faster = lambda *_: True  # k-means once more, with early moves on 8-bit integers
"""


def test_the_same_seed_gives_the_same_labels_whatever_the_number_of_threads(repository):
    """Two fresh processes, one and two threads; noisy features, where borders are everywhere."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(repository)}
    processes = [
        subprocess.Popen([sys.executable, "-c", THREADS, threads], stdout=subprocess.PIPE, text=True, env=environment)
        for threads in ("1", "2")
    ]
    one, two = [process.communicate()[0].splitlines() for process in processes]
    assert one == two
    assert len(one) == len(MINERS) + 1


def test_nearest_centres_are_those_of_float64_even_where_two_are_nearly_equal():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 24)).astype(np.float32) + 1000  # far from zero: float32 products cancel
    centres = features[:20].copy()
    centres[7] = np.nextafter(centres[3], np.float32(np.inf))
    centres[9] = centres[4]
    got = parts.nearest(features, centres)
    squared = ((features[:, None].astype(np.float64) - centres[None].astype(np.float64)) ** 2).sum(axis=2)
    assert (got.centre == squared.argmin(axis=1)).all()
    np.testing.assert_allclose(got.squared, squared.min(axis=1), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(got.second, np.sort(squared, axis=1)[:, 1], rtol=1e-3, atol=1e-3)
    assert not (got.centre == 9).any()


# ---- one miner at a time ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "clusters"), [(60, 6), (61, 7), (64, 64), (300, 10)])
def test_balanced_sizes_are_equal_and_nearly_optimal(n, clusters):
    """Against the Hungarian method with every centre repeated as often as it has room."""
    rng = np.random.default_rng(n)
    features, centres = (rng.normal(size=(count, 8)).astype(np.float32) for count in (n, clusters))
    cost = balanced_kmeans.squared_distances(features, centres)
    got = balanced_kmeans.balanced(cost, balanced_kmeans.prices(cost))
    sizes = np.bincount(got, minlength=clusters)
    assert (sizes.min(), sizes.max()) == (n // clusters, -(-n // clusters))
    extra = np.argsort(-sizes, kind="stable")[: n % clusters]
    places = np.concatenate([np.repeat(np.arange(clusters), n // clusters), extra])
    rows, columns = linear_sum_assignment(cost[:, places])
    best = float(cost[rows, places[columns]].sum())
    assert float(cost[np.arange(n), got].sum()) <= 1.03 * best


def test_spherical_kmeans_sees_directions_only(tmp_path):
    features, y = blobs()
    scaled = features * np.random.default_rng(1).uniform(0.01, 100, (len(features), 1)).astype(np.float32)
    scaled[5] = 0
    found = mined("spherical_kmeans", scaled, tmp_path, starts=10)
    assert found.clusters[5] == -1
    assert agreement(found.clusters, y)["nmi"] == 1.0


def test_minibatch_kmeans_comes_near_to_kmeans_and_goes_on_after_a_kill(tmp_path, monkeypatch):
    features = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    kind = load_class("miners", "minibatch_kmeans", Miner, "")
    params = kind.Params(clusters=20, rows=500, passes=6)
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = kind(params, 0).mine(features, None, tmp_path / "whole")
    assert (whole.distance.astype(float) ** 2).sum() < 1.03 * ReferenceKMeans(20, n_init=3, random_state=0).fit(
        features
    ).inertia_
    from stages.mine.miners import minibatch_kmeans

    real, calls = minibatch_kmeans.sums, []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(minibatch_kmeans, "sums", dying)
        with pytest.raises(KeyboardInterrupt):
            kind(params, 0).mine(features, None, tmp_path / "cut")
    assert list((tmp_path / "cut").glob("step-*"))
    again = kind(params, 0).mine(features, None, tmp_path / "cut")
    assert (again.clusters == whole.clusters).all()
    assert (again.distance == whole.distance).all()


def test_minibatch_kmeans_finds_groups_that_are_apart(tmp_path):
    """The best answer is known; k-means++ alone misses a tenth of such groups and ends at twice its inertia."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(100, 32)) * 5
    group = rng.integers(0, 100, 4000)
    features = (places[group] + rng.normal(size=(4000, 32))).astype(np.float32)
    best = sum(((features[group == g] - features[group == g].mean(axis=0)) ** 2).sum() for g in range(100))
    found = mined("minibatch_kmeans", features, tmp_path, clusters=100, rows=500, passes=2)
    assert len(np.unique(found.clusters)) == 100
    assert (found.distance.astype(float) ** 2).sum() < 1.2 * best


def test_finch_by_hand():
    """Six directions: three close pairs, two of which are close to each other."""
    angles = np.deg2rad([0, 1, 10, 11.5, 90, 92])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    levels = finch.partitions(x)
    assert levels[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(levels) == 1  # the three means hang together by their first neighbours
    assert finch.merged(x, levels[0], 2).tolist() == [0, 0, 0, 0, 2, 2]
    kind = load_class("miners", "finch", Miner, "")
    with pytest.raises(MiningError, match="levels 0 to 0 with 3 clusters"):
        kind(kind.Params(level=1), 0).mine(x, None, Path())


@pytest.mark.parametrize("start", [1, 3, 30])
def test_gaussian_mixture_finds_the_number_of_clusters(start, tmp_path):
    features, y = blobs(600)
    found = mined("gaussian_mixture", features, tmp_path, clusters=start)
    assert found.clusters.max() + 1 == 8
    assert agreement(found.clusters, y)["ari"] > 0.99


def test_the_marginal_likelihood_is_that_of_the_model():
    """By the chain rule in one dimension against numerical integration, and exchangeable in many."""
    rng = np.random.default_rng(0)
    prior = mixture.Prior(np.array([0.3]), 0.5, 4.0, 0.7)
    x = rng.normal(size=(3, 1))
    means, variances = np.meshgrid(np.linspace(-12, 12, 1201), np.exp(np.linspace(-7, 7, 1201)), indexing="ij")
    nu, psi = 4.0, 0.7
    log_prior = (
        nu / 2 * np.log(psi / 2) - gammaln(nu / 2) - (nu / 2 + 1) * np.log(variances) - psi / 2 / variances
        - 0.5 * np.log(2 * np.pi * variances / 0.5) - 0.5 * 0.5 * (means - 0.3) ** 2 / variances
    )  # fmt: skip
    log_joint = log_prior + sum(
        -0.5 * np.log(2 * np.pi * variances) - 0.5 * (value - means) ** 2 / variances for value in x.ravel()
    )
    volume = (24 / 1200) * variances * (14 / 1200)  # the grid is even in the mean and in log variance
    np.testing.assert_allclose(prior.log_marginal(x), np.log((np.exp(log_joint) * volume).sum()), atol=1e-3)
    many = mixture.Prior(np.zeros(5), 1e-4, 7.0, 0.005)
    rows = rng.normal(size=(30, 5))
    np.testing.assert_allclose(many.log_marginal(rows), many.log_marginal(rows[::-1]), rtol=1e-9)
    mean, _, nu_after, psi_after = many.posterior(rows)
    want = multivariate_normal(mean, psi_after / (nu_after - 6)).logpdf(rows)
    np.testing.assert_allclose(many.log_density(rows, rows), want, rtol=1e-8)
    far = np.concatenate([rows, rows + 50])
    assert mixture.log_split(many, far[:30], far[30:], 1.0) > 0
    assert mixture.log_split(many, rows[:15], rows[15:], 1.0) < 0


def test_hdbscan_leaves_noise_without_a_label(tmp_path):
    features, _ = blobs()
    scattered = np.random.default_rng(3).uniform(-40, 40, (20, 16)).astype(np.float32)
    found = mined("hdbscan", np.concatenate([features, scattered]), tmp_path)
    assert (found.clusters[400:] == -1).all()
    assert (found.clusters[:400] >= 0).mean() > 0.9


def test_mutual_neighbours_are_mutual(tmp_path):
    features, _ = blobs(120)
    rows, similarity = neighbours(features, 3)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    table = unit.astype(np.float64) @ unit.T.astype(np.float64)
    np.fill_diagonal(table, -np.inf)
    nearest = [set(np.argsort(-row)[:3].tolist()) for row in table]
    assert [set(row) for row in rows.tolist()] == nearest
    want = {(i, j) for i in range(120) for j in nearest[i] if i < j and i in nearest[j]}
    assert {tuple(pair) for pair in mutual(rows, similarity)[0].tolist()} == want
    found = mined("mutual_neighbours", features, tmp_path, neighbours=3, smallest=3)
    assert {tuple(pair) for pair in found.pairs.rows.tolist()} == want
    for a, b in found.pairs.rows:
        assert found.clusters[a] == found.clusters[b]
    sizes = np.bincount(found.clusters[found.clusters >= 0])
    assert sizes.min() >= 3


def test_frames_are_matched_one_to_one_and_what_left_stays_alone(tmp_path):
    """Four things in four frames, one of which leaves and another of which comes: known who is who."""
    rng = np.random.default_rng(0)
    things = np.linalg.qr(rng.normal(size=(12, 12)))[0][:5]
    seen = [(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 2, 4), (4, 2, 0, 1)]
    identity = np.array([thing for frame in seen for thing in frame])
    features = (things[identity] + 0.05 * rng.normal(size=(16, 12))).astype(np.float32)
    images = Images([f"a/{t:03d}_{i}.png" for t, frame in enumerate(seen) for i in range(len(frame))], ["a"] * 16)
    found = mined("frame_matching", features, tmp_path, images=images)
    rows = found.pairs.rows
    assert (identity[rows[:, 0]] == identity[rows[:, 1]]).all()
    assert len(rows) == 4 + 3 + 4
    assert (rows[:, 1] // 4 - rows[:, 0] // 4 == 1).all()
    assert ((found.pairs.weight > 0.9) & (found.pairs.weight <= 1)).all()
    further = mined("frame_matching", features, tmp_path, images=images, gap=2)
    assert (further.pairs.rows[:, 1] // 4 - further.pairs.rows[:, 0] // 4 == 2).all()
    with pytest.raises(MiningError, match=r"no image belongs to a group.*source\.options\.group"):
        mined("frame_matching", features, tmp_path, images=Images(images.paths, [None] * 16))


@pytest.mark.parametrize(("here", "there"), [(5, 5), (3, 6), (6, 4)])
def test_frame_matching_finds_the_assignment_of_the_greatest_total(here, there):
    """Of all one-to-one assignments, tried one by one; the nearest image of each would not be one to one."""
    rng = np.random.default_rng(here)
    miner = frame_matching.FrameMatching(frame_matching.MatchingParams(threshold=-1.0), 0)
    greedy = 0
    for _ in range(5):
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rng.normal(size=(n, 3)) for n in (here, there)))
        similarity = a @ b.T if here <= there else (a @ b.T).T
        best = max(
            sum(similarity[i, j] for i, j in enumerate(chosen))
            for chosen in permutations(range(similarity.shape[1]), similarity.shape[0])
        )
        rows, weight = miner.matched(a, b)
        assert float((a[rows[:, 0]] * b[rows[:, 1]]).sum()) == pytest.approx(best, abs=1e-12)
        assert len(set(rows[:, 0].tolist())) == len(set(rows[:, 1].tolist())) == min(here, there)
        assert ((weight > 0) & (weight <= 1)).all()
        greedy += len(set((a @ b.T).argmax(axis=1).tolist())) < here
    assert greedy > 0


def test_frames_of_films_are_matched_within_their_film_and_shot(tmp_path):
    films = ("x/a.mp4/shot-0000", "x/a.mp4/shot-0001", "x/b.mp4")
    paths = [f"films/{film}/{t:08d}.png" for film in films for t in range(3)]
    features = np.ones((9, 4), np.float32) + 0.01 * np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    found = mined("frame_matching", features, tmp_path, images=Images(paths, ["x"] * 9))
    assert found.pairs.rows.tolist() == [[0, 1], [1, 2], [3, 4], [4, 5], [6, 7], [7, 8]]
    folders = [path.replace(".mp4", "") for path in paths]  # the same names without a film: one frame of three crops
    found = mined("frame_matching", features, tmp_path, images=Images(folders, ["x"] * 9))
    assert len(found.pairs.rows) == 6 and (found.pairs.rows[:, 1] % 3 - found.pairs.rows[:, 0] % 3 == 1).all()


def test_a_frame_expression_is_checked_with_the_parameters():
    for wrong in ("[", "no group"):
        with pytest.raises(ValueError, match="should"):
            frame_matching.MatchingParams(frame=wrong)


def test_closure_by_hand():
    """Tracks 0-1 and 2-3, an inter edge 0~2, and image 4 that is like 3."""
    pairs = transitive_pairs.closure(
        np.array([[0, 2], [3, 4]]), np.array([0.8, 0.5], np.float32), np.array([1, 0, 3, 2, -1])
    )
    got = {
        (int(a), int(b)): (str(kind), int(hops), round(float(weight), 3))
        for (a, b), kind, hops, weight in zip(pairs.rows, pairs.kind, pairs.hops, pairs.weight, strict=True)
    }
    assert got == {
        (0, 1): ("intra", 1, 1.0),
        (2, 3): ("intra", 1, 1.0),
        (0, 2): ("inter", 1, 0.8),
        (3, 4): ("inter", 1, 0.5),
        (1, 2): ("closed", 2, 0.8),
        (0, 3): ("closed", 2, 0.8),
        (1, 3): ("closed", 3, 0.8),
        (2, 4): ("closed", 2, 0.5),
    }


def test_transitive_pairs_join_what_is_the_same_thing(tmp_path):
    """Tracks of ten things that turn: first frames look alike, last frames look alike, the ends of a track do not."""
    rng = np.random.default_rng(0)
    looks = np.linalg.qr(rng.normal(size=(24, 24)))[0][:20]
    thing = np.repeat(np.arange(10), 4)  # four tracks of each thing, by first or last look
    features, paths, groups, identity = [], [], [], []
    for track, own in enumerate(thing):
        for frame, look in ((0, looks[own]), (1, rng.normal(size=24)), (2, looks[10 + own])):
            features.append(look + 0.02 * rng.normal(size=24))
            paths.append(f"t{track}/{frame}.png")
            groups.append(f"t{track}")
            identity.append(own)
    images, identity = Images(paths, groups), np.array(identity)
    found = mined("transitive_pairs", np.array(features, np.float32), tmp_path, images=images, neighbours=3)
    rows, kind = found.pairs.rows, found.pairs.kind
    assert {"inter", "intra", "closed"} == set(kind)
    assert (identity[rows[:, 0]] == identity[rows[:, 1]]).all()
    frame = np.arange(120) % 3
    closed = rows[kind == "closed"]
    assert (frame[closed[:, 0]] != frame[closed[:, 1]]).any()  # a first frame and the last frame of another track
    assert not (frame[rows] == 1).any()
