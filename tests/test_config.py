"""Validation: each kind of mistake has its line, all of them come at once, and a good config passes."""

import importlib
import math

import pytest
from ml_collections import ConfigDict

from configs import default
from wgan_jax.config import UserError, check, default_workdir, flatten, load, mistakes, warn_of_idle_updates
from wgan_jax.hints import ALIASES, unknown_flag
from wgan_jax.keys import KEYS, keys_of
from wgan_jax.places import check_data
from wgan_jax.registries import described, registered

WHOLE = sorted(key for key, row in KEYS.items() if row.rule.type is int)
REAL = sorted(key for key, row in KEYS.items() if row.rule.type is float)
TRUTH = sorted(key for key, row in KEYS.items() if row.rule.type is bool)
CHOICE = sorted(key for key, row in KEYS.items() if row.rule.wanted.startswith("one of "))


def good():
    """A config without mistakes that takes any value, as a user's own file may."""
    config, _, _ = default.start("gan", "ring8")
    config.loss = "non_saturating"
    return config


def with_values(values):
    """The good config with {dotted key: value} set as they are: a ConfigDict would turn True into 1.0."""
    flat = {**flatten(good()), **values}
    config = ConfigDict(type_safe=False)
    for key, value in flat.items():
        *path, leaf = key.split(".")
        holder = config
        for name in path:
            if not isinstance(holder.get(name), ConfigDict):
                holder[name] = ConfigDict(type_safe=False)
            holder = holder[name]
        holder[leaf] = value
    return config


def with_value(key, value):
    return with_values({key: value})


def test_a_good_config_passes_unchanged():
    config = good()
    assert mistakes(config) == []
    assert check(config) is config


@pytest.mark.parametrize("spec", ["dragan.py", "gan.py", "wgan.py", "wgan_gp.py:ring8", "wgan_lp.py:gaussian,paper=True"])
def test_load_returns_a_checked_config(root, spec):
    config = load(f"{root}/configs/{spec}")
    assert mistakes(config) == []
    assert config.method == spec.split(".")[0]
    assert config.preset == (spec.split(":")[1] if ":" in spec else "digits")


# One value


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("penalty.wieght", "config.penalty.wieght: no such key; did you mean config.penalty.weight?"),
        ("learning_rate", "config.learning_rate: no such key; did you mean config.critic.learning_rate?"),  # the last name is
        ("perturbation", "config.perturbation: no such key; did you mean config.penalty.perturbation?"),
        ("seeed", "config.seeed: no such key; did you mean config.seed?"),
        ("xyzzy", "config.xyzzy: no such key"),
    ],
)
def test_an_unknown_key_is_named_with_the_closest_known_one(key, line):
    assert mistakes(with_value(key, 1.0)) == [line]


def test_a_missing_key_is_named():
    config = good()
    del config.penalty.weight
    assert mistakes(config) == ["config.penalty.weight: missing"]


def test_a_group_replaced_by_a_number_is_one_mistake_per_key():
    nested = good().to_dict()
    nested["warmup"] = 3
    lines = mistakes(ConfigDict(nested))
    assert lines[0].startswith("config.warmup: no such key")
    assert set(lines[1:]) == {f"config.warmup.{key}: missing" for key in ("critic_steps", "first", "every")}


@pytest.mark.parametrize("value", [True, 2.0, "2", None, -1, 2**31, math.nan])
def test_a_whole_number_is_an_int_in_range(value):
    lines = mistakes(with_values(dict.fromkeys(WHOLE, value)))
    assert len(WHOLE) > 10
    assert sorted(lines) == [f"config.{key}: {value!r} is not {KEYS[key].rule.wanted}" for key in WHOLE]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1", None])
def test_a_real_number_is_finite(value):
    lines = mistakes(with_values(dict.fromkeys(REAL, value)))
    assert len(REAL) > 10
    assert sorted(lines) == [f"config.{key}: {value!r} is not {KEYS[key].rule.wanted}" for key in REAL]


@pytest.mark.parametrize("value", [0, 1, 1.0, "True", None])
def test_a_truth_value_is_a_bool(value):
    assert sorted(mistakes(with_values(dict.fromkeys(TRUTH, value)))) == [
        f"config.{key}: {value!r} is not True or False" for key in TRUTH
    ]


@pytest.mark.parametrize("value", ["nonsense", "", 1, None])
def test_a_choice_is_one_of_its_names(value):
    lines = mistakes(with_values(dict.fromkeys(CHOICE, value)))
    assert len(CHOICE) > 10
    assert sorted(lines) == [f"config.{key}: {value!r} is not {KEYS[key].rule.wanted}" for key in CHOICE]


