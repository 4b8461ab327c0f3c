"""The ablation files: every point is a good config, and the staged study follows its rule. Imports no jax."""

import importlib
import inspect
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from ml_collections import ConfigDict

from configs import default, gan, wgan, wgan_gp
from configs.ablations import architectures, large_scale, methods, n_critic, normalization, packing, points
from wgan_jax.config import flatten, mistakes

ROOT = Path(__file__).parent.parent
FILES = sorted(path.stem for path in (ROOT / "configs" / "ablations").glob("*.py") if path.stem not in ("__init__", "points"))
ONE_RUN_EACH = ("architectures", "large_scale")  # many settings instead of many seeds
PRESETS = [f"{preset}{option}" for preset in default.PRESETS for option in ("", ",paper=True")]
CASES = [
    (name, preset)
    for name in FILES
    if name not in ONE_RUN_EACH
    for preset in PRESETS
    if (name, preset.partition(",")[0]) != ("semi_supervised", "table")  # whose rows have no classes
]
CASES += [(name, preset) for name in ONE_RUN_EACH for preset in ("digits", "ring8,paper=True", "mnist", "folder,paper=True")]


def module(name):
    return importlib.import_module(f"configs.ablations.{name}")


def at(base, point):
    config = base.copy_and_resolve_references()
    config.update_from_flattened_dict(point)
    return config


def setting(point):
    return tuple(sorted((key, value) for key, value in point.items() if key != "seed"))


# Every file


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_every_setting_is_a_good_config(name, preset):
    base, sweep = module(name).get_config(preset), module(name).get_sweep(preset)
    assert mistakes(base) == []
    assert base.preset == preset
    for items in {setting(point) for point in sweep}:
        config = at(base, dict(items))
        assert mistakes(config) == []
        assert 1 <= config.eval_every <= config.steps


@pytest.mark.parametrize("preset", ["digits", "ring8,paper=True"])
@pytest.mark.parametrize("name", FILES)
def test_points_are_distinct_and_the_same_each_time(name, preset):
    sweep = module(name).get_sweep(preset)
    assert sweep == module(name).get_sweep(preset)
    assert len({(*setting(point), point["seed"]) for point in sweep}) == len(sweep)
    base, settings = module(name).get_config(preset), {setting(point) for point in sweep}
    resolved = {tuple(flatten(at(base, dict(items))).items()) for items in settings}
    assert len(resolved) == len(settings)  # no two of them are one config, written differently


@pytest.mark.parametrize(
    ("preset", "seeds"), [("ring8", 30), ("swiss_roll", 30), ("ring8,paper=True", 30), ("digits", 10), ("mnist", 3)]
)
@pytest.mark.parametrize("name", [name for name in FILES if name not in ONE_RUN_EACH])
def test_every_setting_has_the_seeds_that_a_failure_rate_needs(name, preset, seeds):
    counts = Counter(setting(point) for point in module(name).get_sweep(preset))
    assert len(counts) > 1
    assert set(counts.values()) == {seeds}


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_what_it_asks_and_takes_a_toy_or_digits_by_default(name):
    text = inspect.getdoc(module(name))
    assert text.splitlines()[0].endswith("?") or name == "large_scale"
    assert "Paper" in text
    assert f"python -m experiments.sweep --config=configs/ablations/{name}.py[:preset[,paper=True]]" in text
    assert module(name).get_config().preset == ("digits" if name in (*ONE_RUN_EACH, "semi_supervised") else "ring8")
    assert module(name).get_sweep() == module(name).get_sweep(module(name).get_config().preset)


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_preset_is_refused(name):
    for function in (module(name).get_config, module(name).get_sweep):
        with pytest.raises(ValueError, match="unknown preset 'ring9'"):
            function("ring9")


def test_points_are_listed_without_jax():
    code = "import sys\n" + "\n".join(f"from configs.ablations import {name}; {name}.get_sweep()" for name in FILES)
    code += "\nassert not {'jax', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# Helpers


