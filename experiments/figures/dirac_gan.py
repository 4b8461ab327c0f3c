"""The Dirac-GAN: one point against one point, by every loss, kind of step and penalty, and the eigenvalues beside them.

Mescheder 2018, "Which Training Methods for GANs do actually Converge?", section 3. The data is the point 0, the generator's the
point theta, and the critic is linear. Step size .2, 500 steps from (1, 1), clip 1, penalties and noise are the authors'
notebook's, whose gamma is twice our weight. Losses, penalties and the clip are those that training uses.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wgan_jax.objectives.constraints import clip_parameters
from wgan_jax.objectives.losses import LOSSES
from wgan_jax.objectives.penalties import PENALTIES, squared_gradient_norm
from wgan_jax.report.drawing import BLUE, MARKERS, VERMILLION, colour

STEP, STEPS = 0.2, 500
CONVERGED = 1e-2  # distance from the equilibrium (0, 0) at the end
MOST = 5  # critic steps


class Method(NamedTuple):
    """Numbers that are arguments of one program for all the methods."""

    alternating: float = 0.0  # 1: the critic sees the generator's new point
    critic_steps: float = 1.0
    clip: float = np.inf
    two_sided: float = 0.0  # weights of the penalties
    one_sided: float = 0.0
    zero_centred: float = 0.0
    noise: float = 0.0  # standard deviation of instance noise
    consensus: float = 0.0


METHODS = {
    "simultaneous": Method(),
    "alternating": Method(alternating=1),
    "alternating, 5": Method(alternating=1, critic_steps=5),
    "clip 1": Method(clip=1),
    "GP .35": Method(two_sided=0.35),
    "LP .35": Method(one_sided=0.35),
    "noise .7": Method(noise=0.7),
    "consensus 1": Method(consensus=1),
    "zero-centred .15": Method(zero_centred=0.15),
    "zero-centred .5": Method(zero_centred=0.5),
}
NODES, MASSES = np.polynomial.hermite_e.hermegauss(31)  # of the expectation over N(0, 1)


def field(loss: str, method: Method, z: jax.Array) -> jax.Array:
    """Returns the direction [2] in which generator and critic move at z = (theta, psi), without the consensus term."""
    noise, masses = jnp.asarray(NODES) * method.noise, jnp.asarray(MASSES / MASSES.sum())

    def score(psi: jax.Array, x: jax.Array) -> jax.Array:
        return -psi * x  # Mescheder's discriminator is high where examples are generated

    def critic(psi: jax.Array, theta: jax.Array) -> jax.Array:
        real, generated = score(psi, noise), score(psi, theta + noise)
        squared = squared_gradient_norm(lambda x: score(psi, x), jnp.zeros(1))[0]
        value = masses @ LOSSES[loss].critic(real, generated)
        for name, penalty in PENALTIES.items():
            value += 0 if penalty is None else getattr(method, name) * penalty(squared)
        return value

    def generator(theta: jax.Array, psi: jax.Array) -> jax.Array:
        return masses @ LOSSES[loss].generator(score(psi, noise), score(psi, theta + noise))

    theta, psi = z
    return -jnp.stack([jax.grad(generator)(theta, psi), jax.grad(critic)(psi, theta)])


def advance(loss: str, method: Method, z: jax.Array) -> jax.Array:
    """Returns (theta, psi) after a step of both players."""

    def consented(theta: jax.Array, psi: jax.Array) -> jax.Array:  # Mescheder 2017: less the gradient of |drift|^2 / 2
        drift, pull = jax.vjp(functools.partial(field, loss, method), jnp.stack([theta, psi]))
        return drift - method.consensus * pull(drift)[0]

    theta = z[0] + STEP * consented(z[0], z[1])[0]
    seen = jnp.where(method.alternating > 0, theta, z[0])

    def critic_step(psi: jax.Array, index: jax.Array) -> tuple[jax.Array, None]:
        moved = clip_parameters(psi + STEP * consented(seen, psi)[1], jnp.asarray(method.clip), "all")
        return jnp.where(index < method.critic_steps, moved, psi), None

    return jnp.stack([theta, jax.lax.scan(critic_step, z[1], jnp.arange(MOST))[0]])


@functools.partial(jax.jit, static_argnums=0)
def play(loss: str, methods: Method) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the paths [method, step, 2] and the Jacobians at the equilibrium, of the field and of a step, [method, 2, 2]."""

    def one(method: Method) -> tuple[jax.Array, jax.Array, jax.Array]:
        def step(z: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            return advance(loss, method, z), z

        path = jax.lax.scan(step, jnp.ones(2), length=STEPS + 1)[1]
        flow, discrete = (jax.jacfwd(functools.partial(f, loss, method))(jnp.zeros(2)) for f in (field, advance))
        return path, flow, discrete

    return jax.vmap(one)(methods)


def compute(quick: bool) -> dict[str, np.ndarray]:
    """Returns paths [loss, method, step, 2], their ends' distance from the equilibrium, and eigenvalues [loss, method, 2, 2].

    An eigenvalue is its real and its imaginary part; NaN where the two-sided penalty has no derivative, at psi = 0. It takes
    seconds, quick or not.
    """
    del quick
    methods = jax.tree.map(lambda *values: np.array(values, float), *METHODS.values())
    with jax.enable_x64(True):  # the critical penalty's double eigenvalue is as exact as the root of the rounding error
        found = [jax.device_get(play(loss, methods)) for loss in LOSSES]
    paths, fields, steps = (np.stack(parts) for parts in zip(*found, strict=True))
    eigenvalues = {}
    for name, jacobians in (("field_eigenvalues", fields), ("step_eigenvalues", steps)):
        values = np.linalg.eigvals(jacobians).astype(complex)
        values[:, methods.two_sided > 0] = complex(np.nan, np.nan)
        eigenvalues[name] = np.stack([values.real, values.imag], axis=-1)
    distances = np.linalg.norm(paths[:, :, -1], axis=-1)
    names = {"losses": np.array(list(LOSSES)), "methods": np.array(list(METHODS))}
    return names | {"paths": paths, "distances": distances} | eigenvalues


def draw(arrays: dict[str, np.ndarray]) -> Figure:
    """Returns a row per loss: its path by each method, and the eigenvalues of a step by all of them."""
    losses, methods = arrays["losses"], arrays["methods"]
    columns = len(methods) + 1
    figure = Figure(figsize=(1.4 * columns + 1.2, 1.75 * len(losses) + 1.3))
    panels = figure.subplots(len(losses), columns, width_ratios=[1] * len(methods) + [1.9])
    for row, loss in enumerate(losses):
        for column, method in enumerate(methods):
            _draw_path(panels[row, column], arrays["paths"][row, column], float(arrays["distances"][row, column]))
            told = _radius(arrays["step_eigenvalues"][row, column])
            panels[row, column].set_title(f"{method}\n{told}" if row == 0 else told, fontsize=9, pad=3)
            panels[row, column].tick_params(labelbottom=row == len(losses) - 1, labelleft=column == 0, labelsize=8)
        panels[row, 0].set_ylabel(f"{loss.replace('_', ' ')}\n" + r"critic $\psi$", fontsize=9)
        _draw_eigenvalues(panels[row, -1], arrays["step_eigenvalues"][row], methods)
    for axes in panels[-1, :-1]:
        axes.set_xlabel(r"generator $\theta$", fontsize=8)
    panels[0, -1].set_title("eigenvalues of a step", fontsize=9, pad=3)
    panels[-1, -1].set_xlabel("real part", fontsize=8)
    figure.suptitle(
        f"Dirac-GAN from (1, 1), {STEPS} steps of {STEP:g}: blue ends within {CONVERGED:g} of the equilibrium (0, 0), red does "
        r"not. $\rho$: largest size of an eigenvalue of a step there; below 1 it converges.",
        fontsize=11,
    )
    figure.legend(*panels[0, -1].get_legend_handles_labels(), loc="lower center", ncols=columns, fontsize=8, columnspacing=1)
    figure.subplots_adjust(left=0.06, right=0.965, top=0.885, bottom=0.1, hspace=0.28, wspace=0.16)
    return figure


def _radius(values: np.ndarray) -> str:
    return "no derivative" if np.isnan(values).any() else rf"$\rho$ = {np.hypot(*values.T).max():.3f}"


def _draw_path(axes: Axes, path: np.ndarray, distance: float) -> None:
    good = distance < CONVERGED
    axes.plot(*path.T, color=BLUE if good else VERMILLION, linewidth=0.7)
    axes.plot(*path[-1], "o" if good else "x", color="black", markersize=4)
    axes.set(xlim=(-2.4, 2.4), ylim=(-2.4, 2.4), aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    axes.grid(alpha=0.3)


def _draw_eigenvalues(axes: Axes, values: np.ndarray, methods: np.ndarray) -> None:
    angle = np.linspace(-np.pi, np.pi, 800)
    axes.plot(np.cos(angle), np.sin(angle), color="0.5", linewidth=0.8)
    for index, (method, own) in enumerate(zip(methods, values, strict=True)):
        marker = MARKERS[index % len(MARKERS)]
        axes.plot(*own.T, marker, color=colour(index), markersize=6, fillstyle="none", markeredgewidth=1.4, label=method)
    axes.set(xlim=(0.55, 1.08), ylim=(-0.5, 0.5), xticks=[0.6, 0.8, 1], yticks=[-0.4, 0, 0.4])
    axes.yaxis.tick_right()
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
