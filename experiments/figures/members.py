"""What the figures share: models that differ in seed and numbers alone, trained as one program and looked at on the way."""

import functools
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from wgan_jax.batching import example_keys
from wgan_jax.data.dataset import Dataset
from wgan_jax.data.source import plan_feeds
from wgan_jax.training.calls import Clock, Pace, Start, calls
from wgan_jax.training.interruption import Signals
from wgan_jax.training.members import begin
from wgan_jax.training.program import make_members
from wgan_jax.types import Array, Networks, Params, TrainState

QUICK = {"model.width": 32, "batch_size": 32}  # networks of a --quick figure
ENDLESS = 1e6  # seconds of a call: nothing is saved in between


class Moment(NamedTuple):
    """What members are at a step."""

    step: int  # generator updates done
    networks: Networks
    states: TrainState  # [members, ...], until the next moment
    metrics: dict[str, np.ndarray]  # [members], of the last update
    seconds: float  # of training so far, of all members, without compilation


def train(
    config: ConfigDict, dataset: Dataset, members: Sequence[Mapping[str, float]], stops: Sequence[int]
) -> Iterator[Moment]:
    """Yields what a config's members are at each of `stops`, increasing steps.

    members: what each sets on top of the config, its seed and numbers that are arguments of the program, by dotted key.
    """
    configs = []
    for numbers in members:
        own = config.copy_and_resolve_references()
        own.update_from_flattened_dict({"devices": 1, **numbers})
        configs.append(own)
    program = make_members(configs[0], dataset, len(configs))
    start = Start(*begin(configs, program), lambda n: np.full(len(configs), n, np.int32))
    plan = functools.partial(plan_feeds, configs[0], dataset, program.place, program.shard, [own.seed for own in configs])
    pace, clock = Pace(stops[-1], (math.gcd(*stops),), ENDLESS), Clock(time.perf_counter())
    for call in calls(program, start, plan, pace, clock, Signals()):
        if sys.stdout.isatty():
            print(f"    {config.method}: update {call.step:,} of {stops[-1]:,}", end="\x1b[K\r", flush=True)
        if call.step in stops:
            yield Moment(call.step, program.networks, call.state, call.metrics, clock.seconds["train"])


def seeds(count: int) -> list[dict[str, float]]:
    """Returns members that differ in the seed alone."""
    return [{"seed": seed} for seed in range(count)]


def one(tree: Params, index: int) -> Params:
    """Returns a member's own of what members have together."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


@functools.partial(jax.jit, static_argnums=(0, 2))
def examples(networks: Networks, variables: Params, count: int, seed: Array) -> jax.Array:
    """Returns examples [members, count, *shape] of generators without labels, each of the same latents."""
    labels = jnp.zeros(count, jnp.int32)
    latents = networks.latents(example_keys(jax.random.key(seed), count), labels)
    return jax.lax.map(lambda own: networks.generate(own, latents), variables)
