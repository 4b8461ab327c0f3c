"""Evaluation of generators and critics against real data: the METRICS, their two sides, pictures."""
