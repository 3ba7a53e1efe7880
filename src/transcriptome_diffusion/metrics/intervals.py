"""Transitional: ``statistics`` has these; this module goes when ``indicators`` imports them from there."""

from transcriptome_diffusion.metrics.statistics import Interval, bootstrap, bootstrap_mean

__all__ = ["Interval", "bootstrap", "bootstrap_mean"]