@pytest.mark.parametrize(
    ("key", "below", "lowest"),
    [
        ("seed", -1, 0),
        ("steps", 0, 1),
        ("batch_size", 0, 1),
        ("n_critic", -1, 1),
        ("devices", -1, 0),
        ("data.dim", 0, 1),
        ("warmup.every", 0, 1),
        ("warmup.first", -1, 0),
        ("decay_steps", -1, 0),
        ("keep", 0, 1),
        ("eval.samples", 9, 10),
        ("penalty.weight", -1e-9, 0.0),
        ("penalty.noise_scale", -0.1, 0.0),
        ("clip", -0.01, 0.0),
        ("critic.learning_rate", 0.0, 1e-12),
        ("generator.beta1", -0.1, 0.0),
    ],
)
def test_the_lower_bound(key, below, lowest):
    assert len(mistakes(with_value(key, below))) == 1
    assert mistakes(with_value(key, lowest)) == []


@pytest.mark.parametrize("key", ["critic.beta1", "critic.beta2", "generator.beta1", "generator.beta2", "ema_decay"])
def test_a_decay_is_below_one(key):
    assert mistakes(with_value(key, 1.0)) == [f"config.{key}: 1.0 is not a finite number of at least 0 and below 1"]
    assert mistakes(with_value(key, 0.999999)) == []


def test_the_wanted_range_is_in_words():
    assert mistakes(with_value("critic.learning_rate", 0.0)) == [
        "config.critic.learning_rate: 0.0 is not a finite number of at least 1.2e-38"
    ]
    assert mistakes(with_value("data.theta", math.inf)) == ["config.data.theta: inf is not a finite number"]


def test_a_whole_number_serves_as_a_real_one():
    assert mistakes(with_value("penalty.weight", 10)) == []


@pytest.mark.parametrize(
    ("key", "value"), [("method", "a/b"), ("method", ""), ("method", "a\0"), ("preset", "../x"), ("preset", 1)]
)
def test_names_of_the_workdir_stay_in_it(key, value):
    assert mistakes(with_value(key, value)) == [f"config.{key}: {value!r} is not a name without slashes"]


# Combinations: (changed keys, how the line begins, a change that mends it)


