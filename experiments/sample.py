"""Draws samples from a trained model. Needs the run directory only, not the data.

    python -m experiments.sample --workdir=DIR [--num=64] [--out=FILE.png|FILE.npz] [--seed=0] [--step=latest|best|N] [--raw]

A .png is a grid of images, or a plot of points; an .npz holds `samples` (uint8 images, or float32 points in data units) and
`latents`. Sample i depends on the seed and i alone. Without --raw the averaged (EMA) generator is used.
"""

from pathlib import Path

from experiments import launch
from wgan_jax.config import check
from wgan_jax.errors import UserError
from wgan_jax.training.workdir import read_config

CHUNK = 1000  # examples generated at once


def sample(argv: list[str]) -> None:
    """Parses the flags, restores the generator, writes the file."""
    parser = launch.Parser("experiments.sample", __doc__)
    parser.add_argument("--workdir", required=True, metavar="DIR", help="a run directory")
    parser.add_argument("--num", type=int, default=64, metavar="N", help="number of samples (default: 64)")
    parser.add_argument("--out", metavar="FILE", help="a .png or .npz (default: DIR/samples/step_N_seed_S.png)")
    parser.add_argument("--seed", type=int, default=0, help="of the latents (default: 0)")
    parser.add_argument("--step", default="latest", help="latest, best, or a step with a checkpoint (default: latest)")
    parser.add_argument("--raw", action="store_true", help="the generator itself, not its average")
    flags, overrides = parser.parse(argv)
    if overrides:
        raise UserError(f"{overrides[0]}: the config is that of the run")
    if flags.num < 1:
        raise UserError(f"--num: {flags.num} is not a whole number of at least 1")
    if not 0 <= flags.seed < 2**31:
        raise UserError(f"--seed: {flags.seed} is not a whole number from 0 to 2147483647")
    out = None if flags.out is None else Path(flags.out)
    if out is not None and out.suffix not in (".png", ".npz"):
        raise UserError(f"--out: {out} ends neither in .png nor in .npz")
    if out is not None and not out.parent.is_dir():
        raise UserError(f"--out: no directory {out.parent}")
    workdir = Path(flags.workdir)
    config = check(read_config(workdir))
    launch.configure_jax(config)

    import jax
    import numpy as np

    from wgan_jax.data.dataset import encode
    from wgan_jax.evaluation.figures import save_image_grid, save_points
    from wgan_jax.models import make_sampler
    from wgan_jax.training.checkpoint import Checkpoints
    from wgan_jax.training.program import make_parts

    checkpoints = Checkpoints(workdir / "checkpoints")
    step = checkpoints.find(flags.step)
    networks, steps = make_parts(config, tuple(checkpoints.info(step)["shape"]))
    state = checkpoints.restore(step, jax.eval_shape(steps.init_state, jax.random.key(0)))
    generator = state.generator
    variables = {"params": generator.params, **generator.model_state} if flags.raw else state.ema
    draw, key = make_sampler(networks), jax.random.key(flags.seed)
    parts = [draw(variables, key, first, min(CHUNK, flags.num)) for first in range(0, flags.num, CHUNK)]
    latents, samples = (np.concatenate([np.asarray(part) for part in side])[: flags.num] for side in zip(*parts, strict=True))
    images = samples.ndim == 4
    out = out or workdir / "samples" / f"step_{step:08d}_seed_{flags.seed}.png"
    if out.suffix == ".npz":
        np.savez(out, samples=encode(samples) if images else samples.astype(np.float32), latents=latents.astype(np.float32))
    elif images:
        save_image_grid(out, samples)
    else:
        save_points(out, samples)
    print(f"{flags.num} samples of step {step}: {out}")


if __name__ == "__main__":
    launch.main(sample)
