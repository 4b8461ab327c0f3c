"""Frechet distance, Inception score, neighbourhoods, copying and classes against definitions and known answers."""

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from wgan_jax.errors import UserError
from wgan_jax.metrics import fidelity, kernels
from wgan_jax.metrics.fidelity import (
    class_balance,
    class_shares,
    copying_z,
    frechet_distance,
    inception_score,
    label_agreement,
    label_classifier,
    moments,
    nearest_distances,
    neighbourhoods,
    precision_recall,
    two_sample_accuracy,
)


def test_frechet_distance_is_the_formula_by_a_matrix_root():
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(200, 9)), rng.normal(size=(150, 9)) @ rng.normal(size=(9, 9)) + 0.5
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    trace = np.trace(cov_x + cov_y - 2 * scipy.linalg.sqrtm(cov_x @ cov_y).real)
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + trace
    np.testing.assert_allclose(frechet_distance(x, y), expected, rtol=1e-9)
    np.testing.assert_allclose(frechet_distance(x, moments(y)), expected, rtol=1e-9)
    np.testing.assert_allclose(frechet_distance(moments(y), moments(x)), expected, rtol=1e-9)


def test_frechet_distance_of_fewer_examples_than_features():
    # tr (S_x S_y)^1/2 is the sum of the singular values of the centred samples' product: no covariance needed
    rng = np.random.default_rng(11)
    x, y = rng.normal(size=(30, 100)), rng.normal(size=(50, 100)) * 1.3 + 0.1
    a, b = (s - s.mean(0) for s in (x, y))
    fidelity_trace = np.linalg.svd(a @ b.T, compute_uv=False).sum() / np.sqrt(29 * 49)
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + (a**2).sum() / 29 + (b**2).sum() / 49 - 2 * fidelity_trace
    np.testing.assert_allclose(frechet_distance(x, y), expected, rtol=1e-11)


def test_frechet_distance_of_a_moved_sample_in_float32():
    x = np.random.default_rng(12).integers(0, 256, (300, 6)).astype(np.float32)
    assert frechet_distance(x, x + np.float32(512)) == pytest.approx(6 * 512**2, rel=1e-12)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x[:, :1], x[:, :1] * 3) == pytest.approx(np.var(x[:, 0], ddof=1) * 4 + (2 * x[:, 0].mean()) ** 2)


def test_one_example_has_no_covariance():
    with pytest.raises(UserError, match="at least 2 examples, there are 1"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))