IMLE = {"objective": "imle", "n_critic": 0}
CLASSES = {"model.classes": 10, "terms.classification": 1.0}
COMBINATIONS = [
    ({"clip": 0.01, "penalty.name": "two_sided"}, "config.clip and config.penalty.name:", {"clip": 0.0}),
    ({"clip": 0.01, "penalty.name": "two_sided"}, "config.clip and config.penalty.name:", {"penalty.name": "none"}),
    ({"clip": 0.01, "penalty.name": "two_sided"}, "config.clip and config.penalty.name:", {"clip_with_penalty": True}),
    (
        {"penalty.name": "one_sided", "model.critic_normalization": "batch"},
        "config.model.critic_normalization:",
        {"model.critic_normalization": "layer"},
    ),
    (
        {"penalty.name": "one_sided", "model.critic_normalization": "batch"},
        "config.model.critic_normalization:",
        {"penalty.name": "none"},
    ),
    ({"data.label": "hair"}, "config.data.label: read by data.name=folder, not by ring8; leave", {"data.name": "folder"}),
    (
        {"data.name": "folder", "data.image_width": 16},
        "config.data.image_width: 16 needs a height too; set data.image_size",
        {"data.image_size": 8},
    ),
    (
        {"data.name": "folder", "data.crop": False},
        "config.data.crop: False stretches images to data.image_size, which is 0",
        {"data.image_size": 8},
    ),
    ({"data.image_size": 16}, "config.data.image_size: read by data.name=tfds or folder, not by ring8", {"data.name": "tfds"}),
    (
        {"data.flip": True},
        "config.data.flip: read by data.name=digits or tfds or folder, not by ring8",
        {"data.name": "digits"},
    ),
    ({"data.theta": 0.5}, "config.data.theta: read by data.name=parallel_lines, not by", {"data.name": "parallel_lines"}),
    ({"data.dim": 2}, "config.data.dim: read by data.name=gaussian, not by ring8; leave it at 1", {"data.name": "gaussian"}),
    ({"data.builder": "mnist"}, "config.data.builder: read by data.name=tfds, not by ring8", {"data.builder": "fashion_mnist"}),
    (
        {"model.critic_normalization": "virtual_batch"},
        "config.model.critic_normalization: virtual_batch refers to a batch of fixed latents, so it is the generator's",
        {"model.critic_normalization": "layer", "model.generator_normalization": "virtual_batch"},
    ),
    (
        {"model.critic_head": "minibatch_discrimination", "penalty.name": "zero_centred"},
        "config.model.critic_head: minibatch_discrimination mixes the examples",
        {"penalty.name": "none"},
    ),
    (
        {"model.critic_head": "minibatch_discrimination", "batch_size": 1},
        "config.batch_size: minibatch_discrimination needs at least 2",
        {"model.critic_head": "linear"},
    ),
    ({"targets.smoothing": 0.1, "loss": "hinge"}, "config.targets.smoothing: loss=hinge has no targets", {"loss": "minimax"}),
    (
        {"targets.noise": 0.3, "targets.flip": 0.1, "loss": "relativistic"},
        "config.targets.flip and config.targets.noise: loss=relativistic has no targets; use one of minimax, non_saturating, l",
        {"loss": "least_squares"},
    ),
    (
        {"loss": "minimax", "targets.smoothing": 0.6, "targets.noise": 0.4},
        "config.targets.smoothing, config.targets.noise and config.targets.flip: real examples must have higher targets",
        {"targets.noise": 0.3},
    ),
    (
        {"loss": "minimax", "targets.flip": 0.5},
        "config.targets.smoothing, config.targets.noise and config.targets.flip: real",
        {"targets.flip": 0.4},
    ),
    (
        {"loss": "wasserstein", "penalty.name": "two_sided", "penalty.weight": 0.0},
        "config.loss: a wasserstein critic without a penalty",
        {"penalty.weight": 0.1},
    ),
    ({"critic.loss_weight": 0.0}, "config.critic.loss_weight: 0 leaves", {**CLASSES, "data.name": "digits"}),
    ({"generator.loss_weight": 0.0}, "config.generator.loss_weight: 0 leaves", {"terms.feature_matching": 1.0}),
    (
        {"loss": "hinge", "penalty.name": "none", "penalty.every": 4},
        "config.penalty.every: there is no penalty",
        {"penalty.name": "zero_centred"},
    ),
    ({"decay": "cosine", "decay_steps": 0}, "config.decay: cosine falls over decay_steps", {"decay_steps": 10}),
    (
        {"model.normalize_first": True},
        "config.model.normalize_first: of a convolutional critic, which model.name=dcgan and mlp_dcgan have, not of mlp",
        {"model.normalize_first": False},
    ),
    (
        {"data.name": "table", "data.path": "x.csv", "conditioning.name": "projection", "conditioning.mismatch": 0.5},
        "config.conditioning.mismatch: a row of a table has a category of each column",
        {"conditioning.mismatch": 0.0},
    ),
    (
        {"data.name": "digits", "conditioning.name": "projection", "conditioning.weight": 2.0},
        "config.conditioning.weight: of the classifier that conditioning.name=auxiliary has",
        {"conditioning.name": "auxiliary"},
    ),
    (
        {"data.name": "table", "data.path": "x.csv", "conditioning.name": "auxiliary", "generator.loss_weight": 0.0},
        "config.generator.loss_weight: 0 leaves",
        {"data.name": "digits", "data.path": ""},
    ),
    (
        {"data.name": "digits", "conditioning.name": "auxiliary", "conditioning.weight": 0.0, "critic.loss_weight": 0.0},
        "config.critic.loss_weight: 0 leaves",
        {"conditioning.weight": 0.5},
    ),
    (
        {**IMLE, "generator.loss_weight": 2.0},
        "config.generator.loss_weight: objective=imle has no critic",
        {"generator.loss_weight": 1.0},
    ),
    ({"inputs.augment": "color"}, "config.inputs.augment: color is of images, and data.name=ring8", {"inputs.augment": ""}),
    ({"inputs.augment": "color,cutout"}, "config.inputs.augment: color,cutout is of", {"data.name": "digits"}),
    ({"eval.features": "classifier"}, "config.eval.features: classifier is for images", {"data.name": "digits"}),
    ({"batch_size": 30, "devices": 4}, "config.batch_size: 30 is not divisible by config.devices=4", {"batch_size": 32}),
    (
        {"data.name": "digits", "packing": 2, "conditioning.name": "projection"},
        "config.packing: a pack of several labels has no label of its own",
        {"conditioning.name": "none"},
    ),
    ({"batch_size": 30, "packing": 4}, "config.packing: batch_size=30 is no whole number of packs of 4", {"packing": 5}),
    (
        {"latent.name": "uniform", "latent.low": 1.0, "latent.high": 1.0},
        "config.latent.low: 1 is not below config.latent.high=1",
        {"latent.low": 0.5},
    ),
    (
        {"warmup.critic_steps": 99, "n_critic": 5},
        "config.warmup.critic_steps: 99 is not a multiple of n_critic=5",
        {"warmup.critic_steps": 100},
    ),
    (
        {"batch_size": 1, "model.generator_normalization": "batch"},
        "config.batch_size: batch normalisation needs at least 2",
        {"batch_size": 2},
    ),
    (
        {"batch_size": 1, "model.critic_normalization": "batch"},
        "config.batch_size: batch normalisation needs at least 2",
        {"model.critic_normalization": "layer"},
    ),
    (
        {"data.name": "digits", "conditioning.name": "auxiliary", **CLASSES},
        "config.conditioning.name: auxiliary tells the critic the labels that model.classes",
        {"conditioning.name": "none"},
    ),
    (
        {**IMLE, "data.name": "digits", "conditioning.name": "embedding"},
        "config.conditioning.name: objective=imle has no critic for it; leave it at 'none'",
        {"conditioning.name": "none"},
    ),
    ({"terms.classification": 1.0}, "config.terms.classification: there are no class logits", {"model.classes": 1}),
    ({"data.name": "digits", "data.labels": 20}, "config.data.labels: only terms.classification", {"data.labels": 0}),
    ({"data.labels": 20, **CLASSES}, "config.data.labels: read by data.name=digits or tfds or folder", {"data.name": "digits"}),
    ({"n_critic": 0}, "config.n_critic: 0 with objective=adversarial, which has a critic that must", {"n_critic": 1}),
    ({"objective": "imle"}, "config.n_critic: 5 with objective=imle, which has no critic; set it to 0", {"n_critic": 0}),
    ({**IMLE, "clip": 0.1}, "config.clip: objective=imle has no critic for it; leave it at 0", {"clip": 0.0}),
    ({**IMLE, "terms.drift": 0.1}, "config.terms.drift: objective=imle has no critic", {"terms.drift": 0.0}),
    ({**IMLE, "inputs.noise": 0.1}, "config.inputs.noise: objective=imle has no critic", {"inputs.noise": 0.0}),
    ({**IMLE, "penalty.name": "one_sided"}, "config.penalty.name: objective=imle has no", {"penalty.name": "none"}),
    ({"penalty.dtype": "bfloat16"}, "config.penalty.dtype: bfloat16 is for networks", {"dtype": "bfloat16"}),
    ({"model.remat": True}, "config.model.remat: only the blocks of model.name=resnet", {"model.name": "resnet"}),
    ({"loss": "wasserstein"}, "config.loss: a wasserstein critic without", {"penalty.name": "zero_centred"}),
    ({"loss": "wasserstein"}, "config.loss: a wasserstein critic without", {"clip": 0.01}),
    (
        {"loss": "wasserstein", "model.critic_kernel": "orthogonal", "model.critic_head": "minibatch_discrimination"},
        "config.loss: a wasserstein critic without",
        {"model.critic_head": "linear"},
    ),
    ({"loss": "wasserstein"}, "config.loss: a wasserstein critic without", {"model.critic_kernel": "spectral_kernel"}),
    (
        {"loss": "wasserstein", "model.critic_kernel": "spectral_kernel", "model.critic_normalization": "layer"},
        "config.loss: a wasserstein critic without",
        {"model.critic_normalization": "none"},
    ),
    (
        {"model.critic_kernel": "orthogonal", "model.critic_normalization": "layer"},
        "config.model.critic_normalization: layer normalisation divides by a spread",
        {"model.critic_kernel": "spectral_kernel"},
    ),
    (
        {"model.critic_kernel": "spectral_operator", "model.critic_normalization": "batch"},
        "config.model.critic_normalization: batch normalisation divides by a spread",
        {"model.critic_normalization": "none"},
    ),
    ({"clip": 0.01, "model.critic_kernel": "orthogonal"}, "config.clip: clipping beside model.critic_kernel", {"clip": 0.0}),
    (
        {"model.generator_activation": "maxmin", "model.width": 5},
        "config.model.width: maxmin sorts pairs of channels, and 5 is odd",
        {"model.width": 6},
    ),
]


