"""Real 8x8 handwritten digits (Alpaydin & Kaynak 1998) that ship with scikit-learn, with a public split."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from wgan_jax.data.dataset import Split, Stored


def load(config: ConfigDict) -> Stored:
    """Returns 1,000 training, 297 validation and 500 test images [8, 8, 1] in the order of RandomState(0).permutation(1797).

    The source's 0..16 are stored as uint8, x * 255 / 16 rounded.
    """
    del config
    package = find_spec("sklearn")  # whose import takes 1 s
    assert package is not None
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz", delimiter=",")
    images, labels = table[:, :-1], table[:, -1]
    order = np.random.RandomState(0).permutation(len(images))
    pixels = np.round(images[order] * 255 / 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = labels[order].astype(np.int32)
    train, validation, test = (Split(pixels[a:b], labels[a:b]) for a, b in [(0, 1000), (1000, 1297), (1297, 1797)])
    return Stored((8, 8, 1), train, validation, test, tuple(map(str, range(10))))