def test_product_and_cross():
    assert points.product({"a": [1, 2], "b": ["x", "y"]}) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert points.cross([{"a": 1, "b": 0}, {}], [{"a": 2}]) == [{"a": 2, "b": 0}, {"a": 2}]


def test_a_difference_turns_one_method_into_another():
    a = ConfigDict({"x": 1, "same": 2, "deep": {"y": 3.0, "same": "s"}})
    b = ConfigDict({"x": 5, "same": 2, "deep": {"y": 4.0, "same": "s"}})
    assert points.difference(a, b) == {"x": 1, "deep.y": 3.0}
    base, other = wgan_gp.get_config("ring8,paper=True"), wgan.get_config("ring8,paper=True")
    assert at(base, points.difference(other, base)).to_dict() == other.to_dict()


def test_methods_are_compared_at_the_same_budget():
    first, second = points.methods([wgan_gp.get_config("ring8"), wgan.get_config("ring8")])
    assert first == {}
    assert second == {
        "method": "wgan",
        "penalty.name": "none",
        "clip": 0.05,
        "critic.optimizer": "rmsprop",
        "critic.beta2": 0.99,
        "generator.optimizer": "rmsprop",
        "generator.beta2": 0.99,
    }


@pytest.mark.parametrize(
    ("preset", "width", "batch", "steps", "rate", "samples"),
    [
        ("ring8", 64, 256, 2000, 2e-3, 1000),
        ("grid25", 64, 256, 2000, 2e-3, 1000),
        ("gaussian", 64, 256, 2000, 2e-4, 1000),
        ("digits", 128, 64, 1000, 1e-3, 500),
    ],
)
@pytest.mark.parametrize("method", [wgan, wgan_gp, gan])
def test_the_laptops_budget(method, preset, width, batch, steps, rate, samples):
    config = points.laptop(method.get_config(preset))
    assert (config.model.width, config.batch_size, config.eval.samples, config.eval.draws) == (width, batch, samples, 1)
    assert (config.steps, config.decay_steps, config.eval_every, config.checkpoint_every) == (
        steps,
        steps,
        steps // 4,
        steps // 4,
    )
    assert (config.critic.learning_rate, config.generator.learning_rate) == (rate, rate)


@pytest.mark.parametrize("preset", ["ring8,paper=True", "digits,paper=True", "mnist"])
def test_the_papers_budget_and_images_stay_whole(preset):
    assert points.laptop(wgan.get_config(preset)).to_dict() == wgan.get_config(preset).to_dict()


def test_draws_fill_their_range_and_stay_in_it():
    rng = Random(0)
    plain = [points.uniform(rng, 2.0, 6.0) for _ in range(4000)]
    logarithmic = [points.log_uniform(rng, 1e-5, 1e-1) for _ in range(4000)]
    for values, low, high in ((plain, 2, 6), ([math.log10(value) for value in logarithmic], -5, -1)):
        assert low <= min(values) < low + 0.01
        assert high - 0.01 < max(values) <= high
        quarters = Counter(min(3, int((value - low) / (high - low) * 4)) for value in values)
        assert all(900 < quarters[i] < 1100 for i in range(4))
    assert all(value == float(f"{value:.4g}") for value in plain + logarithmic)


# Single studies


@pytest.mark.parametrize("preset", ["ring8", "digits", "cifar10,paper=True"])
def test_every_n_critic_reaches_equal_updates_and_equal_critic_updates(preset):
    base = n_critic.get_config(preset)
    configs = [at(base, point) for point in n_critic.get_sweep(preset)]
    assert {config.n_critic for config in configs} == {1, 2, 5, 10}
    assert {config.method for config in configs} == {"wgan", "wgan_gp"}
    assert min(config.steps for config in configs) == base.steps
    assert min(config.steps * config.n_critic for config in configs) == 5 * base.steps
    assert {config.decay_steps for config in configs} == {0}


