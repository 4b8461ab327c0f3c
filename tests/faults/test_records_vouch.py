"""JSON that is read again: seals, lines that a record loses and gets back; caches and exports whose bits were flipped."""

import json
import logging
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from wgan_jax.config import load
from wgan_jax.data import array, folder
from wgan_jax.errors import UserError
from wgan_jax.export import describe_generator, export_generator, load_generator, save_generator
from wgan_jax.features.classifier import cached_classifier
from wgan_jax.models import build_networks
from wgan_jax.records import parse_lines, sealed, to_json, unsealed
from wgan_jax.training.logging import MetricsLog, read_metrics


def test_a_seal_holds_what_json_gives_back():
    said = sealed({"b": (1, 2), "a": {"x": float("nan"), "y": 1e-300, "z": None, "é": "ü"}})
    assert unsealed(json.loads(to_json(said, indent=1))) == {"b": [1, 2], "a": {"x": None, "y": 1e-300, "z": None, "é": "ü"}}
    for other in ({**said, "b": [1, 3]}, {**said, "c": 0}, {"b": [1, 2]}, {**said, "seal": None}, [], None, {}):
        with pytest.raises(ValueError, match="seal"):
            unsealed(other)


LINES = [{"step": step, "x": step / 7} for step in (10, 20, 30)]
TEXTS = [json.dumps(line).encode() for line in LINES]
DAMAGES = {
    "blank lines": (b"\n".join([TEXTS[0], b"", b"  ", TEXTS[1], TEXTS[2], b""]), [0, 1, 2], 0),
    "garbage in the middle": (b"\n".join([TEXTS[0], b"garb{age", TEXTS[1], TEXTS[2], b""]), [0, 1, 2], 1),
    "a damaged line": (b"\n".join([TEXTS[0], TEXTS[1].replace(b"{", b"["), TEXTS[2], b""]), [0, 2], 1),
    "not UTF-8": (b"\n".join([TEXTS[0], TEXTS[1], b'"\xff\xfe"', TEXTS[2], b""]), [0, 1, 2], 1),
    "UTF-16": ("\n".join(["", "x"]).encode("utf-16") + b"\n" + TEXTS[0] + b"\n", [0], 2),
    "no dict": (b"\n".join([b"[1]", b"null", TEXTS[0], b"7", TEXTS[1], TEXTS[2], b""]), [0, 1, 2], 3),
    "no step": (b"\n".join([b'{"x": 1}', b'{"step": "1"}', b'{"step": true}', b'{"step": 1.5}', TEXTS[0], b""]), [0], 4),
    "deep": (b"[" * 100_000 + b"\n" + TEXTS[0] + b"\n", [0], 1),
    "zeros": (TEXTS[0] + b"\n" + b"\0" * 50 + b"\n" + TEXTS[1] + b"\n", [0, 1], 1),
    "a torn end": (b"\n".join([*TEXTS, b'{"step": 40, "x": 0.']), [0, 1, 2], 0),
    "no end": (b"\n".join(TEXTS), [0, 1, 2], 0),
    "nothing": (b"", [], 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_all_good_lines_are_kept_and_the_others_counted(damage, tmp_path, caplog):
    content, good, lost = DAMAGES[damage]
    assert parse_lines(content) == ([LINES[index] for index in good], lost)
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert read_metrics(tmp_path / "metrics.jsonl") == [LINES[index] for index in good]
    assert len(caplog.messages) == bool(lost)


@pytest.fixture
def opened(tmp_path):
    """Returns (step, record) -> metrics.jsonl as a run resumed at a step leaves it."""

    def open_log(step, record=None):
        with MetricsLog(tmp_path, step, {}, record) as log:
            assert [json.loads(line) for line in log.content().splitlines()] == log.lines()
        return [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]

    return open_log


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_resumed_run_has_the_lines_that_its_checkpoint_kept(damage, opened, tmp_path, caplog):
    record, (content, good, _) = b"\n".join([*TEXTS, b""]), DAMAGES[damage]
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert opened(30, record) == LINES
    told = [f"{tmp_path / 'metrics.jsonl'}: is not as it was written; its 3 lines are restored from the checkpoint of step 30"]
    assert caplog.messages == ([] if good == [0, 1, 2] else told)


def test_a_missing_record_is_restored_and_what_lies_beyond_is_cut(opened, tmp_path, caplog):
    record = b"\n".join([*TEXTS[:2], b""])
    assert opened(20, record) == LINES[:2]
    assert len(caplog.messages) == 1
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([*TEXTS, b""]))
    assert opened(20, record) == LINES[:2]
    assert opened(19, record) == LINES[:1]  # of a line that waits for its evaluation
    assert len(caplog.messages) == 1


def test_without_a_kept_record_what_is_lost_is_said(opened, tmp_path, caplog):
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([TEXTS[0], b"?", TEXTS[0], TEXTS[2], TEXTS[1], b'{"step": 99}', b""]))
    assert opened(30) == [LINES[0], LINES[2]]  # steps rise
    assert caplog.messages == [f"{tmp_path / 'metrics.jsonl'}: 1 damaged line is lost"]


# Caches of data


def flip(path, index):
    content = bytearray(path.read_bytes())
    content[index % len(content)] ^= 4
    path.write_bytes(content)


def load_images(tmp_path):
    config = load("configs/wgan_gp.py:folder", [f"--config.data.path={tmp_path / 'images'}", "--config.data.holdout=0.2"]).data
    config.cache_dir = str(tmp_path / "cache")
    return folder.load(config)


