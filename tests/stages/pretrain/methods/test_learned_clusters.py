"""TCC, NMCE and MLC, which learn clusters: losses against restatements with loops in float64, and their edges."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from reprise.config.params import problems_of
from reprise.config.plug_ins.registry import load_class, names
from reprise.networks.heads import ASSIGNER, CODES
from reprise.objectives.info_nce import in_batch_info_nce
from stages.pretrain.method import Method
from stages.pretrain.methods.clustering.mlc import MLC, mean_of_views, reduction_loss, table
from stages.pretrain.methods.clustering.nmce import clusters_loss, features_loss
from stages.pretrain.methods.clustering.tcc import bound, cluster_contrast, cluster_vectors, log_likelihood
from tests.stages.pretrain.methods.conftest import build, random_batch

TEMPERATURE = 0.2


def normal(rng: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def unit(v: torch.Tensor) -> list[float]:
    length = math.sqrt(sum(float(x) ** 2 for x in v))
    return [float(x) / length for x in v]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def softmax(values: list[float]) -> list[float]:
    exps = [math.exp(v) for v in values]
    return [e / sum(exps) for e in exps]


# ------------------------------------------------------------------------------------------------- all methods
CLUSTERING = [name for name in names("methods") if load_class("methods", name, Method, "").taps]


@pytest.mark.parametrize("name", CLUSTERING)
def test_a_method_saves_the_heads_that_it_says_are_embedded(name: str) -> None:
    method = build(name, images=16)
    assert set(method.taps) == {ASSIGNER, CODES} & set(method.heads())
    assert set(method.taps) <= {ASSIGNER, CODES}


def test_methods_without_taps_save_no_such_heads() -> None:
    others = [name for name in names("methods") if name not in CLUSTERING]
    assert {"simclr", "swav", "odc"} <= set(others)
    assert not any({ASSIGNER, CODES} & set(build(name).heads()) for name in ("simclr", "swav", "odc", "byol"))


# --------------------------------------------------------------------------------------------------------- tcc
def test_tcc_log_likelihood(rng: torch.Generator) -> None:
    queries, keys, negatives = normal(rng, 3, 4), normal(rng, 3, 4), normal(rng, 5, 4)
    got = log_likelihood(queries, keys, negatives, TEMPERATURE)
    for b in range(3):
        q = unit(queries[b])
        own = dot(q, unit(keys[b])) / TEMPERATURE
        others = [dot(q, unit(n)) / TEMPERATURE for n in negatives]
        assert float(got[b]) == pytest.approx(math.log(softmax([own, *others])[0]), abs=1e-9)
    assert torch.equal(log_likelihood(queries, keys, negatives[:0], TEMPERATURE), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sharp", [0.1, 1.0, 10.0])
def test_tcc_bound_is_never_above_the_likelihood_of_all_clusters(seed: int, sharp: float) -> None:
    """The bound's mean over all K clusters, against log of sum over k of prior(k) p(v' | x, k), both enumerated."""
    rng = torch.Generator().manual_seed(seed)
    K, B = 4, 6
    z, keys, negatives, embeddings = normal(rng, B, 5), normal(rng, B, 5), normal(rng, 7, 5), normal(rng, K, 5)
    logits, prior = sharp * normal(rng, B, K), sharp * normal(rng, B, K)
    each = torch.stack([log_likelihood(z + e, keys, negatives, TEMPERATURE) for e in embeddings], dim=1)
    for b in range(B):
        pi, p = softmax(logits[b].tolist()), softmax(prior[b].tolist())
        found = sum(pi[k] * float(bound(each[:, k], logits, prior)[b]) for k in range(K))
        exact = math.log(sum(p[k] * math.exp(float(each[b, k])) for k in range(K)))
        assert found <= exact + 1e-12
        # It is the likelihood itself where pi is the posterior.
        posterior = prior + each
        right = sum(softmax(posterior[b].tolist())[k] * float(bound(each[:, k], posterior, prior)[b]) for k in range(K))
        assert right == pytest.approx(exact, abs=1e-9)


def test_tcc_cluster_vectors_do_not_depend_on_the_order_of_members(rng: torch.Generator) -> None:
    memberships, z = torch.softmax(normal(rng, 8, 3), dim=1), normal(rng, 8, 5)
    got = cluster_vectors(memberships, z)
    for k in range(3):
        total = [sum(float(memberships[i, k]) * unit(z[i])[j] for i in range(8)) for j in range(5)]
        assert got[k].tolist() == pytest.approx(unit(torch.tensor(total, dtype=torch.float64)), abs=1e-9)
    order = torch.randperm(8, generator=rng)
    torch.testing.assert_close(cluster_vectors(memberships[order], z[order]), got)


@pytest.mark.parametrize("earlier", [0, 2])
def test_tcc_cluster_contrast(rng: torch.Generator, earlier: int) -> None:
    """Past vectors of the same cluster are no negatives; a cluster that one view lacks takes no part at all."""
    K = 4
    first, second, past = (F.normalize(normal(rng, n, 5), dim=1) for n in (K, K, earlier * K))
    first[1] = 0
    second[3] = 0
    if earlier:
        past[2] = 0
    losses = []
    for k in (0, 2):
        negatives = [float(first[k] @ second[j]) for j in range(K) if j not in (k, 3)]
        negatives += [float(first[k] @ past[r]) for r in range(len(past)) if r % K != k and r != 2]
        own = float(first[k] @ second[k])
        losses.append(-math.log(softmax([v / TEMPERATURE for v in [own, *negatives]])[0]))
    got = cluster_contrast(first, second, past, TEMPERATURE)
    assert float(got) == pytest.approx(sum(losses) / 2, abs=1e-9)


def test_tcc_with_one_member_in_each_cluster_contrasts_images(rng: torch.Generator) -> None:
    z, other = normal(rng, 6, 5), normal(rng, 6, 5)
    members = torch.eye(6, dtype=torch.float64)
    got = cluster_contrast(cluster_vectors(members, z), cluster_vectors(members, other), z[:0], TEMPERATURE)
    torch.testing.assert_close(got, in_batch_info_nce(z, other, TEMPERATURE))


def test_tcc_with_empty_clusters_has_no_nan(rng: torch.Generator) -> None:
    z = normal(rng, 6, 5).float().requires_grad_()
    members = torch.eye(4)[[0, 0, 2, 2, 2, 0]].requires_grad_()
    vectors = cluster_vectors(members, z)
    assert not vectors[[1, 3]].any()
    loss = cluster_contrast(vectors, vectors.detach(), torch.zeros(8, 5), TEMPERATURE)
    loss.backward()
    assert torch.isfinite(loss)
    for tensor in (z, members):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()
    nobody = torch.zeros(4, 5)
    assert float(cluster_contrast(nobody, nobody, nobody, TEMPERATURE)) == 0


def test_tcc_collapsed_into_one_cluster_still_steps() -> None:
    method = build("tcc", images=16)
    with torch.no_grad():
        for part in (method.assigner, method.teacher["assigner"]):
            part.output.bias.copy_(torch.tensor([200.0, 0.0, 0.0, 0.0]))
    for step in range(3):
        loss, figures = method.step(random_batch(method, seed=step, start=8 * step))
        method.zero_grad()
        loss.backward()
        assert torch.isfinite(loss)
        assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
        assert float(figures["evenness"].detach()) == pytest.approx(0, abs=1e-3)


def test_tcc_alpha_weighs_the_contrast_of_clusters() -> None:
    losses = []
    for alpha in (0.0, 1.0, 3.0):
        torch.manual_seed(5)
        losses.append(build("tcc", images=16, alpha=alpha))
    values = []
    for method in losses:
        torch.manual_seed(7)
        values.append(float(method.step(random_batch(method))[0].detach()))
    assert values[2] - values[0] == pytest.approx(3 * (values[1] - values[0]), rel=1e-4)
    assert values[1] != values[0]


def test_tcc_keeps_the_clusters_of_whole_batches() -> None:
    """Row j of the queue is of cluster j modulo K, also after it has gone round."""
    method = build("tcc", images=16, clusters=3, cluster_queue=2)
    for step in range(5):
        method.step(random_batch(method, seed=step, start=8 * step))
        assert len(method.earlier) == min(step + 1, 2) * 3
        assert int(method.earlier.pointer) % 3 == 0


@pytest.mark.parametrize("keep", ["student", "teacher"])
def test_tcc_saves_the_assigner_of_the_network_that_is_kept(keep: str) -> None:
    method = build("tcc", images=16, keep=keep)
    kept = method.assigner if keep == "student" else method.teacher["assigner"]
    assert method.heads()[ASSIGNER] is kept


# -------------------------------------------------------------------------------------------------------- nmce
def rate(z: torch.Tensor, weights: list[float], precision: float) -> float:
    """1/2 logdet(I + d / (sum of weights * precision) sum of w_i z_i z_i^T), by the m x m determinant."""
    m, d = z.shape
    rows = torch.stack([math.sqrt(w) * row for w, row in zip(weights, z, strict=True)])
    square = torch.eye(m, dtype=z.dtype) + d / (sum(weights) * precision) * rows @ rows.T
    return 0.5 * sum(math.log(float(v)) for v in torch.linalg.eigvalsh(square))


@pytest.mark.parametrize(("images", "width"), [(9, 4), (5, 7)])
def test_nmce_features_loss(rng: torch.Generator, images: int, width: int) -> None:
    z = normal(rng, 2, images, width)
    want = 0.0
    for v in range(2):
        view = torch.tensor([unit(row) for row in z[v]], dtype=torch.float64)
        want -= rate(view, [1.0] * images, 0.2) / 2
    want -= 3.0 * sum(dot(unit(z[0, b]), unit(z[1, b])) for b in range(images)) / images
    assert float(features_loss(z, 3.0, 0.2)) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize(("images", "width"), [(9, 4), (5, 7)])
def test_nmce_clusters_loss(rng: torch.Generator, images: int, width: int) -> None:
    """d x d determinants against m x m ones, with the means over the two views taken by hand."""
    K = 3
    z, drawn = normal(rng, 2, images, width), torch.softmax(normal(rng, 2, images, K), dim=2)
    middle = torch.tensor(
        [unit(torch.tensor(unit(z[0, b])) + torch.tensor(unit(z[1, b]))) for b in range(images)], dtype=torch.float64
    )
    members = [[(float(drawn[0, b, k]) + float(drawn[1, b, k])) / 2 for b in range(images)] for k in range(K)]
    want = -rate(middle, [1.0] * images, 0.2)
    want += sum(sum(weights) / images * rate(middle, weights, 0.2) for weights in members)
    want -= 3.0 * sum(dot(unit(z[0, b]), unit(z[1, b])) for b in range(images)) / images
    assert float(clusters_loss(z, drawn, 3.0, 0.2)) == pytest.approx(want, abs=1e-6)


def test_nmce_collapsed_features_are_the_worst_of_phase_1() -> None:
    """All images alike: the rate is 1/2 log(1 + d / precision), less than of anything else that is not spread worse."""
    z = torch.ones(2, 8, 4, dtype=torch.float64)
    assert float(features_loss(z, 0.0, 0.2)) == pytest.approx(-0.5 * math.log(1 + 4 / 0.2))
    spread = torch.eye(4, dtype=torch.float64)[torch.arange(8) % 4].expand(2, 8, 4)
    assert float(features_loss(spread, 0.0, 0.2)) == pytest.approx(-2 * math.log(1 + 1 / 0.2))
    assert float(features_loss(spread, 0.0, 0.2)) < float(features_loss(z, 0.0, 0.2))


def stepped(method: Method, step: int, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(step)
    loss, _ = method.step(random_batch(method, seed=step, start=8 * step))
    optimizer.zero_grad(set_to_none=False)  # gradients of zero: momentum and weight decay go on
    loss.backward()
    method.after_backward(step / 8)
    optimizer.step()
    method.after_step((step + 1) / 8)


def test_nmce_teaches_in_each_phase_what_belongs_to_it() -> None:
    method = build("nmce", images=16, features_for=0.25, frozen_for=0.375)
    optimizer = torch.optim.SGD(method.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    phases, moved = [], []
    for step in range(8):
        phases.append(method.phase)
        before = {name: p.clone() for name, p in method.named_parameters()}
        stepped(method, step, optimizer)
        moved.append({name.split(".")[0] for name, p in method.named_parameters() if not torch.equal(p, before[name])})
    assert phases == [1, 1, 2, 2, 2, 3, 3, 3]
    assert moved[:2] == [{"backbone", "projector"}] * 2
    assert moved[2:5] == [{"projector", "assigner"}] * 3
    assert moved[5:] == [{"backbone", "projector", "assigner"}] * 3


@pytest.mark.parametrize("at", [1, 2, 4, 5])
def test_nmce_goes_on_from_any_step_as_if_it_had_not_stopped(at: int) -> None:
    """Phases change after steps 2 and 5: the state says which phase it is."""
    whole, first = (build("nmce", images=16, features_for=0.25, frozen_for=0.375) for _ in range(2))
    for method, until in ((whole, 8), (first, at)):
        optimizer = torch.optim.SGD(method.parameters(), 0.1)
        for step in range(until):
            stepped(method, step, optimizer)
    second = build("nmce", images=16, features_for=0.25, frozen_for=0.375)
    second.load_state_dict(first.state_dict(), strict=True)
    optimizer = torch.optim.SGD(second.parameters(), 0.1)
    for step in range(at, 8):
        stepped(second, step, optimizer)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


# --------------------------------------------------------------------------------------------------------- mlc
def test_mlc_loss(rng: torch.Generator) -> None:
    """A rate for each image as a cluster of its own, by direct loops over all of them."""
    B = 7
    z, c = mean_of_views(normal(rng, 2, B, 4)), mean_of_views(normal(rng, 2, B, 3))
    pi = [[math.exp(abs(dot(c[i].tolist(), c[j].tolist())) / 0.175) for j in range(B)] for i in range(B)]
    for half in range(5):
        if half % 2 == 0:
            pi = [[v / sum(row) for v in row] for row in pi]
        else:
            sums = [sum(pi[i][j] for i in range(B)) for j in range(B)]
            pi = [[pi[i][j] / sums[j] for j in range(B)] for i in range(B)]
    members = table(c, 0.175, 5)
    for i in range(B):
        assert members[i].tolist() == pytest.approx(pi[i], abs=1e-9)
        assert float(members[i].sum()) == pytest.approx(1, abs=1e-12)
    want = -rate(z, [1.0] * B, 0.1)
    for j in range(B):
        column = [pi[i][j] for i in range(B)]
        want += sum(column) / B * rate(z, column, 0.1)
    want += 0.5 * 0.05 * sum(v * v for row in pi for v in row)
    assert float(reduction_loss(z, members, 0.05, 0.1)) == pytest.approx(want, abs=1e-6)
    order = torch.randperm(B, generator=rng)
    again = reduction_loss(z[order], table(c[order], 0.175, 5), 0.05, 0.1)
    assert float(again) == pytest.approx(want, abs=1e-6)


def test_mlc_codes_begin_as_the_features_when_the_warm_up_ends() -> None:
    method = build("mlc", images=16, warmup_for=0.375)
    optimizer = torch.optim.SGD(method.parameters(), 0.1)
    for step in range(5):
        assert method.warming_up == (step < 3)
        stepped(method, step, optimizer)
        same = [
            torch.equal(a, b) for a, b in zip(method.codes.parameters(), method.projector.parameters(), strict=True)
        ]
        assert all(same) if step == 2 else not all(same)
    assert set(method.heads()) == {"projector", CODES}


def test_mlc_without_a_warm_up_begins_with_the_head_of_the_features() -> None:
    for warmup_for, same in ((0.0, True), (0.1, False)):
        method = build("mlc", warmup_for=warmup_for)
        pairs = zip(method.codes.parameters(), method.projector.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == same


def test_mlc_scales_an_odd_number_of_times() -> None:
    (problem,) = problems_of(MLC.Params, {"half_steps": 4}, "methods.mlc")
    assert str(problem) == "methods.mlc.half_steps: must be odd: rows sum to 1 only then. Found: 4. Choose 3 or 5."
    assert [problems_of(MLC.Params, {"half_steps": odd}, "") for odd in (1, 3, 101)] == [[]] * 3


def test_mlc_prefers_codes_that_tell_groups_apart() -> None:
    """Two groups of orthogonal features: codes of the groups need fewer bits than codes that mix them."""
    z = torch.eye(4, dtype=torch.float64)[[0, 0, 0, 0, 1, 1, 1, 1]]
    right, mixed = z, torch.eye(4, dtype=torch.float64)[[0, 1, 0, 1, 0, 1, 0, 1]]
    losses = [float(reduction_loss(z, table(codes, 0.175, 5), 0.05, 0.1)) for codes in (right, mixed)]
    assert losses[0] < losses[1]
