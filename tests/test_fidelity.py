"""Precision, recall, copying and class shares on samples whose answers are known."""

import numpy as np
import scipy.stats

from wgan_jax.evaluation import fidelity
from wgan_jax.evaluation.fidelity import class_shares, copying_z, label_classifier, nearest_distances, precision_recall


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
    monkeypatch.setattr(fidelity, "COMPARED_VALUES", 4 * 20)
    np.testing.assert_allclose(nearest_distances(points, train), expected[:, :20].min(1))


def test_class_shares_count_what_the_classifier_sees():
    centres = 10 * np.eye(3)
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1, 2], 30)
    classifier = label_classifier(centres[labels] + rng.normal(size=(90, 3)), labels)
    shares = class_shares(classifier, centres[[0, 0, 0, 2]] + 0.1)
    np.testing.assert_array_equal(shares, [0.75, 0, 0.25])
