"""One config file per method; each has `get_config(preset)`."""
