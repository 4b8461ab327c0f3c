"""Wasserstein GANs as pure JAX functions. See README.md for the commands and for how to add to it."""