def torch_fidelity_inception_score(logits, splits, seed):
    """Its metric_isc.py in NumPy: shuffled, cut, exp of the mean KL, population standard deviation."""
    logits = logits[np.random.RandomState(seed).permutation(len(logits))]
    p, log_p = scipy.special.softmax(logits, axis=1), scipy.special.log_softmax(logits, axis=1)
    scores = []
    for i in range(splits):
        part = slice(i * len(p) // splits, (i + 1) * len(p) // splits)
        scores.append(np.exp((p[part] * (log_p[part] - np.log(p[part].mean(0, keepdims=True)))).sum(1).mean()))
    return np.mean(scores), np.std(scores)


@pytest.mark.parametrize("splits", [1, 7, 10])
def test_inception_score_is_torch_fidelitys(splits):
    logits = np.random.default_rng(13).normal(size=(123, 11)) * 3
    expected = torch_fidelity_inception_score(logits, splits, 2020)
    np.testing.assert_allclose(inception_score(scipy.special.softmax(logits, axis=1), splits), expected, rtol=1e-12)


def test_inception_score_by_hand():
    # three sure classes in equal shares: exp(log 3); the order as given: each half of the second sample is sure of one class
    assert inception_score(np.eye(3)[np.arange(30) % 3], splits=1) == (pytest.approx(3), 0)
    assert inception_score(np.full((20, 4), 0.25)) == (pytest.approx(1), pytest.approx(0))
    assert inception_score(np.eye(2)[np.arange(20) // 10], splits=2, seed=None) == (1, 0)


def test_logits_and_too_many_splits_are_mistakes():
    with pytest.raises(UserError, match="probabilities of the classes; of logits give their softmax"):
        inception_score(np.random.default_rng(0).normal(size=(20, 3)))
    with pytest.raises(UserError, match="10 splits of 3 examples; give 1 to 3"):
        inception_score(np.eye(3))


def _slow_precision(real, generated, k):
    """Kynkaanniemi 2019, equation 1, by its definition."""
    hits = 0
    for g in generated:
        for i, r in enumerate(real):
            radius = sorted(np.linalg.norm(r - s) for j, s in enumerate(real) if j != i)[k - 1]
            if np.linalg.norm(g - r) <= radius:
                hits += 1
                break
    return hits / len(generated)


def test_precision_and_recall_are_their_definitions():
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(40, 2)), rng.normal(size=(30, 2)) + 1.6
    for k in (1, 3):
        precision, recall = precision_recall(real, generated, k)
        assert precision == _slow_precision(real, generated, k)
        assert recall == _slow_precision(generated, real, k)
        assert 0 < precision < 1
        assert 0 < recall < 1


def slow_neighbourhoods(real, generated, k):
    """Kynkaanniemi 2019 and Naeem 2020, by scikit-learn's neighbours."""
    fitted = [NearestNeighbors(n_neighbors=k, algorithm="kd_tree").fit(sample) for sample in (real, generated)]
    radii = [neighbours.kneighbors()[0][:, -1] for neighbours in fitted]  # without arguments: of the others
    to_generated = cdist(real, generated)
    in_real, in_generated = to_generated <= radii[0][:, None], to_generated <= radii[1]
    density = in_real.sum() / (k * len(generated))
    return in_real.any(axis=0).mean(), in_generated.any(axis=1).mean(), density, in_real.any(axis=1).mean()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_neighbourhoods_are_their_definitions(k, monkeypatch):
    rng = np.random.default_rng(20)
    real, generated = rng.normal(size=(90, 3)), rng.normal(size=(70, 3)) * 0.8 + 0.9
    expected = slow_neighbourhoods(real, generated, k)
    assert all(0 < share < 1 for share in expected)
    np.testing.assert_allclose(neighbourhoods(real, generated, k), expected, rtol=1e-12)
    monkeypatch.setattr(kernels, "CHUNK_VALUES", 400)
    np.testing.assert_allclose(neighbourhoods(real, generated, k), expected, rtol=1e-12)


def test_density_and_coverage_by_hand():
    # k = 1: the balls [-1, 1], [0, 2], [1, 9] of real 0, 1, 5 hold 0.5 twice, 6 once, 20 never; generated balls [-5, 6], ...
    real, generated = np.array([[0.0], [1.0], [5.0]]), np.array([[0.5], [6.0], [20.0]])
    assert neighbourhoods(real, generated, 1) == pytest.approx((2 / 3, 1, 1, 1))
    # with 0.5 alone near: its ball [-9.5, 10.5] holds all real examples, and the last real ball is empty
    assert neighbourhoods(real, np.array([[0.5], [10.5], [20.0]]), 1) == pytest.approx((1 / 3, 1, 2 / 3, 2 / 3))


def test_one_law_has_density_and_coverage_near_one():
    # coverage of equal samples of one law is 1 - (n - 1)...(n - k) / ((2n - 1)...(2n - k)), about 1 - 2^-k (Naeem 2020)
    real, generated = np.random.default_rng(21).normal(size=(2, 1000, 4))
    _, _, density, coverage = neighbourhoods(real, generated)
    assert density == pytest.approx(1, abs=0.05)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.02)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_exact_copies_lie_at_distance_zero(offset):
    # every real example twice: the first balls have radius 0 and hold exactly their copies, whatever rounding makes of them
    once = np.random.default_rng(22).normal(size=(200, 64)) + offset
    real = np.concatenate([once, once])
    assert neighbourhoods(real, once[:100], 1)._replace(recall=0) == (1, 0, 2, 0.5)
    near = once[:100] + 1e-4
    assert neighbourhoods(real, near, 1)._replace(recall=0) == (0, 0, 0, 0)


def test_a_copy_of_the_kth_neighbour_is_at_the_radius():
    # the same distance twice, through matrices of unlike shape; one that is a billionth of it farther is outside
    real = np.random.default_rng(23).normal(size=(150, 300))
    order = np.argsort(cdist(real, real), axis=1)[:, :4]
    for k in (1, 3):
        for centre, kth in enumerate(order[:, k]):
            away = real[kth] + 1e-9 * (real[kth] - real[centre])
            inside = [neighbourhoods(real[order[centre]], np.stack([point] * 9), k).coverage for point in (real[kth], away)]
            assert inside[0] > inside[1]


def test_too_few_examples_for_k_neighbours_are_a_mistake():
    with pytest.raises(UserError, match="needs more than 5 examples in each sample, one has 5"):
        neighbourhoods(np.zeros((9, 2)), np.zeros((5, 2)))


def test_a_collapsed_generator_has_precision_and_no_recall():
    real = np.random.default_rng(1).normal(size=(100, 2))
    collapsed = np.random.default_rng(2).normal(size=(100, 2)) * 1e-3
    assert precision_recall(real, collapsed) == (1.0, 0.0)


def test_copying_z_is_the_mann_whitney_statistic():
    rng = np.random.default_rng(3)
    train, test, generated = rng.normal(size=(3, 80, 2))
    distance = lambda x: np.min(np.linalg.norm(x[:, None] - train, axis=-1), axis=1)  # noqa: E731
    u = scipy.stats.mannwhitneyu(distance(generated), distance(test)).statistic
    expected = (u - 80 * 80 / 2) / np.sqrt(80 * 80 * 161 / 12)
    np.testing.assert_allclose(copying_z(*(nearest_distances(x, train) for x in (test, generated))), expected)


def test_copies_are_flagged_and_fresh_samples_are_not():
    rng = np.random.default_rng(4)
    train, test, fresh = rng.normal(size=(3, 300, 5))
    real, copies, others = (nearest_distances(x, train) for x in (test, train[:200] + 1e-3, fresh))
    assert copying_z(real, copies) < -10
    assert abs(copying_z(real, others)) < 3


def test_nearest_distances_in_chunks(monkeypatch):
    rng = np.random.default_rng(6)
    points, train = rng.normal(size=(30, 4)), rng.normal(size=(50, 4))
    expected = np.linalg.norm(points[:, None] - train, axis=2)
    monkeypatch.setattr(fidelity, "CHUNK_VALUES", 4 * 7)
    np.testing.assert_allclose(nearest_distances(points, train), expected.min(1))
    monkeypatch.setattr(fidelity, "COMPARED_VALUES", 4 * 25)  # every second, whatever order the examples are in
    np.testing.assert_allclose(nearest_distances(points, train), expected[:, ::2].min(1))


def test_class_shares_count_what_the_classifier_sees():
    centres = 10 * np.eye(3)
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1, 2], 30)
    classifier = label_classifier(centres[labels] + rng.normal(size=(90, 3)), labels)
    shares = class_shares(classifier.predict(centres[[0, 0, 0, 2]] + 0.1), 3)
    np.testing.assert_array_equal(shares, [0.75, 0, 0.25])


