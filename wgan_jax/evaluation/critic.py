"""What a critic says of the distance between two samples, and how much of that can be trusted."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from wgan_jax.batching import in_chunks
from wgan_jax.metrics.transport import c_transform_bound
from wgan_jax.types import Batch, Params

POINT_VALUES = 2**21  # of the points differentiated at once: 170 images 64 x 64 x 3

CRITIC_VALUES = ("estimate_train", "estimate_heldout", "lipschitz_q99", "estimate_normalised", "c_transform_bound")

type Score = Callable[[Params, Batch], jax.Array]  # critic variables, examples [n, ...] -> [n]


def make_critic_statistics(
    score: Score, classify: Score | None = None
) -> Callable[[Params, Batch, Batch, Batch], dict[str, float]]:
    """Returns a function of (variables, train, heldout, generated), NumPy samples of equal size n, that measures a critic.

    Each example is scored with its own label, a point between a held-out and a generated one with the held-out one's.

    estimate_train and estimate_heldout: mean score of real minus generated. lipschitz_q99: 99 % quantile of the input
    gradient's norm on held-out, generated and points between. estimate_normalised: heldout / q99. c_transform_bound: of the
    critic over q99; never above the empirical distance. classifier_error, where classify gives class logits [n, classes]: the
    share of held-out examples whose largest logit is not their label's. score and its gradient are compiled once.
    """

    @jax.jit
    def evaluate(variables: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
        x, label = batch
        value, pull = jax.vjp(lambda x: score(variables, Batch(x, label)), x)
        gradient = pull(jnp.ones_like(value))[0]  # in evaluation mode an example's score depends on that example alone
        return value, jnp.sqrt(jnp.sum(jnp.square(gradient), axis=tuple(range(1, x.ndim))))

    @jax.jit
    def wrong(variables: Params, batch: Batch) -> tuple[jax.Array]:
        assert classify is not None
        return (jnp.argmax(classify(variables, batch), axis=1) != batch.label,)

    def statistics(variables: Params, train: Batch, heldout: Batch, generated: Batch) -> dict[str, float]:
        n, *shape = heldout.x.shape
        share = np.random.default_rng(0).random((n,) + (1,) * len(shape))
        between = (share * heldout.x + (1 - share) * generated.x).astype(heldout.x.dtype)
        sides = (heldout, generated, Batch(between, heldout.label), train)
        points = Batch(*map(np.concatenate, zip(*sides, strict=True)))
        values, norms = in_chunks(lambda chunk: evaluate(variables, chunk), points, POINT_VALUES // math.prod(shape))
        on_heldout, on_generated, on_train = values[:n].mean(), values[n : 2 * n].mean(), values[3 * n :].mean()
        lipschitz = float(np.quantile(norms[: 3 * n], 0.99))
        flat = [np.asarray(sample.x).reshape(n, -1) for sample in (heldout, generated)]
        usable = lipschitz > 0
        error = {}
        if classify is not None:
            mistaken = in_chunks(lambda chunk: wrong(variables, chunk), heldout, POINT_VALUES // math.prod(shape))[0]
            error = {"classifier_error": float(mistaken.mean())}
        return {
            "estimate_train": float(on_train - on_generated),
            "estimate_heldout": float(on_heldout - on_generated),
            "lipschitz_q99": lipschitz,
            "estimate_normalised": float(on_heldout - on_generated) / lipschitz if usable else float("nan"),
            "c_transform_bound": c_transform_bound(values[:n] / lipschitz, *flat) if usable else float("nan"),
            **error,
        }

    return statistics
