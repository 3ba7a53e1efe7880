"""Coordinates and layers that the one-pass generators share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from transcriptome_diffusion.generators.latent import Coordinates, LabelledMLP
from transcriptome_diffusion.generators.options import LatentOptions

CATEGORIES = [3, 2]


def profiles(n: int = 120, genes: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes around their own means, variances falling from gene to gene."""
    rng = np.random.default_rng(seed)
    codes = np.column_stack([rng.integers(0, 3, n), rng.integers(0, 2, n)])
    x = 5 + codes @ np.array([[2.0], [-1.0]]) + rng.normal(size=(n, genes)) * np.linspace(2, 0.2, genes)
    return x.astype(np.float32), codes.astype(np.int64)


def coordinates(**settings: float | str) -> tuple[Coordinates, torch.Tensor]:
    x, codes = profiles()
    return Coordinates.fit(x, codes, CATEGORIES, np.arange(len(x)), LatentOptions.model_validate(settings))


@pytest.mark.parametrize("scaling", ["standard", "max_abs"])
def test_scaled_genes_come_back_as_they_were(scaling: str) -> None:
    found, _ = coordinates(space="genes", scaling=scaling)
    x, codes = (torch.from_numpy(a) for a in profiles(seed=1))
    back = found.from_coordinates(found.to_coordinates(x, codes), codes, torch.Generator())
    torch.testing.assert_close(back, x, rtol=1e-4, atol=1e-4)
    assert found.width == x.shape[1]
    assert found.variance is None


def test_all_axes_give_back_the_profile_and_few_axes_its_share() -> None:
    x, codes = (torch.from_numpy(a) for a in profiles(seed=1))
    errors = []
    for share in (1.0, 0.1, 0.01):
        found, _ = coordinates(components_per_sample=share, log_scale_share=0)
        back = found.from_coordinates(found.to_coordinates(x, codes), codes, torch.Generator().manual_seed(0))
        errors.append(float((back - x).square().mean()))
    assert errors[0] < 1e-6
    assert errors[0] < errors[1] < errors[2]


def test_axes_may_be_counted_by_the_variance_they_hold() -> None:
    found, _ = coordinates(components_per_sample=1.0, log_scale_share=0)
    explained = (found.preconditioner.variance * found.preconditioner.weight)[1:].cumsum(0)  # type: ignore[union-attr]
    for share in (0.3, 0.8, 1.0):
        width = coordinates(component_variance=share, log_scale_share=0)[0].width
        assert explained[width - 2] >= share * explained[-1] * (1 - 1e-6)
        assert width == 2 or explained[width - 3] < share * explained[-1]


def test_axes_that_are_not_modelled_vary_as_in_held_out_donors() -> None:
    found, _ = coordinates(components_per_sample=0.05, log_scale_share=0)
    assert found.width == 7  # the log scale and a twentieth of 120 profiles
    _, codes = profiles(20_000)
    drawn = found.from_coordinates(torch.zeros(20_000, 7), torch.from_numpy(codes), torch.Generator().manual_seed(0))
    again = found.preconditioner.to_coordinates(found.scaler(drawn), torch.from_numpy(codes))  # type: ignore[union-attr]
    expected = found.preconditioner.variance[7:]  # type: ignore[union-attr]
    torch.testing.assert_close(again[:, 7:].var(0), expected, rtol=0.05, atol=1e-3)
    assert float(again[:, 1:7].abs().max()) < 1e-3


def test_training_coordinates_are_given_the_variance_of_held_out_donors() -> None:
    found, u = coordinates(log_scale_share=0)
    generator = torch.Generator().manual_seed(0)
    wide = torch.stack([found.match_held_out_variance(u, generator) for _ in range(200)])
    assert wide.shape[2] == found.width
    torch.testing.assert_close(wide[..., 1:].square().mean((0, 1)), found.variance[1:], rtol=0.05, atol=1e-3)  # type: ignore[index]


def test_every_layer_sees_every_label() -> None:
    network = LabelledMLP(4, [8, 8], 3, CATEGORIES, 5, dropout=0, batch_norm=False)
    h = torch.randn(6, 4)
    codes = torch.zeros(6, 2, dtype=torch.int64)
    assert [layer[0].in_features for layer in network.layers] == [4 + 10, 8 + 10]  # type: ignore[index]
    assert network.out.in_features == 8 + 10
    for column in (0, 1):
        other = codes.clone()
        other[:, column] = 1
        assert not torch.isclose(network(h, codes), network(h, other)).all(1).any()