def load_arrays(tmp_path):
    config = load("configs/wgan_gp.py:ring8").data
    config.update({"name": "array", "path": str(tmp_path / "x.npy"), "cache_dir": str(tmp_path / "cache"), "resident_mb": 0})
    return array.load(config)


@pytest.fixture
def sources(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(60, 3)).astype(np.float32))
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(12):
            Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).save(tmp_path / "images" / name / f"{index}.png")
    return tmp_path


@pytest.mark.parametrize("read", [load_images, load_arrays])
def test_a_flipped_bit_of_a_data_cache_is_no_other_data_with_the_old_fingerprint(read, sources, caplog):
    whole = read(sources)
    examples, labels = np.array(whole.train.images), np.array(whole.train.labels)
    (built,) = (sources / "cache").iterdir()
    text = (built / "meta.json").read_text()
    places = [
        text.index(key) + offset for key in ('"classes"', '"counts"', '"shape"', '"seal"') for offset in (2, len(key) + 6)
    ]
    files = {path.name: range(0, path.stat().st_size, max(1, path.stat().st_size // 5)) for path in built.iterdir()}
    flips = 0
    for name, indices in (files | {"meta.json": places}).items():
        for index in indices:
            caplog.clear()
            flip(built / name, index)
            again = read(sources)
            assert again.fingerprint == whole.fingerprint
            assert (again.class_names, again.shape, again.scaling) == (whole.class_names, whole.shape, whole.scaling)
            np.testing.assert_array_equal(again.train.images, examples)
            np.testing.assert_array_equal(again.train.labels, labels)
            assert f"{built}: damaged, of other data or of an earlier version; it is made anew" in caplog.messages
            flips += 1
    assert flips > 15
    caplog.clear()
    read(sources)
    assert caplog.messages == []
    assert [path.name for path in (sources / "cache").iterdir()] == [built.name]


@pytest.mark.parametrize("read", [load_images, load_arrays])
def test_a_data_cache_under_the_name_of_another_is_not_taken_for_it(read, sources, caplog):
    whole = read(sources)
    (built,) = (sources / "cache").iterdir()
    images = np.array(whole.train.images)
    built.rename(sources / "cache" / "kept")
    for path in (sources / "x.npy", sources / "images" / "cat" / "0.png"):
        path.touch()  # another time of change: a cache of another name
    other = read(sources)
    (name,) = (path.name for path in (sources / "cache").iterdir() if path.name != "kept")
    shutil.rmtree(sources / "cache" / name)
    (sources / "cache" / "kept").rename(sources / "cache" / name)
    caplog.clear()
    again = read(sources)
    assert again.fingerprint == other.fingerprint
    np.testing.assert_array_equal(again.train.images, images)
    said = f"{sources / 'cache' / name}: damaged, of other data or of an earlier version; it is made anew"
    assert said in caplog.messages
    caplog.clear()
    read(sources)
    assert caplog.messages == []


def test_a_classifier_under_the_name_of_another_is_not_taken_for_it(sources, monkeypatch, caplog):
    def untrained(network, split, decode, attributes):
        return network.init(jax.random.key(0), decode(split.images[:1]))["params"]

    monkeypatch.setattr("wgan_jax.features.classifier.train", untrained)
    whole, folder = load_images(sources), sources / "classifiers"
    cached_classifier(whole, folder)
    (path,) = folder.iterdir()
    other = whole._replace(fingerprint="of others")
    path.rename(path.with_name("kept"))
    cached_classifier(other, folder)
    (name,) = (entry.name for entry in folder.iterdir() if entry.name != "kept")
    (folder / "kept").rename(folder / name)
    caplog.clear()
    cached_classifier(other, folder)
    assert caplog.messages == [f"{folder / name} is of other data or another network; it is trained and written anew"]
    caplog.clear()
    cached_classifier(other, folder)
    assert caplog.messages == []


def test_a_cache_is_hashed_once_in_a_process(sources, monkeypatch):
    load_images(sources)
    monkeypatch.setattr("wgan_jax.data.cache.file_digest", lambda path: pytest.fail(f"{path} is hashed again"))
    load_images(sources)


# Exported generators


def test_an_exported_generator_is_the_one_that_its_json_describes(make_config, tmp_path, caplog):
    config = make_config("wgan_gp.py:gaussian", {"model.width": 4})
    networks = build_networks(config, (1,))
    for name, seed in (("a", 0), ("b", 1)):
        variables = jax.jit(networks.init_generator)(jax.random.key(seed))
        artefact = export_generator(networks, variables, config.latent.dim)
        save_generator(tmp_path / name, artefact, describe_generator(config, (1,), 3, "ema"))
    generate, said = load_generator(tmp_path / "a")
    assert (said["step"], generate(np.zeros((2, config.latent.dim), np.float32)).shape) == (3, (2, 1))
    content = (tmp_path / "a").read_bytes()
    flip(tmp_path / "a", len(content) // 2)
    with pytest.raises(UserError, match=r"a: not the generator that a.json describes, or damaged; export it again$"):
        load_generator(tmp_path / "a")
    (tmp_path / "a").write_bytes((tmp_path / "b").read_bytes())
    with pytest.raises(UserError, match=r"not the generator that a.json describes"):
        load_generator(tmp_path / "a")
    (tmp_path / "a").write_bytes(content)
    said = json.loads((tmp_path / "a.json").read_text())
    for text in ("{", "[]", '{"format": "jax.export"}', json.dumps({**said, "step": 4}), "[" * 100_000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(UserError, match="a: no exported generator: "):
            load_generator(tmp_path / "a")
    (tmp_path / "a.json").unlink()
    with caplog.at_level(logging.WARNING), pytest.raises(UserError, match="a: no exported generator: "):
        load_generator(tmp_path / "a")
