"""Weights of a network from a file, read without running anything that the file brings: NumPy's .npz and PyTorch's .pth.

A .pth is a pickle, a program that may call whatever it names. Here it names an ordered dict, PyTorch's typed storages and two
functions that rebuild tensors, and what these build are descriptions; the numbers are read afterwards, within their bounds.
"""

import collections
import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wgan_jax.errors import UserError

STREAM_MAGIC, STREAM_VERSION = 0x1950A86A20F9469CFC6C, 1001  # of PyTorch's format before 1.6 (torch/serialization.py)
DTYPES = {  # PyTorch's storages are little-endian, their names immutable strings: nothing that a pickle could alter
    "torch.BoolStorage": "|b1",
    "torch.ByteStorage": "|u1",
    "torch.CharStorage": "|i1",
    "torch.ShortStorage": "<i2",
    "torch.IntStorage": "<i4",
    "torch.LongStorage": "<i8",
    "torch.HalfStorage": "<f2",
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
}


class _Storage(NamedTuple):
    key: str
    dtype: str
    size: int  # numbers


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int  # this and the strides in elements
    shape: tuple[int, ...]
    strides: tuple[int, ...]


GLOBALS: dict[str, Any] = {
    **DTYPES,
    "collections.OrderedDict": collections.OrderedDict,
    "torch._utils._rebuild_tensor_v2": lambda storage, offset, shape, strides, *rest: _Tensor(storage, offset, shape, strides),
    "torch._utils._rebuild_parameter": lambda tensor, *rest: tensor,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted not in GLOBALS:
            raise pickle.UnpicklingError(f"refused to load {wanted!r:.100}")
        return GLOBALS[wanted]

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", str(dtype), str(key), str(), int(size), *views) if dtype in DTYPES.values() and not any(views):
                return self.storages.setdefault(key, _Storage(key, dtype, size))
        raise pickle.UnpicklingError("a storage is not described as PyTorch does")


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Returns {name: array} of a state dict that PyTorch saved, in either of its formats, or of an .npz with the same names.

    Arrays of a .pth are read-only views. Nothing in the file is executed.

    Raises:
      UserError: damaged, not of these formats, or naming anything but tensors in an ordered dict.
    """
    try:
        if not zipfile.is_zipfile(path):
            return _read_stream(io.BytesIO(path.read_bytes()))
        with zipfile.ZipFile(path) as archive:
            if pickles := [name for name in archive.namelist() if name.endswith("/data.pkl")]:
                return _read_archive(archive, pickles[0].removesuffix("data.pkl"))
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except Exception as error:  # a damaged pickle may fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path}: no readable .npz or PyTorch state dict ({reason})") from error


def _read_archive(archive: zipfile.ZipFile, folder: str) -> dict[str, np.ndarray]:
    """The format since PyTorch 1.6: a zip with the pickle and a file per storage."""
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("saved on a big-endian machine")
    unpickler = _Unpickler(io.BytesIO(archive.read(f"{folder}data.pkl")))
    state = unpickler.load()
    return _arrays(state, unpickler.storages, {key: archive.read(f"{folder}data/{key}") for key in unpickler.storages})


def _read_stream(file: io.BytesIO) -> dict[str, np.ndarray]:
    """The format before: pickles of magic number, version, system, the state dict and storage keys; then the storages."""
    magic, version, _ = (_Unpickler(file).load() for _ in range(3))
    if (magic, version) != (STREAM_MAGIC, STREAM_VERSION):
        raise ValueError("not PyTorch's magic number")
    unpickler = _Unpickler(file)
    state = unpickler.load()
    contents: dict[str, bytes] = {}
    for key in _Unpickler(file).load():
        storage = unpickler.storages[key]
        if int.from_bytes(file.read(8), "little", signed=True) != storage.size:
            raise ValueError("a storage is not of its declared size")
        contents[key] = file.read(storage.size * np.dtype(storage.dtype).itemsize)
    return _arrays(state, unpickler.storages, contents)


def _arrays(state: Any, storages: dict[str, _Storage], contents: dict[str, bytes]) -> dict[str, np.ndarray]:
    numbers = {key: np.frombuffer(contents[key], storage.dtype) for key, storage in storages.items()}
    if any(len(numbers[key]) != storage.size for key, storage in storages.items()):
        raise ValueError("a storage is not of its declared size")
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise TypeError("it does not hold names of tensors")
    return {name: _view(tensor, numbers) for name, tensor in state.items()}


def _view(tensor: Any, numbers: dict[str, np.ndarray]) -> np.ndarray:
    match tensor:
        case _Tensor(_Storage(key), int(offset), tuple(shape), tuple(strides)) if len(shape) == len(strides):
            if not all(type(number) is int and number >= 0 for number in (offset, *shape, *strides)):
                raise ValueError("a tensor has a size that is no size")
            last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
            if math.prod(shape) and last >= len(numbers[key]):
                raise ValueError("a tensor lies outside its storage")
            data = numbers[key][offset:]
            steps = [stride * data.itemsize for stride in strides]
            return np.lib.stride_tricks.as_strided(data, shape, steps, writeable=False)
    raise TypeError("it holds something that is no tensor")
