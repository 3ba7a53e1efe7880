"""The preconditioner and its denoiser against linear algebra, and its sampling without any training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from transcriptome_diffusion.generators.diffusion import precondition, samplers, schedules
from transcriptome_diffusion.generators.diffusion.denoiser import Denoiser, NoiseSchedule
from transcriptome_diffusion.generators.diffusion.precondition import (
    Preconditioner,
    held_out_log_scale,
    held_out_spectrum,
    principal_axes,
)
from transcriptome_diffusion.generators.options import DenoiserNetworkOptions, DiffusionOptions, SamplerOptions


def population(n: int, genes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Profiles, codes (three classes), class means and the common covariance they were drawn from."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(3, genes)) * 2
    root = rng.normal(size=(genes, genes)) / np.sqrt(genes) + np.diag(np.linspace(0.2, 1.5, genes))
    codes = rng.integers(0, 3, (n, 1))
    return means[codes[:, 0]] + rng.normal(size=(n, genes)) @ root.T, codes, means, root @ root.T


def fitted(n: int, genes: int) -> tuple[Preconditioner, Tensor, np.ndarray, Tensor]:
    """A model, its training coordinates, and the profiles and codes it was fitted on."""
    z, codes, _, _ = population(n, genes)
    model, u = Preconditioner.fit(z, codes, [3], np.arange(n))
    return model, u, z, torch.from_numpy(codes)


def covariance(model: Preconditioner) -> np.ndarray:
    """The covariance of every class at log scale 0, (n_genes, n_genes)."""
    v, unit = model.axes.double().numpy(), model.unit.double().numpy()
    inner = (v * model.variance[1:].double().numpy()) @ v.T + float(model.noise_variance) * (np.eye(len(v)) - v @ v.T)
    return unit[:, None] * inner * unit


def profiles_of_random_scale(n: int, genes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """White-noise profiles whose variance differs log-normally from profile to profile, and its logarithm."""
    rng = np.random.default_rng(seed)
    log_scale = rng.normal(0, 0.6, n)
    return rng.normal(size=(n, genes)) * np.exp(log_scale / 2)[:, None], log_scale


@pytest.mark.parametrize(("n", "genes"), [(80, 12), (12, 80), (30, 30)])
def test_axes_are_those_of_a_singular_value_decomposition(n: int, genes: int) -> None:
    residual = np.random.default_rng(0).normal(size=(n, genes))
    values, axes = principal_axes(residual)
    _, singular, vt = np.linalg.svd(residual, full_matrices=False)
    np.testing.assert_allclose(values, singular**2 / n, rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(axes * vt.T, axis=0)), 1, rtol=1e-6)


def test_of_many_profiles_and_genes_the_first_axes_are_found_without_the_others() -> None:
    rng = np.random.default_rng(0)
    residual = rng.normal(size=(90, 8)) * np.linspace(6, 3, 8) @ rng.normal(size=(8, 70)) + rng.normal(size=(90, 70))
    exact, axes = principal_axes(residual)
    found, directions = principal_axes(residual, 20)
    assert directions.shape == (70, 20)
    np.testing.assert_allclose(found[:8], exact[:8], rtol=1e-4)
    np.testing.assert_allclose(np.abs((directions[:, :8] * axes[:, :8]).sum(0)), 1, atol=1e-3)
    np.testing.assert_allclose(directions.T @ directions, np.eye(20), atol=1e-5)


def test_axes_that_were_not_looked_for_are_drawn_as_even_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    z, codes, _, truth = population(2000, 30)
    monkeypatch.setattr(precondition, "MOST_AXES", 10)
    model, _ = Preconditioner.fit(z, codes, [3], np.arange(2000))
    assert model.rank == 10
    assert float(model.shrinkage) < 0.2  # the log scale of Gaussian profiles varies only by chance
    found = covariance(model)
    assert np.trace(found) == pytest.approx(np.trace(truth), rel=0.05)
    leading = np.linalg.eigvalsh(truth)[::-1][:4]
    np.testing.assert_allclose(np.linalg.eigvalsh(found)[::-1][:4], leading, rtol=0.25)


def test_with_many_profiles_the_covariance_is_the_populations() -> None:
    z, codes, _, true = population(20_000, 6)
    model, _ = Preconditioner.fit(z, codes, [3], np.arange(len(z)))
    # an entry's sampling error is at most sqrt(2 / n) of the largest variance
    np.testing.assert_allclose(covariance(model), true, atol=(5 * np.sqrt(2 / 2e4) + 0.02) * true.max())


def test_with_few_profiles_the_variances_are_those_of_other_donors() -> None:
    """White noise has the same variance in every direction, whatever a few training profiles suggest."""
    z = np.random.default_rng(1).normal(size=(40, 60))
    model, _ = Preconditioner.fit(z, np.zeros((40, 1), dtype=np.int64), [1], np.arange(40))
    trained = model.training_variance[1:].numpy()
    assert trained[0] > 3
    assert trained[-1] < 0.2
    assert model.variance[1:].numpy() == pytest.approx(1, abs=0.25)
    assert float(model.noise_variance) == pytest.approx(1, abs=0.15)


def test_profiles_of_one_donor_do_not_vouch_for_each_other() -> None:
    rng = np.random.default_rng(2)
    donors = np.repeat(np.arange(20), 5)
    residual = rng.normal(size=(20, 50))[donors] + 0.1 * rng.normal(size=(100, 50))
    _, apart, _ = held_out_spectrum(residual, np.zeros(100), donors, 20)
    _, together, _ = held_out_spectrum(residual, np.zeros(100), np.arange(100), 20)
    # if a donor stands on both sides, the training axes seem to carry all of its variance
    assert together.sum() > 2 * apart.sum()


def test_a_single_donor_is_refused() -> None:
    with pytest.raises(ValueError, match="1 donor in 8 training profiles"):
        Preconditioner.fit(np.eye(8), np.zeros((8, 1), dtype=np.int64), [1], np.zeros(8))


def test_log_scales_are_found_where_they_vary_and_not_where_they_do_not() -> None:
    z, true = profiles_of_random_scale(300, 80)
    found, shrinkage = held_out_log_scale(z, np.arange(300))
    assert np.corrcoef(found, true)[0, 1] > 0.9
    assert found.std() == pytest.approx(0.6, rel=0.15)
    assert shrinkage > 0.85
    _, shrinkage = held_out_log_scale(np.random.default_rng(3).normal(size=(300, 80)), np.arange(300))
    assert shrinkage < 0.25


def test_profiles_of_random_scale_profiles_are_drawn_as_often_as_they_occur() -> None:
    z, _ = profiles_of_random_scale(400, 80)
    model, u = Preconditioner.fit(z, np.zeros((400, 1), dtype=np.int64), [1], np.arange(400))
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(5000, 1, dtype=torch.int64)
    drawn = model.from_coordinates(
        torch.randn(5000, model.width, generator=generator) * model.variance.sqrt(),
        codes,
        torch.randn(5000, 80, generator=generator),
    )
    spread = torch.log(drawn.square().mean(1)).std()
    # of the logarithm of a mean square over 80 genes: 0.6 from profile to profile, sqrt(2 / 80) from sampling
    assert float(spread) == pytest.approx(np.hypot(0.6, np.sqrt(2 / 80)), rel=0.1)
    # divided by it, training profiles have the same scale
    assert float(torch.log((u[:, 1:].square() / model.training_variance[1:]).mean(1)).std()) < 0.3


def test_a_wider_class_is_drawn_wider() -> None:
    rng = np.random.default_rng(4)
    codes = np.repeat([0, 1], 300)[:, None]
    z = rng.normal(size=(600, 80)) * np.where(codes == 0, 1.0, 2.0)
    model, _ = Preconditioner.fit(z, codes, [2], np.arange(600))
    noise = torch.randn(4000, 80, generator=torch.Generator().manual_seed(0))
    u = torch.randn(4000, model.width, generator=torch.Generator().manual_seed(1)) * model.variance.sqrt()
    narrow, wide = (
        model.from_coordinates(u, torch.full((4000, 1), code), noise) - model.mean(torch.full((1, 1), code))
        for code in (0, 1)
    )
    assert float(wide.std() / narrow.std()) == pytest.approx(2.0, rel=0.1)


def test_one_condition_gives_the_class_means() -> None:
    model, _, z, codes = fitted(200, 5)
    for c in range(3):
        mean = model.mean(torch.tensor([[c]]))[0].numpy()
        np.testing.assert_allclose(mean, z[codes[:, 0].numpy() == c].mean(0), rtol=1e-5, atol=1e-5)


def test_two_conditions_add_up_also_where_they_never_met() -> None:
    rng = np.random.default_rng(3)
    tissue, study = rng.normal(size=(3, 4)), rng.normal(size=(2, 4))
    codes = np.stack([rng.integers(0, 3, 300), rng.integers(0, 2, 300)], axis=1)
    codes = codes[~((codes[:, 0] == 2) & (codes[:, 1] == 1))]
    z = tissue[codes[:, 0]] + study[codes[:, 1]] + 1e-3 * rng.normal(size=(len(codes), 4))
    model, _ = Preconditioner.fit(z, codes, [3, 2], np.arange(len(z)))
    unseen = model.mean(torch.tensor([[2, 1]]))[0].numpy()
    np.testing.assert_allclose(unseen, tissue[2] + study[1], atol=2e-3)


@pytest.mark.parametrize(("n", "genes"), [(60, 80), (300, 20)])
def test_decoding_undoes_encoding(n: int, genes: int) -> None:
    z, _ = profiles_of_random_scale(n, genes)
    codes = np.zeros((n, 1), dtype=np.int64)
    model, u = Preconditioner.fit(z, codes, [1], np.arange(n))
    wanted, labels = torch.from_numpy(z).float(), torch.from_numpy(codes)
    nothing = torch.zeros(n, genes)
    back = model.from_coordinates(model.to_coordinates(wanted, labels), labels, nothing)
    torch.testing.assert_close(back, wanted, rtol=1e-3, atol=1e-3)
    back = model.from_coordinates(u, labels, nothing)  # scaled by the degrees of freedom that the class mean takes
    expected = model.mean(labels) + (wanted - model.mean(labels)) * (n / (n - 1)) ** 0.5
    torch.testing.assert_close(back, expected, rtol=1e-3, atol=1e-3)


def test_directions_without_a_coordinate_are_filled_with_white_noise() -> None:
    model, _, _, _ = fitted(40, 60)
    noise = torch.randn(20_000, 60, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(len(noise), 1, dtype=torch.int64)
    drawn = model.from_coordinates(torch.zeros(len(noise), model.width), zero, noise) - model.mean(zero)
    filled = drawn / model.unit * torch.exp(-0.5 * model.mean_log_scale(zero))
    assert (filled @ model.axes).abs().max() < 1e-4
    expected = float(model.noise_variance) * (60 - model.rank)
    assert float(filled.square().sum(1).mean()) == pytest.approx(expected, rel=0.02)


def test_training_coordinates_are_given_the_variance_of_held_out_donors() -> None:
    model, u, _, _ = fitted(40, 60)
    torch.testing.assert_close(u.square().mean(0)[1:], model.training_variance[1:], rtol=1e-4, atol=1e-6)
    generator = torch.Generator().manual_seed(0)
    matched = torch.cat(
        [model.match_held_out_variance(u, torch.randn(u.shape, generator=generator)) for _ in range(500)]
    )
    torch.testing.assert_close(matched.square().mean(0)[1:], model.variance[1:], rtol=0.06, atol=1e-4)


def test_the_denoiser_is_the_conditional_normal_of_the_textbook() -> None:
    model = fitted(300, 6)[0].double()
    a, s = 0.6, 0.8
    one = torch.ones(1, 1, dtype=torch.float64)
    u_t = torch.randn(1, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    skip, gain_of_input, variance = (factor.numpy() for factor in model.posterior(a * one, s * one))
    c = np.diag(model.variance.numpy())
    gain = a * c @ np.linalg.inv(a**2 * c + s**2 * np.eye(7))
    np.testing.assert_allclose(skip * u_t.numpy(), u_t.numpy() @ gain.T, rtol=1e-9)
    np.testing.assert_allclose(variance[0], np.diag(c - gain @ (a * c)), rtol=1e-9)
    size = np.sqrt(np.mean(np.diag(gain @ (a**2 * c + s**2 * np.eye(7)) @ gain.T)))
    np.testing.assert_allclose(gain_of_input * u_t.numpy(), u_t.numpy() @ gain.T / size, rtol=1e-9)
    pure = model.posterior(0 * one, one)
    assert torch.isfinite(pure.gain).all()
    assert float(pure.skip.abs().max()) == 0


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm_solver"])
def test_untrained_it_samples_the_gaussian_it_was_fitted_on(name: str) -> None:
    model, _, z, codes = fitted(400, 5)
    expected = covariance(model)
    network = DenoiserNetworkOptions(width=4, depth=1, dropout=0.0, embedding_dim=4)
    options = DiffusionOptions(prediction="residual", network=network)
    path = NoiseSchedule(options.schedule, options.times)
    denoiser = Denoiser(options, path, 5, [3], model).eval()
    wanted = torch.ones(20_000, 1, dtype=torch.int64)
    generator = torch.Generator().manual_seed(2)
    # the two exact ones need few steps, the solver needs many
    times = schedules.sampling_times(path.alpha_bar, 200 if name == "dpm_solver" else 10, "trailing")
    with torch.no_grad():
        u = samplers.draw(
            lambda x, t: denoiser(x, path.at(torch.full((len(x),), t)), wanted),
            torch.randn(len(wanted), model.width, generator=generator),
            path.alpha_bar,
            times,
            SamplerOptions(name=name),
            generator,
            variance=model.variance,
        )
    tolerance = 5 / np.sqrt(len(u))
    atol = (tolerance * np.sqrt(2) + (0.02 if name == "dpm_solver" else 0)) * float(model.variance.max())
    np.testing.assert_allclose(np.cov(u.double().numpy().T), np.diag(model.variance.numpy()), atol=atol)
    u[:, 0] = 0  # at the mean log scale
    drawn = denoiser.from_coordinates(u, wanted, generator)[0].double().numpy()
    mean = z[codes[:, 0].numpy() == 1].mean(0)
    np.testing.assert_allclose(drawn.mean(0), mean, atol=tolerance * np.sqrt(expected.max()))
    scale = float(torch.exp(model.mean_log_scale(wanted[:1])))
    assert scale == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=atol * 2 + 0.1 * expected.max())
