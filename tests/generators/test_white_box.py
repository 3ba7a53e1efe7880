"""Losses of single profiles: what they are for each generator, and that they depend on nothing but the profile."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from test_pretrained import SMALL
from test_reference_prior import cohort

import transcriptome_diffusion as td
from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.class_kde import ClassKDE
from transcriptome_diffusion.generators.diffusion.model import LOSS_TIMES
from transcriptome_diffusion.generators.options import ClassGaussianOptions, ClassKDEOptions
from transcriptome_diffusion.generators.white_box import profile_losses


def test_the_loss_of_the_class_gaussian_is_its_negative_log_density(own):
    train, validation = own
    model = ClassGaussian.fit(train, validation, ClassGaussianOptions())
    losses, times = profile_losses(model, validation)["loss_attack"]
    assert (losses.shape, times) == ((8, 1), (0.0,))
    labels = validation.obs["tissue"].to_numpy()
    for c, name in enumerate(model.conditions.categories["tissue"]):
        rows = model.weights[c, 0] * model.residuals[slice(*model.rows[c])].astype(float)
        covariance = (
            np.diag(model.scale) @ (rows.T @ rows + model.weights[c, 1] ** 2 * np.eye(60)) @ np.diag(model.scale)
        )
        density = multivariate_normal(model.means[c], covariance).logpdf(dense(validation)[labels == name])
        off = losses[labels == name, 0] + density
        np.testing.assert_allclose(off, off[0], rtol=1e-4)


@pytest.mark.parametrize("name", ["vae", "ddim"])
def test_the_loss_of_a_network_is_lower_for_profiles_of_the_class_and_depends_on_the_profile_alone(name, own):
    train, validation = own
    model = td.fit(name, train, validation, **SMALL[name])
    found = profile_losses(model, validation, seed=3)
    assert set(found) == {"loss_attack", "loss_attack_relative"}
    strange = validation.copy()
    strange.X = dense(validation) + 3 * np.random.default_rng(0).normal(size=validation.shape).astype(np.float32)
    for attack, (losses, times) in found.items():
        assert losses.shape == (8, len(times))
        assert times == ((0.0,) if name == "vae" else LOSS_TIMES)
        alone = profile_losses(model, validation[3:4].copy(), seed=3)[attack][0]
        np.testing.assert_allclose(alone, losses[3:4], rtol=1e-3, atol=1e-5)
    assert profile_losses(model, strange, seed=3)["loss_attack"][0].mean() > found["loss_attack"][0].mean()


def test_other_generators_have_no_loss_and_other_genes_are_refused(own):
    train, validation = own
    assert profile_losses(ClassKDE.fit(train, validation, ClassKDEOptions()), validation) == {}
    model = ClassGaussian.fit(train, validation, ClassGaussianOptions())
    with pytest.raises(ValueError, match="genes"):
        profile_losses(model, cohort({"t10": 3}, 1, "x")[:, ::-1].copy())
