"""Architectures by name, and the pure functions through which the rest of the package sees a network."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from wgan_jax.batching import example_keys
from wgan_jax.data.attributes import Attributes
from wgan_jax.data.columns import Layout
from wgan_jax.errors import UserError
from wgan_jax.models import dcgan, mlp, resnet
from wgan_jax.models.embedding import CONDITIONINGS, label_loss
from wgan_jax.models.kernels import KERNEL_STATE
from wgan_jax.models.latent import sample_latents
from wgan_jax.models.layers import NORMALIZATIONS, Style
from wgan_jax.models.minibatch import Referring
from wgan_jax.types import Apply, Array, Batch, CriticOutput, Latents, Networks, Params

# (generator variables, key, label [n], first) -> latents and examples first, ..., first + n - 1: [n, *shape]
type Sample = Callable[[Params, jax.Array, Array, int], tuple[Latents, jax.Array]]


class Architecture(NamedTuple):
    """A pair of networks, and the examples that they are for."""

    # of examples of a shape: latents z [B, Z], label [B], train -> [B, *shape]
    generator: Callable[[Style, tuple[int, ...]], nn.Module]
    critic: Callable[[Style], nn.Module]  # examples [B, *shape], label [B], train -> CriticOutput
    accepts: Callable[[tuple[int, ...]], bool]  # of an example's shape
    wanted: str


CONVOLVED = "series, images and volumes of more than 4 along an axis"
ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture(mlp.Generator, mlp.Critic, lambda shape: True, "anything"),
    "dcgan": Architecture(dcgan.Generator, dcgan.Critic, dcgan.fits, CONVOLVED),
    # the generator with which a plain GAN collapses (Arjovsky 2017, figure 7)
    "mlp_dcgan": Architecture(mlp.four_layers, dcgan.Critic, dcgan.fits, CONVOLVED),
    "resnet": Architecture(
        resnet.Generator,
        resnet.Critic,
        lambda shape: len(shape) == 3 and shape[0] == shape[1] > resnet.SMALLEST and resnet.fits(shape[0]),
        "square images 4 * 2^k wide",
    ),
}


def param_dtype(config: ConfigDict) -> Any:
    """Returns the dtype of parameters: float64 for config.dtype float64, else float32."""
    return jnp.float64 if config.dtype == "float64" else jnp.float32


def build_networks(
    config: ConfigDict,
    shape: tuple[int, ...],
    axis_name: str | None = None,
    *,
    classes: int = 0,
    attributes: Attributes | None = None,
    bounded: bool | None = None,
    layout: Layout | None = None,
) -> Networks:
    """Returns the networks that config.model names, for examples of a shape, with labels of so many classes.

    attributes: those that labels are combinations of; then classes is the number of combinations. bounded: whether these are of
    [-1, 1]; None where [H, W, C] are images that are, and no others. layout: of rows of a table, which go without conditioning
    where they have no category.

    Raises:
      UserError: they are not for such examples, or for labels that there are not.
    """
    model, wide, architecture = config.model, param_dtype(config), ARCHITECTURES[config.model.name]
    if not architecture.accepts(shape):
        raise UserError(f"config.model.name: {model.name} is for {architecture.wanted}, not for examples of shape {shape}")
    conditional = config.conditioning.name != "none" and (layout is None or classes > 1)
    conditioning = CONDITIONINGS[config.conditioning.name if conditional else "none"]
    if conditional and classes < 2:
        raise UserError(
            f"config.conditioning.name: {config.conditioning.name} needs labels of at least 2 classes, and the data has "
            f"{classes or 'none'}"
        )

    def style(player: str) -> Style:
        return Style(
            width=model.width,
            depth=model.depth,
            activation=model[f"{player}_activation"],
            initializer=model.initializer,
            kernel=model.critic_kernel if player == "critic" else "none",
            normalization=model[f"{player}_normalization"],
            normalize_first=model.normalize_first,
            axis_name=axis_name,
            dtype=jnp.dtype(config.dtype),
            param_dtype=wide,
            bounded=len(shape) == 3 if bounded is None else bounded,
            layout=layout,
            temperature=model.temperature,
            remat=model.remat,
            head=model.critic_head if player == "critic" else "linear",
            dropout=model.generator_dropout if player == "generator" else 0.0,
            reference=config.batch_size if player == "generator" else 0,
            logits=model.classes if player == "critic" else 0,
            classes=classes,
            attributes=attributes,
            label_use=getattr(conditioning, player),
            classifies=conditioning.classifies and layout is None,  # a row says itself which category it has
        )

    def joined(x: Array) -> Array:
        """What a critic is given: examples as they are, packs [B, packing, *shape] side by side in the last axis."""
        return x if config.packing == 1 else jnp.moveaxis(jnp.asarray(x), 1, -2).reshape(len(x), *critic_shape)

    critic_shape = (*shape[:-1], config.packing * shape[-1])
    generator, critic = architecture.generator(style("generator"), shape), architecture.critic(style("critic"))
    if NORMALIZATIONS[model.generator_normalization].refers:
        keys = lambda: example_keys(jax.random.key(0), config.batch_size)  # noqa: E731
        code = np.eye(classes)[:1] if attributes is None else attributes.codes[:1]
        generator = Referring(generator, lambda: sample_latents(keys(), config, wide), tuple(code.ravel().tolist()))
    wide_critic = architecture.critic(style("critic")._replace(dtype=wide))
    penalty_critic = wide_critic if config.penalty.dtype == "parameters" else critic
    no_label, no_labels = (jnp.zeros(shape, jnp.int32) for shape in ((1,), (1, config.packing)))
    of_critic = no_labels if config.packing > 1 else no_label

    def init(module: nn.Module, key: jax.Array, shape: tuple[int, ...], label: jax.Array) -> Params:
        x = jnp.zeros(shape, wide)
        variables = module.init(key, x, label, train=True)
        if axis_name is None:  # else batch statistics have no devices here to be shared over
            jax.eval_shape(functools.partial(_deterministic, module), variables, x, label)
        return jax.tree.map(lambda leaf: leaf.astype(wide), variables)  # flax makes batch statistics float32 at any dtype

    def refresh_critic(variables: Params) -> Params:
        if model.critic_kernel == "none":
            return variables
        x, moving = jnp.zeros((1, *critic_shape), wide), ["params", KERNEL_STATE]
        _, refreshed = wide_critic.apply(variables, x, of_critic, train=False, mutable=moving)
        return {**variables, **refreshed}

    def generate(variables: Params, latents: Latents) -> jax.Array:
        return cast(jax.Array, generator.apply(variables, *latents, train=False))

    def score(variables: Params, batch: Batch) -> jax.Array:
        return cast(CriticOutput, wide_critic.apply(variables, joined(batch.x), batch.label, train=False)).score

    def classify(variables: Params, batch: Batch) -> jax.Array:
        return cast(jax.Array, cast(CriticOutput, wide_critic.apply(variables, *batch, train=False)).class_logits)

    return Networks(
        init_generator=lambda key: init(generator, key, (1, config.latent.dim), no_label),
        init_critic=lambda key: init(critic, key, (1, *critic_shape), of_critic),
        generator=_train_apply(generator),
        critic=_train_apply(critic, joined),
        penalty_critic=_train_apply(penalty_critic, joined),
        example=jax.ShapeDtypeStruct(shape, wide),
        mixes_examples=style("critic").mixes_examples,
        refresh_critic=refresh_critic,
        latents=lambda keys, label: Latents(sample_latents(keys, config, wide), label),
        generate=generate,
        score=score,
        classify=classify if model.classes else None,
        classes=classes if conditional else 0,
        code=attributes.size if conditional and attributes is not None else 0,
        label_loss=functools.partial(label_loss, attributes=attributes),
    )


def _deterministic(module: nn.Module, variables: Params, x: jax.Array, label: jax.Array) -> Any:
    """Applies a module as training does, without random numbers.

    Raises:
      UserError: it asks for them.
    """
    try:
        return module.apply(variables, x, label, train=True, mutable=True)
    except flax.errors.InvalidRngError as error:
        raise UserError(
            f"config.model.name: {type(module).__name__} draws random numbers, as nn.Dropout does in training; networks here "
            "are functions of latents, examples and labels alone"
        ) from error


def make_sampler(networks: Networks) -> Sample:
    """Returns a compiled Sample: the i-th example is a function of the key, i and its label alone."""

    @jax.jit
    def sample(variables: Params, key: jax.Array, label: Array, first: int) -> tuple[Latents, jax.Array]:
        latents = networks.latents(example_keys(key, len(label), first=first), label)
        return latents, networks.generate(variables, latents)

    return sample


def _train_apply(module: nn.Module, joined: Callable[[Array], Array] = lambda x: x) -> Apply[Any]:
    def apply(params: Params, model_state: Params, x: Array, label: Array) -> tuple[Any, Params]:
        mutable = [name for name in model_state if name != KERNEL_STATE]  # which is refreshed once an update, not by each pass
        output, changed = module.apply({"params": params, **model_state}, joined(x), label, train=True, mutable=mutable)
        return output, {**model_state, **changed}

    return apply
