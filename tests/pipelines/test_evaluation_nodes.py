"""Nodes of the evaluation that are more than a call."""

from __future__ import annotations

import logging

import pytest

from transcriptome_diffusion.cohorts.readers import read_cohort
from transcriptome_diffusion.expression.units import to_log2
from transcriptome_diffusion.pipelines.evaluation.nodes import prepare_oracle

SIZES = {"samples": 24, "tissues": 2, "targets": 5}


def test_the_oracle_of_a_simulated_cohort_is_cut_to_its_genes_and_is_none_beside_another_cohort(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cohort, oracle = (read_cohort(name, None, SIZES) for name in ("simulated", "simulated_oracle"))
    expression = to_log2(cohort)[:, :900].copy()
    landmarks = expression[:, :10].copy()
    panel, whole = prepare_oracle(oracle, expression, landmarks)
    assert (panel.shape, whole.shape) == ((24, 10), (24, 900))
    expression.obs["source"] = "hospital"
    with caplog.at_level(logging.INFO):
        panel, whole = prepare_oracle(oracle, expression, landmarks)
    assert (panel.n_obs, whole.n_obs) == (0, 0)
    assert "no row `oracle`" in caplog.text
