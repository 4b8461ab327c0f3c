"""Images of any kind, from disk to the splits: decoding, the cache, folders, TFDS; and what is wrong with them in one line."""

import csv
import io
import json
import os
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import default
from experiments.tags import tags
from wgan_jax.config import load
from wgan_jax.data import cache, folder, tfds
from wgan_jax.data.images import DamagedImageError, Form, bombs_refused, decode_image
from wgan_jax.data.source import plan_feeds
from wgan_jax.data.tags import read_tags, write_metadata
from wgan_jax.errors import UserError

FORM = Form(size=8, channels=3, background="white")


@pytest.fixture
def data(tmp_path):
    """config.data with its cache and images inside the test's folder."""
    (tmp_path / "images").mkdir()
    config = default.default_config().data
    config.update({"name": "folder", "path": str(tmp_path / "images"), "cache_dir": str(tmp_path / "cache"), "holdout": 0.2})
    return config


def colour(index):
    return (index * 7 % 256, index * 3 % 256, 255 - index)


def fill(root, count=20, size=(6, 6), pattern="{:02d}.png"):
    for index in range(count):
        path = root / pattern.format(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour(index)).save(path)


def refused(load, data, *words):
    with pytest.raises(UserError) as caught:
        load(data)
    assert len(caught.value.lines) == 1
    for word in words:
        assert word in caught.value.lines[0]


# Decoding


def save(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_jfif_is_a_suffix_of_jpeg(data, tmp_path):
    fill(tmp_path / "images", 20)
    for index in range(5):
        Image.new("RGB", (6, 6), colour(index)).save(tmp_path / "images" / f"{index}.jfif", "jpeg")
    dataset = folder.load(data)
    assert sum(len(split.images) for split in (dataset.train, dataset.validation, dataset.test)) == 25
    assert dataset.left_out == {}


@pytest.mark.parametrize("suffix", ["png", "webp", "gif", "bmp"])
def test_formats_keep_a_flat_colour(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path, Image.new("RGB", (8, 8), (200, 100, 50)), f"a.{suffix}", **options)
    np.testing.assert_array_equal(decode_image(path, FORM), np.full((8, 8, 3), (200, 100, 50)))
    np.testing.assert_array_equal(decode_image(path.read_bytes(), FORM), np.full((8, 8, 3), (200, 100, 50)))


def test_jpeg_nearly_keeps_it(tmp_path):
    pixels = decode_image(save(tmp_path, Image.new("RGB", (8, 8), (200, 100, 50)), "a.jpeg"), FORM)
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() <= 3


def test_transparency_shows_the_background(tmp_path):
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 4, 8))
    image.putpixel((7, 7), (0, 0, 0, 51))  # a fifth
    pixels = decode_image(save(tmp_path, image), FORM._replace(background="#ff8800"))
    np.testing.assert_array_equal(pixels[0, 0], (0, 0, 255))
    np.testing.assert_array_equal(pixels[0, 6], (255, 136, 0))
    np.testing.assert_allclose(pixels[7, 7], (204, 109, 0), atol=1)


def test_palettes_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (8, 8), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(0, (0, 0, 4, 8))
    pixels = decode_image(save(tmp_path, image, transparency=1), FORM)
    np.testing.assert_array_equal(pixels[0, 0], (10, 20, 30))
    np.testing.assert_array_equal(pixels[0, 7], (255, 255, 255))


def test_greys(tmp_path):
    deep = Image.fromarray(np.full((8, 8), 257 * 100, np.uint16))
    np.testing.assert_array_equal(decode_image(save(tmp_path, deep), FORM._replace(channels=0)), np.full((8, 8, 1), 100))
    grey = save(tmp_path, Image.new("L", (8, 8), 77))
    np.testing.assert_array_equal(decode_image(grey, FORM), np.full((8, 8, 3), 77))
    red = save(tmp_path, Image.new("RGB", (8, 8), (255, 0, 0)))
    np.testing.assert_array_equal(decode_image(red, FORM._replace(channels=1)), np.full((8, 8, 1), 76))  # ITU-R 601 luma
    assert decode_image(red, FORM._replace(channels=0)).shape == (8, 8, 3)