@pytest.mark.parametrize(("changes", "start", "mend"), COMBINATIONS)
def test_a_combination_without_sense(changes, start, mend):
    config = good()
    config.update_from_flattened_dict(changes)
    (line,) = mistakes(config)
    assert line.startswith(start)
    config.update_from_flattened_dict(mend)
    assert mistakes(config) == []


def test_an_objective_without_a_critic_ignores_its_loss():
    config = good()
    config.update_from_flattened_dict({**IMLE, "loss": "wasserstein", "critic.loss_weight": 0.0})
    assert mistakes(config) == []


def test_adamw_is_known_by_its_name():
    assert mistakes(with_value("critic.optimizer", "adamw"))[0].endswith("; AdamW is adam with weight_decay above 0")


def test_a_normal_latent_ignores_the_uniform_bounds():
    config = good()
    config.update_from_flattened_dict({"latent.low": 1.0, "latent.high": -1.0})
    assert mistakes(config) == []


# All at once, overrides, files


def test_all_mistakes_are_told_at_once():
    config = good()
    config.update_from_flattened_dict({"seed": -1, "loss": "wassertein", "clip": math.nan})
    config.stepps = 3
    del config.keep
    with pytest.raises(UserError) as caught:
        check(config)
    keys = [line.split(":")[0] for line in caught.value.lines]
    assert sorted(keys) == ["config.clip", "config.keep", "config.loss", "config.seed", "config.stepps"]
    assert str(caught.value).splitlines() == list(caught.value.lines)


