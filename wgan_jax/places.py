"""Where config.data says that stored data is. Imports no jax: what is not there is answered before anything is started."""

from pathlib import Path

from ml_collections import ConfigDict

from wgan_jax.errors import UserError
from wgan_jax.paths import absolute

TABLES = (".csv", ".tsv", ".txt", ".parquet")


def image_folder(data: ConfigDict) -> Path:
    """Returns the folder of images that data.path names.

    Raises:
      UserError: there is none.
    """
    folder = Path(data.path)
    if not data.path or not folder.is_dir():
        raise UserError(f"config.data.path: {data.path or 'empty'}: no such folder; set --config.data.path=DIR")
    return folder


def builders_folder(data: ConfigDict) -> Path:
    """Returns the folder of prepared datasets of TensorFlow Datasets.

    Raises:
      UserError: it is the one in a home directory, and none is known here.
    """
    return Path(data.data_dir or absolute("~/tensorflow_datasets"))


def prepared_builder(data: ConfigDict) -> Path | None:
    """Returns the newest prepared version of data.builder; None where there is none and data.download lets it be fetched.

    Raises:
      UserError: there is none, and it may not be downloaded.
    """
    root, (name, _, version) = builders_folder(data), data.builder.partition(":")
    found = [path.parent for path in (root / name).glob(f"{version or '*'}/dataset_info.json")]
    if not found and not data.download:
        raise UserError(
            f"config.data.builder: {data.builder} is not prepared in {root}; put it there, name another place with "
            "--config.data.data_dir=DIR, or allow the download with --config.data.download=True"
        )
    return max(found, key=lambda path: [int(part) if part.isdigit() else -1 for part in path.name.split(".")], default=None)


def array_file(data: ConfigDict) -> Path:
    """Returns the .npy or .npz file, or the folder of .npy files, that data.path names.

    Raises:
      UserError: there is none.
    """
    path = Path(data.path)
    if not data.path or not path.exists():
        raise UserError(f"config.data.path: {data.path or 'empty'}: no such file or folder; set --config.data.path=FILE")
    if path.is_file() and path.suffix not in (".npy", ".npz"):
        raise UserError(f"config.data.path: {path}: neither an .npy nor an .npz file, nor a folder of .npy files")
    return path


def table_file(data: ConfigDict) -> Path:
    """Returns the table that data.path names.

    Raises:
      UserError: there is none.
    """
    path = Path(data.path)
    if not data.path or not path.is_file():
        raise UserError(f"config.data.path: {data.path or 'empty'}: no such file; set --config.data.path=FILE.csv")
    if path.suffix not in TABLES:
        raise UserError(f"config.data.path: {path}: none of {', '.join(TABLES)}; save the table as one of them")
    return path


FINDERS = {"array": array_file, "folder": image_folder, "table": table_file, "tfds": prepared_builder}  # what lies somewhere


def check_data(config: ConfigDict) -> None:
    """Checks that the data is where a config says.

    Raises:
      UserError: as the FINDERS of its dataset.
    """
    if find := FINDERS.get(config.data.name):
        find(config.data)
