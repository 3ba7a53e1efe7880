"""Scaling is undone exactly, and constant genes stay what they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from transcriptome_diffusion.generators.scaler import Scaler


@pytest.mark.parametrize("kind", ["standard", "max_abs"])
def test_scaling_is_undone_exactly_and_constant_genes_stay_constant(kind: str) -> None:
    x = np.random.default_rng(0).normal(5, 2, (50, 3)).astype(np.float32)
    x[:, 1] = 7.1
    x[:, 2] = 0.0
    scaler = Scaler(3)
    scaler.fit(x, kind)
    z = scaler(torch.from_numpy(x))
    np.testing.assert_allclose(scaler.inverse(z).numpy(), x, rtol=1e-5, atol=1e-6)
    if kind == "standard":
        assert float(z[:, 0].mean()) == pytest.approx(0, abs=1e-5)
        assert float(z[:, 0].std(correction=0)) == pytest.approx(1, abs=1e-5)
        noisy = scaler.inverse(torch.randn(9, 3))
        np.testing.assert_allclose(noisy[:, 1].numpy(), 7.1, rtol=1e-6)
    else:
        assert float(z[:, 0].abs().max()) == pytest.approx(1)
        assert float(scaler.inverse(torch.randn(9, 3))[:, 2].abs().max()) == 0