def test_all_combinations_are_told_at_once():
    config = good()
    config.update_from_flattened_dict({"clip": 0.1, "penalty.name": "two_sided", "warmup.critic_steps": 7, "n_critic": 2})
    assert len(mistakes(config)) == 2


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("--config.seed=7", "seed", 7),
        ("--config.penalty.weight=2.5", "penalty.weight", 2.5),
        ("--config.penalty.weight=2", "penalty.weight", 2.0),
        ("--config.critic.learning_rate=1e-3", "critic.learning_rate", 1e-3),
        ("--config.loss=hinge", "loss", "hinge"),
        ("--config.clip_with_penalty=True", "clip_with_penalty", True),
        ("--config.cache_dir=", "cache_dir", ""),
    ],
)
def test_an_override_changes_its_key_alone(root, override, key, value):
    spec = f"{root}/configs/wgan_gp.py:ring8"
    before, after = flatten(load(spec)), flatten(load(spec, [override]))
    assert after[key] == value
    assert type(after[key]) is type(value)
    assert {k: v for k, v in after.items() if k != key} == {k: v for k, v in before.items() if k != key}


def test_the_last_of_two_overrides_counts(root):
    assert load(f"{root}/configs/gan.py:ring8", ["--config.seed=1", "--config.seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("--config.sed=1", "config.sed: no such key; did you mean config.seed?"),
        ("--config.penalty=1", "config.penalty: no such key; did you mean config.penalty.name?"),
        ("--config.seed", "config.seed: no value; write --config.seed=VALUE"),
        ("--config.seed=", "config.seed: '' is not a whole number from 0 to 2147483647"),
        ("--config.seed=1.5", "config.seed: '1.5' is not a whole number from 0 to 2147483647"),
        ("--config.steps=True", "config.steps: 'True' is not a whole number from 1 to 2147483647"),
        ("--config.seed=-1", "config.seed: -1 is not a whole number from 0 to 2147483647"),
        ("--config.steps=3000000000", "config.steps: 3000000000 is not a whole number from 1 to 2147483647"),
        ("--config.clip=a", "config.clip: 'a' is not a finite number of at least 0"),
        ("--config.clip=nan", "config.clip: nan is not a finite number of at least 0"),
        ("--config.clip=1e999", "config.clip: inf is not a finite number of at least 0"),
        ("--config.clip_with_penalty=perhaps", "config.clip_with_penalty: 'perhaps' is not True or False"),
        ("--config.data.name=ring9", f"config.data.name: 'ring9' is not {KEYS['data.name'].rule.wanted}"),
    ],
)
def test_a_wrong_override(root, override, line):
    with pytest.raises(UserError) as caught:
        load(f"{root}/configs/gan.py:ring8", [override])
    assert caught.value.lines == (line,)


def test_all_wrong_overrides_are_told_at_once(root):
    overrides = ["--config.sed=1", "--config.steps=x", "--config.keep=0", "--config.loss=hinge", "--config.clip=inf"]
    with pytest.raises(UserError) as caught:
        load(f"{root}/configs/gan.py:ring8", overrides)
    keys = sorted(line.split(":")[0] for line in caught.value.lines)
    assert keys == ["config.clip", "config.keep", "config.sed", "config.steps"]


def test_overrides_make_a_combination_without_sense(root):
    with pytest.raises(UserError, match="a clipped critic with a gradient penalty"):
        load(f"{root}/configs/wgan.py:ring8", ["--config.penalty.name=two_sided"])


def test_the_command_line_of_the_process_is_not_read(root, monkeypatch):
    monkeypatch.setattr("sys.argv", ["run", "--config=other.py", "--config.seed=9", "--config.nonsense=1"])
    assert load(f"{root}/configs/gan.py:ring8", ["--config.steps=2"]).seed == 0


