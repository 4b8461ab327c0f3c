"""Examples of any origin as one array: an .npy or .npz file, or a folder of images."""

import os
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib.npyio import NpzFile

from wgan_jax.data.images import SUFFIXES, DamagedImageError, Form, bombs_refused, decode_image
from wgan_jax.data.walk import in_words, walk
from wgan_jax.errors import UserError

UNPACKED, TIMES = 2**28, 100  # bytes, and their ratio to those in the file, above which a part of a zip is not unpacked
SAMPLES = "samples"  # the key under which experiments.sample writes
MAGIC = (np.lib.format.MAGIC_PREFIX, b"PK\x03\x04", b"PK\x05\x06")  # of .npy; of .npz: a zip, an empty one


def load_examples(path: Path, image_size: int = 0, channels: int = 0) -> np.ndarray:
    """Returns the examples of a file or folder: uint8 images [n, H, W, C], or points [n, D] in float64.

    An .npz gives its array `samples`, or the only one that it has. uint8 arrays [n, H, W] are grey images; numbers [n] are
    points in one dimension. Images that `walk` finds in a folder, in the order of their paths, are cut to a square, resized
    to image_size and made grey (1) or RGB (3) by channels; at 0 they are kept as stored.

    Raises:
      UserError: nothing there that can be read or that memory holds, pickled objects, images of several shapes, values that
        are not finite.
    """
    try:
        if path.is_dir():
            return _read_folder(path, Form(image_size, channels, "white"))
        if path.is_file() and path.suffix in (".npy", ".npz"):
            return _examples(path, _read_array(path))
    except MemoryError as error:
        raise UserError(f"{path}: too large for the memory, or damaged: {' '.join(str(error).split())}") from error
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    raise UserError(f"{path}: neither an .npy or .npz file nor a folder of images")


def _read_array(path: Path) -> np.ndarray:
    with open_arrays(path) as loaded:
        if isinstance(loaded, np.ndarray):
            return loaded
        if SAMPLES not in loaded and len(loaded.files) != 1:
            names = ", ".join(loaded.files) or "none"
            raise UserError(f"{path}: which array? It has {names:.200}; name one of them {SAMPLES}")
        return np.asarray(loaded[SAMPLES if SAMPLES in loaded else loaded.files[0]])  # bytes, where it is no array


@contextmanager
def open_arrays(path: Path, *, mapped: bool = False) -> Iterator[np.ndarray | NpzFile]:
    """Gives the array of an .npy file, in memory or mapped, or the arrays of an .npz; pickled objects are never read.

    Raises:
      UserError: what is wrong with the file, also where that is found while its arrays are read.
    """
    try:
        with open(path, "rb") as file:
            _check_magic(path, file.read(6))
            _check_packed(path, file)
            file.seek(0)
            yield np.load(path if mapped else file, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # zlib.error, NotImplementedError and more: a damaged file may fail in any way
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise UserError(
                f"{path}: holds pickled objects, which could run code and are not read; save plain numbers"
            ) from error
        raise UserError(f"{path}: damaged or unreadable: {' '.join(str(error).split()):.200}") from error


def _check_magic(path: Path, start: bytes) -> None:
    if not start.startswith(MAGIC):
        raise UserError(f"{path}: no .npy or .npz file, whatever its name")


def _check_packed(path: Path, file: BinaryIO) -> None:
    """Raises UserError of a zip with a part that unpacks to far more than numbers do: what it holds is read from its index."""
    file.seek(0)
    if file.read(2) != b"PK":
        return
    with zipfile.ZipFile(file) as archive:
        for part in archive.infolist():
            if part.file_size > max(UNPACKED, TIMES * part.compress_size):
                raise UserError(
                    f"{path}: {part.filename:.200} unpacks to {part.file_size:,} bytes, more than {TIMES} times its size: a "
                    "decompression bomb? np.savez writes numbers as they are"
                )


def _examples(path: Path, array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8 and array.ndim in (3, 4):
        images = array if array.ndim == 4 else array[..., None]
        if images.shape[3] not in (1, 3) or 0 in images.shape:
            raise UserError(f"{path}: {array.shape} uint8 are no images; wanted are [n, H, W, C] with 1 or 3 channels")
        return images
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2) or 0 in array.shape:
        wanted = "uint8 images [n, H, W, C] or numbers [n, D], a row per point"
        raise UserError(f"{path}: {array.dtype} of shape {array.shape}; wanted are {wanted}")
    points = array.astype(np.float64).reshape(len(array), -1)
    if bad := int((~np.isfinite(points)).any(axis=1).sum()):
        raise UserError(f"{path}: {bad} of {len(points)} points hold NaN or infinity; leave them out")
    return points


def _read_folder(root: Path, form: Form) -> np.ndarray:
    files, _, left_out = walk(root)
    if not files:
        raise UserError(f"{root}: no images in this folder ({', '.join(SUFFIXES)}){in_words(left_out)}")

    def decode(path: Path) -> np.ndarray:
        try:
            return decode_image(path, form)
        except DamagedImageError as error:
            raise UserError(f"{path}: {error}; mend or remove it") from error

    with bombs_refused(), ThreadPoolExecutor(os.cpu_count()) as pool:
        shape = decode(files[0]).shape
        images = np.empty((len(files), *shape), np.uint8)

        def fill(path: Path, into: np.ndarray) -> None:
            image = decode(path)
            if image.shape != shape:
                size = "set --image-size" if image.shape[:2] != shape[:2] else "make all of them grey or all RGB (--channels)"
                raise UserError(f"{path}: is {image.shape} and {files[0]} is {shape}; {size}")
            into[:] = image

        for _ in pool.map(fill, files, images):
            pass
    return images
