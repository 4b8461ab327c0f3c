"""The figures by name. A figure is a file with compute and draw, and a line here."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.figures import (
    clipping,
    critic_vs_discriminator,
    dirac_gan,
    divergences,
    inverse_of_w1,
    nash_spiral,
    penalty_barrier,
    value_surfaces,
)


class Entry(NamedTuple):
    shows: str
    compute: Callable[[bool], dict[str, np.ndarray]]  # quick -> the numbers
    draw: Callable[[dict[str, np.ndarray]], Figure]  # of them alone


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
}
