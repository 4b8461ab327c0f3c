"""What a dataset is: stored examples with fixed splits, or a law to sample from, on device and without end.

Examples have two forms: as the dataset has them (uint8 pixels, any numbers, or points), and in network units, in which networks
and metrics see them. A dataset's `decode` leads from the first to the second, `encode` back; of a law both forms are one.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from wgan_jax.data import attributes as attribute_columns
from wgan_jax.data.attributes import Attributes
from wgan_jax.data.columns import Columns
from wgan_jax.data.scaling import PIXELS, PLAIN, Scaling
from wgan_jax.data.walk import in_words

FEW_CLASSES = 4  # whose counts are all told


class Decode(Protocol):
    """Examples to network units; NumPy stays NumPy, and JAX's arrays may be traced."""

    def __call__[A: (np.ndarray, jax.Array)](self, examples: A, /, dtype: jax.typing.DTypeLike = np.float32) -> A: ...


type Encode = Callable[[jax.Array | np.ndarray], np.ndarray]  # network units to examples: the inverse of a Decode

from_pixels, to_pixels = PIXELS.decode, PIXELS.encode  # uint8 0..255 to [-1, 1], and back: rounded, clipped


def flatten(x: np.ndarray) -> np.ndarray:
    """Returns examples [n, ...] in network units as vectors [n, D] float64."""
    return x.reshape(len(x), -1).astype(np.float64)


def spread(total: int, count: int) -> np.ndarray:
    """Returns the rows [count] of so many of `total` examples, evenly over all: files may be in the order of their classes."""
    return np.arange(count) * total // count


class Split(NamedTuple):
    """Stored examples."""

    images: np.ndarray  # [N, *shape] as `decode` takes them: uint8 pixels [N, H, W, C], or what the dataset's scaling is of
    labels: np.ndarray  # [N] int32: of a class, or of a combination of attributes


class Conditions(NamedTuple):
    """The labels of training rows of which each has several, one in every column of categories."""

    labels: np.ndarray  # [N, M] int32
    order: np.ndarray  # [N * M] places in `labels`, laid out row by row, by label
    counts: np.ndarray  # [K], rows that have each label; those of a column follow each other and add up to N
    weights: np.ndarray  # [K], how often each is drawn beside others of its column


class Modes(NamedTuple):
    """The components of a mixture of Gaussians with equal weights."""

    centres: np.ndarray  # [K, D]
    sigma: float


class Stored(NamedTuple):
    """Examples on disk or in memory, in three splits."""

    shape: tuple[int, ...]  # of one example
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...] = ()  # () for no labels
    fingerprint: str = ""  # of the examples, labels and splits; "" for data that ships with the program
    left_out: Mapping[str, int] = MappingProxyType({})  # of what was read, by reason
    flip: bool = False  # whether training images are mirrored at random
    dequantise: bool = False  # whether they get uniform noise of one pixel level
    labelled: int = 0  # of the training images, how many have a label that training sees; 0 for all
    scaling: Scaling | Columns = PIXELS
    conditions: Conditions | None = None  # of a table, a category of which networks are told: drawn with a row, as its label
    attributes: Attributes | None = None  # what labels are of, and class_names the names of; None for classes

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def decode[A: (np.ndarray, jax.Array)](self, examples: A, /, dtype: jax.typing.DTypeLike = np.float32) -> A:
        """Returns examples in network units."""
        return self.scaling.decode(examples, dtype)

    def encode(self, examples: jax.Array | np.ndarray) -> np.ndarray:
        """Returns network units as examples."""
        return self.scaling.encode(examples)


class Law(NamedTuple):
    """A distribution that examples are drawn from; they are in network units."""

    shape: tuple[int, ...]  # of one example
    sample: Callable[[jax.Array], jax.Array]  # key -> one example
    stratified: Callable[[jax.Array, int], jax.Array] | None = None  # key, n -> [n, D], with equal shares of the modes
    modes: Modes | None = None
    quantile: Callable[[np.ndarray], np.ndarray] | None = None  # of a 1-D law: probability -> value
    fingerprint: str = ""  # of a law of the caller's
    scaling: Scaling = PLAIN

    def draw(self, key: jax.Array, count: int) -> jax.Array:
        """Returns examples [count, *shape], with equal shares of the modes where there are some."""
        return self.independent(key, count) if self.stratified is None else self.stratified(key, count)

    def independent(self, key: jax.Array, count: int) -> jax.Array:
        """Returns independent examples [count, *shape], whose shares of the modes are random, as a generator's are."""
        return jax.vmap(self.sample)(jax.random.split(key, count))

    def decode(self, examples: np.ndarray) -> np.ndarray:
        """Returns the examples themselves."""
        return examples

    def encode(self, examples: jax.Array | np.ndarray) -> np.ndarray:
        """Returns the examples themselves."""
        return np.asarray(examples)


type Dataset = Stored | Law

KINDS = ("numbers", "vectors", "series", "images", "volumes")  # by the number of axes of an example


def describe(dataset: Dataset) -> dict[str, Any]:
    """Returns what provenance.json says of the data, as JSON takes it: counts by split, by class, and of what was left out."""
    told = {"fingerprint": dataset.fingerprint, "shape": list(dataset.shape), "scaling": dataset.scaling._asdict()}
    if isinstance(dataset, Law):
        return {**told, "examples": {}, "classes": [], "class_counts": {}, "left_out": {}}
    splits, classes = dataset.splits.items(), 0 if dataset.attributes else len(dataset.class_names)
    counts = {name: np.bincount(split.labels, minlength=classes).tolist() for name, split in splits if classes}
    return {
        **told,
        "examples": {name: len(split.images) for name, split in splits},
        "classes": list(dataset.class_names[:classes]),
        "class_counts": counts,
        "left_out": dict(dataset.left_out),
        **({"attributes": [column._asdict() for column in dataset.attributes.columns]} if dataset.attributes else {}),
    }


def in_one_line(name: str, dataset: Dataset) -> str:
    """Returns what a run says of its data at the start."""
    size = "x".join(map(str, dataset.shape))
    if isinstance(dataset, Law):
        modes = f", {len(dataset.modes.centres)} modes" if dataset.modes else ""
        return f"data: {name}, points of {size} number{'s' * (size != '1')} drawn from a law without end{modes}"
    told = describe(dataset)
    counts = " / ".join(f"{count:,} {split}" for split, count in told["examples"].items())
    if isinstance(dataset.scaling, Columns):
        return f"data: {name}, {counts} rows of {len(dataset.scaling.columns)} columns: {dataset.scaling.told()}" + in_words(
            dataset.left_out
        )
    labels = attribute_columns.in_words(dataset.attributes) if dataset.attributes else _classes(told)
    kind = KINDS[len(dataset.shape)] + (f" {dataset.scaling.dtype}" if dataset.scaling != PIXELS else "")
    return f"data: {name}, {counts} {kind} {size}, {labels}{in_words(dataset.left_out)}"


def _classes(told: dict[str, Any]) -> str:
    if not told["classes"]:
        return "no labels"
    totals = np.sum(list(told["class_counts"].values()), axis=0)
    pairs = [f"{name}: {count:,}" for name, count in zip(told["classes"], totals, strict=True)]
    if len(pairs) > FEW_CLASSES and totals.min() == totals.max():
        return f"{len(pairs)} classes of {totals[0]:,} each"
    if len(pairs) > FEW_CLASSES:
        pairs = [f"fewest {pairs[totals.argmin()]}", f"most {pairs[totals.argmax()]}"]
    return f"{len(totals)} classes ({', '.join(pairs)})"