@pytest.mark.parametrize("preset", ["ring8", "digits", "mnist"])
def test_every_method_reaches_equal_updates_and_equal_critic_updates(preset):
    base = methods.get_config(preset)
    runs: dict[str, list[tuple[int, int]]] = {}  # method -> generator and critic updates of its settings
    for items in {setting(point) for point in methods.get_sweep(preset)}:
        config = at(base, dict(items))
        runs.setdefault(config.method, []).append((config.steps, config.steps * (config.n_critic + config.unroll)))
    first = (base.steps, base.steps * base.n_critic)
    assert runs["wgan_gp"] == [first]
    for method, own in runs.items():
        assert min(updates for updates, _ in own) == base.steps
        assert len(own) == 1 + (method in ("gan", "pacgan", "dragan", "r3gan", "ttur"))
        if method not in ("imle", "unrolled"):  # without a critic; with a little more, ahead
            assert max(critic_updates for _, critic_updates in own) == first[1]


@pytest.mark.parametrize(("preset", "updates"), [("ring8", 20_000), ("grid25", 20_000), ("grid25,paper=True", 400_000)])
def test_packs_are_compared_by_pacgans_recipe(preset, updates):
    config = packing.get_config(preset)
    assert (config.steps, config.decay_steps, config.batch_size, config.latent.dim) == (updates, 0, 100, 2)
    for player in (config.critic, config.generator):
        assert (player.learning_rate, player.beta1, player.beta2) == (1e-4, 0.8, 0.999)
    assert config.model.to_dict() == gan.get_config(preset).model.to_dict() | {
        "width": 200,
        "depth": 3,
        "generator_normalization": "batch",
        "initializer": "normal",
    }
    packs = {(point["packing"], point["batch_size"]) for point in packing.get_sweep(preset)}
    assert packs == {(1, 100), (2, 200), (4, 400)}  # as many packs, not as many examples


def test_normalisations_are_those_that_a_method_allows():
    base = normalization.get_config("ring8")
    found = {(c.method, c.model.critic_normalization) for c in (at(base, point) for point in normalization.get_sweep("ring8"))}
    assert found == {("wgan_gp", "none"), ("wgan_gp", "layer"), ("wgan", "none"), ("wgan", "batch")}


@pytest.mark.parametrize(
    ("preset", "count", "depths"), [("digits", 20, {2, 4, 6, 8}), ("digits,paper=True", 200, {4, 8, 12, 20})]
)
def test_every_architecture_is_trained_by_both_methods(preset, count, depths):
    base = architectures.get_config(preset)
    configs = [at(base, point) for point in architectures.get_sweep(preset)]
    pairs = list(zip(configs[::2], configs[1::2], strict=True))
    assert len(pairs) == count
    for penalised, plain in pairs:
        assert (penalised.method, plain.method) == ("wgan_gp", "gan")
        assert penalised.seed == plain.seed
        assert {penalised.steps, plain.steps} == {base.steps}
        norms = (penalised.model.critic_normalization, plain.model.critic_normalization)
        assert norms in {("none", "none"), ("layer", "batch")}
        plain.model.critic_normalization = penalised.model.critic_normalization
        assert penalised.model == plain.model
    models = [penalised.model for penalised, _ in pairs]
    assert len({tuple(sorted(model.items())) for model in models}) == count
    assert {model.depth for model in models} == depths
    assert {model.width for model in models} == {32, 64, 128}
    for player in ("generator", "critic"):
        assert len({model[f"{player}_activation"] for model in models}) == 4
        assert len({model[f"{player}_normalization"] for model in models}) == 2


# The large-scale study, with rows in the place of runs


