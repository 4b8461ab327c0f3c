"""The one walk of a folder: what is read, in which order, and what is left out, by reason; the same for all who read."""

import inspect
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import default
from experiments.tags import tags
from wgan_jax.data import arrays, folder
from wgan_jax.data.walk import in_words, printable, walk
from wgan_jax.errors import UserError

APPLE_DOUBLE = bytes([0, 5, 0x16, 7]) + bytes(4092)


def touch(root, *names, content=b""):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def found(root):
    images, tables, left_out = walk(root)
    return (
        [path.relative_to(root).as_posix() for path in images],
        [path.relative_to(root).as_posix() for path in tables],
        left_out,
    )


def test_images_come_in_the_order_of_their_paths(tmp_path):
    touch(tmp_path, "b.png", "a/z.JPG", "a-b/1.webp", "a.png", "a/b/0.jfif", "metadata.csv", "a/metadata.csv")
    images, tables, left_out = found(tmp_path)
    assert images == ["a/b/0.jfif", "a/z.JPG", "a-b/1.webp", "a.png", "b.png"]
    assert images == [path.relative_to(tmp_path).as_posix() for path in sorted(map(tmp_path.joinpath, images))]
    assert (tables, left_out) == (["a/metadata.csv", "metadata.csv"], {})


def test_what_is_left_out_is_counted_by_reason(tmp_path):
    touch(tmp_path, *(f"{i}.jpg" for i in range(4)), *(f"{i}.TIF" for i in range(3)), "a/1.tif", "LICENSE", "Thumbs.db")
    touch(tmp_path, ".ipynb_checkpoints/0.jpg", "a/.ipynb_checkpoints/1.jpg", "a/.git/deep/2.jpg", ".git/config", ".DS_Store")
    touch(tmp_path, "._0.jpg", "__MACOSX/._0.jpg", "@eaDir/0.jpg/thumb.jpg", "._metadata.csv")
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    images, tables, left_out = found(tmp_path)
    assert (images, tables) == ([f"{i}.jpg" for i in range(4)], [])
    assert left_out == {".tif": 4, "without a suffix": 1, ".db": 1, "hidden": 6, "linked nowhere": 2}
    words = "; left out: 6 hidden, 4 .tif, 2 linked nowhere, 1 without a suffix, 1 .db"
    assert in_words({name: left_out[name] for name in sorted(left_out, reverse=True)}) == words
    assert in_words({}) == ""
    assert in_words({f".{i}": 1000 for i in range(7)}).endswith("1,000 .4, 2,000 for 2 further reasons")


def test_what_is_no_file_is_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("a.png")
        assert found(tmp_path) == ([], [], {"special": 1})


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    touch(root, "cat/0.png")
    touch(elsewhere, "dog/1.png", "2.png")
    (root / "dog").symlink_to(elsewhere / "dog")
    (root / "cat" / "2.png").symlink_to(elsewhere / "2.png")
    (root / "cat" / "back").symlink_to("..")
    (root / ".hidden").symlink_to(elsewhere)
    assert found(root) == (["cat/0.png", "cat/2.png", "dog/1.png"], [], {"linked in a circle": 1})
    (tmp_path / "itself").symlink_to(root)
    assert found(tmp_path / "itself") == found(root)


def test_a_folder_that_links_show_twice_is_refused_by_both_names(tmp_path):
    touch(tmp_path, "cat/0.png")
    (tmp_path / "dog").symlink_to("cat")
    with pytest.raises(UserError, match=rf"^{tmp_path}/cat and {tmp_path}/dog are one folder, by a link.* remove one of them$"):
        walk(tmp_path)


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    touch(tmp_path, "cat/0.png", "dog/1.png", ".Trashes/2.png")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name in ("dog", ".Trashes"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("wgan_jax.data.walk.os.scandir", refuse)
    with pytest.raises(UserError, match=f"^{tmp_path}/dog: permission denied$"):
        walk(tmp_path)
    (tmp_path / "dog" / "1.png").unlink()
    (tmp_path / "dog").rmdir()
    assert found(tmp_path) == (["cat/0.png"], [], {})


def test_folders_too_deep_in_each_other_are_refused(tmp_path):
    tmp_path.joinpath(*["d"] * 200).mkdir(parents=True)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)  # so that a thousand, which nothing would remove again, are not needed
    try:
        with pytest.raises(UserError, match="hundreds deep; give a folder nearer to the images"):
            walk(tmp_path)
    finally:
        sys.setrecursionlimit(limit)


