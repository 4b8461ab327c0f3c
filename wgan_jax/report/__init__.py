"""Reports of runs and sweeps, from rows that are plain dicts; nothing here imports jax, training or evaluation."""
