"""Weights of a network from a file, read without running anything that the file brings: NumPy's .npz and PyTorch's .pth.

A .pth is a pickle, a program that may call whatever it names. Here it names an ordered dict, PyTorch's typed storages and two
functions that rebuild tensors, and what these build are descriptions; the numbers are read afterwards, within their bounds.
Python's own unpickler would do no more if told so, but a few bytes can stall or crash it (keys nested a million deep, to hash):
the operations that PyTorch writes are carried out here, each in a time and memory that its length in the file bounds.
"""

import io
import math
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wgan_jax.errors import UserError

STREAM_MAGIC, STREAM_VERSION = 0x1950A86A20F9469CFC6C, 1001  # of PyTorch's format before 1.6 (torch/serialization.py)
LONGEST = 1 << 22  # bytes of pickles; Inception's are 0.1 MB
LARGEST = 1 << 30  # bytes that an .npz may hold; Inception's weights are 0.1 GB
DIMENSIONS = 64  # of an array, at most: NumPy's own limit
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


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, _metadata: Any = None
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _empty_dict() -> dict[str, Any]:
    return {}


# Functions of few arguments, all of them fixed: a long list, given again and again, would take a time of its own each time.
GLOBALS: dict[str, Any] = {
    **DTYPES,
    "collections.OrderedDict": _empty_dict,  # filled afterwards
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": lambda tensor, _grad, _hooks: tensor,
}


def _extend(target: Any, *items: Any) -> list[Any]:
    if not isinstance(target, list):
        raise TypeError("it appends to what is no list")
    target.extend(items)
    return target


def _set(target: Any, *items: Any) -> dict[str, Any]:
    if not isinstance(target, dict) or not all(isinstance(key, str) for key in items[::2]):
        raise TypeError("it does not hold names of tensors")
    target.update(zip(items[::2], items[1::2], strict=True))
    return target


LITERALS = ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1")
OPERATIONS: dict[str, Callable[..., Any]] = {  # what they make of the operands that they take from the stack
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    **dict.fromkeys(("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE"), lambda *items: items),
    **dict.fromkeys(("APPEND", "APPENDS"), _extend),
    **dict.fromkeys(("SETITEM", "SETITEMS"), _set),
    "REDUCE": lambda function, arguments: function(*arguments),
    "BUILD": lambda target, _: target,  # without its attributes: a state dict's _metadata
    "STOP": lambda result: result,
}


def _unpickle(file: io.BytesIO, storages: dict[str, _Storage]) -> Any:
    """Returns what the pickle at the file's position describes, adds its storages to `storages`, leaves the file behind it."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(file):
        if file.tell() > LONGEST:
            raise ValueError(f"pickles of more than {LONGEST} bytes")
        taken = _take(opcode, stack, marks)
        match opcode.name:
            case "PROTO":
                pass
            case "MARK":
                marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_global(str(argument)))
            case "BINPERSID":
                stack.append(_storage(taken[0], storages))
            case name if name in LITERALS:
                stack.append(argument)
            case name if name in OPERATIONS:
                stack.append(OPERATIONS[name](*taken))
            case name:
                raise ValueError(f"PyTorch does not write {name}")
    return stack[-1]


def _take(opcode: pickletools.OpcodeInfo, stack: list[Any], marks: list[int]) -> list[Any]:
    """Takes an operation's operands from the stack: as many as it has; or those below the last mark and everything above it."""
    operands = opcode.stack_before
    marked = pickletools.markobject in operands
    start = marks.pop() - operands.index(pickletools.markobject) if marked else len(stack) - len(operands)
    if start < 0:
        raise ValueError("an operation lacks operands")
    taken = stack[start:]
    del stack[start:]
    return taken


def _global(names: str) -> Any:
    wanted = names.replace(" ", ".")
    if wanted not in GLOBALS:
        raise ValueError(f"refused to load {wanted!r:.100}")
    return GLOBALS[wanted]


