"""Fidelity and coverage: precision and recall, copying of the training data, shares of the classes."""

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import SVC

from wgan_jax.data.dataset import flatten

CHUNK_VALUES = 2**24  # of training examples compared at once
COMPARED_VALUES = 2**26  # of training examples compared in all: 85,000 images 28 x 28, 5,400 of 64 x 64 x 3
CLASSIFIER_EXAMPLES, CLASSIFIER_COMPONENTS = 5000, 64


def precision_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Returns improved precision and recall in [0, 1] (Kynkaanniemi 2019, equation 2) of samples [n, D] and [m, D].

    Precision is the share of generated points that lie nearer to some real point than its k-th nearest other real point does;
    recall is the same with the roles exchanged.
    """

    def covered(points: np.ndarray, support: np.ndarray) -> float:
        radii = np.sort(cdist(support, support), axis=1)[:, k]  # column 0 is the point itself
        return float((cdist(points, support) <= radii).any(axis=1).mean())

    return covered(generated, real), covered(real, generated)


def nearest_distances(points: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Returns each point's distance [n] to the nearest training example; points [n, D], train as `flatten` takes it.

    Of a training set with more than COMPARED_VALUES values, the first so many count: their order is random.
    """
    size = points.shape[1]
    step, end = max(1, CHUNK_VALUES // size), min(len(train), max(1, COMPARED_VALUES // size))
    chunks = (flatten(train[start : min(start + step, end)]) for start in range(0, end, step))
    return np.min([pairwise_distances_argmin_min(points, chunk)[1] for chunk in chunks], axis=0)


def copying_z(test_distances: np.ndarray, generated_distances: np.ndarray) -> float:
    """Returns the Mann-Whitney z of generated points' distances to the training set [n] against those of test points [m].

    Positive where generated points lie farther from the training set than fresh real ones do, below about -3 where they are
    copies (Meehan 2020, data-copying test, over the whole space as one cell). Distances are `nearest_distances`.
    """
    n, m = len(generated_distances), len(test_distances)
    u = rankdata(np.concatenate([generated_distances, test_distances]))[:n].sum() - n * (n + 1) / 2
    return float((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))


def label_classifier(images: np.ndarray, labels: np.ndarray) -> Pipeline:
    """Returns a support vector machine (RBF, C = 10) fitted to labelled images [N, H, W, C] uint8.

    At most 5,000 of them are used, and their first 64 principal components where they have more values than that.
    """
    chosen = np.random.default_rng(0).permutation(len(images))[:CLASSIFIER_EXAMPLES]
    x = flatten(images[chosen])
    project = [PCA(CLASSIFIER_COMPONENTS, random_state=0)] if min(x.shape) > CLASSIFIER_COMPONENTS else []
    return make_pipeline(*project, SVC(gamma="scale", C=10.0)).fit(x, labels[chosen])


def class_shares(classifier: Pipeline, images: np.ndarray) -> np.ndarray:
    """Returns the share of images [n, D] that the classifier puts in each of its classes, [classes]."""
    return (classifier.predict(images)[:, None] == classifier.classes_).mean(axis=0)