def test_a_wide_image_is_cut_at_its_centre(tmp_path):
    image = Image.new("RGB", (32, 8), (255, 0, 0))
    image.paste((0, 255, 0), (12, 0, 20, 8))
    np.testing.assert_array_equal(decode_image(save(tmp_path, image), FORM), np.full((8, 8, 3), (0, 255, 0)))


def test_resizing_is_antialiased(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = decode_image(save(tmp_path, Image.fromarray(stripes)), FORM)
    assert 110 < pixels[:, 1:-1].min() <= pixels[:, 1:-1].max() < 145


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_a_camera_held_upright(tmp_path, mode):
    image = Image.new("RGB", (8, 8), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 8, 4))
    image = image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    pixels = decode_image(save(tmp_path, image, exif=exif), FORM)
    assert (pixels[0].max(), pixels[-1].min()) == (0, 255)


def odd_exif(orientation, kind=9):
    """An EXIF block whose width, tag 256, is -5 as a signed number, which TIFF has unsigned; an unknown type makes it odder."""
    width, turn = (256, kind, 1, -5), (274, 3, 1, orientation)
    return b"Exif\0\0II*\0\x08\0\0\0\x02\0" + struct.pack("<HHIi", *width) + struct.pack("<HHIi", *turn) + bytes(4)


@pytest.mark.parametrize(
    ("exif", "top_left"),  # where red, stored at the top left, belongs
    [
        (odd_exif(6), (0, 1)),  # turned by a quarter to the right
        (odd_exif(3), (1, 1)),
        (odd_exif(8), (1, 0)),
        (odd_exif(6, kind=77), (0, 1)),
        (odd_exif(99), (0, 0)),  # no such orientation
        (b"Exif\0\0garbage", (0, 0)),
        (odd_exif(6)[:20], (0, 0)),
    ],
)
def test_an_odd_exif_block_does_not_damage_an_image(tmp_path, exif, top_left):
    image = Image.new("RGB", (16, 16), (0, 0, 0))
    image.paste((255, 0, 0), (0, 0, 8, 8))
    path = save(tmp_path, image, "a.jpg", exif=exif, quality=100, subsampling=0)
    with bombs_refused():
        pixels = decode_image(path, FORM._replace(size=2))
    red = pixels[:, :, 0] > 128
    assert np.argwhere(red).tolist() == [list(top_left)]


