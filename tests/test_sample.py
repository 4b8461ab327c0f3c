"""Sampling: paths between latents, nearest images, and every file that experiments.sample writes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cdist

from experiments import pictures, sample
from wgan_jax import runtime
from wgan_jax.data.dataset import to_pixels
from wgan_jax.data.labels import draw_labels
from wgan_jax.data.scaling import PLAIN
from wgan_jax.errors import UserError
from wgan_jax.evaluation import sampling
from wgan_jax.models import build_networks, make_sampler
from wgan_jax.registries import registered
from wgan_jax.training.checkpoint import Checkpoints
from wgan_jax.training.program import make_parts
from wgan_jax.training.workdir import write_json
from wgan_jax.types import Latents

SIZE, SCALE, GAP = 8, 8, 2  # of the run's images, and of the pictures of them


# Paths


def test_slerp_turns_at_constant_speed_and_keeps_the_norm():
    a, b = np.array([[2.0, 0.0]]), np.array([[0.0, 2.0]])
    path = sampling.slerp(a, b, np.array([0, 1 / 3, 1 / 2, 1]))
    half = np.sqrt(2)
    np.testing.assert_allclose(path[:, 0], [[2, 0], [np.sqrt(3), 1], [half, half], [0, 2]], atol=1e-15)


def test_slerp_is_a_line_between_parallel_latents_and_in_one_dimension():
    t = np.array([0, 0.5, 1])
    np.testing.assert_allclose(sampling.slerp(np.array([[1.0, 2.0]]), np.array([[3.0, 6.0]]), t)[1], [[2, 4]], rtol=1e-12)
    np.testing.assert_array_equal(sampling.slerp(np.array([[-1.0]]), np.array([[3.0]]), t)[:, 0, 0], [-1, 1, 3])


def test_the_path_of_the_normal_law_keeps_its_norms():
    latents = Latents(np.random.default_rng(0).normal(size=(100, 128)), np.zeros(100, np.int32))
    middle = sampling.interpolation("normal", latents, 3).z[1]
    assert abs(np.linalg.norm(middle, axis=1).mean() / np.sqrt(128) - 1) < 0.02  # a line would lead to .71


@pytest.mark.parametrize("law", registered("models/latent.py", "LATENTS"))
def test_paths_of_every_law_start_and_end_at_the_latents(law):
    latents = np.random.default_rng(0).uniform(2, 5, (6, 4)).astype(np.float32)
    ways, label = sampling.interpolation(law, Latents(latents, np.arange(6)), 5)
    assert label.tolist() == [[0, 2, 4], [0, 2, 4], [1, 3, 5], [1, 3, 5], [1, 3, 5]]  # of the nearer end
    assert (ways.shape, ways.dtype) == ((5, 3, 4), np.float32)
    np.testing.assert_array_equal(ways[0], latents[::2])
    np.testing.assert_array_equal(ways[-1], latents[1::2])
    np.testing.assert_allclose(ways[2], sampling.PATHS[law](latents[::2], latents[1::2], np.array([0.5]))[0], rtol=1e-6)


def test_the_path_of_the_uniform_law_stays_inside_its_bounds():
    corners = Latents(np.array([[0.0, 5, 0], [0, 0, 5]]), np.zeros(2, np.int32))
    ways = sampling.interpolation("uniform", corners, 9).z
    assert ways.min() >= 0
    assert ways.max() <= 5


@pytest.mark.parametrize("law", ["normal", "uniform"])
def test_a_walk_visits_its_latents_and_closes(law):
    latents = np.random.default_rng(1).normal(size=(2 * 3, 4))
    walk, label = sampling.closed_walk(law, Latents(latents, np.arange(6)), stops=3, steps=4)
    assert label.T.tolist() == [[0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0, 0], [3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 3, 3]]
    assert walk.shape == (12, 2, 4)
    for walker in range(2):
        np.testing.assert_array_equal(walk[::4, walker], latents[3 * walker : 3 * walker + 3])
    last = sampling.PATHS[law](latents[2::3], latents[::3], np.array([0.75]))[0]
    np.testing.assert_allclose(walk[-1], last, rtol=1e-12)


# Samples


COUNTS = (5, 0, 20)  # training images of three classes


def test_latents_are_those_of_the_sampler_and_of_their_index_alone(make_config):
    config = make_config("wgan_gp.py:digits", {"model.width": 4, "latent.dim": 3})
    networks, key = build_networks(config, (8, 8, 1)), jax.random.key(7)
    latents = sampling.draw_latents(networks, COUNTS, key, 70)
    for few, many in zip(sampling.draw_latents(networks, COUNTS, key, 3), latents, strict=True):
        np.testing.assert_array_equal(few, many[:3])
    np.testing.assert_array_equal(latents.label, draw_labels(COUNTS, key, 70))
    variables = networks.init_generator(jax.random.key(0))
    theirs, samples = make_sampler(networks)(variables, key, latents.label, 0)
    np.testing.assert_allclose(latents.z, theirs.z, rtol=1e-6)
    assert len(np.unique(latents.z[:, 0])) == 70
    parts = list(sampling.make_generate(networks, variables)(latents))
    assert [len(part) for part in parts] == [64, 6]
    np.testing.assert_allclose(np.concatenate(parts), samples, rtol=1e-5, atol=1e-6)


def test_nearest_images_are_those_of_a_plain_search(monkeypatch):
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (50, 3, 3, 2), dtype=np.uint8)
    samples = rng.uniform(-1.1, 1.1, (4, 3, 3, 2))
    monkeypatch.setattr(sampling, "COMPARED_VALUES", 7 * 18)  # chunks of 7 images
    indices, distances = sampling.nearest_images(samples, train, 9)
    levels = to_pixels(samples).reshape(4, -1).astype(float)
    every = cdist(levels, train.reshape(50, -1).astype(float)) * 2 / 255
    np.testing.assert_array_equal(indices, np.argsort(every, axis=1)[:, :9])
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :9], rtol=1e-12)


def test_a_copy_is_at_distance_0_and_one_pixel_from_black_to_white_at_2():
    train = np.zeros((2, 4, 4, 1), np.uint8)
    train[1, 2, 3] = 255
    indices, distances = sampling.nearest_images(np.full((1, 4, 4, 1), -1.0), train, 2)
    np.testing.assert_array_equal(indices, [[0, 1]])
    np.testing.assert_array_equal(distances, [[0, 2]])


# The launcher


def _images(folder, count=40):
    """Images in every colour, each its own."""
    folder.mkdir()
    for index in range(count):
        Image.new("RGB", (SIZE, SIZE), (6 * index, 255 - 5 * index, index)).save(folder / f"{index}.png")


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    """A DCGAN of two channels after 2 and 4 updates on a folder of images, which has moved since."""
    root = tmp_path_factory.mktemp("run")
    _images(root / "images")
    changes = {"data.path": root / "images", "data.cache_dir": root / "cache", "data.image_size": SIZE, "model.width": 2}
    changes |= {"batch_size": 8, "n_critic": 1, "latent.dim": 3, "steps": 4, "checkpoint_every": 2, "eval_every": 4}
    changes |= {"eval.draws": 1, "eval.samples": 10, "generator.learning_rate": 0.1, "devices": 1}
    changed = [f"--config.{key}={value}" for key, value in changes.items()]
    code, _, error = command("run", "--config=configs/wgan_gp.py:folder", f"--workdir={root / 'run'}", *changed)
    assert (code, error) == (0, "")
    (root / "images").rename(root / "moved")
    shutil.rmtree(root / "cache")
    return root / "run"


@pytest.fixture(scope="module")
def toy(make_config, tmp_path_factory):
    """An untrained run of 1-D points."""
    workdir = tmp_path_factory.mktemp("toy")
    config = make_config("wgan_gp.py:gaussian", {"model.width": 4})
    write_json(workdir / "config.json", config.to_dict())
    state = jax.jit(make_parts(config, (1,))[1].init_state)(jax.random.key(0))
    checkpoints = Checkpoints(workdir / "checkpoints")
    checkpoints.save(1, state, {"shape": (1,), "data": "", "scaling": PLAIN._asdict()})
    checkpoints.wait()
    return workdir


@pytest.fixture
def call(monkeypatch, capsys):
    """Returns call(workdir, *flags) -> stdout: the launcher in this process, whose JAX is set already."""
    monkeypatch.setattr(runtime, "configure_jax", lambda config: None)

    def call(workdir, *arguments):
        sample.sample([f"--workdir={workdir}", *map(str, arguments)])
        return capsys.readouterr().out

    return call


def _cells(path, columns):
    """The images [n, SIZE, SIZE, C] of a grid; words stand on white above and below it."""
    with Image.open(path) as picture:
        sheet = np.asarray(picture.convert("RGB"))
    sheet = sheet[(sheet[:, 0] < 255).any(axis=1)]
    pitch = SIZE * SCALE + GAP
    rows = (len(sheet) - GAP) // pitch
    assert len(sheet) == rows * pitch + GAP
    starts = [(GAP + row * pitch, GAP + column * pitch) for row in range(rows) for column in range(columns)]
    return np.stack([sheet[y : y + SIZE * SCALE : SCALE, x : x + SIZE * SCALE : SCALE] for y, x in starts])


def _samples(call, workdir, folder, *arguments):
    call(workdir, f"--out={folder / 'samples.npz'}", *arguments)
    with np.load(folder / "samples.npz") as arrays:
        return arrays["samples"]


@pytest.mark.slow
def test_a_grid_single_files_and_an_npz_hold_the_same_images(run, call, tmp_path):
    images = _samples(call, run, tmp_path, "--num=70")
    assert (images.shape, images.dtype) == ((70, SIZE, SIZE, 3), np.uint8)
    assert len(np.unique(images, axis=0)) == 70
    call(run, f"--out={tmp_path / 'grid.png'}", "--num=9")
    np.testing.assert_array_equal(_cells(tmp_path / "grid.png", 3), images[:9])
    call(run, f"--out={tmp_path / 'single'}/", "--num=66")
    names = sorted(path.name for path in (tmp_path / "single").iterdir())
    assert names == [f"{index:06d}.png" for index in range(66)]
    for index, name in enumerate(names):
        with Image.open(tmp_path / "single" / name) as image:
            np.testing.assert_array_equal(np.asarray(image), images[index])


def test_an_existing_folder_needs_no_slash(run, call, tmp_path):
    assert str(tmp_path) in call(run, f"--out={tmp_path}", "--num=1")
    assert [path.name for path in tmp_path.iterdir()] == ["000000.png"]


def test_a_folder_of_images_is_left_alone(run, call, tmp_path):
    (tmp_path / "notes.txt").write_text("of what")
    call(run, f"--out={tmp_path}", "--num=2")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for out in (tmp_path, f"{tmp_path}/"):
        with pytest.raises(UserError, match="holds images already; name an empty or a new folder") as caught:
            call(run, f"--out={out}", "--num=1", "--seed=1")
        assert len(caught.value.lines) == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_samples_are_of_the_seed_the_step_and_the_average(run, call, tmp_path):
    images = _samples(call, run, tmp_path, "--num=5")
    np.testing.assert_array_equal(_samples(call, run, tmp_path, "--num=65")[:5], images)
    np.testing.assert_array_equal(_samples(call, run, tmp_path, "--num=5", "--step=4"), images)
    for other in ("--seed=1", "--step=2", "--raw"):
        assert not np.array_equal(_samples(call, run, tmp_path, "--num=5", other), images)


def test_interpolations_go_from_sample_to_sample(run, call, tmp_path):
    images = _samples(call, run, tmp_path, "--num=6")
    said = call(run, f"--out={tmp_path / 'ways.png'}", "--num=3", "--interpolate=5")
    assert said == f"3 interpolations of step 4: {tmp_path / 'ways.png'}\n"
    cells = _cells(tmp_path / "ways.png", 5).reshape(3, 5, SIZE, SIZE, 3)
    np.testing.assert_array_equal(cells[:, 0], images[::2])
    np.testing.assert_array_equal(cells[:, -1], images[1::2])
    assert (np.abs(np.diff(cells.astype(int), axis=1)).sum((2, 3, 4)) > 0).all()
    call(run, f"--out={tmp_path / 'one.png'}", "--num=1", "--interpolate=5")
    np.testing.assert_array_equal(_cells(tmp_path / "one.png", 5), cells[0])


def test_a_walk_is_a_loop_through_samples(run, call, tmp_path):
    images = _samples(call, run, tmp_path, f"--num={4 * pictures.STOPS}")
    call(run, f"--out={tmp_path / 'walk.gif'}", "--num=4")
    with Image.open(tmp_path / "walk.gif") as film:
        assert film.info["loop"] == 0
        assert film.n_frames == pictures.STOPS * pictures.STEPS
        for stop in range(pictures.STOPS):
            film.seek(stop * pictures.STEPS)
            assert film.info["duration"] == pictures.MILLISECONDS
            film.convert("RGB").save(tmp_path / "frame.png")
            cells = _cells(tmp_path / "frame.png", 2)
            wanted = images[stop :: pictures.STOPS].astype(int)
            assert np.abs(cells - wanted).mean() < 6  # a palette of 256 colours


@pytest.mark.parametrize(("flags", "count"), [(["--interpolate=5"], 3 * 5), ([], 3 * pictures.STOPS * pictures.STEPS)])
def test_all_images_between_latents_are_generated_at_once(run, call, tmp_path, monkeypatch, flags, count):
    counts, make = [], sampling.make_generate

    def counted(*arguments):
        generate = make(*arguments)
        return lambda latents: counts.append(len(latents.z)) or generate(latents)

    monkeypatch.setattr(sampling, "make_generate", counted)
    call(run, f"--out={tmp_path / ('ways.png' if flags else 'walk.gif')}", "--num=3", *flags)
    assert counts == [count]


def test_nearest_training_images_stand_beside_samples(run, call, tmp_path):
    images = _samples(call, run, tmp_path, "--num=4")
    place = (f"--config.data.path={run.parent / 'moved'}", f"--config.data.cache_dir={tmp_path / 'cache'}")
    call(run, f"--out={tmp_path / 'near.png'}", "--num=4", "--nearest=3", *place)
    cells = _cells(tmp_path / "near.png", 4).reshape(4, 4, SIZE, SIZE, 3)
    np.testing.assert_array_equal(cells[:, 0], images)
    colours = cells[:, 1:, 0, 0].astype(int)
    index = colours[..., 2]  # the blue of training image i is i
    np.testing.assert_array_equal(colours, np.stack([6 * index, 255 - 5 * index, index], axis=-1))
    distances = np.linalg.norm((cells[:, :1].astype(float) - cells[:, 1:]).reshape(4, 3, -1), axis=2)
    assert (np.diff(distances, axis=1) >= 0).all()
    with Image.open(tmp_path / "near.png") as picture:
        page, title = np.asarray(picture), picture.text["Title"]
    assert title == "wgan_gp on folder moved, seed 0, step 4"
    pitch = SIZE * SCALE + GAP
    top = np.flatnonzero((page[:, 0] < 255).any(axis=1))[0]
    above, right = page[:top], page[top:, 4 * pitch + GAP :]
    assert all((right[row * pitch : (row + 1) * pitch] < 128).any() for row in range(4))  # a caption each
    assert all((above[:, column * pitch : (column + 1) * pitch] < 128).any() for column in range(5))  # of columns, distances
    assert (page[top + 4 * pitch + GAP :] < 128).any()  # and what they are


def test_the_default_files_are_in_the_run_and_do_not_meet(run, call):
    for flags in ((), ("--interpolate=2",), ("--raw",), ("--raw", "--interpolate=2")):
        call(run, "--num=2", *flags)
    names = {path.name for path in (run / "samples").iterdir()}
    kinds = ("", "_interpolations", "_raw", "_raw_interpolations")
    assert {f"step_00000004_seed_0{kind}.png" for kind in kinds} <= names


def test_the_launcher_exports_what_it_samples(run, tmp_path):
    """In a process of its own, from the workdir alone; the artefact gives the samples of the same seed."""
    shutil.copytree(run, tmp_path / "copy")
    command = [sys.executable, "-m", "experiments.sample", f"--workdir={tmp_path / 'copy'}", "--num=3"]
    command += [f"--export={tmp_path / 'generator'}", f"--out={tmp_path / 'samples.npz'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads((tmp_path / "generator.json").read_text())
    assert (said["step"], said["generator"], said["latent"]) == (4, "ema", {"law": "normal", "dim": 3})
    generate = jax.export.deserialize(bytearray((tmp_path / "generator").read_bytes())).call
    key = jax.random.key(0)
    latents = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (3,)))(np.arange(3))
    with np.load(tmp_path / "samples.npz") as ours:
        np.testing.assert_allclose(latents, ours["latents"], rtol=1e-6)
        assert np.abs(to_pixels(generate(latents)).astype(int) - ours["samples"]).max() <= 1


def test_export_alone_draws_nothing(run, call, tmp_path):
    before = set(run.rglob("*"))
    said = call(run, f"--export={tmp_path / 'generator'}", "--raw", "--step=2")
    assert said.startswith("generator of step 2: ")
    assert set(run.rglob("*")) == before
    assert json.loads((tmp_path / "generator.json").read_text())["generator"] == "raw"


def test_an_export_replaces_an_export_and_nothing_else(toy, call, tmp_path):
    shutil.copytree(toy, tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text("[]")
    (tmp_path / "run" / "damaged.json").write_text("{")
    (tmp_path / "run" / "folder.json").mkdir()
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    wrong = {"config": "config", "summary": "summary", "damaged": "damaged", "config.json": "config", "folder": "folder"}
    for name, taken in wrong.items():
        with pytest.raises(UserError) as caught:
            call(tmp_path / "run", f"--export={tmp_path / 'run' / name}")
        line = f"--export: {tmp_path / 'run' / taken}.json is there already and is no export; choose another name"
        assert caught.value.lines == (line,)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    for flags in ((), ("--raw",)):
        call(toy, f"--export={tmp_path / 'generator'}", *flags)
    assert json.loads((tmp_path / "generator.json").read_text())["generator"] == "raw"
    assert {path.name for path in tmp_path.iterdir()} == {"run", "generator", "generator.json"}


def test_an_export_that_fails_leaves_the_one_before(toy, call, tmp_path, monkeypatch):
    call(toy, f"--export={tmp_path / 'generator'}")
    before = (tmp_path / "generator").read_bytes()

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wgan_jax.paths.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        call(toy, f"--export={tmp_path / 'generator'}", "--raw")
    assert (tmp_path / "generator").read_bytes() == before


def test_points_are_plotted_stored_and_exported(toy, call, tmp_path):
    points = _samples(call, toy, tmp_path, "--num=5")
    assert (points.shape, points.dtype) == ((5, 1), np.float32)
    call(toy, f"--export={tmp_path / 'generator'}")
    assert {path.name for path in toy.iterdir()} == {"config.json", "checkpoints"}
    call(toy)
    with Image.open(toy / "samples" / "step_00000001_seed_0.png") as picture:
        assert picture.size == (550, 484)
    latent = json.loads((tmp_path / "generator.json").read_text())["latent"]
    assert latent == {"law": "uniform", "dim": 1, "low": 0.0, "high": 5.0}


MISTAKES = {
    "no samples": (["--num=0"], "--num: 0 is not a whole number from 1 to 1000000"),
    "fewer": (["--num=-3"], "--num: -3 is not"),
    "a seed": (["--seed=-1"], "--seed: -1 is not"),
    "a format": (["--out=x.jpg"], "ends neither in .png nor in .npz, .gif or /"),
    "no name": (["--out="], "--out: is empty; name a path"),
    "no folder": (["--out=nowhere/x.png"], "--out: no directory HERE/nowhere"),
    "no folder's folder": (["--out=nowhere/x/"], "--out: no directory HERE/nowhere"),
    "a file as folder": (["--out=README.md/"], "--out: HERE/README.md/ is not a directory"),
    "one step": (["--interpolate=1"], "--interpolate: 1 is not a whole number from 2 to 10000"),
    "an npz of ways": (["--interpolate=3", "--out=x.npz"], "--interpolate: makes a .png, not --out=HERE/x.npz"),
    "a film of neighbours": (["--nearest=3", "--out=x.gif"], "--nearest: makes a .png, not --out=HERE/x.gif"),
    "no neighbour": (["--nearest=0"], "--nearest: 0 is not"),
    "two pictures": (["--nearest=3", "--interpolate=3"], "choose one"),
    "an unknown step": (["--step=3"], "--step: no checkpoint '3'"),
    "export nowhere": (["--export=nowhere/generator"], "--export: no directory HERE/nowhere"),
    "export into a folder": (["--export=configs"], "--export: HERE/configs: name a file"),
    "export to no name": (["--export="], "--export: is empty; name a path"),
    "another model": (["--nearest=3", "--config.model.width=3"], "config.model.width: is the run's own"),
    "data for nothing": (["--config.data.path=images"], "only --nearest reads its data"),
    "a place without a value": (["--nearest=3", "--config.data.path"], "config.data.path: no value"),
    "a place of another type": (["--nearest=3", "--config.data.resident_mb=x"], "config.data.resident_mb: 'x' is not a whole"),
    "a place that cannot be": (["--nearest=3", "--config.data.resident_mb=-1"], "config.data.resident_mb: -1 is not a whole"),
    "data that is gone": (["--nearest=3"], "no such folder"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(run, call, mistake):
    arguments, message = MISTAKES[mistake]
    with pytest.raises(UserError) as caught:
        call(run, *arguments)
    assert len(caught.value.lines) == 1
    assert message.replace("HERE", str(Path.cwd())) in caught.value.lines[0]


@pytest.mark.parametrize("flag", ["--out=x.gif", "--out=x/", "--interpolate=3", "--nearest=1"])
def test_points_have_no_pictures_of_images(toy, call, flag):
    with pytest.raises(UserError, match="this run makes float32 vectors") as caught:
        call(toy, flag)
    told, of = flag.replace("--out=", f"--out={Path.cwd()}/"), "uint8 images" if flag == "--out=x/" else "images and volumes"
    assert caught.value.lines == (
        f"{told}: of {of}, and this run makes float32 vectors; a .png shows them, an .npz holds them",
    )


def test_other_images_than_those_of_the_run_are_refused(run, call, tmp_path):
    _images(tmp_path / "others", 41)
    place = (f"--config.data.path={tmp_path / 'others'}", f"--config.data.cache_dir={tmp_path / 'cache'}")
    with pytest.raises(UserError, match="not those that this run was trained on"):
        call(run, "--nearest=1", *place)


def test_more_neighbours_than_images_are_refused(run, call, tmp_path):
    place = (f"--config.data.path={run.parent / 'moved'}", f"--config.data.cache_dir={tmp_path / 'cache'}")
    with pytest.raises(UserError, match="--nearest: 33 asked for, but there are 32 training images"):
        call(run, "--nearest=33", *place)


def test_a_damaged_manifest_is_a_mistake(run, call, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    (tmp_path / "copy" / "checkpoints" / "step_00000004" / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="step_00000004: its manifest is damaged; choose another --step, or move it away"):
        call(tmp_path / "copy")
