"""The figures by name. A figure is a file with compute and draw, and a line here."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.figures import (
    budget,
    budget_fashion_mnist,
    calibration,
    clipping,
    critic_vs_discriminator,
    digits_modes,
    dirac_gan,
    divergences,
    faces_comparison,
    gaussian_1d,
    inverse_of_w1,
    lipschitz,
    loss_tracks_quality,
    many_paths,
    mlp_generator,
    mode_collapse,
    nash_spiral,
    penalty_barrier,
    small_data,
    stacked_digits,
    value_surfaces,
    vanishing_gradients,
    why_wgans_work,
)


class Entry(NamedTuple):
    shows: str
    compute: Callable[..., dict[str, np.ndarray]]  # quick, and what else it is of by name: folder, size -> the numbers
    draw: Callable[[dict[str, np.ndarray]], Figure]  # of them alone
    data: str = ""  # what its folder holds, where it is of one
    sized: bool = False  # whether it is of images that are brought to a size


FIGURES: dict[str, Entry] = {
    "divergences": Entry("what KL, JS, TV and W1 say of laws that part", divergences.compute, divergences.draw),
    "nash_spiral": Entry("x y, played by four kinds of gradient steps", nash_spiral.compute, nash_spiral.draw),
    "critic_vs_discriminator": Entry(
        "the generator's gradient from a discriminator and from a critic",
        critic_vs_discriminator.compute,
        critic_vs_discriminator.draw,
    ),
    "clipping": Entry("gradients through a deep critic, clipped or penalised", clipping.compute, clipping.draw),
    "value_surfaces": Entry("level sets of critics, clipped or penalised", value_surfaces.compute, value_surfaces.draw),
    "inverse_of_w1": Entry("optimal plans, potentials and c-transforms", inverse_of_w1.compute, inverse_of_w1.draw),
    "penalty_barrier": Entry("the wrong-sign optimum of the two-sided penalty", penalty_barrier.compute, penalty_barrier.draw),
    "dirac_gan": Entry("which methods converge on one point against one point", dirac_gan.compute, dirac_gan.draw),
    "vanishing_gradients": Entry(
        "the generator's gradient as a discriminator or a critic gets better",
        vanishing_gradients.compute,
        vanishing_gradients.draw,
    ),
    "mode_collapse": Entry("modes of a ring, found and lost by six methods", mode_collapse.compute, mode_collapse.draw),
    "gaussian_1d": Entry("a Gaussian, clipped or penalised, and the ideal generator", gaussian_1d.compute, gaussian_1d.draw),
    "lipschitz": Entry("how steep trained critics are, by what bounds it", lipschitz.compute, lipschitz.draw),
    "many_paths": Entry("parallel lines, trained by six methods", many_paths.compute, many_paths.draw),
    "calibration": Entry("critics' estimates against known distances", calibration.compute, calibration.draw),
    "why_wgans_work": Entry("a lower W1 is no better generator", why_wgans_work.compute, why_wgans_work.draw),
    "small_data": Entry(
        "900 images: what a critic learns by heart, with and without augmentation", small_data.compute, small_data.draw
    ),
    "stacked_digits": Entry("a thousand modes: three digits as channels", stacked_digits.compute, stacked_digits.draw),
    "budget": Entry("quality against seconds of training, by method", budget.compute, budget.draw),
    "budget_fashion_mnist": Entry(
        "quality against seconds of training on Fashion-MNIST, by method",
        budget_fashion_mnist.compute,
        budget_fashion_mnist.draw,
        "prepared TensorFlow Datasets",
    ),
    "digits_modes": Entry("digits made over training, and where the loss is flat", digits_modes.compute, digits_modes.draw),
    "loss_tracks_quality": Entry(
        "whether the critic's estimate says how good samples are", loss_tracks_quality.compute, loss_tracks_quality.draw
    ),
    "mlp_generator": Entry(
        "a generator without convolutions: coverage and failures", mlp_generator.compute, mlp_generator.draw
    ),
    "faces_comparison": Entry(
        "images of a folder by DCGAN, WGAN and WGAN-GP, at three stages",
        faces_comparison.compute,
        faces_comparison.draw,
        "images",
        sized=True,
    ),
}