def slow_accuracies(real, generated):
    """Leave-one-out by scikit-learn."""
    pooled, labels = np.concatenate([real, generated]), np.repeat([0, 1], [len(real), len(generated)])
    nearest = NearestNeighbors(n_neighbors=1).fit(pooled).kneighbors(return_distance=False)[:, 0]  # of the others
    correct = labels[nearest] == labels
    return correct.mean(), correct[labels == 0].mean(), correct[labels == 1].mean()


@pytest.mark.parametrize("chunk", [2**22, 500])
def test_two_sample_accuracy_is_leave_one_out(chunk, monkeypatch):
    monkeypatch.setattr(kernels, "CHUNK_VALUES", chunk)
    rng = np.random.default_rng(30)
    real, generated = rng.normal(size=(120, 3)), rng.normal(size=(80, 3)) * 0.5 + 0.4
    expected = slow_accuracies(real, generated)
    assert len(set(expected)) == 3
    np.testing.assert_allclose(two_sample_accuracy(real, generated), expected, rtol=1e-12)


def test_two_sample_accuracy_of_laws_near_far_and_copied():
    rng = np.random.default_rng(31)
    real, fresh = rng.normal(size=(2, 1000, 3))
    assert two_sample_accuracy(real, fresh).accuracy == pytest.approx(0.5, abs=0.04)
    assert two_sample_accuracy(real, fresh + 20) == (1, 1, 1)
    assert two_sample_accuracy(real, real[::-1]) == (0, 0, 0)  # the nearest is always the copy
    collapsed = two_sample_accuracy(real, real[:10].repeat(100, 0) + 1e-3)
    assert collapsed.generated == 1
    assert collapsed.real > 0.9


def test_a_tie_between_the_samples_counts_half(monkeypatch):
    # every example of both samples has a copy in its own and in the other sample; chunks of two rows and of one round unlike
    monkeypatch.setattr(kernels, "CHUNK_VALUES", 300)
    x = np.random.default_rng(32).normal(size=(51, 200))
    assert two_sample_accuracy(x.repeat(2, axis=0), x[::-1].repeat(3, axis=0)) == (0.5, 0.5, 0.5)


def test_class_balance_by_hand():
    # shares 1/2, 1/4, 1/4, 0: entropy 1.5 bits of 2; one of two classes counts from 1/8
    assert class_balance(np.array([0.5, 0.25, 0.25, 0.0])) == (3, pytest.approx(0.75), 0)
    assert class_balance(np.full(10, 0.1)) == (10, pytest.approx(1), 0.1)
    assert [class_balance(np.array([1 - share, share])).covered for share in (0.125, 0.124)] == [2, 1]
    assert class_balance(np.array([0.0, 1.0])) == (1, 0, 0)


def test_agreement_with_labels_by_hand():
    """Of four zeros three, of two ones one, of no twos: (3 + 1) / 6, and 1/2 at least."""
    asked, told = np.array([0, 0, 1, 0, 1, 0]), np.array([0, 2, 1, 0, 0, 0])
    assert label_agreement(asked, told) == pytest.approx((4 / 6, 1 / 2))
    assert np.isnan(label_agreement(asked[:0], told)).all()
