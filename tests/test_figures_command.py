"""What the figures' numbers mean, by the papers and by hand, at --quick through the command; the command and wrong names."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.stats import norm

from experiments.figures import budget, budget_fashion_mnist, write_numbers
from experiments.figures.digits_modes import flatness
from experiments.figures.registry import FIGURES
from experiments.figures.stacked_digits import judge, stack
from experiments.figures.why_wgans_work import descend_exactly
from wgan_jax.data import digits
from wgan_jax.data.dataset import Split, Stored
from wgan_jax.models import build_networks, make_sampler

GALLERY = Path(__file__).parent.parent / "docs" / "gallery.md"


@pytest.fixture
def made(command, tmp_path):
    """Returns name -> the numbers of a figure that the command has just made."""

    def make(name, *flags):
        code, out, err = command("figures", name, "--quick", f"--out={tmp_path}/new", *flags)
        assert (code, err) == (0, "")
        assert re.search(
            rf"^{name}: .+\n(decoding .+\n)?    [\d.]+ s: {tmp_path}/new/{name}\.png, \.svg, \.json$", out, re.MULTILINE
        )
        made = {path.name for path in (tmp_path / "new").iterdir()}
        assert made == {f"{name}.{suffix}" for suffix in ("png", "svg", "json")}
        numbers = json.loads((tmp_path / "new" / f"{name}.json").read_text(), parse_constant=pytest.fail)
        words = ("names", "fitted_by", "methods", "losses", "laws", "settings", "sides")
        return {key: np.array(value, str if key in words else float) for key, value in numbers.items()}

    return make


def test_divergences(made):
    """The closed forms of two Gaussians; Arjovsky 2017, example 1; Weng 2019's piles; moments are what KL matches."""
    found = made("divergences")
    kl, reverse, js, tv, w1 = found["gaussians"].T
    shift, sigma = found["shifts"], 0.5
    np.testing.assert_allclose(kl, np.log(sigma) + (1 + shift**2) / (2 * sigma**2) - 0.5, rtol=1e-5)
    np.testing.assert_allclose(reverse, -np.log(sigma) + (sigma**2 + shift**2) / 2 - 0.5, rtol=1e-5)
    folded = sigma * np.sqrt(2 / np.pi) * np.exp(-(shift**2) / (2 * sigma**2)) + shift * (1 - 2 * norm.cdf(-shift / sigma))
    np.testing.assert_allclose(w1, folded, atol=1e-3)  # E |shift + (sigma - 1) Z|
    assert js[-1] == pytest.approx(np.log(2), abs=1e-3)
    assert tv[-1] == pytest.approx(1, abs=1e-3)
    theta, apart = found["thetas"], found["thetas"] != 0
    np.testing.assert_allclose(found["lines"][:, 4], abs(theta), atol=1e-6)
    assert (found["lines"][~apart, :4] == 0).all()
    np.testing.assert_allclose(found["lines"][apart, :4], [[np.inf, np.inf, np.log(2), 1]] * apart.sum(), rtol=1e-5)
    assert found["work"] == 5
    places = np.arange(4)
    assert (found["moves"] * abs(places[:, None] - places)).sum() == 5
    fits = dict(zip(("KL", "reverse KL", "JS", "W1"), found["fits"], strict=True))
    np.testing.assert_allclose(fits["KL"], [-0.4, np.sqrt(0.49 + 4 - 0.16)], atol=1e-3)  # the law's mean and sigma
    np.testing.assert_allclose(fits["reverse KL"], [-2, 0.7], atol=0.05)  # of the heavier mode


def test_nash_spiral(made):
    found = made("nash_spiral")
    optimistic = max(abs(np.roots([1, -(1 + 0.2j), 0.1j])))  # z' = (1 + 2 i h) z - i h z_before
    np.testing.assert_allclose(found["factors"], [np.sqrt(1.01), 1, np.sqrt(0.99**2 + 0.01), optimistic], rtol=1e-5)
    radius = np.linalg.norm(found["paths"], axis=-1)
    np.testing.assert_allclose(radius[0, -1], np.sqrt(2) * np.sqrt(1.01) ** 150, rtol=1e-4)
    assert 1.2 < radius[1].min() < radius[1].max() < 1.5
    np.testing.assert_allclose(radius[2:, -1], np.sqrt(2) * np.array([0.99504, 0.99489]) ** 150, rtol=0.02)


