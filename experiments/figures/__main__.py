"""What `python -m experiments.figures` runs."""

from experiments import command
from experiments.figures import figures

if __name__ == "__main__":
    command.main(figures)
