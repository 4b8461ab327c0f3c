"""Any dataset of TensorFlow Datasets that has an image feature, read without TensorFlow."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from wgan_jax.data.cache import SPLITS, Content, Record, Records, Source, hold_out, stamp
from wgan_jax.data.cache import load as load_source
from wgan_jax.data.dataset import Stored
from wgan_jax.errors import UserError
from wgan_jax.places import builders_folder, prepared_builder
from wgan_jax.records import read_json


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Records of a split of TFDS."""

    split: str
    source: Any  # tfds' data source, of a record as a dict
    indices: np.ndarray
    image: str  # the names of their features
    label: str | None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: slice) -> list[Record]:
        indices = self.indices[rows].tolist()
        pairs = zip(indices, self.source.__getitems__(indices), strict=True)
        return [
            Record(f"{self.split}[{index}]", bytes(record[self.image]), int(record[self.label]) if self.label else 0)
            for index, record in pairs
        ]


def load(config: ConfigDict) -> Stored:
    """Returns the dataset that config.builder names, from config.data_dir.

    Validation is a fixed share (config.holdout) of its training split, and test its own split of that name, or as large a
    share again. Prepared data is looked for on disk first; only config.download lets it be fetched.

    Raises:
      UserError: it is not there, holds no image, or cannot be read.
    """
    folder = prepared_builder(config) or _download(config)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    identity = {"tfds": config.builder, "version": folder.name, "files": stamp(files)}
    return load_source(Source(identity, lambda: _records(folder, config), _other_splits(folder)), config)


def _other_splits(folder: Path) -> dict[str, int]:
    """Returns the sizes of the splits that are not read; TFDS itself would take seconds to say it."""
    try:
        splits = read_json(folder / "dataset_info.json")["splits"]
        sizes = {split["name"]: sum(map(int, split["shardLengths"])) for split in splits}
    except (OSError, ValueError, KeyError, TypeError):  # a damaged one: decoding says so
        return {}
    return {f"of split {name}": size for name, size in sizes.items() if name not in ("train", "test")}


def _download(config: ConfigDict) -> Path:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(config.builder, data_dir=builders_folder(config), file_format="array_record")
        builder.download_and_prepare()
    except Exception as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "tensorflow" in f"{error} {error.__cause__}":
            why = "its preparation needs TensorFlow, this once: pip install tensorflow"
        raise UserError(f"config.data.builder: {config.builder} could not be downloaded: {why}") from error
    return Path(builder.data_path)


def _records(folder: Path, config: ConfigDict) -> Content:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
    except (OSError, ValueError, RuntimeError) as error:  # of a damaged dataset_info.json or features.json
        raise UserError(f"config.data.builder: {folder}: {' '.join(str(error).split())}") from error
    features = builder.info.features
    images = [name for name, feature in features.items() if isinstance(feature, tfds.features.Image)]
    classes = [name for name, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    if not images or "train" not in builder.info.splits:
        raise UserError(f"config.data.builder: {config.builder} has no split train with an image feature")
    image, label = images[0], classes[0] if classes else None

    def source_of(split: str) -> Any:
        try:
            return builder.as_data_source(split, decoders={image: tfds.decode.SkipDecoding()})
        except NotImplementedError as error:
            why = "is stored in a format without random access; prepare it again with file_format='array_record'"
            raise UserError(f"config.data.builder: {folder} {why}") from error
        except (OSError, RuntimeError) as error:  # array_record's are RuntimeErrors
            raise UserError(f"config.data.builder: {folder}: {' '.join(str(error).split())}") from error

    train, test = source_of("train"), source_of("test") if "test" in builder.info.splits else None
    parts = hold_out(len(train), config.holdout, 1 if test else 2)
    records: list[Records] = [_Rows("train", train, part, image, label) for part in parts]
    if test:
        records.append(_Rows("test", test, np.arange(len(test)), image, label))
    return Content(dict(zip(SPLITS, records, strict=True)), list(features[label].names) if label else [])