@pytest.mark.slow
def test_critic_vs_discriminator(made):
    """Arjovsky 2017, figure 2; in closed form shift * integral of p_r p_g / (p_r + p_g), by quadrature with SciPy."""
    found = made("critic_vs_discriminator")
    minimax, non_saturating, wasserstein = found["optimal_there"]
    np.testing.assert_allclose(minimax, [0.397973, 0.295864, 0.0124532, 4.46410e-6], rtol=1e-4)
    np.testing.assert_allclose(non_saturating, [0.602027, 2.704136, 5.987547, 9.999996], rtol=1e-4)
    np.testing.assert_allclose(wasserstein, 1, rtol=1e-4)
    np.testing.assert_allclose(found["trained"][2], 1 + found["trained_shifts"] / 20, rtol=0.15)  # 1 + shift / (2 lambda)
    assert found["trained"][0, -1] < 0.1 * found["trained"][0, 0]


def test_inverse_of_w1(made):
    found = made("inverse_of_w1")
    assert found["w1"] == pytest.approx(2, rel=1e-5)  # E |2 - Z / 2| where it is never negative
    assert found["w2_gaussians"] == pytest.approx(np.sqrt(4 + 0.25), rel=1e-5)
    assert found["w2"] == pytest.approx(found["w2_gaussians"], rel=1e-3)
    np.testing.assert_allclose([found["w1_dual"], found["w2_dual"]], [found["w1"], found["w2"]], rtol=1e-5)
    assert sorted(found["pairs1"]) == sorted(found["pairs2"]) == list(range(24))
    lipschitz = found["slopes"] <= 1
    np.testing.assert_allclose(found["apart"][lipschitz], 0, atol=1e-12)
    np.testing.assert_allclose(found["apart"][~lipschitz], 3.25 * (found["slopes"][~lipschitz] - 1), rtol=0.1)


@pytest.mark.slow
def test_dirac_gan(made):
    """Mescheder 2018, lemmas 2.2 and 2.3 and section 3; by hand, h = .2 and f'(0) = 1/2, of the Wasserstein loss 1."""
    found = made("dirac_gan")
    losses, methods = list(found["losses"]), list(found["methods"])
    radius = dict(zip(losses, np.linalg.norm(found["step_eigenvalues"], axis=-1).max(axis=-1), strict=True))
    assert np.isnan(radius["minimax"][methods.index("GP .35")])
    for loss in ("minimax", "non_saturating"):
        of = dict(zip(methods, radius[loss], strict=True))
        assert of["simultaneous"] == of["LP .35"] == pytest.approx(np.sqrt(1 + 0.01), rel=1e-5)
        assert of["alternating"] == pytest.approx(1, rel=1e-5)
        assert of["noise .7"] == pytest.approx(np.sqrt(1 - 0.2 * 0.49 / 2 + 0.01), rel=1e-5)
        assert of["consensus 1"] == pytest.approx(np.hypot(1 - 0.2 / 4, 0.1), rel=1e-5)
        assert of["zero-centred .15"] == pytest.approx(np.sqrt(1 - 0.2 * 0.3 + 0.01), rel=1e-5)
        assert of["zero-centred .5"] == pytest.approx(1 - 0.2 / 2, rel=1e-5)
        flow = found["field_eigenvalues"][losses.index(loss)]
        np.testing.assert_allclose(flow[methods.index("zero-centred .5")], [[-0.5, 0]] * 2, atol=1e-5)  # critical
        np.testing.assert_allclose(sorted(flow[methods.index("simultaneous")].tolist()), [[0, -0.5], [0, 0.5]], atol=1e-5)
    assert radius["wasserstein"][0] == pytest.approx(np.sqrt(1 + 0.04), rel=1e-5)
    ends = {
        loss: {methods[i] for i in np.flatnonzero(own < 0.01)} for loss, own in zip(losses, found["distances"], strict=True)
    }
    centred = {"consensus 1", "zero-centred .15", "zero-centred .5"}
    assert ends["wasserstein"] == ends["hinge"] == centred
    assert ends["minimax"] == ends["non_saturating"] == centred | {"noise .7"}


