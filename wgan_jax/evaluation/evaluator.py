"""Evaluation of a generator and its critic: everything that METRICS and the critic say, as one flat dict."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from wgan_jax.data.dataset import Dataset, flatten
from wgan_jax.evaluation import QUANTILE_SAMPLES, Generated, Reference, evaluate, make_reference, round_to_pixels
from wgan_jax.evaluation.critic import make_critic_statistics
from wgan_jax.models import Networks, make_sampler
from wgan_jax.types import Params

SAMPLE_VALUES = 2**22  # generated at once: 340 images 64 x 64 x 3

# (generator variables, critic variables, split, draw) -> {metric: value}
type Evaluator = Callable[[Params, Params, str, int], dict[str, float]]


def make_evaluator(config: ConfigDict, dataset: Dataset, networks: Networks) -> Evaluator:
    """Returns the evaluator of a config; its programs are compiled once and its real sides built once per split and draw."""
    sample = make_sampler(networks)
    critic_statistics = make_critic_statistics(networks.score)
    references: dict[tuple[str, int], Reference] = {}

    def reference_of(split: str, draw: int) -> Reference:
        if (split, draw) not in references:
            classifier = next((reference.classifier for reference in references.values()), None)
            references[split, draw] = make_reference(dataset, split, config.eval.samples, draw, classifier)
        return references[split, draw]

    def evaluator(generator: Params, critic: Params, split: str, draw: int) -> dict[str, float]:
        reference = reference_of(split, draw)
        n = len(reference.real)
        key = jax.random.fold_in(jax.random.key(30_000 + draw), split == "test")
        many = QUANTILE_SAMPLES if dataset.quantile is not None else 0
        at_once = min(2 * n + many, max(1, SAMPLE_VALUES // math.prod(dataset.shape)))
        parts = [sample(generator, key, first, at_once)[1] for first in range(0, 2 * n + many, at_once)]
        samples = round_to_pixels(np.concatenate(jax.device_get(parts))[: 2 * n + many])
        flat = flatten(samples)
        values = evaluate(reference, Generated(flat[:n], flat[n : 2 * n], flat[2 * n :]))
        both = (flatten(reference.train[:n]), reference.real)
        shaped = [x.astype(samples.dtype).reshape(-1, *dataset.shape) for x in both]
        return values | critic_statistics(critic, *shaped, samples[:n])

    return evaluator


def summarise(draws: list[dict[str, float]]) -> dict[str, float]:
    """Returns the mean of every metric over draws, and its standard deviation as <metric>_std."""
    summary: dict[str, Any] = {}
    for name in draws[0]:
        values = [draw[name] for draw in draws]
        summary[name], summary[f"{name}_std"] = float(np.mean(values)), float(np.std(values))
    return summary
