"""Scaling is undone exactly, and constant genes stay what they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from populations import SIZES, draw
from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.generators.scaler import Scaler


@pytest.mark.parametrize("kind", ["standard", "max_abs", "linear_max_abs"])
def test_scaling_is_undone_exactly_and_constant_genes_stay_constant(kind: str) -> None:
    x = np.random.default_rng(0).gamma(4, 1.5, (50, 3)).astype(np.float32)
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


def test_the_papers_scaling_is_that_of_linear_values_and_samples_are_never_below_zero() -> None:
    linear = np.random.default_rng(0).lognormal(2, 2, (50, 4)).astype(np.float32)
    linear[:10, 0] = 0
    scaler = Scaler(4)
    scaler.fit(np.log2(linear + 1), "linear_max_abs")
    z = scaler(torch.from_numpy(np.log2(linear + 1)))
    np.testing.assert_allclose(z.numpy(), MaxAbsScaler().fit_transform(linear), atol=1e-5)
    assert (scaler.inverse(torch.full((1, 4), -0.1)) == 0).all()
    restored = Scaler(4)
    restored.load_state_dict(scaler.state_dict())
    torch.testing.assert_close(restored.inverse(z), scaler.inverse(z))


def test_linear_values_are_standardised_under_their_logarithms() -> None:
    linear = np.random.default_rng(0).lognormal(2, 1, (50, 4)).astype(np.float32)
    logged = np.log2(linear + 1)
    scaler = Scaler(4)
    scaler.fit(logged, "linear_standard")
    np.testing.assert_allclose(scaler(torch.from_numpy(logged)), StandardScaler().fit_transform(linear), atol=1e-4)
    np.testing.assert_allclose(scaler.inverse(scaler(torch.from_numpy(logged))), logged, rtol=1e-4)


def test_negative_linear_values_can_be_kept_and_come_back() -> None:
    logged = np.log2(np.random.default_rng(0).lognormal(2, 1, (50, 2)).astype(np.float32) + 1)
    kept, cut = Scaler(2), Scaler(2)
    kept.fit(logged, "linear_max_abs", signed=True)
    cut.fit(logged, "linear_max_abs")
    z = torch.tensor([[-0.5, 0.25]])
    linear = z * kept.width
    found = kept.inverse(z)
    assert found[0, 0] == pytest.approx(-np.log2(1 - float(linear[0, 0])), rel=1e-5)
    torch.testing.assert_close(found[0, 1], cut.inverse(z)[0, 1])
    assert cut.inverse(z)[0, 0] == 0
    torch.testing.assert_close(kept(found), z)
    restored = Scaler(2)
    restored.load_state_dict(kept.state_dict())
    torch.testing.assert_close(restored.inverse(z), found)


@pytest.mark.parametrize("name", ["vae", "flow_matching", "ddim"])
def test_scalings_of_linear_values_are_refused_for_other_scales(name: str) -> None:
    train, validation = draw(SIZES, 0), draw(SIZES, 1)
    train.uns["unit"] = validation.uns["unit"] = "VST"
    spec = GENERATORS[name]
    options = spec.options().model_copy(update={"scaling": "linear_max_abs"})
    with pytest.raises(ValueError, match=r"undoes log2\(x \+ 1\), and the profiles are in VST\. Set `scaling`"):
        spec.load_class().fit(train, validation, options)
