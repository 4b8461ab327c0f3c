"""Datasets by name. A loader takes config.data and returns a Dataset."""

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from wgan_jax.data import array, digits, folder, synthetic, table, tfds
from wgan_jax.data.cache import LEAST
from wgan_jax.data.dataset import KINDS, Dataset, Law, Split, Stored, in_one_line
from wgan_jax.data.scaling import PIXELS
from wgan_jax.data.walk import printable
from wgan_jax.errors import UserError

CHUNK = 1000  # examples compared at once


class Loader(NamedTuple):
    """A dataset. wgan_jax.registries reads all but `load` from the text of this file, so it is written as literals."""

    load: Callable[[ConfigDict], Dataset]
    images: bool = False  # whether it is stored images, which are augmented as config.data says
    arrays: bool = False  # whether it is stored examples of any shape, as they are; without any of these it is a law
    tables: bool = False  # whether it is stored rows of columns, of which conditions are drawn
    reads: tuple[str, ...] = ()  # the keys of config.data that `load` reads, but that of the cache's place


DATASETS: dict[str, Loader] = {
    "digits": Loader(digits.load, images=True),
    "tfds": Loader(
        tfds.load,
        images=True,
        reads=(
            "builder",
            "data_dir",
            "download",
            "image_size",
            "image_width",
            "crop",
            "channels",
            "background",
            "skip_damaged",
            "holdout",
        ),
    ),
    "folder": Loader(
        folder.load,
        images=True,
        reads=("path", "label", "image_size", "image_width", "crop", "channels", "background", "skip_damaged", "holdout"),
    ),
    "array": Loader(array.load, arrays=True, reads=("path", "x", "y", "scaling", "skip_damaged", "holdout", "labels")),
    "table": Loader(
        table.load, tables=True, reads=("path", "columns", "numbers", "target", "balance", "skip_damaged", "holdout")
    ),
    "gaussian": Loader(synthetic.gaussian, reads=("dim",)),
    "ring8": Loader(synthetic.ring8),
    "grid25": Loader(synthetic.grid25),
    "swiss_roll": Loader(synthetic.swiss_roll),
    "parallel_lines": Loader(synthetic.parallel_lines, reads=("theta",)),
}


def load_dataset(config: ConfigDict) -> Dataset:
    """Returns the dataset that config.data names; its training images are augmented as config.data says.

    Raises:
      UserError: of the loader, or it gives something else than its line in DATASETS says.
    """
    name = config.data.name
    dataset, here = DATASETS[name].load(config.data), f"config.data.name: the loader of {name} gives"
    if DATASETS[name].images:
        return stored(dataset, config, here)
    if isinstance(dataset, Stored) and DATASETS[name].arrays:
        _check_classes(config, max(1, len(dataset.class_names)))
        return dataset._replace(labelled=config.data.labels)
    if isinstance(dataset, Stored) and DATASETS[name].tables:
        _check_classes(config, 1)  # a row is of several
        return dataset if config.conditioning.name != "none" else _without_conditions(dataset)
    if not isinstance(dataset, Law):
        raise UserError(f"{here} no law; where it has images, write images=True in DATASETS")
    _check_classes(config, 1)
    return dataset


def stored(dataset: Dataset, config: ConfigDict, whose: str) -> Stored:
    """Returns a dataset of stored examples with int32 labels, its images augmented as it says itself or config.data does.

    whose: begins the message of what is wrong, such as "dataset: has".

    Raises:
      UserError: a split is not there, or not what a Split of this dataset is.
    """
    if not isinstance(dataset, Stored):
        raise UserError(f"{whose} no split train; give all three")
    train, validation, test = (_vetted(dataset, which, split, whose) for which, split in dataset.splits.items())
    _check_classes(config, max(1, len(dataset.class_names)))
    if dataset.scaling != PIXELS or len(dataset.shape) != 3:
        _check_unaugmented(dataset, config, whose)
    flip, dequantise = dataset.flip or config.data.flip, dataset.dequantise or config.data.dequantise
    labelled = dataset.labelled or config.data.labels
    augmented = dataset._replace(flip=flip, dequantise=dequantise, labelled=labelled)
    return augmented._replace(train=train, validation=validation, test=test)


