"""How stored examples become network units and back: numbers alone, which a run and an exported generator keep as JSON."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from wgan_jax.errors import UserError

FLOAT32_TINY, FLOAT32_MAX = (float(getattr(np.finfo(np.float32), name)) for name in ("tiny", "max"))


class Scaling(NamedTuple):
    """Network units of examples x [..., C] are x / factor - shift, per entry of the last axis: per feature or per channel."""

    dtype: str  # of the examples, as NumPy writes it: "uint8", "float32"
    factor: tuple[float, ...] = (1.0,)  # [C], or [1] for all alike
    shift: tuple[float, ...] = (0.0,)
    bounded: bool = False  # whether network units are of [-1, 1]

    @classmethod
    def of_json(cls, told: dict[str, Any]) -> Self:
        """Returns the scaling that `_asdict` gave, read back."""
        return cls(told["dtype"], tuple(told["factor"]), tuple(told["shift"]), told["bounded"])

    @property
    def layout(self) -> None:
        """None: the entries of an example are all alike."""
        return None

    def for_device(self, examples: np.ndarray, seed: int) -> np.ndarray:
        """Returns examples as a device takes them: in network units where it would round them."""
        del seed
        return self.decode(examples) if self.wide else examples

    @property
    def wide(self) -> bool:
        """Whether a device would round the examples themselves: the host makes network units of them, in float64."""
        dtype = np.dtype(self.dtype)
        return dtype.itemsize > 4 or (dtype.kind in "iu" and dtype.itemsize == 4)

    def decode[A: (np.ndarray, jax.Array)](self, examples: A, /, dtype: jax.typing.DTypeLike = np.float32) -> A:
        """Returns examples in network units; NumPy stays NumPy, and JAX's arrays may be traced."""
        inside = np.float64 if self.wide and isinstance(examples, np.ndarray) else dtype
        factor, shift = (_spread(numbers, examples.ndim, inside) for numbers in (self.factor, self.shift))
        return (examples.astype(inside) / factor - shift).astype(dtype)

    def restore[A: (np.ndarray, jax.Array)](self, x: A) -> A:
        """Returns network units in the examples' units, floating as they are.

        Bounded ones are clipped to [-1, 1], and what was whole numbers is held within their dtype.
        """
        factor, shift = (_spread(numbers, x.ndim, x.dtype) for numbers in (self.factor, self.shift))
        values = ((x.clip(-1, 1) if self.bounded else x) + shift) * factor
        if np.dtype(self.dtype).kind == "f":
            return values
        limits = np.iinfo(self.dtype)
        return values.clip(float(limits.min), float(limits.max - (limits.max >> 53)))  # the largest that a float64 holds

    def encode(self, x: jax.Array | np.ndarray) -> np.ndarray:
        """Returns network units as examples, the inverse of `decode`: restored, and whole numbers rounded to the nearest."""
        restored = self.restore(np.asarray(x, np.float64 if self.wide else None))
        return (restored if np.dtype(self.dtype).kind == "f" else np.round(restored)).astype(self.dtype)

    def is_broken(self, examples: np.ndarray) -> bool:
        """Says whether examples are of network units that are not finite."""
        return not bool(np.isfinite(examples).all())


PIXELS = Scaling("uint8", (127.5,), (1.0,), bounded=True)  # 0..255 to [-1, 1]
PLAIN = Scaling("float32")  # of a law


def _spread(numbers: tuple[float, ...], ndim: int, dtype: jax.typing.DTypeLike) -> Any:
    """Returns the numbers for arrays of so many axes; a single one as Python's own, of any dtype."""
    return numbers[0] if len(numbers) == 1 else np.asarray(numbers, dtype).reshape((1,) * (ndim - 1) + (-1,))


def fit(name: str, dtype: np.dtype, parts: Iterator[np.ndarray]) -> Scaling:
    """Returns the scaling of a name for examples [n, ..., C] that come in parts, the training split.

    auto: uint8 as pixels, else standard; none: as they are; standard: mean 0 and standard deviation 1 per entry of the last
    axis; minmax: [-1, 1] per entry. An entry that never changes becomes 0.

    Raises:
      UserError: values too large for float32.
    """
    if name == "auto" and dtype == np.uint8:
        return PIXELS
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    low, high = np.full(1, np.inf), np.full(1, -np.inf)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for part in parts:
            x = part.reshape(-1, part.shape[-1]).astype(np.float64)
            low, high = np.minimum(low, x.min(0)), np.maximum(high, x.max(0))
            own, total = x.mean(0), count + len(x)
            squares = squares + np.square(x - own).sum(0) + np.square(own - mean) * (count * len(x) / total)  # Chan 1979
            mean, count = mean + (own - mean) * (len(x) / total), total
        centre, spread = mean, np.sqrt(squares / count)
        if name == "minmax":
            centre, spread = low / 2 + high / 2, high / 2 - low / 2
        if name == "none":
            centre, spread = np.zeros(1), np.ones(1)
        else:
            centre, spread = np.where(low == high, [low, np.ones_like(low)], [centre, spread])
        reach = np.abs([(end - centre) / spread for end in (low, high)]).max()
    if not (np.isfinite([centre, spread]).all() and spread.min() > 0 and (reach == 0 or FLOAT32_TINY <= reach <= FLOAT32_MAX)):
        raise UserError(
            f"config.data.scaling: {name} of values from {np.min(low):.3g} to {np.max(high):.3g} leaves float32; give the "
            "examples in other units"
        )
    return Scaling(dtype.name, tuple(spread.tolist()), tuple((centre / spread).tolist()), bounded=name == "minmax")
