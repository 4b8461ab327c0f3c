"""Distances between samples as pure functions of arrays, each with its source."""
