"""Readers of published (and of simulated) cohorts into one shape: linear profiles with sample and gene tables."""