def test_a_missing_file_is_named_with_those_that_exist(root, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(UserError, match=r"^--config: no file configs/wgan_pg.py; there are: .*configs/wgan_gp.py"):
        load("configs/wgan_pg.py:ring8")
    with pytest.raises(UserError) as caught:
        load("configs/wgan_pg.py")
    assert "default.py" not in str(caught.value)
    assert "__init__" not in str(caught.value)


def test_a_missing_file_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        load("nothing.py")
    assert caught.value.lines == ("--config: no file nothing.py",)


@pytest.mark.parametrize("preset", ["ring9", "", "digits:paper", "Digits"])
def test_an_unknown_preset_is_one_line_with_the_known_ones(root, preset):
    with pytest.raises(UserError) as caught:
        load(f"{root}/configs/wgan.py:{preset}")
    (line,) = caught.value.lines
    assert line.endswith(f"unknown preset {preset!r}; one of: {', '.join(default.PRESETS)}")
    assert "\n" not in line


@pytest.mark.parametrize("option", ["paper", "paper=1", "papers=True", ""])
def test_an_unknown_option_of_a_preset(root, option):
    with pytest.raises(UserError, match=r"unknown option in preset 'ring8,.*'; the only one is paper=True$"):
        load(f"{root}/configs/wgan.py:ring8,{option}")


def test_a_file_without_get_config(root, tmp_path):
    load(f"{root}/configs/gan.py")  # an earlier config must not stand in for it
    (tmp_path / "empty.py").write_text("x = 1\n")
    with pytest.raises(UserError, match=r"empty.py has no function get_config\(preset\)"):
        load(f"{tmp_path}/empty.py")


@pytest.mark.parametrize(
    ("path", "meant"), [("configs/wgna.py", "configs/wgan.py"), ("wgan_lp", "configs/wgan_lp.py"), ("nonsense.py", None)]
)
def test_the_nearest_config_file_is_named(root, monkeypatch, path, meant):
    monkeypatch.chdir(root)
    with pytest.raises(UserError) as caught:
        load(path)
    assert caught.value.lines[0].endswith(f"; did you mean {meant}?" if meant else ".py")


@pytest.mark.parametrize(("preset", "meant"), [("digit", ":digits"), ("CIFAR-10", ":cifar10"), ("ring9", ":ring8")])
def test_the_nearest_preset_is_named(root, preset, meant):
    with pytest.raises(UserError, match=f"did you mean {meant}\\? unknown preset '{preset}'; one of: digits, "):
        load(f"{root}/configs/wgan.py:{preset}")


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("config.steps = 5", "get_config returns nothing; end it with `return config`"),
        ("return [config]", "get_config returns a list; what is wanted is a ConfigDict"),
        ("return {}", f"config.method and {len(KEYS) - 1} others: missing; begin with configs.default.start"),
        ("import sys; sys.exit('no')", "line 4: SystemExit: no"),
        ("config.stepz", "line 4: AttributeError: "),
        ("return config.stepz", 'Did you mean "steps"'),
        ("config.steps = 'many'", "line 4: TypeError: "),
    ],
)
def test_what_is_no_config_is_one_line(tmp_path, body, line):
    path = tmp_path / "own.py"
    path.write_text(
        f"from configs import gan\ndef get_config(preset='ring8'):\n    config = gan.get_config(preset)\n    {body}\n"
    )
    with pytest.raises(UserError) as caught:
        load(str(path))
    assert len(caught.value.lines) == 1
    assert line in caught.value.lines[0]
    assert str(path) in caught.value.lines[0] or "missing" in line


def test_a_dict_and_numpys_scalars_are_understood(tmp_path, root):
    path = tmp_path / "own.py"
    path.write_text("""
import numpy as np
from configs import gan

def get_config(preset="digits"):
    values = gan.get_config(preset).to_dict()
    values["steps"], values["batch_size"] = np.int64(20), np.array(16)
    values["decay_steps"], values["ema_decay"] = np.int32(10), np.float32(0.5)
    values["data"]["flip"], values["loss"] = np.bool_(True), np.str_("hinge")
    return values
""")
    config, expected = load(str(path), ["--config.n_critic=2"]), load(f"{root}/configs/gan.py:digits")
    changes = {"steps": 20, "batch_size": 16, "decay_steps": 10, "ema_decay": 0.5, "data.flip": True, "loss": "hinge"}
    assert flatten(config) == {**flatten(expected), **changes, "n_critic": 2}
    assert {type(value) for value in flatten(config).values()} == {int, float, bool, str}


# Flags that a command has not


CONFIGURABLE = ("--help", "--config", "--workdir", "--seeds")
TRAINED = ("--help", "--workdir", "--step", "--seed")


@pytest.mark.parametrize(
    ("flag", "known", "meant"),
    [
        ("--steps", CONFIGURABLE, "--config.steps"),
        ("--steps", TRAINED, "--step"),
        ("--lr", CONFIGURABLE, "--config.critic.learning_rate and --config.generator.learning_rate"),
        ("--batch-size", CONFIGURABLE, "--config.batch_size"),
        ("--epochs", CONFIGURABLE, "--config.steps"),
        ("--workdri", CONFIGURABLE, "--workdir"),
        ("--penalty_wieght", CONFIGURABLE, "--config.penalty.weight"),
        ("--lr", TRAINED, None),
        ("--xyzzy", CONFIGURABLE, None),
    ],
)
def test_an_unknown_flag_is_named_with_what_it_may_mean(flag, known, meant):
    end = f"did you mean {meant}?" if meant else "--help lists them"
    assert unknown_flag(flag, known, list(KEYS)) == f"{flag}: no such flag; {end}"


