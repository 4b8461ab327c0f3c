"""What the ablations share: a laptop's budget and lists of points.

A point is {dotted config key: value}, laid over the file's get_config(preset); its seed is among them. A setting is a point
without its seed.
"""

import itertools
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from ml_collections import ConfigDict

from configs import default

type Point = dict[str, Any]


def laptop(config: ConfigDict) -> ConfigDict:
    """Returns a method's config cut to a budget at which hundreds of runs take minutes; paper=True and images stay whole.

    Toys: width 64, batch 256, 2,000 updates. Digits: width 128, 1,000 updates. Both are evaluated four times, on one draw.
    Learning rates are the preset's for every method, at WGAN's own 2e-4 so few updates do not move it; a method whose critic
    learns faster than its generator keeps their ratio.
    """
    preset, name, paper = default.start(config.method, config.preset)
    if paper or name in default.IMAGES:
        return config
    if name in default.TOYS:
        config.model.width, config.batch_size = 64, 256
        config.eval.samples = config.eval.feature_samples = 1000
    else:
        config.model.width = 128
    config.update(length(2000 if name in default.TOYS else 1000))
    default.decay_to_the_end(config)
    config.eval.draws = 1
    ratio = config.critic.learning_rate / config.generator.learning_rate
    default.set_optimizers(config, learning_rate=preset.critic.learning_rate)
    config.critic.learning_rate *= ratio
    return config


def length(steps: int) -> Point:
    """Returns the keys of so many generator updates, evaluated and saved four times."""
    return {"steps": steps, "eval_every": max(1, steps // 4), "checkpoint_every": max(1, steps // 4)}


def product(axes: Mapping[str, Iterable[Any]]) -> list[Point]:
    """Returns a point for every combination of the keys' values, the last key fastest."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def cross(*lists: Iterable[Point]) -> list[Point]:
    """Returns every combination of a point of each list; of a key that several of them have, the last list's value counts."""
    return [{key: value for point in parts for key, value in point.items()} for parts in itertools.product(*lists)]


def with_seeds(settings: Iterable[Point], preset: str) -> list[Point]:
    """Returns every setting at 30 seeds on toys, 10 on digits, 3 on images.

    With 15 % of the runs failing, the 95 % bootstrap interval of a mean covers 54 % at 5 seeds, 79 % at 10 and 92 % at 30.
    """
    _, name, _ = default.start("", preset)
    count = 30 if name in default.TOYS else 3 if name in default.IMAGES else 10
    return cross(settings, product({"seed": range(count)}))


def uniform(rng: Random, low: float, high: float) -> float:
    """Returns a draw of U[low, high], rounded to four digits: the same on every machine, and legible in a table."""
    return float(f"{rng.uniform(low, high):.4g}")


def log_uniform(rng: Random, low: float, high: float) -> float:
    """Returns a draw whose logarithm is uniform on [log low, log high], rounded to four digits."""
    return float(f"{low * (high / low) ** rng.random():.4g}")


def difference(config: ConfigDict, base: ConfigDict) -> Point:
    """Returns the keys in which a config differs from a base of the same keys: a point that turns the base into it."""
    flat: Point = {}
    for key in sorted(config):
        if isinstance(config[key], ConfigDict):
            flat |= {f"{key}.{leaf}": value for leaf, value in difference(config[key], base[key]).items()}
        elif config[key] != base[key]:
            flat[key] = config[key]
    return flat


def methods(configs: Iterable[ConfigDict]) -> list[Point]:
    """Returns the points that turn the first of several methods' configs into each of them, all at the laptop's budget."""
    cut = [laptop(config) for config in configs]
    return [difference(config, cut[0]) for config in cut]
