"""The nouns: structs of arrays that the whole package passes around."""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import numpy as np

type Array = jax.Array | np.ndarray  # on a device, or on the host
type Params = Any  # a pytree of parameter arrays
type Metrics = dict[str, jax.Array]
# {dotted key of the config: float []}, arguments of the program: a change does not recompile, and a grid maps over them
type Hyperparameters = dict[str, jax.Array]


class Batch(NamedTuple):
    """Examples and their labels; stacked batches have further leading axes."""

    x: Array  # [B, ...] in network units
    # [B] int32, of a class or a combination of attributes; 0 where the dataset has no labels, -1 where training does not see
    # it; of a generated example the label that it
    # was made for
    label: Array


class Latents(NamedTuple):
    """What a generator is fed."""

    z: Array  # [B, Z]
    # [B] int32, of the example that is to become of it; or shares of the classes [B, classes], between some; or codes of
    # attributes [B, code], as data/attributes.py has them, of which the data need not have any
    label: Array


class CriticOutput(NamedTuple):
    score: jax.Array  # [B], unbounded: the critic's value or the discriminator's logit
    features: jax.Array  # [B, F], the last hidden layer
    class_logits: (
        jax.Array | None
    )  # [B, classes], of a critic that tells them apart; or [B, code], of one that tells attributes


class Player(flax.struct.PyTreeNode):
    """One network in training."""

    params: Params
    model_state: Params  # batch statistics; {} without
    opt_state: Params

    @property
    def variables(self) -> Params:
        """The network's variables as flax takes them."""
        return {"params": self.params, **self.model_state}


class TrainState(flax.struct.PyTreeNode):
    """Everything the next update needs, checkpointed whole. Keys are not in it: they follow from the step."""

    step: jax.Array  # int32 [], generator updates done
    critic_step: jax.Array  # int32 [], critic updates done
    critic: Player
    generator: Player
    ema: Params  # the generator's variables {"params": ..., ...}, averaged
    memory: Params  # of objectives that have one, equal on all devices; {} without

    @property
    def batches_taken(self) -> jax.Array:
        """The position of the next batch: an update of the critic takes one, and so does one of the generator. int32 []."""
        return self.critic_step + self.step


# (params, model_state, x or latents z [B, ...], label [B]) -> (output, new model_state), in training mode
type Apply[Output] = Callable[[Params, Params, Array, Array], tuple[Output, Params]]


class Networks(NamedTuple):
    """The two networks as pure functions of their variables. Whatever is made or scored has its label beside it.

    What a critic scores is one example or, with config.packing = m > 1, a pack of m: x [B, m, *shape] and label [B, m].
    """

    init_generator: Callable[[jax.Array], Params]  # key -> variables {"params": ..., ...}
    init_critic: Callable[[jax.Array], Params]
    generator: Apply[jax.Array]  # latents z [B, Z] -> [B, *shape]
    critic: Apply[CriticOutput]  # x [B, *shape]
    penalty_critic: Apply[CriticOutput]  # the critic computed in config.penalty.dtype
    example: jax.ShapeDtypeStruct  # what is generated and scored, one of it
    mixes_examples: bool  # whether the critic's score of an example depends on the others of its batch
    refresh_critic: Callable[[Params], Params]  # critic variables after an update -> as its kernels want them
    latents: Callable[[jax.Array, Array], Latents]  # keys [B], label [B]; z is a function of the key alone
    generate: Callable[[Params, Latents], jax.Array]  # generator variables, latents -> [B, *shape], in evaluation mode
    score: Callable[[Params, Batch], jax.Array]  # critic variables, examples -> [B], in evaluation mode
    classify: Callable[[Params, Batch], jax.Array] | None = None  # the same -> class logits [B, classes]; None without classes
    classes: int = 0  # different labels that the networks look at; 0 where they do not
    code: int = 0  # entries of a label's code where labels are of attributes; 0 of classes
    # class_logits [B, ...], label [B] -> what an auxiliary classifier minimises, [B]
    label_loss: Callable[[jax.Array, Array], jax.Array] | None = None