def test_a_learning_rate_by_another_name_is_that_of_both_players(root):
    with pytest.raises(UserError) as caught:
        load(f"{root}/configs/gan.py:ring8", ["--config.lr=1", "--config.critic.lr=1", "--config.lambda=2"])
    both = "config.critic.learning_rate and config.generator.learning_rate"
    assert caught.value.lines == (
        f"config.lr: no such key; did you mean {both}?",
        "config.critic.lr: no such key; did you mean config.critic.learning_rate?",
        "config.lambda: no such key; did you mean config.penalty.weight?",
    )


# The horizon of the learning rates


@pytest.mark.parametrize(
    ("spec", "overrides", "steps", "decay"),
    [
        ("wgan_gp.py", [], 3000, 3000),
        ("wgan_gp.py", ["steps=6000"], 6000, 6000),
        ("wgan_gp.py", ["steps=60", "decay_steps=20"], 60, 20),
        ("wgan_gp.py", ["decay_steps=20", "steps=60"], 60, 20),
        ("wgan_gp.py", ["decay_steps=0"], 3000, 0),
        ("gan.py:grid25", ["steps=70"], 70, 70),
        ("gan.py:folder", ["steps=70"], 70, 70),
        ("gan.py:gaussian", ["steps=70"], 70, 0),
        ("wgan_gp.py:cifar10,paper=True", ["steps=70"], 70, 70),
        ("wgan_gp.py:digits,paper=True", ["steps=70"], 70, 0),
        ("ablations/clip.py", ["steps=70"], 70, 70),
        ("ablations/architectures.py", [], 500, 500),
        ("ablations/n_critic.py", ["steps=70"], 70, 0),
    ],
)
def test_decay_steps_follows_steps_until_it_is_given(root, spec, overrides, steps, decay):
    config = load(f"{root}/configs/{spec}", [f"--config.{word}" for word in overrides])
    assert (config.steps, config.decay_steps) == (steps, decay)


def test_a_config_files_own_steps_are_followed(root):
    config = load(f"{root}/configs/wgan_gp.py")
    config.steps = 7
    assert config.decay_steps == 7
    config.decay_steps = 3
    assert config.steps == 7


@pytest.mark.parametrize(("decay", "steps", "last"), [(20, 60, 40), (60, 60, 0), (0, 60, 0), (61, 60, 0), (59, 60, 1)])
def test_updates_at_rate_0_are_warned_of(caplog, decay, steps, last):
    config = with_values({"decay_steps": decay, "steps": steps})
    warn_of_idle_updates([config, config])
    line = f"config.decay_steps={decay} ends before steps={steps}: the last {last} updates train at rate 0"
    assert caplog.messages == ([line] if last else [])


# Places of the data


def test_a_wrong_place_of_the_data_is_told_before_it_is_read(tmp_path):
    (tmp_path / "file").touch()
    for path, told in (
        ("", "empty"),
        (str(tmp_path / "no"), str(tmp_path / "no")),
        (str(tmp_path / "file"), str(tmp_path / "file")),
    ):
        with pytest.raises(UserError) as caught:
            check_data(with_values({"data.name": "folder", "data.path": path}))
        assert caught.value.lines == (f"config.data.path: {told}: no such folder; set --config.data.path=DIR",)
    check_data(with_values({"data.name": "folder", "data.path": str(tmp_path)}))
    tfds = {"data.name": "tfds", "data.builder": "mnist", "data.data_dir": str(tmp_path)}
    with pytest.raises(UserError, match=rf"config.data.builder: mnist is not prepared in {tmp_path}; put it there, name"):
        check_data(with_values(tfds))
    check_data(with_values({**tfds, "data.download": True}))
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    (tmp_path / "mnist" / "3.0.1" / "dataset_info.json").touch()
    check_data(with_values(tfds))
    with pytest.raises(UserError):
        check_data(with_values({**tfds, "data.builder": "mnist:9.9.9"}))
    check_data(good())


