"""Decoding: any image file as uint8 pixels of one size and number of channels."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageColor, ImageOps

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # Pillow has others that no image set needs, and that start programs
UPRIGHT = {  # by the orientation that EXIF gives
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DamagedImageError(Exception):
    """An image that cannot be decoded; the message says why."""


class Form(NamedTuple):
    """What all images are made."""

    size: int  # height, and width where none is given; 0 for as stored
    channels: int  # 1, 3, or 4 with transparency; 0 for as stored, without it
    background: str  # colour behind transparent pixels, as CSS writes it
    width: int = 0  # 0 for that of a square
    crop: bool = True  # whether images are cut to the shape of the size, around their centre; else they are stretched to it


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Turns Pillow's warning of a decompression bomb into an error, and silences those of odd metadata, in all threads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode_image(source: Path | bytes, form: Form) -> np.ndarray:
    """Returns an image file's first frame as [H, W, C] uint8: turned upright, cut, resized antialiased, as the form has it.

    Raises:
      DamagedImageError: it is no image, truncated, damaged, or large enough to be a decompression bomb.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as opened:
            image = _flat(_upright(opened), form)
            mode = {0: image.mode, 1: "L", 3: "RGB", 4: "RGBA"}[form.channels]
            image, size = image.convert(mode), (form.width or form.size, form.size)
            if form.size and image.size != size:
                how = Image.Resampling.LANCZOS
                image = ImageOps.fit(image, size, how) if form.crop else image.resize(size, how)
            pixels = np.asarray(image, np.uint8)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DamagedImageError("too many pixels: a decompression bomb?") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything on damaged files, struct.error and KeyError among it
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DamagedImageError("no image" if "cannot identify" in reason else reason) from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _upright(image: Image.Image) -> Image.Image:
    """Returns the image turned as its EXIF block says, and as stored where the block cannot be read.

    Not Pillow's exif_transpose, which writes a new block and fails on values that cameras write and EXIF does not know.
    """
    image.load()
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # SyntaxError, struct.error and more; the pixels are good
        turn = None
    return image if turn is None else image.transpose(turn)


def _flat(image: Image.Image, form: Form) -> Image.Image:
    """Returns the image in mode L, RGB or, where the form has a channel for transparency, RGBA."""
    if image.mode in ("I", "F", "I;16", "I;16B", "I;16L"):  # 16 bits: Pillow's own conversion would clip them at 255
        return Image.fromarray((np.clip(np.asarray(image, np.float64), 0, 65535) / 257).round().astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if form.channels == 4:
            return layer
        behind = Image.new("RGBA", layer.size, ImageColor.getrgb(form.background))
        return Image.alpha_composite(behind, layer).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