def _without_conditions(dataset: Stored) -> Stored:
    """Returns a table whose rows have no labels, as networks that are told nothing of them take it."""
    train, validation, test = (split._replace(labels=np.zeros_like(split.labels)) for split in dataset.splits.values())
    return dataset._replace(train=train, validation=validation, test=test, class_names=(), conditions=None)


def _check_classes(config: ConfigDict, classes: int) -> None:
    if config.model.classes not in (0, classes):
        given = f"{config.model.classes}, and the data has {classes} class{'es' * (classes > 1)}"
        raise UserError(f"config.model.classes: {given}; set it to their number, or to 0")


def _check_unaugmented(dataset: Stored, config: ConfigDict, whose: str) -> None:
    """Raises UserError where what is of images alone is asked of other examples."""
    asked = {f"data.{name}": getattr(dataset, name) or config.data[name] for name in ("flip", "dequantise")}
    asked |= {"inputs.augment": config.inputs.augment, "eval.features": config.eval.features != "pixels"}
    for key, wanted in asked.items():
        if wanted:
            kind = f"{dataset.scaling.dtype} {KINDS[len(dataset.shape)]}"
            raise UserError(
                f"config.{key}: is of uint8 images, and {whose.partition(':')[0]} has {kind}; leave it as it is by default"
            )


def _vetted(dataset: Stored, which: str, split: Split | None, whose: str) -> Split:
    if split is None:
        raise UserError(f"{whose} no split {which}; give all three")
    images, labels = split
    shape, most = tuple(getattr(images, "shape", ())), max(1, len(dataset.class_names)) - 1
    pixels, given = dataset.scaling == PIXELS, f"{getattr(images, 'dtype', type(images).__name__)} {shape}"
    noun = "images" if pixels else "examples"
    if pixels and (getattr(images, "dtype", None) != np.uint8 or len(shape) != 4 or 0 in shape):
        wanted = "uint8 [N, H, W, C], 0 for black and 255 for white; of other numbers, say by which scaling they are"
        raise UserError(f"{whose} {which} images of {given}; wanted are {wanted}")
    if getattr(images, "dtype", None) != np.dtype(dataset.scaling.dtype) or not 1 < len(shape) <= len(KINDS) or 0 in shape:
        wanted = f"{dataset.scaling.dtype}, as its scaling says, [N, ...] of {' or '.join(KINDS[1:])}"
        raise UserError(f"{whose} {which} examples of {given}; wanted are {wanted}")
    if shape[1:] != dataset.shape:
        raise UserError(f"{whose} {which} {noun} of {shape[1:]}, and the dataset's shape is {dataset.shape}")
    if len(images) < LEAST:
        raise UserError(f"{whose} {len(images)} {which} {noun}; each split needs {LEAST}")
    if images.dtype.kind == "f" and not all(
        np.isfinite(part).all() for part in np.array_split(images, 1 + images.size // 2**24)
    ):
        raise UserError(f"{whose} {which} examples that hold NaN or infinity; leave them out")
    labels = np.asarray(labels)
    whole = labels.shape == shape[:1] and labels.dtype.kind in "iu"
    if not whole or not 0 <= labels.min() <= labels.max() <= most:
        given = f"from {labels.min()} to {labels.max()}" if whole else f"{labels.shape}"
        wanted = f"whole numbers [{len(images)}] from 0 to {most}, as class_names has {len(dataset.class_names)} names"
        raise UserError(f"{whose} {which} labels of {labels.dtype} {given}; wanted are {wanted}")
    return Split(images, labels.astype(np.int32))


def warn_of_data(config: ConfigDict, dataset: Dataset) -> None:
    """Warns of training examples that are all one, or fewer than a batch: allowed, and seldom meant."""
    if isinstance(dataset, Law):
        return
    images, warn = dataset.train.images, logging.getLogger(__name__).warning
    if len(images) < config.batch_size:
        warn("config.batch_size: %s of %s training examples: a batch has some of them twice", config.batch_size, len(images))
    parts = (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))
    if all(np.array_equal(part, np.broadcast_to(images[0], part.shape)) for part in parts):  # ends where the first one differs
        warn("config.data: the %s training examples are all equal", len(images))


def introduce(config: ConfigDict, dataset: Dataset) -> str:
    """Returns the line that says what was read, with the place or the builder where the dataset has one."""
    name = config.data.name
    named = [config.data[key] for key in ("path", "builder") if key in DATASETS[name].reads]
    return in_one_line(printable(named[0] if named else name), dataset)