@pytest.mark.slow
def test_penalty_barrier(made):
    found = made("penalty_barrier")
    slopes, falling = found["slopes"], np.diff(found["ideal"], axis=1) < 0
    for ratio, down in zip(found["ratios"], falling, strict=True):
        turns = slopes[1:-1][down[:-1] & ~down[1:]]  # local minima on the grid
        assert turns[turns < 0] == pytest.approx([ratio - 1] if ratio < 1 else [], abs=0.06)
    worst = found["distances"][:, :, -1]  # [method, dimension, seed] at lambda 10
    two, one = np.median(worst, axis=-1)
    assert two[0] > 3 > 1 > one[0]
    assert (found["estimates"][0, 0, -1] < -0.1).any()
    assert (found["estimates"][1, :, -1] > -0.1).all()


@pytest.mark.slow
def test_clipping(made):
    """Gulrajani 2017, figure 1: gradients explode or vanish but with the penalty; clipped weights lie at -c and c."""
    found = made("clipping")
    assert found["norms"].shape == (4, 13)
    np.testing.assert_allclose(found["norms"][:, -1], 1, rtol=1e-5)  # d score / d score
    large, medium, small, penalised = found["norms"][:, 0]
    assert large > 100
    assert medium < 1e-6
    assert 0 < small < 1e-18
    assert 0.1 < penalised < 10
    np.testing.assert_allclose(found["weights"].sum(axis=1), [1, 1, 1, 0.999], atol=1e-3)
    assert (found["weights"][:3, [0, -1]].sum(axis=1) > 0.3).all()
    assert found["weights"][3, [0, -1]].sum() < 0.02


