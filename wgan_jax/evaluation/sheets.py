"""Sheets of images, pixel by pixel: grids, by themselves or with words around them, animations, single files."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from wgan_jax.data.dataset import to_pixels
from wgan_jax.paths import replacing

CELL, LONGEST = 64, 256  # pixels that the shorter side of a small image is enlarged to at least, and the longer one at most
GAP = 2  # pixels between the images of a grid
NARROWEST = 400  # pixels of a sheet with a caption
CLASSES = 50  # rows of a sheet by class
FONT = Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")  # the letters of the other figures

SLICES = 5  # shown of a volume

type Text = tuple[float, float, str, str]  # x, y, anchor as Pillow has it, words


def image_grid(images: np.ndarray, columns: int = 0) -> Image.Image:
    """Returns images [n, H, W, C] in [-1, 1] as one: a grid about as high as wide; small images are enlarged, cell by cell."""
    n, height, width, channels = images.shape
    columns = min(n, columns or math.ceil(math.sqrt(n * height / width)))
    rows = math.ceil(n / columns)
    scale = max(1, min(math.ceil(CELL / min(height, width)), LONGEST // max(height, width)))
    pixels = to_pixels(images).repeat(scale, axis=1).repeat(scale, axis=2)
    high, wide = height * scale + GAP, width * scale + GAP
    sheet = np.full((rows * high + GAP, columns * wide + GAP, channels), 64, np.uint8)
    for index, image in enumerate(pixels):
        top, left = GAP + index // columns * high, GAP + index % columns * wide
        sheet[top : top + height * scale, left : left + width * scale] = image
    return _picture(sheet)


def window(x: np.ndarray) -> tuple[float, float]:
    """Returns the values between which black and white lie where examples are not of [-1, 1]: all but 1 % of them."""
    low, high = np.quantile(x, [0.005, 0.995])
    return (float(low), float(high)) if low < high else (float(low) - 1, float(high) + 1)


def as_images(x: np.ndarray, black_white: tuple[float, float]) -> np.ndarray:
    """Returns examples in network units as images in [-1, 1] that the sheets here take.

    Images [n, H, W, C] of other than 1 or 3 channels become their channels side by side, [n, H, C W, 1]; volumes
    [n, D, H, W, C] up to SLICES of their D slices side by side and their channels below each other, [n, C H, S W, 1].
    """
    low, high = black_white
    x = np.clip(2 * (x - low) / (high - low) - 1, -1, 1)
    if x.ndim == 4 and x.shape[3] in (1, 3):
        return x
    if x.ndim == 4:
        x = x.transpose(0, 3, 1, 2)[..., None]
    else:
        x = x[:, np.linspace(0, x.shape[1] - 1, min(x.shape[1], SLICES)).round().astype(int)]
    n, across, height, width, down = x.shape
    return x.transpose(0, 4, 2, 1, 3).reshape(n, down * height, across * width, 1)


def table_of_images(images: np.ndarray, columns: int, header: Sequence[str], rows: Sequence[str], caption: str) -> Image.Image:
    """Returns a grid of images with a word above each column, one to the right of each row, and a caption below.

    header: of each column, and one more of what stands to the right.
    """
    grid = image_grid(images, columns)
    size, line = _letters(grid.height / len(rows)), GAP * 4
    across, down = (grid.width - GAP) / columns, (grid.height - GAP) / len(rows)
    texts: list[Text] = [(GAP / 2 + across * (i + 0.5), -line, "ms", word) for i, word in enumerate(header[:columns])]
    texts += [(grid.width + line, -line, "ls", word) for word in header[columns:]]
    texts += [(grid.width + line, GAP / 2 + down * (i + 0.5), "lm", words) for i, words in enumerate(rows)]
    return _page(grid, texts, size, caption)


def side_by_side(sides: Mapping[str, np.ndarray], caption: str) -> Image.Image:
    """Returns a grid of images for each name, which stands above it, side by side, and a caption below."""
    grids = [image_grid(images) for images in sides.values()]
    space = 8 * GAP
    starts = np.cumsum([0, *(grid.width + space for grid in grids)])
    whole = Image.new(grids[0].mode, (int(starts[-1]) - space, max(grid.height for grid in grids)), "white")
    for start, grid in zip(starts, grids, strict=False):
        whole.paste(grid, (int(start), 0))
    texts = [(float(start) + GAP, -4.0 * GAP, "ls", name) for start, name in zip(starts, sides, strict=False)]
    return _page(whole, texts, _letters(CELL), caption)


def images_by_class(
    images: np.ndarray, labels: np.ndarray, names: Sequence[str], real: np.ndarray | None, caption: str, columns: int = 10
) -> Image.Image:
    """Returns images [n, H, W, C] in [-1, 1] by their class, a row of up to `columns` each; what is missing is grey.

    To the right of a row is the share of the class, and beside it the one among the labels of real examples. Of many classes
    the first CLASSES are shown.
    """
    shown = names[:CLASSES]
    cells = np.zeros((len(shown), columns, *images.shape[1:]), images.dtype)
    rows = []
    for label, name in enumerate(shown):
        own = images[labels == label]
        cells[label, : len(own[:columns])] = own[:columns]
        beside = "" if real is None else f" (real {np.mean(real == label):.0%})"
        rows.append(f"{name}: {len(own) / len(images):.0%}{beside}")
    caption += "" if len(shown) == len(names) else f" The first {len(shown)} of {len(names)} classes."
    return table_of_images(cells.reshape(-1, *images.shape[1:]), columns, (), rows, caption)


def save_sheet(path: Path, sheet: Image.Image, title: str) -> None:
    """Saves a sheet as a PNG, which has the title among its text entries."""
    told = PngInfo()
    told.add_itxt("Title", title)
    with replacing(path) as file:
        sheet.save(file, "PNG", pnginfo=told)


def save_animation(path: Path, frames: Iterable[np.ndarray], milliseconds: int) -> None:
    """Saves frames of images [n, H, W, C] in [-1, 1], each a grid as `image_grid` has it, as a GIF without end."""
    sheets = map(image_grid, frames)
    with replacing(path) as file:
        next(sheets).save(file, "GIF", save_all=True, append_images=sheets, duration=milliseconds, loop=0)


def save_images(folder: Path, images: np.ndarray, first: int) -> None:
    """Saves images [n, H, W, C] in [-1, 1], pixel by pixel, as 000000.png, ... in a folder, numbered from `first`."""
    for index, image in enumerate(to_pixels(images), first):
        with replacing(folder / f"{index:06d}.png", lasting=False) as file:  # of ten thousands, each would wait for the disk
            _picture(image).save(file, "PNG")


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _letters(row: float) -> int:
    """Returns the size of letters beside rows of so many pixels: no larger image makes them too small to read."""
    return max(13, round(row / 8))


def _page(picture: Image.Image, texts: Sequence[Text], size: int, caption: str) -> Image.Image:
    """Returns a white page with a picture, words around it, placed from its upper left corner on, and a caption below it."""
    font, margin = ImageFont.truetype(FONT, size), size // 2
    places = [font.getbbox(words, anchor=anchor) for _, _, anchor, words in texts]
    boxes = [(x + a, y + b, x + c, y + d) for (x, y, *_), (a, b, c, d) in zip(texts, places, strict=True)]
    boxes.append((0, 0, *picture.size))
    lows, highs = np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]
    left, top = (math.ceil(margin - low) if low < 0 else 0 for low in lows)
    right, bottom = (math.ceil(high) for high in highs)
    width = max(left + right + margin, NARROWEST)
    letters = max(20, int((width - 2 * margin) / font.getlength("n")))
    lines = "\n".join(textwrap.fill(part, letters) for part in caption.splitlines())
    below = ImageDraw.Draw(picture).multiline_textbbox((0, 0), lines, font)[3]
    page = Image.new("L" if picture.mode == "L" else "RGB", (width, top + bottom + math.ceil(below) + 2 * margin), "white")
    page.paste(picture, (left, top))
    draw = ImageDraw.Draw(page)
    for x, y, anchor, words in texts:
        draw.text((left + x, top + y), words, "black", font, anchor=anchor)
    draw.multiline_text((margin, top + bottom + margin), lines, "black", font)
    return page