def _storage(description: Any, storages: dict[str, _Storage]) -> _Storage:
    match description:
        case ("storage", str(dtype), str(key), str(), int(size), *view) if dtype in DTYPES.values() and view in ([], [None]):
            return storages.setdefault(key, _Storage(key, dtype, size))
    raise ValueError("a storage is not described as PyTorch does")


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Returns {name: array} of a state dict that PyTorch saved, in either of its formats, or of an .npz with the same names.

    Arrays of a .pth are read-only views. Nothing in the file is executed.

    Raises:
      UserError: damaged, not of these formats, or naming anything but tensors in an ordered dict.
    """
    try:
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_stream(io.BytesIO(path.read_bytes()))
    except Exception as error:  # a damaged file may fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{path}: no readable .npz or PyTorch state dict ({reason:.200})") from error


def _read_zip(path: Path) -> dict[str, np.ndarray]:
    """An .npz, or the format since PyTorch 1.6: a zip with the pickle and a file per storage, nothing of it compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        size = sum(entry.file_size for entry in entries)
        if pickles := [name for name in archive.namelist() if name.endswith("/data.pkl")]:
            if size > path.stat().st_size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("compressed, which PyTorch's own are not")
            return _read_archive(archive, pickles[0].removesuffix("data.pkl"))
    if size > LARGEST:
        raise ValueError(f"{size} bytes when unpacked, of at most {LARGEST}")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: np.asarray(arrays[name]) for name in arrays.files}


def _read_archive(archive: zipfile.ZipFile, folder: str) -> dict[str, np.ndarray]:
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise ValueError("saved on a big-endian machine")
    storages: dict[str, _Storage] = {}
    state = _unpickle(io.BytesIO(archive.read(f"{folder}data.pkl")), storages)
    return _arrays(state, storages, {key: archive.read(f"{folder}data/{key}") for key in storages})


def _read_stream(file: io.BytesIO) -> dict[str, np.ndarray]:
    """The format before: pickles of magic number, version, system, the state dict and storage keys; then the storages."""
    magic, version, _ = (_unpickle(file, {}) for _ in range(3))
    if (magic, version) != (STREAM_MAGIC, STREAM_VERSION):
        raise ValueError("not PyTorch's magic number")
    storages: dict[str, _Storage] = {}
    state = _unpickle(file, storages)
    contents: dict[str, bytes] = {}
    for key in _unpickle(file, {}):
        if not isinstance(key, str):  # to look up anything else is to hash it
            raise TypeError("a storage's key is no string")
        storage = storages[key]
        if int.from_bytes(file.read(8), "little", signed=True) != storage.size:
            raise ValueError("a storage is not of its declared size")
        contents[key] = file.read(storage.size * np.dtype(storage.dtype).itemsize)
    return _arrays(state, storages, contents)


def _arrays(state: Any, storages: dict[str, _Storage], contents: dict[str, bytes]) -> dict[str, np.ndarray]:
    numbers = {key: np.frombuffer(contents[key], storage.dtype) for key, storage in storages.items()}
    if any(len(numbers[key]) != storage.size for key, storage in storages.items()):
        raise ValueError("a storage is not of its declared size")
    if not isinstance(state, dict):
        raise TypeError("it does not hold names of tensors")
    return {name: _view(tensor, numbers) for name, tensor in state.items()}


def _view(tensor: Any, numbers: dict[str, np.ndarray]) -> np.ndarray:
    match tensor:
        case _Tensor(_Storage(key), int(offset), tuple(shape), tuple(strides)) if len(shape) == len(strides) <= DIMENSIONS:
            if not all(type(number) is int and number >= 0 for number in (offset, *shape, *strides)):
                raise ValueError("a tensor has a size that is no size")
            last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
            if math.prod(shape) and last >= len(numbers[key]):
                raise ValueError("a tensor lies outside its storage")
            data = numbers[key][offset:]
            steps = [stride * data.itemsize for stride in strides]
            return np.lib.stride_tricks.as_strided(data, shape, steps, writeable=False)
    raise TypeError("it holds something that is no tensor")
