import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from transcriptome_diffusion.expression.covariance import (
    leading_axes,
    ledoit_wolf,
    principal_axes,
    within_class_residuals,
)


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (5, 5)])
def test_the_shrinkage_is_that_of_scikit_learn(shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1]))
    x -= x.mean(axis=0)
    reference = LedoitWolf(assume_centered=True).fit(x)
    shrinkage, variance = ledoit_wolf(x)
    assert shrinkage == pytest.approx(reference.shrinkage_)
    assert variance == pytest.approx(np.trace(reference.covariance_) / shape[1])


def test_a_single_profile_leaves_only_the_target():
    assert ledoit_wolf(np.zeros((1, 4))) == (1.0, 0.0)


def test_leading_axes_are_those_of_the_singular_value_decomposition():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 20)) @ rng.normal(size=(20, 300)) * np.linspace(1, 5, 300) + 0.1 * rng.normal(
        size=(200, 300)
    )
    x -= x.mean(axis=0)
    _, singular, rows = np.linalg.svd(x, full_matrices=False)
    squares, axes = leading_axes(x, 8, iterations=6)
    np.testing.assert_allclose(squares, singular[:8] ** 2, rtol=1e-3)
    np.testing.assert_allclose(np.abs(np.sum(axes.T * rows[:8], axis=1)), 1, atol=1e-3)
    np.testing.assert_allclose(axes.T @ axes, np.eye(8), atol=1e-4)
    assert leading_axes(x, 8, iterations=6)[1].tolist() == axes.tolist()


def test_there_are_no_more_axes_than_profiles_vary_along():
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(5, 300)), 40, axis=0)  # a generator that knows five profiles
    squares, axes = leading_axes(x - x.mean(axis=0), 8, iterations=2)
    assert len(squares) == axes.shape[1] == 4
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-4)


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
def test_principal_axes_are_the_eigenvectors_of_the_covariance(shape):
    x = np.random.default_rng(0).normal(size=shape)
    x -= x.mean(axis=0)
    variances, axes = principal_axes(x)
    assert axes.shape == (shape[1], min(shape[0] - 1, shape[1]))
    assert (np.diff(variances) < 0).all()
    np.testing.assert_allclose(axes.T @ axes, np.eye(len(variances)), atol=1e-10)
    np.testing.assert_allclose((axes * variances) @ axes.T, x.T @ x / shape[0], atol=1e-10)


def test_of_very_many_axes_the_first_are_found():
    x = np.random.default_rng(0).normal(size=(50, 60)) * np.geomspace(100, 1, 60)
    exact, _ = principal_axes(x)
    variances, axes = principal_axes(x, most=5)
    assert axes.shape == (60, 5)
    np.testing.assert_allclose(variances, exact[:5], rtol=1e-2)


def test_residuals_have_no_class_mean_and_keep_the_differences_within_a_class():
    values, labels = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), np.array(list("abcaba"))
    residuals = within_class_residuals(values, labels)
    for label in "abc":
        rows = labels == label
        np.testing.assert_allclose(residuals[rows], values[rows] - values[rows].mean(axis=0, dtype=float), atol=1e-12)