def bomb():
    """A PNG header that promises 20,000 x 20,000 pixels."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda png: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),  # Pillow would start Ghostscript
        (lambda png: b"", "no image"),
        (lambda png: b"not an image", "no image"),
        (lambda png: png[: len(png) // 2], "truncated"),
        (lambda png: png[:60] + bytes(20) + png[80:], "broken|truncated|checksum|bad|error"),
        (lambda png: bomb(), "bomb"),
    ],
)
def test_damaged_images_are_told_apart_from_bugs(tmp_path, damage, why):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    png = save(tmp_path, Image.fromarray(noise)).read_bytes()
    with bombs_refused(), pytest.raises(DamagedImageError, match=why):
        decode_image(damage(png), FORM)


# Folders


def test_a_folder_is_split_once_and_for_all(data, tmp_path):
    fill(tmp_path / "images", 40)
    dataset = folder.load(data)
    assert (dataset.shape, dataset.class_names) == ((6, 6, 3), ())
    sizes = [len(split.images) for split in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [24, 8, 8]
    seen = np.concatenate([split.images[:, 0, 0] for split in (dataset.train, dataset.validation, dataset.test)])
    assert sorted(map(tuple, seen)) == sorted(colour(index) for index in range(40))
    again = folder.load(data)
    np.testing.assert_array_equal(again.test.images, dataset.test.images)
    data.cache_dir = str(tmp_path / "another")
    np.testing.assert_array_equal(folder.load(data).test.images, dataset.test.images)


def test_the_second_start_decodes_nothing(data, tmp_path, monkeypatch):
    fill(tmp_path / "images")
    first = folder.load(data)
    monkeypatch.setattr(cache, "decode_image", None)
    second = folder.load(data)
    np.testing.assert_array_equal(second.train.images, first.train.images)
    assert isinstance(second.train.images, np.memmap)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="asks Linux how the system treats a mapping")
def test_a_streamed_memory_map_is_not_read_around(data, tmp_path):
    fill(tmp_path / "images")

    def flags():
        maps = Path("/proc/self/smaps").read_text().split("images.bin")[1:]
        return [re.search(r"VmFlags:(.*)", part)[1].split() for part in maps]

    config = load("configs/wgan_gp.py:folder", ["--config.data.path=x", "--config.batch_size=4", "--config.data.resident_mb=0"])
    dataset = folder.load(data)
    assert not any("rr" in flag for flag in flags())
    plan_feeds(config, dataset, lambda tree: tree, lambda feed: feed)
    assert any("rr" in flag for flag in flags())  # MADV_RANDOM


def test_other_options_or_contents_are_decoded_anew(data, tmp_path):
    fill(tmp_path / "images")
    folder.load(data)
    data.image_size = 4
    assert folder.load(data).shape == (4, 4, 3)
    Image.new("RGB", (6, 6), (1, 2, 3)).save(tmp_path / "images" / "new.png")
    assert len(folder.load(data).train.images) == 13
    assert len(list((tmp_path / "cache").iterdir())) == 3


@pytest.mark.parametrize("damage", ["shorter", "no meta", "bad meta", "null meta", "bad labels"])
def test_a_damaged_cache_is_rebuilt(data, tmp_path, damage):
    fill(tmp_path / "images")
    whole = np.array(folder.load(data).train.images)
    (built,) = (tmp_path / "cache").iterdir()
    if damage == "shorter":
        (built / "images.bin").write_bytes((built / "images.bin").read_bytes()[:-1])
    elif damage == "no meta":
        (built / "meta.json").unlink()
    elif damage == "bad labels":
        (built / "labels.npy").write_bytes((built / "labels.npy").read_bytes()[:-8])
    else:
        (built / "meta.json").write_text("{" if damage == "bad meta" else "null", encoding="utf-8")
    np.testing.assert_array_equal(folder.load(data).train.images, whole)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [built.name]


def test_class_subfolders_are_labels(data, tmp_path):
    for name, count in (("cat", 12), ("dog", 8)):
        fill(tmp_path / "images" / name, count)
    dataset = folder.load(data)
    assert dataset.class_names == ("cat", "dog")
    labels = np.concatenate([split.labels for split in (dataset.train, dataset.validation, dataset.test)])
    assert (labels == 0).sum() == 12
    assert labels.dtype == np.int32


def test_split_subfolders_are_the_splits(data, tmp_path):
    root = tmp_path / "images"
    for name, count in (("train", 25), ("test", 5)):
        fill(root / name / "a", count)
        fill(root / name / "b", 1)
    dataset = folder.load(data)  # validation is held out of train
    assert [len(split.images) for split in (dataset.train, dataset.validation, dataset.test)] == [21, 5, 6]
    assert dataset.class_names == ("a", "b")
    fill(root / "val" / "a", 4)
    assert [len(split.images) for split in (folder.load(data).train, folder.load(data).validation)] == [26, 4]
    fill(root, 1)
    refused(folder.load, data, "00.png", "beside the folder train")


def sizes(dataset):
    return [len(split.images) for split in (dataset.train, dataset.validation, dataset.test)]


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("training", "dev", "testing"),
        ("Train", "Valid", "Test"),
        ("pets/train", "pets/val", "pets/test"),
        ("a/b/TRAINING", "a/b/validation", "a/b/TESTING"),
    ],
)
def test_splits_by_their_usual_names(data, tmp_path, train, validation, test):
    root = tmp_path / "images"
    for place, count in ((train, 20), (validation, 6), (test, 5)):
        for name in ("cat", "dog"):
            fill(root / place / name, count)
    dataset = folder.load(data)
    assert (sizes(dataset), dataset.class_names) == ([40, 12, 10], ("cat", "dog"))
    assert [np.bincount(split.labels).tolist() for split in (dataset.train, dataset.test)] == [[20, 20], [5, 5]]


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (["cat", "dog", "test"], ["images/test: a split by its name", "no folder train", "rename"]),
        (["val", "test"], ["images/test and ", "images/val: a split by its name", "no folder train"]),
        (["train/a", "Training/a", "test/a"], ["images/Training and ", "two of these folders are one split"]),
        (["cat/train", "cat/test", "dog/train", "dog/test"], ["cat/test: a split by its name", "train/cat, test/cat"]),
        (["train/a", "train/b", "extra/a"], ["extra/a/00.png lies beside the folder train"]),
        (["pets/train", "pets/test", "more"], ["pets/test: a split by its name", "below other folders"]),
        (["cat", "dog", "."], ["images/00.png: of which class", "images/cat", "data.label=none"]),
        (["cat", "cat/indoor", "dog"], ["images/cat/00.png: of which class", "cat/indoor"]),
        (["train/cat", "train/dog", "test"], ["test/00.png: of which class"]),
        (["train/Cat", "train/dog", "test/cat", "test/dog"], ["test/cat: no class of that name in train"]),
    ],
)
def test_a_layout_that_may_mean_two_things_is_refused(data, tmp_path, places, words):
    for place in places:
        fill(tmp_path / "images" / place, 6)
    refused(folder.load, data, *words)


def test_classes_are_paths_below_what_they_share(data, tmp_path):
    for place in ("cat/indoor", "cat/outdoor", "dog/indoor", "dog/outdoor"):
        fill(tmp_path / "images" / "pets" / place, 10)
    dataset = folder.load(data)
    assert dataset.class_names == ("cat/indoor", "cat/outdoor", "dog/indoor", "dog/outdoor")
    labels = np.concatenate([split.labels for split in (dataset.train, dataset.validation, dataset.test)])
    assert np.bincount(labels).tolist() == [10, 10, 10, 10]


@pytest.mark.parametrize("places", [["00000", "00001"], ["cat", "dog", "."], ["train/0", "train/1", "test"]])
def test_folders_that_are_no_classes_are_said_to_be_none(data, tmp_path, places):
    for place in places:
        fill(tmp_path / "images" / place, 15)
    data.label = "none"
    dataset = folder.load(data)
    assert (sum(sizes(dataset)), dataset.class_names) == (15 * len(places), ())
    assert {label for split in (dataset.train, dataset.validation, dataset.test) for label in split.labels} == {0}


def test_a_class_whose_name_is_not_utf_8(data, tmp_path):
    for index, name in enumerate((b"caf\xe9", b"th\xe9")):
        fill(tmp_path / "images" / str(index), 10)
        (tmp_path / "images" / str(index)).rename(tmp_path / "images" / os.fsdecode(name))
    assert folder.load(data).class_names == ("caf\\udce9", "th\\udce9")
    assert folder.load(data).class_names == ("caf\\udce9", "th\\udce9")  # of the cache
    (tmp_path / "images" / os.fsdecode(b"caf\xe9") / "00.png").write_bytes(b"")
    refused(folder.load, data, "caf\\udce9/00.png")


def write_table(root, rows, columns=("file_name", "hair")):
    with open(root / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def test_a_column_of_the_table_is_the_label(data, tmp_path):
    root = tmp_path / "images"
    fill(root)
    write_table(root, [(f"{index:02d}.png", ("blond", "red")[index % 2]) for index in range(20)])
    assert folder.load(data).class_names == ()
    data.label = "hair"
    dataset = folder.load(data)
    assert dataset.class_names == ("blond", "red")
    index_of = {colour(index): index for index in range(20)}
    for image, label in zip(*dataset.train, strict=True):
        assert label == index_of[tuple(map(int, image[0, 0]))] % 2


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        ([("00.png", "red")], ("file_name", "hair"), ["lacks 19 images", "01.png"]),
        ([("absent.png", "red")], ("file_name", "hair"), ["not there", "absent.png"]),
        ([("../00.png", "red")], ("file_name", "hair"), ["line 2", "out of the folder"]),
        ([("00.png",)], ("file_name", "hair"), ["line 2", "too few columns"]),
        ([("00.png", "red")], ("file", "hair"), ["['file', 'hair']", "file_name"]),
        ([("00.png", "red")], ("file_name", "eyes"), ["'eyes'", "hair"]),
        ([("00.png", "red", "blond")], ("file_name", "hair", "hair"), ["'hair', 'hair'", "each once"]),
        ([("00.png", "red"), ("01.png", "blond"), ("00.png", "blond")], ("file_name", "hair"), ["line 4", "00.png", "line 2"]),
        ([("00.png", "red"), ("./00.png", "red")], ("file_name", "hair"), ["line 3", "00.png is there twice", "line 2"]),
        ([("00.png", "red"), ("01.png", " ")], ("file_name", "hair"), ["line 3", "empty hair"]),
        ([("", "red")], ("file_name", "hair"), ["line 2", "empty file_name"]),
        ([("00.png", "red", "more")], ("file_name", "hair"), ["line 2", "too many columns"]),
        ([("00.tif", "red")], ("file_name", "hair"), ["not there or left out", "00.tif"]),
    ],
)
def test_a_table_that_does_not_fit(data, tmp_path, rows, columns, words):
    fill(tmp_path / "images")
    write_table(tmp_path / "images", rows, columns)
    data.label = "hair"
    refused(folder.load, data, *words)


def test_cells_are_read_without_the_spaces_around_them(data, tmp_path):
    root = tmp_path / "images"
    fill(root)
    rows = [(f" {index:02d}.png", ("cat", "cat ", " dog")[index % 3]) for index in range(20)]
    write_table(root, [*rows, ("", "")], ("file_name", " kind "))
    data.label = "kind"
    dataset = folder.load(data)
    assert dataset.class_names == ("cat", "dog")
    assert sum((split.labels == 1).sum() for split in (dataset.train, dataset.validation, dataset.test)) == 6


def test_two_tables_that_name_one_image(data, tmp_path):
    root = tmp_path / "images"
    fill(root / "a")
    write_table(root / "a", [(f"{index:02d}.png", "red") for index in range(20)])
    write_table(root, [("a/03.png", "blond")])
    data.label = "hair"
    refused(folder.load, data, f"{root / 'metadata.csv'}, line 2", "a/03.png is there twice", "a/metadata.csv, line 5")


def test_a_table_that_is_not_utf_8(data, tmp_path):
    root = tmp_path / "images"
    fill(root)
    (root / "metadata.csv").write_bytes(b"file_name,hair\n00.png,ch\xe2tain\n")
    data.label = "hair"
    refused(folder.load, data, "line 2", "not UTF-8")


def test_a_column_that_is_no_class(data, tmp_path):
    fill(tmp_path / "images")
    for values in (["red"] * 20, [f"{index}" for index in range(20)]):
        write_table(tmp_path / "images", [(f"{index:02d}.png", value) for index, value in enumerate(values)])
        data.label = "hair"
        refused(folder.load, data, "hair", "no classes")


def test_a_label_without_a_table(data, tmp_path):
    fill(tmp_path / "images")
    data.label = "hair"
    refused(folder.load, data, "'hair'", "no metadata.csv")


def test_what_takes_long_is_said_in_a_line_where_there_is_no_terminal(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cache, "BLOCK", 8)
    fill(tmp_path / "images", 30)
    folder.load(data)
    folder.load(data)  # from the cache
    assert capsys.readouterr().out == "decoding 30 images, once\n"


def test_images_are_cut_or_stretched_to_a_rectangle(tmp_path):
    """Left and right thirds of a wide image are cut away, or pressed together."""
    pixels = np.zeros((6, 18, 3), np.uint8)
    pixels[:, :6], pixels[:, 6:12], pixels[:, 12:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cut = decode_image(tmp_path / "a.png", FORM._replace(size=6, width=6))
    np.testing.assert_array_equal(cut, pixels[:, 6:12])
    wide = decode_image(tmp_path / "a.png", FORM._replace(size=3, width=9))
    assert wide.shape == (3, 9, 3)
    assert wide[1, [0, 4, 8]].argmax(1).tolist() == [0, 1, 2]
    stretched = decode_image(tmp_path / "a.png", FORM._replace(size=6, width=6, crop=False))
    assert stretched.shape == (6, 6, 3)
    assert stretched[3].argmax(1).tolist() == [0, 0, 1, 1, 2, 2]


def test_transparency_is_a_channel_where_it_is_asked_for(tmp_path):
    pixels = np.full((4, 4, 4), 200, np.uint8)
    pixels[0, 0, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.new("L", (4, 4), 9).save(tmp_path / "grey.png")
    form = Form(0, 4, "white")
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png", form), pixels)
    np.testing.assert_array_equal(decode_image(tmp_path / "grey.png", form)[0, 0], (9, 9, 9, 255))
    assert decode_image(tmp_path / "a.png", form._replace(channels=0)).shape == (4, 4, 3)


def test_a_folder_gives_rectangles_with_transparency(data, tmp_path):
    fill(tmp_path / "images", size=(12, 7))
    assert folder.load(data).shape == (7, 12, 3)
    data.update({"image_size": 4, "image_width": 10, "channels": 4})
    dataset = folder.load(data)
    assert dataset.shape == (4, 10, 4)
    assert dataset.train.images.shape[1:] == (4, 10, 4)


def test_damaged_images_stop_the_run_or_are_left_out(data, tmp_path, caplog):
    fill(tmp_path / "images", 30)
    for index in range(5):
        (tmp_path / "images" / f"{index:02d}.png").write_bytes(b"damaged")
    refused(folder.load, data, "5 of 30 images damaged", "no image", "and 2 more", "skip_damaged=True")
    assert list((tmp_path / "cache").iterdir()) == []
    data.skip_damaged = True
    dataset = folder.load(data)
    assert "5 damaged images were left out: 0" in caplog.text
    assert sum(len(split.images) for split in (dataset.train, dataset.validation, dataset.test)) == 25
    (built,) = (tmp_path / "cache").iterdir()
    assert len(json.loads((built / "meta.json").read_text(encoding="utf-8"))["damaged"]) == 5


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (shutil.rmtree, ["no such folder"]),
        (lambda root: None, ["no images under"]),
        (lambda root: (root / "a.png").write_bytes(b""), ["1 of 1 images damaged"]),
        (lambda root: fill(root, 12), ["too few images: ", " validation, 2 test; each"]),
        (lambda root: (fill(root), Image.new("RGB", (5, 7)).save(root / "odd.png")), ["(7, 5, 3)", "image_size"]),
    ],
)
def test_folders_that_cannot_be_read(data, tmp_path, prepare, words):
    prepare(tmp_path / "images")
    refused(folder.load, data, *words)


def test_a_cache_that_cannot_be_written_is_said_and_done_without(data, tmp_path, caplog):
    fill(tmp_path / "images")
    kept = folder.load(data)
    (tmp_path / "file").write_text("", encoding="utf-8")
    data.cache_dir = str(tmp_path / "file" / "cache")
    assert folder.load(data).fingerprint == kept.fingerprint
    assert caplog.messages == [f"{data.cache_dir}: not a directory; images are decoded anew at each start"]


# TFDS


@pytest.fixture
def prepared(tmp_path, data):
    """A dataset of 30 training and 6 test images that TFDS itself wrote as array_record files."""
    import tensorflow_datasets as library

    features = {"image": library.features.Image(shape=(4, 4, 1)), "label": library.features.ClassLabel(names=["dark", "light"])}

    class Tiny(library.core.GeneratorBasedBuilder):
        VERSION = library.core.Version("1.2.0")

        def _info(self):
            return library.core.DatasetInfo(builder=self, features=library.features.FeaturesDict(features))

        def _split_generators(self, _):
            return {"train": self._generate_examples(30, 0), "test": self._generate_examples(6, 100)}

        def _generate_examples(self, count, offset):
            for index in range(count):
                png = io.BytesIO()
                Image.new("L", (4, 4), offset + index).save(png, "png")
                png.seek(0)
                yield index, {"image": png, "label": index % 2}

    Tiny(data_dir=tmp_path / "tfds", file_format="array_record").download_and_prepare()
    data.update({"name": "tfds", "builder": "tiny", "data_dir": str(tmp_path / "tfds")})
    return data


def test_a_tfds_dataset(prepared):
    dataset = tfds.load(prepared)
    assert (dataset.shape, dataset.class_names) == ((4, 4, 1), ("dark", "light"))
    assert [len(split.images) for split in (dataset.train, dataset.validation, dataset.test)] == [24, 6, 6]
    np.testing.assert_array_equal(np.sort(dataset.test.images[:, 0, 0, 0]), np.arange(100, 106))  # TFDS shuffles
    seen = np.concatenate([dataset.train.images[:, 0, 0, 0], dataset.validation.images[:, 0, 0, 0]])
    np.testing.assert_array_equal(np.sort(seen), np.arange(30))
    np.testing.assert_array_equal(dataset.train.labels, dataset.train.images[:, 0, 0, 0] % 2)


def test_a_tfds_dataset_that_is_not_there_is_not_fetched(data):
    data.update({"name": "tfds", "builder": "mnist", "data_dir": data.path})
    refused(tfds.load, data, "mnist is not prepared in", "data_dir=DIR", "download=True")


# Tag archives


def test_tags_of_both_forms():
    lines = ["1,blonde hair:2\tred eyes:7\tblue hair:9\ttouhou:100", "2,aqua hair purple eyes", "", "3,dress:4"]
    assert list(read_tags(lines)) == [("1", "blue", "red"), ("2", "aqua", "purple"), ("3", "unknown", "unknown")]


def test_an_id_twice_is_refused_with_both_lines():
    with pytest.raises(UserError, match=r"^line 3: the id 7 is that of line 1; keep one of them$"):
        list(read_tags(["007,a hair b eyes", "8,a hair b eyes", "7,a hair b eyes"]))


@pytest.mark.parametrize("line", ["no comma", ",blue hair red eyes", "4,only words"])
def test_a_line_that_is_no_tags(line):
    with pytest.raises(UserError, match="line 2"):
        list(read_tags(["1,a hair b eyes", line]))


def test_a_tag_archive_becomes_labels(data, tmp_path):
    root = tmp_path / "images"
    fill(root, 20, pattern="{}.png")
    (tmp_path / "tags.csv").write_text("".join(f"{i},{('red', 'blue')[i % 2]} hair green eyes\n" for i in range(19)))
    assert write_metadata(tmp_path / "tags.csv", root) == (20, 1, 1, 1, 0, {})
    data.label = "hair"
    assert folder.load(data).class_names == ("blue", "red", "unknown")
    with pytest.raises(UserError, match="there already"):
        write_metadata(tmp_path / "tags.csv", root)


def tag_archive(tmp_path, pattern, count=20, start=""):
    path = tmp_path / "tags.csv"
    path.write_text(start + "".join(pattern.format(i, ("red", "blue")[i % 2]) for i in range(count)), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("image", "line"), [("{}.png", "{:05d},{} hair green eyes\n"), ("{:03d}.png", "{},{} hair green eyes\n")]
)
def test_ids_match_with_and_without_leading_zeros_and_after_a_bom(tmp_path, image, line):
    fill(tmp_path / "images", 20, pattern=image)
    assert write_metadata(tag_archive(tmp_path, line, start="\ufeff"), tmp_path / "images") == (20, 0, 0, 0, 0, {})
    with open(tmp_path / "images" / "metadata.csv", newline="", encoding="utf-8") as file:
        hair = {row["file_name"]: row["hair"] for row in csv.DictReader(file)}
    assert hair == {image.format(i): ("red", "blue")[i % 2] for i in range(20)}


def test_an_archive_of_other_images_is_refused(tmp_path):
    fill(tmp_path / "images", 20, pattern="face_{}.png")
    with pytest.raises(UserError, match=r"^--tags: .*tags.csv has ids such as 0, of none of the 20 images in .* face_0.png$"):
        write_metadata(tag_archive(tmp_path, "{},{} hair green eyes\n"), tmp_path / "images")
    with pytest.raises(UserError, match=r"tags.csv has no line, of none of the 20 images"):
        write_metadata(tag_archive(tmp_path, "", 0), tmp_path / "images")
    assert not (tmp_path / "images" / "metadata.csv").exists()


def test_two_images_of_one_id_are_refused(tmp_path):
    fill(tmp_path / "images", 3, pattern="{}.png")
    fill(tmp_path / "images", 2, pattern="more/{:02d}.png")
    with pytest.raises(UserError, match=r"^--images: .*/0.png and .*/more/00.png have one id"):
        write_metadata(tag_archive(tmp_path, "{},{} hair green eyes\n"), tmp_path / "images")


def test_what_is_unknown_is_counted(tmp_path, capsys):
    fill(tmp_path / "images", 5, pattern="a/{}.png")
    lines = ["0,red hair:3", "1,green eyes:1\tred hair:1", "2,dress:4", "9,a hair b eyes"]
    (tmp_path / "tags.csv").write_text("\n".join(lines), encoding="utf-8")
    tags([f"--tags={tmp_path / 'tags.csv'}", f"--images={tmp_path / 'images'}"])
    table = tmp_path / "images" / "metadata.csv"
    assert capsys.readouterr().out.splitlines() == [
        f"5 images: {table}",
        "unknown: hair of 3, eyes of 4; 2 of the images have no line of tags",
        "1 line names no image",
    ]
    assert table.read_text(encoding="utf-8").splitlines()[1:3] == ["a/0.png,red,unknown", "a/1.png,red,green"]
