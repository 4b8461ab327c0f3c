"""Fidelity and coverage: precision and recall, copying of the training data, shares of the classes."""

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.svm import SVC


def precision_recall(real: np.ndarray, generated: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Returns improved precision and recall in [0, 1] (Kynkaanniemi 2019, equation 2) of samples [n, D] and [m, D].

    Precision is the share of generated points that lie nearer to some real point than its k-th nearest other real point does;
    recall is the same with the roles exchanged.
    """

    def covered(points: np.ndarray, support: np.ndarray) -> float:
        radii = np.sort(cdist(support, support), axis=1)[:, k]  # column 0 is the point itself
        return float((cdist(points, support) <= radii).any(axis=1).mean())

    return covered(generated, real), covered(real, generated)


def copying_z(train: np.ndarray, test: np.ndarray, generated: np.ndarray) -> float:
    """Returns the Mann-Whitney z of the generated points' distances to the training set against the test points'.

    Positive where generated points lie farther from the training set than fresh real ones do, below about -3 where they are
    copies (Meehan 2020, data-copying test, over the whole space as one cell). All samples are [., D].
    """
    tree = cKDTree(train)
    distances = np.concatenate([tree.query(generated)[0], tree.query(test)[0]])
    n, m = len(generated), len(test)
    u = rankdata(distances)[:n].sum() - n * (n + 1) / 2
    return float((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))


def label_classifier(train: np.ndarray, labels: np.ndarray) -> SVC:
    """Returns a support vector machine (RBF, C = 10) fitted to labelled training images [N, D]."""
    return SVC(gamma="scale", C=10.0).fit(train, labels)


def class_shares(classifier: SVC, images: np.ndarray) -> np.ndarray:
    """Returns the share of images [n, D] that the classifier puts in each of its classes, [classes]."""
    return (classifier.predict(images)[:, None] == classifier.classes_).mean(axis=0)