@pytest.mark.slow
def test_value_surfaces(made):
    """Gulrajani 2017, figure 1: on the ring a clipped critic is highest in the middle, where no data is."""
    found = made("value_surfaces")
    angles, at = 2 * np.pi * np.arange(8) / 8, found["at"]
    rows, columns = (abs(at - 2 / 1.414 * wave[:, None]).argmin(axis=1) for wave in (np.sin(angles), np.cos(angles)))
    on_modes = found["scores"][:, 0, rows, columns].mean(axis=1)
    in_the_middle = found["scores"][:, 0, len(at) // 2, len(at) // 2]
    clipped, penalised = on_modes - in_the_middle
    assert clipped < 0 < penalised
    assert found["share"][0, 0] < found["share"][1, 0] < 1
    assert (found["wasserstein"] > 0.4).all()


@pytest.mark.slow
def test_vanishing_gradients(made):
    """Arjovsky & Bottou 2017, figures 2 and 3, and theorem 2.2: a surface has no volume, noise gives it one."""
    found = made("vanishing_gradients")
    minimax, non_saturating, critic = found["norms"]  # [stage, look]
    assert (minimax[:, -1] < 0.1 * minimax.max(axis=1)).all()
    assert (non_saturating[:, -1] > 10 * minimax[:, -1]).all()
    assert (critic[:, 1:].max(axis=1) < 3 * critic[:, 1:].min(axis=1)).all()
    without, _, with_noise = found["accuracies"][:, -3:].mean(axis=1)
    assert without > 0.99
    assert with_noise < 0.9


@pytest.mark.slow
def test_mode_collapse(made):
    """Metz 2016, Gulrajani 2017: WGAN-GP finds modes where the GAN has fewer."""
    found = made("mode_collapse")
    ends = dict(zip(found["methods"], found["modes"][:, -5:].mean(axis=(1, 2)), strict=True))
    assert ends["WGAN-GP"] > ends["GAN"]
    assert 0 <= found["modes"].min() <= found["modes"].max() <= 8
    assert (found["maps"].sum(axis=(2, 3)) <= 1 + 1e-5).all()
    assert found["maps"].sum(axis=(2, 3)).max() > 0.5


@pytest.mark.slow
def test_gaussian_1d(made):
    """Xu 2020: F^-1 of z / 5 or its mirror is the ideal generator; a few hundred updates come near."""
    found = made("gaussian_1d")
    np.testing.assert_allclose(found["ideal"], norm.ppf(found["z"] / 5, 2), rtol=1e-5)
    assert (np.median(found["distances"][:, -1], axis=1) < 0.5).all()
    assert (found["distances"][:, -1] < found["distances"][:, 0]).all()
    np.testing.assert_allclose(found["distances"][:, -1], found["by_dimension"][:, 0])
    inner = slice(20, 80)
    away = np.abs(found["generators"] - found["ideal"])[:, :, inner].mean(axis=2)
    mirrored = np.abs(found["generators"] - found["ideal"][::-1])[:, :, inner].mean(axis=2)
    assert np.median(np.minimum(away, mirrored)) < 0.5


@pytest.mark.slow
def test_lipschitz(made):
    """Miyato 2018 bounds a reshaped kernel, not the layer; operators' norms and orthonormal layers bound the slope by 1."""
    found = made("lipschitz")
    steepest = dict(zip(found["methods"], found["norms"].max(axis=(1, 2, 3)), strict=True))
    assert steepest["SN of operators"] < 1.01
    assert steepest["SN of kernels"] > steepest["SN of operators"]
    assert steepest["none"] == max(steepest.values())
    share = dict(zip(found["methods"], found["share"].mean(axis=1), strict=True))
    assert share["SN of operators"] < 1
    assert found["norms"].shape[2:] == (3, 797)


@pytest.mark.slow
def test_many_paths(made):
    """Fedus 2017: JS is log 2 all the way, and with a penalty the minimax GAN arrives nevertheless."""
    found = made("many_paths")
    starts, ends = found["distances"][:, 0].mean(axis=1), found["distances"][:, -1].mean(axis=1)
    reached = dict(zip(found["methods"], ends / starts, strict=True))
    assert reached["minimax, GP"] < 0.5
    assert reached["minimax"] > reached["minimax, GP"]


@pytest.mark.slow
def test_calibration(made):
    """Korotin 2022: the one-sided penalty is near the truth on 4 funnels in the plane, clipping is not."""
    found = made("calibration")
    methods = list(found["methods"])
    clipped, one_sided = (found["ours"][0, 0, methods.index(name)].mean() for name in ("clipped", "one-sided (LP)"))
    assert abs(one_sided - 1) < abs(clipped - 1)
    assert 0.7 < one_sided < 1.3
    np.testing.assert_allclose(found["korotin"][0, 0], [0.04, 1.08])
    assert (np.abs(found["ours"][1]) <= 1 + 1e-5).all()


@pytest.mark.slow
def test_why_wgans_work(made):
    """Stanczuk 2021: centroids beat real digits in W1; the generator of the exact W1 has the lower ratio."""
    found = made("why_wgans_work")
    values = dict(zip(found["methods"], found["values"].mean(axis=1), strict=True))
    ratio, excess = (dict(zip(values, [own[i] for own in values.values()], strict=True)) for i in range(2))
    assert ratio["k-means, 200 centroids"] < ratio["real digits"]
    assert excess["k-means, 200 centroids"] > excess["real digits"]
    assert ratio["exact W1 of 64"] < ratio["WGAN-GP"]
    assert found["samples"].shape == (2, 36, 8, 8)


@pytest.mark.slow
def test_loss_tracks_quality(made):
    """Arjovsky 2017, figure 3: a critic's estimate falls as samples get better; between models too, where slopes are held."""
    found = made("loss_tracks_quality")
    names, methods = list(found["names"]), list(found["methods"])
    assert methods == ["WGAN-GP", "GAN"]
    assert found["factors"].tolist() == [0.3, 0.3, 1, 1, 3, 3]
    critics, discriminators = found["values"]  # [model, stop, value]
    excess, heldout, normalised = map(names.index, ("wasserstein_excess", "estimate_heldout", "estimate_normalised"))
    assert (critics[2:, -1, heldout] < critics[2:, 0, heldout]).all()
    assert (critics[..., -1, excess] < critics[..., 0, excess]).all()
    assert found["between"][0, -1, heldout, 0] > 0.5
    assert (discriminators[..., :2] <= np.log(2)).all()  # JS is no more
    assert np.isnan(discriminators[..., normalised]).all()
    for within, (estimate, quality) in zip(
        found["within"][0, :, heldout, 0], critics[..., [heldout, excess]].swapaxes(1, 2), strict=True
    ):
        apart = np.square(estimate.argsort().argsort() - quality.argsort().argsort()).sum()
        assert within == pytest.approx(1 - 6 * apart / (4 * (4**2 - 1)), abs=1e-5)  # Spearman's, of four stops


@pytest.mark.slow
def test_digits_modes(made):
    """The cross-entropy of a discriminator that tells all apart is flat where a penalised critic's loss is not."""
    found = made("digits_modes")
    np.testing.assert_allclose(found["shares"].sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(found["real"].sum(), 1, rtol=1e-5)
    flat = dict(zip(found["losses"], found["flat"][:, -1].mean(axis=1), strict=True))
    assert flat["cross-entropy / minimax"] > 2 * flat["Wasserstein, GP / wasserstein"]
    smallest = dict(zip(found["methods"], found["shares"][:, -1].min(axis=-1), strict=True))
    assert np.median(smallest["Wasserstein, GP"]) > np.median(smallest["cross-entropy"])
    np.testing.assert_allclose(found["falls"][..., 0], 1, rtol=1e-5)
    np.testing.assert_allclose(found["falls"][..., -1], 0, atol=1e-5)


@pytest.mark.parametrize(("line", "flat"), [([0, 1, 2, 3, 4], 0), ([0, 0, 0, 0, 4], 0.75), ([0, 0, -2, -4, -4], 0.5)])
def test_what_is_flat_on_a_line(line, flat):
    assert flatness(np.array([line], float)).tolist() == [flat]


@pytest.mark.slow
def test_mlp_generator(made):
    found = made("mlp_generator")
    np.testing.assert_allclose(found["shares"].sum(axis=-1), 1, rtol=1e-5)
    excess, smallest = (
        found["values"][..., list(found["names"]).index(name)] for name in ("wasserstein_excess", "smallest_class")
    )
    np.testing.assert_array_equal(found["failed"], (excess > 0.25) | (smallest < 0.02))
    rates, low, high = found["rates"].T
    np.testing.assert_allclose(rates, found["failed"].mean(axis=1), rtol=1e-5)
    assert ((low <= rates) & (rates <= high)).all()
    assert found["samples"].shape == (2, 2, 49, 8, 8)


def test_the_exact_w1_is_descended_to_every_example(make_config):
    """Of black and white images in equal shares half of the samples become each: paired at random they would be grey."""
    changes = {"model.width": 16, "model.depth": 1, "latent.dim": 2, "steps": 150, "decay_steps": 150}
    config = make_config("wgan_gp.py:digits", {**changes, "generator.learning_rate": 0.01})
    images = np.repeat(np.array([0, 255], np.uint8), 32)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    split = Split(images, np.zeros(64, np.int32))
    networks = build_networks(config, (2, 2, 1))
    variables = descend_exactly(config, networks, Stored((2, 2, 1), split, split, split), 16, 0)
    x = np.asarray(make_sampler(networks)(variables, jax.random.key(1), np.zeros(200, np.int32), 0)[1])
    assert np.abs(x).mean() > 0.8
    assert 0.3 < (x > 0).mean() < 0.7


@pytest.mark.slow
def test_small_data(made):
    """Zhao 2020, Karras 2020: the critic's estimate on training images leaves that on held-out ones."""
    found = made("small_data")
    plain, augmented = found["overfitting"][..., 0]
    assert plain[-1] > max(plain[0], augmented[-1])
    on_train, heldout = found["values"][:2, 0, :, 0]
    assert on_train[-1] > heldout[-1] > 0
    train = digits.load(None).train.images[:300].reshape(300, -1).astype(float)
    samples, nearest = np.moveaxis(found["samples"].reshape(2, 4, 2, 6, -1), 2, 0)
    distances = np.linalg.norm(samples[..., None, :] - train, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(samples - nearest, axis=-1), distances.min(axis=-1))


@pytest.mark.slow
def test_budget(made):
    check_budget(made("budget"))


@pytest.mark.slow
def test_budget_fashion_mnist(made, monkeypatch):
    """On digits in its place, which are no prepared dataset; and every method is as on digits but for its size."""
    monkeypatch.setattr(budget_fashion_mnist, "load_dataset", lambda config: digits.load(config.data))
    monkeypatch.setattr(budget_fashion_mnist, "prepared_builder", lambda data: Path())
    train, critic_updates = budget.train, []
    monkeypatch.setattr(budget, "train", lambda config, *rest: critic_updates.append(config.n_critic) or train(config, *rest))
    check_budget(made("budget_fashion_mnist", "--data=."))
    assert critic_updates == [5, 1]
    for method, _ in budget.METHODS.values():
        config, on_digits = method.get_config("fashion_mnist"), method.get_config("digits")
        config.update_from_flattened_dict(budget_fashion_mnist.CHANGES)
        for key in ("critic_kernel", "critic_normalization", "generator_normalization", "critic_head"):
            assert config.model[key] == on_digits.model[key]
        assert (config.model.critic_activation == "maxmin") == (on_digits.model.critic_activation == "maxmin")


def check_budget(found):
    """Both methods get better, and are compared at a time that both have reached."""
    assert list(found["methods"]) == ["WGAN-GP", "GAN"]
    assert (np.diff(found["seconds"], axis=1) > 0).all()
    per_update = found["seconds"] / found["updates"]
    np.testing.assert_allclose(per_update, per_update[:, :1].repeat(per_update.shape[1], axis=1), rtol=1e-5)
    excess = found["values"][0, ..., 0]
    assert (excess[:, -1] < excess[:, 0]).all()
    assert found["equal_seconds"] == found["seconds"][:, -1].min()
    first_to_end = found["seconds"][:, -1].argmin()
    assert found["at_equal"][first_to_end] == pytest.approx(excess[first_to_end, -1], rel=1e-5)
    assert ((found["at_equal"] >= excess.min(axis=1)) & (found["at_equal"] <= excess.max(axis=1))).all()


@pytest.mark.slow
def test_stacked_digits(made):
    """Stacks of digits that no network saw have nearly every mode, their KL is about (K - 1) / 2n; generators have fewer."""
    found = made("stacked_digits")
    modes, divergence = found["real"]
    assert 950 < modes <= 1000
    assert 999 / 8000 < divergence < 0.4  # (K - 1) / 2n, and what the classes' own shares add
    assert (found["modes"] < modes).all()
    assert (found["kl"] > divergence).all()
    assert found["modes"][1, -1, 0] > found["modes"][1, 0, 0]
    assert found["samples"].shape == (2, 7, 8, 8, 3)


def test_stacks_are_told_by_their_channels_in_order():
    """Two of 012 and one of 999, against a law of equal shares; of a generator that diverged nothing can be told."""
    images = np.ones((3, 2, 2, 3)) * np.array([[0, 1, 2], [9, 9, 9], [0, 1, 2]])[:, None, None, :]
    law, predict = np.full(1000, 1e-3), lambda vectors: vectors.mean(axis=1).astype(int)
    modes, divergence = judge(images, predict, law)
    assert modes == 2
    assert divergence == pytest.approx(2 / 3 * np.log(2000 / 3) + 1 / 3 * np.log(1000 / 3))
    images[0, 0, 0, 0] = np.nan
    assert np.isnan(judge(images, predict, law)).tolist() == [False, True]


@pytest.mark.slow
def test_faces_comparison(made, tmp_path):
    """Of a folder whose images two networks cannot learn in an epoch: both are seen to be worse than other real images."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for index in range(400):
        image = np.full((20, 20, 3), rng.integers(0, 256, 3), np.uint8)
        image[rng.integers(4, 16) :] = rng.integers(0, 256, 3)
        Image.fromarray(image).save(tmp_path / "images" / f"{index}.png")
    found = made("faces_comparison", f"--data={tmp_path}/images")
    assert found["values"].shape == (3, 2, 3)
    assert found["samples"].shape == (2, 3, 8, 16, 16, 3)
    precision, _, excess = np.concatenate([found["values"].reshape(3, -1), found["at_long"][:, None]], axis=1)
    real_precision, _, real_excess = found["of_real"]
    assert real_precision > precision.max()
    assert abs(real_excess) < excess.min()


def test_a_stack_is_a_number_of_three_digits():
    images = (np.arange(10, dtype=np.uint8) * 20)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    stacked = stack(Split(images, np.arange(10, dtype=np.int32)), 500)
    assert stacked.images.shape == (500, 2, 2, 3)
    np.testing.assert_array_equal(stacked.labels, stacked.images[:, 1, 0] // 20 @ [100, 10, 1])
    assert len(np.unique(stacked.labels)) > 350  # of 1,000; 1,000 (1 - e^-.5) = 393 are expected


def test_the_list_names_every_figure(command):
    code, out, _ = command("figures", "--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(FIGURES)
    assert all(entry.shows in out for entry in FIGURES.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["divergence"], "divergence: no such figure; did you mean divergences?"),
        (["zzz"], "zzz: no such figure; --list tells them"),
        ([], "NAME: name a figure, or all; --list tells them"),
        (
            ["nash_spiral", "--config.seed=1"],
            "--config.seed=1: the settings of a figure stand in its file, experiments/figures/NAME.py",
        ),
        (["nash_spiral", "--quik"], "--quik: no such flag; did you mean --quick?"),
        (["faces_comparison"], "faces_comparison: needs a folder of images; write --data=FOLDER"),
        (["nash_spiral", "--data=."], "nash_spiral: reads no folder; leave --data out"),
        (["all", "--data=."], "all: leaves out what needs a folder; name one"),
        (["nash_spiral", "--size=16"], "nash_spiral: has no --size; leave it out"),
        (["faces_comparison", "--data=/nowhere"], "--data: /nowhere: no such folder"),
        (["nash_spiral", "dirac_gan"], "dirac_gan: not a flag; write --name=value"),
    ],
)
def test_a_mistake_is_one_line(command, arguments, said):
    assert command("figures", *arguments) == (2, "", f"error: {said}\n")


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("budget_fashion_mnist", 0, "--data: {} has no fashion_mnist/VERSION/, as TensorFlow Datasets prepares it"),
        ("faces_comparison", 0, "--data: no images under {} (.png, .jpg, .jpeg, .jfif, .webp, .gif, .bmp)"),
        (
            "faces_comparison",
            10,
            "--data: too few images: 8 train, 1 validation, 1 test; each split needs 4, see config.data.holdout",
        ),
    ],
)
def test_a_folder_that_is_none_is_told_by_the_flag_that_names_it(command, tmp_path, name, count, said):
    for index in range(count):
        Image.fromarray(np.full((20, 20, 3), index, np.uint8)).save(tmp_path / f"{index}.png")
    code, _, err = command("figures", name, f"--data={tmp_path}", f"--out={tmp_path}/new")
    assert (code, err) == (2, f"error: {said.format(tmp_path)}\n")


def test_a_file_in_the_place_of_the_folder_is_said(command, tmp_path):
    (tmp_path / "taken").touch()
    code, _, err = command("figures", "nash_spiral", f"--out={tmp_path}/taken")
    assert (code, err) == (2, f"error: {tmp_path}/taken: file exists\n")


def test_all_makes_every_figure(command, monkeypatch, tmp_path):
    quickest = ["divergences", "nash_spiral", "inverse_of_w1"]
    kept = {name: FIGURES[name] for name in (*quickest, "faces_comparison")}
    monkeypatch.setattr("experiments.figures.registry.FIGURES", kept)
    monkeypatch.chdir(tmp_path)
    code, out, _ = command("figures", "all", "--quick")
    assert (code, "faces_comparison: left out, as it needs a folder of images: --data=FOLDER\n" in out) == (0, True)
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == set(quickest)


def test_numbers_are_valid_json():
    text = write_numbers({"a": np.array([[1.23456789, np.inf], [-np.inf, np.nan]]), "b": np.array(["x"]), "c": np.array(3)})
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [[1.23457, "inf"], ["-inf", None]], "b": ["x"], "c": 3}


def test_the_gallery_has_every_figure():
    text = GALLERY.read_text(encoding="utf-8")
    assert re.findall(r"`python -m experiments\.figures (\w+)[^`]*`", text) == ["NAME", *FIGURES]
    for name in FIGURES:
        assert f"gallery/{name}.png" in text
        assert (GALLERY.parent / "gallery" / f"{name}.png").stat().st_size < 200_000