def test_only_data_in_a_home_directory_needs_one(monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as it is where the system does not know the user
    check_data(good())
    with pytest.raises(UserError, match="no home directory is known here"):
        check_data(with_values({"data.name": "tfds", "data.builder": "mnist"}))


# Registries


@pytest.mark.parametrize(
    ("module", "registry"),
    [
        ("data/__init__.py", "DATASETS"),
        ("data/kinds.py", "KINDS"),
        ("data/numbers.py", "METHODS"),
        ("models/__init__.py", "ARCHITECTURES"),
        ("models/latent.py", "LATENTS"),
        ("models/kernels.py", "KERNELS"),
        ("models/layers.py", "ACTIVATIONS"),
        ("models/layers.py", "HEADS"),
        ("models/layers.py", "INITIALIZERS"),
        ("models/layers.py", "NORMALIZATIONS"),
        ("objectives/constraints.py", "CLIP_SCOPES"),
        ("objectives/losses.py", "LOSSES"),
        ("objectives/penalties.py", "PENALTIES"),
        ("objectives/penalties.py", "PERTURBATIONS"),
        ("objectives/penalties.py", "POINTS"),
        ("training/update.py", "OPTIMIZERS"),
    ],
)
def test_a_registry_read_from_source_is_the_one_at_run_time(module, registry):
    name = "wgan_jax." + module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert registered(module, registry) == tuple(getattr(importlib.import_module(name), registry))
    assert any(", ".join(registered(module, registry)) in row.rule.wanted for row in KEYS.values())


def test_what_datasets_say_of_themselves_is_read_from_source_too():
    """DATASETS is not imported for it: the rules answer before jax is there."""
    told = described("data/__init__.py", "DATASETS")
    loaders = importlib.import_module("wgan_jax.data").DATASETS
    assert {name: (entry.images, entry.reads) for name, entry in loaders.items()} == {
        name: (entry.get("images", False), entry.get("reads", ())) for name, entry in told.items()
    }


def test_keys_that_some_datasets_read_are_idle_at_their_default_values():
    values = default.default_config().data
    idle = {key.removeprefix("data."): row.idle for key, row in KEYS.items() if row.idle is not None}
    assert {key: values[key] for key in idle} == idle
    read = {key for told in described("data/__init__.py", "DATASETS").values() for key in told.get("reads", ())}
    assert set(idle) == read | {key.removeprefix("data.") for key in keys_of("augmentation")}
    assert set(values) - set(idle) == {"name", "cache_dir", "resident_mb"}


def test_a_dataset_is_added_by_a_function_and_a_line(tmp_path, monkeypatch):
    (tmp_path / "data.py").write_text(
        'DATASETS = {"ring8": Loader(ring8), "mine": Loader(mine, images=True, reads=("path",))}\n'
    )
    (tmp_path / "other.py").write_text("DATASETS = {'mine': Loader(mine, reads=KEYS)}\n")
    told = described(str(tmp_path / "data.py"), "DATASETS")
    assert told == {"ring8": {}, "mine": {"images": True, "reads": ("path",)}}
    monkeypatch.setattr(
        "wgan_jax.combinations.described",
        lambda module, registry: told if registry == "DATASETS" else described(module, registry),
    )
    config = good()
    config.update_from_flattened_dict({"data.name": "ring8", "data.path": "x", "eval.features": "classifier"})
    assert [line.split(":")[0] for line in mistakes(config)] == ["config.eval.features", "config.data.path"]
    with pytest.raises(LookupError, match=r"DATASETS\['mine'\] has keyword arguments that are no literals"):
        described(str(tmp_path / "other.py"), "DATASETS")


def test_an_unknown_registry():
    with pytest.raises(LookupError, match=r"objectives/losses.py has no dict LOSES"):
        registered("objectives/losses.py", "LOSES")


def test_flatten_gives_dotted_keys():
    nested = {"b": 1, "a": {"y": (2, 3), "x": {"z": None}}, "c": "3"}
    flat = {"b": 1, "a.y": (2, 3), "a.x.z": None, "c": "3"}
    assert list(flatten(nested).items()) == list(flat.items())
    assert flatten(ConfigDict(nested)) == flat


def test_the_default_workdir_is_named_by_method_preset_and_seed(make_config):
    config = make_config("wgan_lp.py:ring8,paper=True", {"seed": 4})
    assert default_workdir(config) == "runs/wgan_lp-ring8-paper=True-seed4"


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("fid", "frechet"),
        ("wasserstein,FID,KID,is", "frechet,kernel,inception_score"),
        ("precision,recall", "precision_recall"),
        ("modez", "modes"),
    ],
)
def test_metrics_of_other_names_are_understood_in_the_message(asked, meant):
    rule = KEYS["eval.metrics"].rule
    assert rule.refusal(asked).startswith(f"{asked!r} is not all, or some of wasserstein,")
    assert rule.refusal(asked).endswith(f"; did you mean {meant}?")
    with pytest.raises(UserError, match=f"; did you mean {meant}"):
        load("configs/wgan_gp.py", [f"--config.eval.metrics={asked}"])


def test_a_metric_like_none_is_not_guessed_at():
    assert "did you mean" not in KEYS["eval.metrics"].rule.refusal("xyz")
    assert {name for meant in ALIASES.values() for name in meant.split(",")} <= set(
        registered("evaluation/registry.py", "METRICS")
    )
    assert set(ALIASES).isdisjoint(registered("evaluation/registry.py", "METRICS"))
