"""Prints the metrics of reference generators: real data, copies, k-means centroids, class Gaussians, an untrained network.

    python -m experiments.references [--config=configs/wgan_gp.py[:preset]] [--draws=5] [--config.key=value ...]

They say what a row of metrics is worth: one distance alone ranks centroids above real data.
"""

from experiments import command
from wgan_jax import runtime
from wgan_jax.config import load
from wgan_jax.places import check_data
from wgan_jax.sizes import check_batches


def references(argv: list[str]) -> None:
    """Parses the flags, evaluates every reference generator on the test split, prints a table."""
    parser = command.Parser("experiments.references", __doc__)
    parser.add_argument("--config", default="configs/wgan_gp.py", metavar="FILE[:PRESET]", help="names the dataset")
    parser.add_argument("--draws", type=int, default=5, metavar="N", help="draws to average (default: 5)")
    flags, overrides = parser.parse(argv)
    command.check_whole("--draws", flags.draws, 1, command.REPEATS)
    config = load(flags.config, overrides)
    check_batches(config)
    check_data(config)
    runtime.configure_jax(config)

    from rich.console import Console
    from rich.progress import track

    from wgan_jax.data import load_dataset
    from wgan_jax.evaluation.evaluator import summarise
    from wgan_jax.evaluation.references import reference_rows
    from wgan_jax.evaluation.tables import cells, print_metrics

    console, columns = Console(), {}
    rows = reference_rows(config, load_dataset(config), "test", flags.draws)
    for name, row in track(rows, "evaluating", total=None, console=console, transient=True, disable=not console.is_terminal):
        columns[name] = cells(summarise(row.draws), row.sizes)
        if not console.is_terminal:
            print(f"evaluated: {name}", flush=True)
    print_metrics(console, f"{config.data.name}, test split", columns, flags.draws)


if __name__ == "__main__":
    command.main(references)