def test_names_are_printable_whatever_their_bytes():
    name = os.fsdecode(b"caf\xe9.png")
    assert printable(name).encode("utf-8") == b"caf\\udce9.png"
    assert printable("café.png") == "café.png"


@pytest.fixture
def mixed(tmp_path):
    """24 images in a folder with a companion each, hidden copies, __MACOSX and a name that is not UTF-8; a file of tags."""
    root = tmp_path / "images"
    root.mkdir()
    for index in range(24):
        Image.new("L", (6, 6), 10 * index).save(root / f"{index}.png")
        touch(root, f"._{index}.png", f"__MACOSX/._{index}.png", content=APPLE_DOUBLE)
    touch(root, ".ipynb_checkpoints/0-checkpoint.png", "notes.txt")
    (root / "23.png").rename(root / os.fsdecode(b"caf\xe9.png"))
    return root


def test_all_who_read_a_folder_read_the_same(mixed, tmp_path, capsys):
    left_out = {"hidden": 49, ".txt": 1}
    data = default.default_config().data
    data.update({"name": "folder", "path": str(mixed), "cache_dir": str(tmp_path / "cache"), "holdout": 0.2})
    dataset = folder.load(data)
    assert dict(dataset.left_out) == left_out
    images = np.concatenate([split.images for split in (dataset.train, dataset.validation, dataset.test)])
    assert sorted(images[:, 0, 0, 0]) == list(range(0, 240, 10))
    assert dict(folder.load(data).left_out) == left_out  # of the cache too
    np.testing.assert_array_equal(np.sort(arrays.load_examples(mixed)[:, 0, 0, 0]), range(0, 240, 10))
    (tmp_path / "tags.csv").write_text("".join(f"{i},{('red', 'blue')[i % 2]} hair green eyes\n" for i in range(23)))
    tags([f"--tags={tmp_path / 'tags.csv'}", f"--images={mixed}"])
    assert f"24 images: {mixed / 'metadata.csv'}; left out: 49 hidden, 1 .txt" in capsys.readouterr().out
    data.label = "hair"
    assert folder.load(data).class_names == ("blue", "red", "unknown")


def test_what_is_added_beside_the_images_is_said_without_decoding_anew(mixed, tmp_path, monkeypatch):
    data = default.default_config().data
    data.update({"name": "folder", "path": str(mixed), "cache_dir": str(tmp_path / "cache"), "holdout": 0.2})
    folder.load(data)
    touch(mixed, "a.tif", "b.tif")
    monkeypatch.setattr("wgan_jax.data.cache.decode_image", None)
    assert folder.load(data).left_out == {"hidden": 49, ".txt": 1, ".tif": 2}


def test_a_folder_without_images_says_what_it_has(tmp_path):
    touch(tmp_path, "a.tif", "b.tif")
    data = default.default_config().data
    data.path = str(tmp_path)
    wanted = r"no images (under|in this folder|in) .*; left out: 2 \.tif$"
    for read in (lambda: folder.load(data), lambda: arrays.load_examples(tmp_path)):
        with pytest.raises(UserError, match=wanted):
            read()
    with pytest.raises(UserError, match=r"^--images: no images in .*; left out: 2 \.tif$"):
        tags([f"--tags={__file__}", f"--images={tmp_path}"])
