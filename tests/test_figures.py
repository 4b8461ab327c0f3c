"""What figures say: their titles, series, labels and units; and that nothing in them is clipped, hidden or laid over."""

import itertools
import math

import jax
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from wgan_jax.data import digits, load_dataset
from wgan_jax.data.dataset import from_pixels, to_pixels
from wgan_jax.evaluation import figures, points, sheets
from wgan_jax.evaluation.registry import METRICS
from wgan_jax.features import FEATURES
from wgan_jax.models import build_networks
from wgan_jax.objectives.penalties import PENALTIES
from wgan_jax.report import drawing
from wgan_jax.report import figures as sweep_figures

INF = math.inf
TITLE = "configs/ablations/large_scale.py:ring8,paper=True: 320 points"
SCORE = "test Wasserstein excess\n(share of the real-real floor; lower is better)"


def drawn_texts(figure):
    """{words: box} of every text of a figure that is drawn, legends as a whole."""
    figure.draw_without_rendering()
    texts = [figure._suptitle] if figure._suptitle else []
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            labels = [label for tick in axis._update_ticks() for label in (tick.label1, tick.label2)]
            texts += [label for label in labels if label.get_visible() and axis.get_visible()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    legends = figure.legends + [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    return boxes + [("legend", legend.get_window_extent()) for legend in legends]


def assert_legible(figure):
    """Every text lies within the figure, and no two lie over each other."""
    boxes = drawn_texts(figure)
    width, height = figure.bbox.width, figure.bbox.height
    for words, box in boxes:
        assert -1 <= box.x0 < box.x1 <= width + 1, words
        assert -1 <= box.y0 < box.y1 <= height + 1, words
    for (words, a), (others, b) in itertools.combinations(boxes, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 1, (words, others)


def curves_of(axes):
    """{label: values} of the lines of a panel."""
    return {line.get_label(): np.asarray(line.get_ydata(), float) for line in axes.lines}


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


# Titles


@pytest.mark.parametrize(
    ("spec", "changes", "title"),
    [
        ("wgan_gp.py:ring8", {"seed": 3}, "wgan_gp on ring8, seed 3, step 2,000"),
        ("wgan.py:fashion_mnist", {}, "wgan on fashion_mnist, seed 0, step 2,000"),
        ("dragan.py:folder", {"data.path": "/data/a $ of $ cats"}, "dragan on folder a $ of $ cats, seed 0, step 2,000"),
    ],
)
def test_a_title_says_method_data_seed_and_step(make_config, spec, changes, title):
    config = make_config(spec, changes)
    assert figures.run_title(config, 2000) == title
    figure = figures.loss_figure([{"step": 2000, "critic_loss": 1.0}], config)
    assert figure._suptitle.get_text().replace("\\$", "$") == title
    figure.draw_without_rendering()  # no formula is seen in it


# Points


def _pixels(figure, color):
    """How many pixels of a figure's panel are within a little of a colour."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
    return int((np.abs(picture - 255 * np.array(to_rgb(color))).max(axis=2) < 60).sum())


def test_real_and_generated_points_are_seen_where_they_lie_on_each_other():
    angles = np.arange(2000) % 8 * np.pi / 4
    real = 1.4 * np.stack([np.cos(angles), np.sin(angles)], axis=1) + np.random.default_rng(0).normal(0, 0.014, (2000, 2))
    figure = points.points_figure(real[::-1], "ring8", real, lambda x: x[:, 0])
    assert legend_of(figure) == ["real (n = 2,000)", "generated (n = 2,000)"]
    alone = points.points_figure(None, "ring8", real)
    assert legend_of(alone) == ["real (n = 2,000)"]
    frame = _pixels(points.points_figure(np.full((1, 2), 9.0), "ring8", real[:8], lambda x: x[:, 0]), "black")
    assert _pixels(figure, points.GENERATED) > 8 * 10
    assert _pixels(figure, "black") > frame + 8 * 10
    assert _pixels(alone, "black") > 0
    assert_legible(figure)
    far = points.points_figure(np.array([[0, 0], [9, 0], [0, -9.0]]), "ring8", real, lambda x: x[:, 0])
    assert legend_of(far) == ["real (n = 2,000)", "generated (n = 3, 2 outside)"]


def test_points_of_one_dimension_are_histograms_beside_the_critic():
    x = np.random.default_rng(0).normal(2, 1, (500, 1))
    figure = points.points_figure(x, "gaussian", x + 1, lambda at: 3 * at[:, 0])
    assert legend_of(figure) == ["real (n = 500)", "generated (n = 500)", "critic's score"]
    histogram, critic = figure.axes
    assert (histogram.get_xlabel(), histogram.get_ylabel(), critic.get_ylabel()) == (
        "x (data units)",
        "density",
        "critic's score",
    )
    (line,) = critic.lines
    np.testing.assert_allclose(line.get_ydata(), 3 * line.get_xdata())
    assert_legible(figure)


# Curves


def lines_of(count=200, spike=0.0):
    """Lines of metrics, an evaluation on every tenth."""
    lines = []
    for index in range(1, count + 1):
        high = spike * math.exp(-index / 2)
        line = {"step": 100 * index, "critic_loss": -1 - high, "generator_loss": 0.5, "penalty": 0.02 + high}
        line |= {"critic_input_gradient_norm": 1.1, "wasserstein_estimate": 2 + high}
        if index % 10 == 0:
            line |= {
                "eval/estimate_train": 2.0,
                "eval/estimate_heldout": 1.5 if index != 50 else None,
                "eval/lipschitz_q99": 1.2,
            }
            line |= {"eval/estimate_normalised": 1.25, "eval/c_transform_bound": 1.4}
            line |= {"eval/wasserstein_empirical": 3.5, "eval/wasserstein_floor": 2.7}
        lines.append(line)
    return lines


def test_the_penalty_is_drawn_as_it_enters_the_loss(make_config):
    figure = figures.loss_figure(lines_of(), make_config("wgan_gp.py:digits", {"penalty.weight": 7.0}))
    losses, slope = figure.axes
    drawn = curves_of(losses)
    assert list(drawn) == ["critic's loss", "penalty in the critic's loss\n(weight 7 x penalty)", "generator's loss"]
    np.testing.assert_allclose(drawn["penalty in the critic's loss\n(weight 7 x penalty)"], 0.14)
    np.testing.assert_allclose(curves_of(slope)["mean over a batch (interpolates)"], 1.1)
    assert slope.get_xlabel() == "generator updates"
    assert_legible(figure)


def test_a_lazy_penalty_is_drawn_as_it_enters_the_loss_on_average(make_config):
    figure = figures.loss_figure(lines_of(), make_config("wgan_gp.py:digits", {"penalty.weight": 7.0, "penalty.every": 4}))
    (label,) = (name for name in curves_of(figure.axes[0]) if "penalty" in name)
    assert label == "penalty, beside the critic's loss\n(weight 7 x penalty,\n4 times it at every 4. update)"
    np.testing.assert_allclose(curves_of(figure.axes[0])[label], 0.14)
    assert_legible(figure)


@pytest.mark.parametrize("name", PENALTIES)
def test_what_the_penalty_wants_of_the_slope_is_marked(make_config, name):
    figure = figures.loss_figure(
        lines_of(20), make_config("wgan_gp.py:digits", {"penalty.name": name, "clip": 0.01 * (name == "none")})
    )
    marked = [set(values) for label, values in curves_of(figure.axes[1]).items() if "penal" in label]
    assert marked == ([] if name == "none" else [{0.0 if name == "zero_centred" else 1.0}])


def test_estimates_and_distances_have_panels_of_their_own_and_say_n(make_config):
    figure = figures.wasserstein_figure(lines_of(), make_config("wgan_gp.py:digits"), 297, "network units")
    estimates, distances = map(curves_of, figure.axes)
    assert list(estimates) == ["this batch", "training data, averaged generator", "held-out data, averaged generator"]
    held_out = estimates["held-out data, averaged generator"]
    assert np.flatnonzero(np.isnan(held_out)).tolist() == [4]  # a gap, and no line over it
    assert distances["empirical W1, generated to held-out\n(n = 297)"][0] == 3.5
    assert distances["the same, real to held-out (n = 297)"][0] == 2.7
    assert not [label for label in [*estimates, *distances] if "_" in label or "/x" in label]
    assert figure.axes[1].get_ylabel() == "Wasserstein-1 distance\n(network units; lower is better)"
    assert_legible(figure)


def test_an_early_spike_does_not_flatten_the_rest(make_config):
    config = make_config("wgan_gp.py:digits")
    calm, wild = (figures.loss_figure(lines_of(spike=spike), config) for spike in (0, 1000))
    assert calm.axes[0].get_yscale() == "linear"
    losses = wild.axes[0]
    wild.draw_without_rendering()
    low, high = (losses.transData.transform((0, y))[1] for y in (-1, 0.5))  # what all but the first lines lie between
    assert (high - low) / losses.bbox.height > 0.15
    assert losses.get_ylim()[1] > 1000  # and the spike is seen
    assert "logarithmic beyond" in losses.get_ylabel()
    assert_legible(wild)


@pytest.mark.parametrize("lines", [[], lines_of(1), [{"step": 100, "critic_loss": None}]])
def test_curves_of_next_to_nothing(make_config, lines):
    config = make_config("wgan_gp.py:digits")
    for figure in (figures.loss_figure(lines, config), figures.wasserstein_figure(lines, config, 2, "network units")):
        assert_legible(figure)


# Evaluations


def evaluation(step, values, n=500, real=0.3):
    told = {"n_fake": n, "features": "classifier"}
    beside = {"mean": real, "std": 0.0, "n": 297}
    values = {name: {"mean": x, "std": 0.1, "real": beside if real is not None else None, **told} for name, x in values.items()}
    return {"step": step, "generator": "ema", "split": "test", "seeds": [0, 1], "values": values}


def test_evaluations_say_direction_features_and_both_n():
    entries = [evaluation(100 * i, {"precision": 0.1 * i, "wasserstein_excess": 1 / i, "mode_sigma": 1.0}) for i in (1, 2, 3)]
    del entries[0]["values"]["mode_sigma"]  # there only later
    entries[1]["values"]["precision"] |= {"mean": None, "std": None}  # and not there once
    figure = figures.evaluations_figure(entries, "wgan_gp on digits, seed 0")
    precision, excess, sigma = figure.axes
    assert precision.get_title() == "precision (higher is better)\nclassifier, n = 500, real n = 297"
    assert excess.get_title().startswith("excess of W1 / floor (lower is better)\n")
    assert sigma.get_title().startswith("spread within modes / true one\n")
    curve, real = (line.get_ydata() for line in precision.lines[:2])
    np.testing.assert_allclose(np.asarray(curve, float), [0.1, np.nan, 0.3])
    assert set(real) == {0.3}
    assert precision.get_shared_x_axes().joined(precision, sigma)
    assert figure._suptitle.get_text().startswith("wgan_gp on digits, seed 0: averaged generator, test split, mean and")
    assert legend_of(figure) == ["generated", "real data in the generator's place"]
    assert_legible(figure)


def test_thirty_values_are_legible():
    names = [name for metric in METRICS.values() for name in metric.values]
    assert not [name for name in names if "_" in drawing.words(name)]
    entries = [evaluation(step, dict.fromkeys(names, step / 7), 10_000) for step in (10_000, 100_000)]
    assert_legible(figures.evaluations_figure(entries, "wgan_gp on digits, seed 0"))


# Sheets


def noise(n, height, width, channels=3):
    return np.random.default_rng(0).uniform(-1, 1, (n, height, width, channels))


@pytest.mark.parametrize(
    ("shape", "columns", "size"),
    [
        ((64, 8, 8, 1), 0, (8 * 66 + 2, 8 * 66 + 2)),
        ((3, 64, 64, 3), 0, (2 * 66 + 2, 2 * 66 + 2)),
        ((16, 16, 64, 3), 0, (2 * 258 + 2, 8 * 66 + 2)),  # about as high as wide
        ((4, 28, 28, 1), 0, (2 * 86 + 2, 2 * 86 + 2)),
        ((1, 2, 600, 1), 0, (600 + 4, 2 + 4)),
        ((2, 100, 100, 3), 5, (2 * 102 + 2, 102 + 2)),
    ],
)
def test_a_grid_has_the_images_and_nothing_else(shape, columns, size):
    assert sheets.image_grid(noise(*shape), columns).size == size


def _find(page, grid):
    """Where a grid lies on a page: to the last pixel."""
    page, grid = (np.asarray(picture.convert("RGB")).astype(int) for picture in (page, grid))
    for top in range(page.shape[0] - grid.shape[0] + 1):
        if (page[top : top + grid.shape[0], : grid.shape[1]] == grid).all():
            return top, page
    raise AssertionError("the grid is not on the page")


@pytest.mark.parametrize("size", [8, 33, 64, 256])
def test_words_of_a_sheet_stand_beside_its_columns_and_rows(size):
    images, words = noise(6, size, size, 1), ["3.42  3.51", "12.34  13.57", "0.00  8.00"]
    header = ["sample", "nearest", "distances"]
    page = sheets.table_of_images(images, 2, header, words, "wgan_gp on digits, seed 0, step 60. " * 4)
    grid = sheets.image_grid(images, 2)
    top, pixels = _find(page, grid)
    ink = pixels.max(axis=2) < 128
    pitch = grid.height // 3
    for column in range(2):
        middle = 1 + pitch * column + pitch // 2
        assert ink[:top, middle - pitch // 2 : middle + pitch // 2].any()
    for row in range(3):
        assert ink[top + row * pitch : top + (row + 1) * pitch, grid.width :].any()
    assert ink[:top, grid.width :].any()
    assert ink[top + grid.height :].any()
    edge = pixels.copy()
    edge[top : top + grid.height, : grid.width] = 255
    assert (edge[[0, -1]] == 255).all()  # no letter is cut
    assert (edge[:, [0, -1]] == 255).all()


def test_a_sheet_by_class_has_shares_beside_real_ones():
    told = []

    def table(images, columns, header, rows, caption):
        told.append((images.shape, rows, caption))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sheets, "table_of_images", table)
        labels, real = np.array([0, 0, 0, 2]), np.array([0, 1, 1, 2])
        sheets.images_by_class(noise(4, 8, 8, 1), labels, ["zero", "one", "two"], real, "Digits.", columns=2)
        sheets.images_by_class(noise(4, 8, 8, 1), labels, [f"class {i}" for i in range(60)], None, "Many.")
    assert told[0] == (
        (6, 8, 8, 1),
        ["zero: 75% (real 25%)", "one: 0% (real 50%)", "two: 25% (real 25%)"],
        "Digits.",
    )
    assert (len(told[1][1]), told[1][2]) == (50, "Many. The first 50 of 60 classes.")


@pytest.mark.parametrize("as_stored", ["pixels", "negated"])
def test_a_run_of_images_has_real_ones_beside_generated_ones(make_config, negated, tmp_path, as_stored):
    config = make_config("wgan_gp.py:digits", {"model.width": 4, "latent.dim": 2})
    pixels = digits.load(config.data)
    dataset = negated(pixels) if as_stored == "negated" else pixels
    networks = build_networks(config, dataset.shape)
    generator, critic = networks.init_generator(jax.random.key(0)), networks.init_critic(jax.random.key(1))
    artist = figures.make_artist(config, dataset, networks)
    artist.draw(tmp_path / "step.png", 60, generator, critic)
    artist.draw_last(tmp_path, 60, generator, critic, FEATURES["pixels"](config, dataset))
    pictures = {path.stem: Image.open(path) for path in tmp_path.glob("*.png")}
    assert set(pictures) == {"step", "samples", "real", "classes"}
    title = "wgan_gp on digits, seed 0, step 60"
    assert {name: picture.text["Title"] for name, picture in pictures.items()} == {
        "step": title,
        "samples": f"{title}, averaged generator",
        "classes": f"{title}, averaged generator",
        "real": "the data of wgan_gp on digits, seed 0",
    }
    rows = np.sort(np.random.default_rng(0).permutation(297)[:64])
    real = sheets.image_grid(from_pixels(pixels.validation.images[rows]))
    _find(pictures["real"], real)
    top, page = _find(pictures["samples"], real)
    generated = page[top : top + real.height, real.width + 16 : 2 * real.width + 16]
    np.testing.assert_array_equal(generated, np.asarray(pictures["step"].convert("RGB")))


def test_a_run_of_points_has_a_picture_of_real_ones(make_config, tmp_path):
    config = make_config("wgan_gp.py:gaussian", {"model.width": 4})
    dataset = load_dataset(config)
    networks = build_networks(config, dataset.shape)
    generator, critic = networks.init_generator(jax.random.key(0)), networks.init_critic(jax.random.key(1))
    artist = figures.make_artist(config, dataset, networks)
    artist.draw_last(tmp_path, 60, generator, critic, None)
    artist.draw_curves(tmp_path, lines_of(20), 2000)
    assert {path.name for path in tmp_path.iterdir()} == {"samples.png", "real.png", "loss.png", "wasserstein.png"}


# Sweeps

LONG = [
    f"dragan, critic.learning_rate 1e-{i}, generator_activation leaky_relu, perturbation uniform_interpolated, weight {i}"
    for i in range(25)
]


def column(index, n, label, place=None, level=""):
    rng = np.random.default_rng(index)
    values = np.where(rng.random(n) < 0.1 * (index % 4), INF, 10 ** rng.normal(index / 10 - 1, 0.3, n) - 0.05)
    return sweep_figures.Column(label, level, values, rng.random(n) < 0.2, place)


STRIPS = [column(i, (1, 5, 30)[i % 3], label, level=f"method {i % 3}") for i, label in enumerate(LONG)]
RESULTS = {
    "25 settings with long labels": (STRIPS, ""),
    "one run a setting": ([column(i, 1, f"weight {i}") for i in range(3)], ""),
    "nothing finite": ([sweep_figures.Column("clip 1", "", np.full(4, INF), np.full(4, True))], ""),
    "ten levels": ([column(j, 5, "", 10.0**i, f"{LONG[j]}, {LONG[j]}") for j in range(10) for i in range(4)], "penalty.weight"),
    "places close to each other": ([column(i, 3, "", x) for i, x in enumerate((1, 1.1, 1.2, 1.21, 100, 10_000))], "weight"),
    "formulas": ([column(0, 3, r"data.path of $\frac$ a", level=r"$\x$ b")], ""),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_legible(name):
    columns, axis = RESULTS[name]
    figure = sweep_figures.results_figure(columns, SCORE, axis, TITLE)
    assert_legible(figure)
    assert figure._suptitle.get_text().replace("\n", " ") == TITLE
    drawn = sum(len(line.get_xdata()) for line in figure.axes[0].lines if line.get_marker() not in ("None", ""))
    assert drawn == sum(len(column.values) for column in columns)


def test_levels_and_failures_of_results_look_different():
    values, failed = np.array([0.1, 0.2, INF]), np.array([False, True, True])
    columns = [sweep_figures.Column("", f"level {j}", values, failed, 10.0**i) for j in range(10) for i in range(3)]
    figure = sweep_figures.results_figure(columns, SCORE, "weight")
    looks = [(h.get_marker(), h.get_color()) for h in figure.legends[0].legend_handles]
    assert len(set(looks)) == len(looks) - 1  # failed and non-finite are both crosses, of two sizes
    assert legend_of(figure) == [*(f"level {j}" for j in range(10)), "median", "failed", "non-finite, on the frame"]
    colours = [
        [h.get_color() for h in figure.axes[0].lines if h.get_marker() == "x" and h.get_markersize() == size] for size in (5, 7)
    ]
    assert colours[0] == [color for _, color in looks[:10]]  # whose failures they are
    assert colours[1] == 3 * colours[0][:1] + 3 * colours[0][1:2] + [c for c in colours[0][2:] for _ in range(3)]


def curve(label, n, dies=0, count=20, scale=0.1):
    rng, steps = np.random.default_rng(n), 1000 * np.arange(1, count + 1)
    values = scale * (1 + 20 * np.exp(-steps / 3000))[:, None] * np.exp(rng.normal(0, 0.3, (count, n))) - 0.05
    values[count // 2 :, :dies] = INF
    budgets = {"generator updates": steps, "critic steps": 5 * steps, "seconds of a device": 0.123 * steps}
    return sweep_figures.Curve(label, budgets, values)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_sweep_curves_are_legible(count):
    curves = [curve(LONG[i], (1, 8, 30)[i % 3], i) for i in range(count)]
    figure = sweep_figures.sweep_curves_figure(curves, SCORE, TITLE)
    assert_legible(figure)
    assert [axes.get_xlabel() for axes in figure.axes] == ["generator updates", "critic steps", "seconds of a device"]
    assert [label.replace("\n", " ") for label in legend_of(figure)[:count]] == LONG[:count]


def test_bands_are_within_the_frame_and_a_median_that_is_lost_is_marked():
    wide = curve("wide", 8)
    wide.values[:, -3:] = 50.0  # the upper quartile, far above every median
    lost = curve("lost", 8, dies=6)
    figure = sweep_figures.sweep_curves_figure([wide, lost], SCORE)
    for axes in figure.axes:
        assert axes.get_ylim()[1] > 50
        band = axes.collections[0].get_paths()[0].vertices
        assert band[:, 1].max() == 50
        (cross,) = (line for line in axes.lines if line.get_marker() == "x")
        assert cross.get_xdata()[0] == lost.budgets[axes.get_xlabel()][10]
        assert cross.get_ydata()[0] == axes.get_ylim()[1]
    assert legend_of(figure) == ["wide", "lost", "half of the runs non-finite"]


def test_one_run_a_setting_has_no_band():
    figure = sweep_figures.sweep_curves_figure([curve("a", 1)], SCORE)
    assert not any(axes.collections for axes in figure.axes)


def test_budgets_and_thresholds_are_legible():
    best = sweep_figures.BestOf([1, 2, 5, 10, 20, 50, 100], [INF, INF, 2, 1, 0.5, 0.2, 0.1], np.linspace(0.5, 0, 7).tolist())
    budgets = sweep_figures.budget_figure(dict.fromkeys(LONG[:6], best), SCORE, TITLE)
    assert_legible(budgets)
    np.testing.assert_allclose(budgets.axes[0].lines[0].get_ydata(), [np.nan, np.nan, 2, 1, 0.5, 0.2, 0.1])
    rng = np.random.default_rng(0)
    names = ("wasserstein_excess", "wasserstein_quantile", "modes", "good_share", "precision", "recall", "smallest_class")
    scores = {name: {method: rng.random(50) for method in ("gan", "wgan_gp")} for name in names}
    scores["wasserstein_excess"]["gan"][:5] = INF
    thresholds = sweep_figures.thresholds_figure(scores, names[2:], TITLE)
    assert_legible(thresholds)
    excess, quantile, modes = (axes.get_xlabel() for axes in thresholds.axes[:3])
    assert excess == "excess of W1 / floor\nof at most ..."
    assert quantile == "W1 to the exact quantiles\nof at most ..."
    assert modes == "modes\nof at least ..."
    assert thresholds.axes[0].lines[0].get_ydata().max() == 0.9  # of 50 settings 5 are non-finite
    assert legend_of(thresholds) == ["gan, 50 settings", "wgan_gp, 50 settings"]


def test_eighteen_curves_look_different():
    looks = {(drawing.colour(i), drawing.dashes(i)) for i in range(18)}
    assert len(looks) == 18
    assert drawing.VERMILLION not in {color for color, _ in looks}


def test_images_are_encoded_as_they_are_saved(tmp_path):
    images = noise(2, 8, 8)
    sheets.save_images(tmp_path, images, 5)
    for index in range(2):
        with Image.open(tmp_path / f"{5 + index:06d}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), to_pixels(images[index]))
