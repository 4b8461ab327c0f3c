"""Examples of any origin as one array: an .npy or .npz file, or a folder of images."""

import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from wgan_jax.data.images import SUFFIXES, DamagedImageError, Form, bombs_refused, decode_image
from wgan_jax.errors import UserError

SAMPLES = "samples"  # the key under which experiments.sample writes


def load_examples(path: Path, image_size: int = 0) -> np.ndarray:
    """Returns the examples of a file or folder: uint8 images [n, H, W, C], or points [n, D] in float64.

    An .npz gives its array `samples`, or the only one that it has. uint8 arrays [n, H, W] are grey images; numbers [n] are
    points in one dimension. Images of a folder and its subfolders, in the order of their paths, are cut to a square and
    resized to image_size; at 0 they are kept as stored.

    Raises:
      UserError: nothing there that can be read, pickled objects, images of several shapes, values that are not finite.
    """
    if path.is_dir():
        return _read_folder(path, image_size)
    if not path.is_file():
        raise UserError(f"{path}: no such file or folder")
    if path.suffix not in (".npy", ".npz"):
        raise UserError(f"{path}: neither an .npy or .npz file nor a folder of images")
    return _examples(path, _read_array(path))


def _read_array(path: Path) -> np.ndarray:
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            if SAMPLES not in loaded and len(loaded.files) != 1:
                names = ", ".join(loaded.files) or "none"
                raise UserError(f"{path}: which array? It has {names}; name one of them {SAMPLES}")
            return loaded[SAMPLES if SAMPLES in loaded else loaded.files[0]]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise UserError(
                f"{path}: holds pickled objects, which could run code and are not read; save plain numbers"
            ) from error
        raise UserError(f"{path}: damaged: {' '.join(str(error).split())}") from error


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


def _read_folder(root: Path, image_size: int) -> np.ndarray:
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise UserError(f"{root}: no images in this folder ({', '.join(SUFFIXES)})")

    def decode(path: Path) -> np.ndarray:
        try:
            return decode_image(path, Form(image_size, 0, "white"))
        except DamagedImageError as error:
            raise UserError(f"{path}: {error}; mend or remove it") from error

    with bombs_refused(), ThreadPoolExecutor(os.cpu_count()) as pool:
        images = list(pool.map(decode, files))
    for path, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            size = "set --image-size" if image.shape[:2] != images[0].shape[:2] else "make all of them grey or all RGB"
            raise UserError(f"{path}: is {image.shape} and {files[0]} is {images[0].shape}; {size}")
    return np.stack(images)