def rows_of(sweep, excess, preset="digits"):
    """The rows of points as a sweep writes them: every swept key resolved, curves whose last value is excess(point)."""
    base = large_scale.get_config(preset)
    keys = sorted({key for point in large_scale.get_sweep(preset) for key in point} - {"seed"})
    rows = []
    for index, point in enumerate(sweep):
        flat, value = flatten(at(base, point)), excess(point)
        row = {"point": str(index), "seed": point["seed"], **{key: flat[key] for key in keys}}
        if value is None:
            rows.append({**row, "status": "non-finite", "step": 3, "split": "validation", "state": "last"})
            continue
        row |= {"status": "ok", "split": "validation", "state": "last"}
        # Were the lowest of the curve, the test split or its worse end looked at, the order would be reversed.
        rows += [
            {**row, "step": flat["steps"] // 2, "wasserstein_excess": 30 - value},
            {**row, "step": flat["steps"], "wasserstein_excess": value},
        ]
        rows += [
            {**row, "step": flat["steps"], "split": "test", "state": state, "wasserstein_excess": -value}
            for state in ("last", "best")
        ]
    return rows


def rate_distance(point):
    """An excess that is lowest, at 0, for a learning rate of 1e-3."""
    return abs(math.log10(point["critic.learning_rate"]) + 3)


def of_method(sweep, method):
    return [point for point in sweep if point["method"] == method]


@pytest.mark.parametrize(
    ("preset", "wide", "narrow", "seeds"), [("digits", 20, 10, 10), ("ring8", 20, 10, 10), ("digits,paper=True", 100, 50, 50)]
)
def test_stages_follow_each_other_and_end(preset, wide, narrow, seeds):
    first = large_scale.get_sweep(preset)
    rows = rows_of(first, rate_distance, preset)
    second = large_scale.get_next(preset, rows)
    assert second == large_scale.get_next(preset, rows)
    rows += rows_of(second, rate_distance, preset)
    third = large_scale.get_next(preset, rows)
    for stage, count, numbers in ((first, wide, {0}), (second, narrow, {1}), (third, seeds, set(range(100, 100 + seeds)))):
        assert Counter(point["method"] for point in stage) == dict.fromkeys(large_scale.METHODS, count)
        assert {point["seed"] for point in stage} == numbers
    base = large_scale.get_config(preset)
    assert all(mistakes(at(base, point)) == [] for point in (*second, *third[::seeds]))
    assert len({setting(point) for point in third}) == len(large_scale.METHODS)
    assert large_scale.get_next(preset, rows + rows_of(third, rate_distance, preset)) == []


def test_wide_draws_fill_the_ranges_of_the_paper():
    sweep = large_scale.get_sweep("digits,paper=True")
    for key, low, high in (
        ("critic.beta1", 0, 1),
        ("critic.learning_rate", 1e-5, 1e-2),
        ("clip", 1e-3, 1),
        ("penalty.weight", 0.1, 100),
    ):
        values = [point[key] for point in sweep if key in point]
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.2 * (high - low) < max(values) <= high
    for method in large_scale.METHODS:
        own = of_method(sweep, method)
        assert {point["n_critic"] for point in own} == {1, 5}
        penalised = method in ("wgan_gp", "dragan")
        assert {point["model.critic_normalization"] for point in own} == ({"none"} if penalised else {"none", "batch"})
        assert {key for key in own[0] if key in ("clip", "penalty.weight")} == set(filter(None, [large_scale.OWN.get(method)]))


def test_the_budget_is_counted_in_critic_updates():
    base = large_scale.get_config("digits")
    configs = [at(base, point) for point in large_scale.get_sweep("digits")]
    assert {config.steps * config.n_critic for config in configs} == {5000}
    assert {config.eval_every * config.n_critic for config in configs} == {1250}
    assert {config.decay_steps for config in configs} == {0}
    for config in configs:
        assert config.critic == config.generator
        assert (config.critic.optimizer, config.critic.beta2) == ("adam", 0.999)


@pytest.mark.parametrize(
    ("preset", "budget"), [("mnist,paper=True", 15_625), ("cifar10,paper=True", 78_125), ("digits,paper=True", 100_000)]
)
def test_the_papers_epochs(preset, budget):
    config = large_scale.get_config(preset)
    assert (config.steps, config.n_critic, config.batch_size) == (budget, 1, 64)


def test_narrow_ranges_are_the_hull_of_the_best_fifth():
    preset = "digits,paper=True"
    first = large_scale.get_sweep(preset)
    second = large_scale.get_next(preset, rows_of(first, rate_distance, preset))
    for method in large_scale.METHODS:
        best = sorted(of_method(first, method), key=rate_distance)[:20]
        narrow = of_method(second, method)
        for key in ("critic.beta1", "critic.learning_rate", *filter(None, [large_scale.OWN.get(method)])):
            low, high = min(point[key] for point in best), max(point[key] for point in best)
            values = [point[key] for point in narrow]
            assert low <= min(values) < max(values) <= high
            scale = float if key == "critic.beta1" else math.log
            assert scale(max(values)) - scale(min(values)) > 0.8 * (scale(high) - scale(low))
        for key in ("n_critic", "model.critic_normalization"):
            assert {point[key] for point in narrow} == {best[0][key]}


def test_the_best_setting_is_that_of_the_lowest_validation_excess():
    first = large_scale.get_sweep("digits")
    rows = rows_of(first, rate_distance)
    second = large_scale.get_next("digits", rows)
    for excess, stages in (
        (rate_distance, [*first, *second]),
        (lambda point: 10 + rate_distance(point), first),
    ):  # narrow better, worse
        third = large_scale.get_next("digits", rows + rows_of(second, excess))
        for method in large_scale.METHODS:
            winner = min(of_method(stages, method), key=rate_distance)
            assert {setting(point) for point in of_method(third, method)} == {setting(winner)}


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_a_run_that_failed_is_never_the_best(bad):
    first = large_scale.get_sweep("digits")
    alive = of_method(first, "wgan")[7]

    def excess(point):
        return 3.0 if point == alive or point["method"] != "wgan" else bad

    rows = rows_of(first, excess)
    for row in rows:  # a failed run's curve begins well
        if row["method"] == "wgan" and row["status"] == "non-finite":
            rows = [*rows, {**row, "status": "ok", "step": 1, "wasserstein_excess": 0.0}]
    second = large_scale.get_next("digits", rows)
    assert {point["n_critic"] for point in of_method(second, "wgan")} == {alive["n_critic"]}
    third = large_scale.get_next("digits", rows + rows_of(second, lambda point: None))
    assert {setting(point) for point in of_method(third, "wgan")} == {setting(alive)}


def test_a_method_that_always_fails_still_ends():
    first = large_scale.get_sweep("digits")
    rows = rows_of(first, lambda point: None)
    second = large_scale.get_next("digits", rows)
    assert len({setting(point) for point in second}) == len(second) == 60
    rows += rows_of(second, lambda point: None)
    third = large_scale.get_next("digits", rows)
    assert len(third) == 60
    assert large_scale.get_next("digits", rows + rows_of(third, lambda point: None)) == []


def test_the_fixed_seeds_of_a_shorter_trial_end_too():
    """`--seeds=N` takes every point at the seeds 0 to N - 1: the last stage is then known, and nothing new is asked for."""
    rows, known, sweep = [], set(), large_scale.get_sweep("digits")
    for _ in range(4):
        settings = dict.fromkeys(setting(point) for point in sweep)
        fresh = [{**dict(items), "seed": seed} for items in settings for seed in (0, 1)]
        fresh = [point for point in fresh if (setting(point), point["seed"]) not in known]
        known |= {(setting(point), point["seed"]) for point in fresh}
        rows += rows_of(fresh, rate_distance)
        sweep = large_scale.get_next("digits", rows)
    assert fresh == []
