"""One file per research question; each has `get_config(preset)` and the points of its sweep, `get_sweep(preset)`."""
