"""Examples from files and folders: what is damaged or no array at all, channels, and the memory that a folder takes."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from wgan_jax.data.arrays import load_examples
from wgan_jax.errors import UserError


def refusal(path, **options):
    """The one line with which a file or folder is refused; it names the path."""
    with pytest.raises(UserError) as error:
        load_examples(path, **options)
    [line] = error.value.lines
    assert line.startswith(f"{path}")
    assert "\n" not in line
    assert len(line) < 400 + len(str(path))
    return line


def test_a_compressed_npz_damaged_anywhere_is_refused_or_read_as_it_was(tmp_path):
    points, path = np.random.default_rng(0).normal(size=(50, 2)), tmp_path / "points.npz"
    np.savez_compressed(path, samples=points)
    data = path.read_bytes()
    refused = 0
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x5A]) + data[place + 1 :])
        try:
            np.testing.assert_array_equal(load_examples(path), points)
        except UserError:
            refused += 1
    assert refused > len(data) / 2
    path.write_bytes(data[:80] + bytes(byte ^ 0x5A for byte in data[80:400]) + data[400:])
    assert "damaged" in refusal(path)  # zlib.error


def test_an_npz_of_an_unknown_compression_is_refused(tmp_path):
    path = tmp_path / "points.npz"
    np.savez(path, samples=np.zeros((5, 2)))
    data = bytearray(path.read_bytes())
    for place in (8, data.rindex(b"PK\1\2") + 10):  # of the entry's method, before it and in the directory
        data[place : place + 2] = b"\x63\0"
    path.write_bytes(data)
    assert "compression" in refusal(path)


def test_arrays_larger_than_the_memory_are_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**13, 2)})
    content = header.getvalue() + bytes(800)
    (tmp_path / "huge.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("samples.npy", content)
    for name in ("huge.npy", "huge.npz"):
        assert "too large for the memory" in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["page.npy", "page.npz"])
@pytest.mark.parametrize("content", [b"<html>404 not found</html>" * 20, b"", b"\x80\x04N.", b"PK"])
def test_what_is_no_array_but_for_its_name_is_told_so(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert "no .npy or .npz file" in refusal(tmp_path / name)


def test_members_of_a_zip_that_are_no_arrays_are_refused(tmp_path):
    path = tmp_path / "other.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("samples", b"no array")
    assert "|S8 of shape ()" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(2):
            archive.writestr(f"{index}" * 10_000, b"no array")
    assert "which array?" in refusal(path)
    with zipfile.ZipFile(path, "w"):
        pass
    assert "It has none" in refusal(path)


def test_channels_make_a_folder_grey_or_rgb(tmp_path):
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "a.png")
    Image.new("L", (4, 4), 7).save(tmp_path / "b.png")
    line = refusal(tmp_path)
    assert "b.png: is (4, 4, 1)" in line
    assert "--channels" in line
    grey, rgb = load_examples(tmp_path, channels=1), load_examples(tmp_path, channels=3)
    assert (grey.shape, rgb.shape) == ((2, 4, 4, 1), (2, 4, 4, 3))
    assert np.unique(grey[0]) == 76  # 0.299 of 255
    np.testing.assert_array_equal(grey[1], 7)
    np.testing.assert_array_equal(rgb[0, 0, 0], [255, 0, 0])
    np.testing.assert_array_equal(rgb[1], 7)
    assert load_examples(tmp_path, 2, 1).shape == (2, 2, 2, 1)


def test_a_folder_takes_the_memory_of_its_images_once(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 64, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{index:02d}.png")
    np.testing.assert_array_equal(load_examples(tmp_path), pixels)
    tracemalloc.start()
    try:
        load_examples(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * pixels.nbytes
