"""Measured comparisons, run by hand and never as tests."""
