"""Every generator with a reference cohort and the dial: what it knows, what it refuses, the public function."""

from __future__ import annotations

import numpy as np
import pytest
from test_reference_prior import GENES, UNIT, cohort

import transcriptome_diffusion as td
from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.generators import pretrained
from transcriptome_diffusion.generators.class_kde import ClassKDE
from transcriptome_diffusion.generators.model_card import CARD_FILE
from transcriptome_diffusion.generators.options import ClassKDEOptions, VAEOptions
from transcriptome_diffusion.generators.pretrained import fit, short
from transcriptome_diffusion.generators.privacy_options import PrivacyOptions
from transcriptome_diffusion.generators.vae import VAE
from transcriptome_diffusion.options import TrainingOptions

TRAINING = {"max_steps": 60, "validate_every": 20, "batch_size": 64, "precision": "float32"}
SMALL = {
    "vae": {"hidden": [32], "latent_dim": 4, "training": TRAINING},
    "ddim": {"network": {"width": 32, "depth": 1, "embedding_dim": 16}, "training": TRAINING},
    "wgan_gp": {"hidden": [32], "latent_dim": 4, "critic": {"hidden": [32]}, "training": TRAINING},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_network_with_a_reference_varies_as_the_reference_around_the_cohorts_means(name, own, reference, tmp_path):
    train, validation = own
    model = td.fit(name, train, validation, reference=reference, **SMALL[name])
    drawn = model.sample({"t10": 400, "t1": 400}, seed=0)
    upper = np.triu_indices(GENES, 1)
    truth = np.corrcoef(cohort({"t10": 3000}, 9, "x").X.T)[upper]

    def error(values):
        return np.square(np.corrcoef(values.T)[upper] - truth).mean()

    assert error(dense(drawn)[:400]) < error(dense(train)[:8])
    # t1 is a class of the reference as well, but its means are the cohort's
    means = np.stack([dense(part)[rows].mean(axis=0) for part, rows in ((train, slice(0, 8)), (train, slice(8, 16)))])
    assert np.abs(dense(drawn)[:400].mean(axis=0) - means[0]).mean() < np.abs(means[0] - means[1]).mean() / 2
    # the numbers of training are those of the cohort alone
    assert model.record["training_labels"] == [["t1", 8], ["t10", 8]]
    assert model.record["privacy"]["reference"]["classes_shared"] == ["t1"]
    assert ("fine_tuning" in model.record) == (name != "wgan_gp")
    model.save(tmp_path / "model")
    again = td.load_generator(tmp_path / "model")
    np.testing.assert_array_equal(dense(again.sample({"t1": 3}, seed=1)), dense(model.sample({"t1": 3}, seed=1)))


@pytest.mark.parametrize("name", SMALL)
def test_a_network_of_the_reference_alone_varies_as_it_around_means_scales_and_factors_of_the_gaussian(
    name, reference, tmp_path
):
    scale = np.linspace(0.5, 2, GENES)
    train, validation = cohort({"t10": 40, "t11": 40}, 1, "d", scale), cohort({"t10": 4, "t11": 4}, 2, "v", scale)
    privacy = {"dial": "reference_axes"}
    model = td.fit(name, train, validation, reference=reference, privacy=privacy, **SMALL[name])
    gaussian = td.fit("class_gaussian", train, validation, reference=reference, privacy=privacy)
    values = dense(model.sample({"t10": 2000, "t11": 2000}, seed=0))
    for rows, mean in zip((slice(0, 2000), slice(2000, None)), gaussian.means, strict=True):
        # a generator without its critic's validation may be off by some of its own deviation
        assert np.abs(values[rows].mean(axis=0) - mean).mean() < 0.35 * gaussian.scale.mean()
        ratio = values[rows].std(axis=0) / gaussian.scale
        assert 0.75 < np.median(ratio) < 1.3
        assert np.ptp(np.quantile(ratio, [0.1, 0.9])) < 0.5  # scales follow the cohort, not the reference
    upper = np.triu_indices(GENES, 1)
    truth, found = (np.corrcoef(x.T)[upper] for x in (cohort({"t10": 3000}, 9, "x", scale).X, values[:2000]))
    assert np.corrcoef(truth, found)[0, 1] > 0.8
    assert list(model.conditions.categories["tissue"]) == ["t10", "t11"]
    assert model.record["class_factors"] == gaussian.record["class_factors"]
    assert model.record["training_labels"] == [["t10", 40], ["t11", 40]]
    model.save(tmp_path / "model")
    again = td.load_generator(tmp_path / "model")
    np.testing.assert_array_equal(dense(again.sample({"t10": 3}, seed=1)), dense(model.sample({"t10": 3}, seed=1)))


@pytest.mark.parametrize("dial", ["reference_axes", "dp"])
def test_the_weights_of_such_a_network_do_not_depend_on_the_cohort(dial, own, reference, monkeypatch):
    """But for what the class Gaussian with the same dial holds of it."""
    states = []
    for train, validation in (own, (cohort({"t10": 30, "t1": 5}, 5, "e", 2.0), own[1])):
        monkeypatch.setattr(pretrained, "_RECENT", {})  # trained anew
        privacy = {"dial": dial, "axes": 10}
        states.append(td.fit("ddim", train, validation, reference=reference, privacy=privacy, **SMALL["ddim"]).state())
    differ = {name for name in states[0] if not np.array_equal(states[0][name], states[1][name])}
    scales = {"scaler.width"} if dial == "reference_axes" else set()
    means = {"scaler.centre", "preconditioner.effects", "preconditioner.log_scale_effects", "gene_range"}
    assert differ == means | scales


def test_it_is_trained_once_for_all_cohorts_and_budgets_of_a_process(own, reference, monkeypatch):
    monkeypatch.setattr(pretrained, "_RECENT", {})
    fitted = []
    monkeypatch.setattr(VAE, "fit", classmethod(lambda cls, *args: fitted.append(cls) or super(VAE, cls).fit(*args)))
    for privacy in ({"dial": "dp", "epsilon": 1}, {"dial": "dp", "epsilon": 8}, {"dial": "reference_axes"}):
        td.fit("vae", *own, reference=reference, privacy=privacy, **SMALL["vae"])
    assert len(fitted) == 1
    td.fit("vae", *own, reference=reference[:150].copy(), privacy="reference_axes", **SMALL["vae"])
    assert len(fitted) == 2


def test_fine_tuning_has_fewer_and_smaller_steps():
    options = TrainingOptions(max_steps=1000, learning_rate=1e-3)
    assert (short(options).max_steps, short(options).learning_rate) == (250, pytest.approx(3e-4))
    epochs = TrainingOptions(max_epochs=2, max_steps=10, learning_rate=1e-3)
    assert short(epochs).max_epochs == 1


def test_a_dial_without_a_reference_or_a_generator_that_does_not_know_it_is_refused(own, reference):
    with pytest.raises(ValueError, match="takes axes from a public cohort: name one as `reference_cohort`"):
        td.fit("class_gaussian", *own, privacy="dp")
    with pytest.raises(ValueError, match=r"`space: gaussian` of the others, and `scaling: standard`"):
        td.fit("vae", *own, reference=reference, privacy="dp", space="genes")
    with pytest.raises(ValueError, match=r"the paper's `network\.kind` or `architecture`"):
        td.fit("ddim", *own, reference=reference, privacy="reference_axes", network={"kind": "paper"})
    with pytest.raises(ValueError, match="class_kde takes nothing from a reference"):
        fit(ClassKDE, *own, ClassKDEOptions(), reference, PrivacyOptions())
    two = VAEOptions(conditions=["tissue", "study"])
    with pytest.raises(ValueError, match="a reference cohort serves one condition"):
        fit(VAE, *own, two, reference, PrivacyOptions())


def test_the_public_function_fits_a_private_model_whose_card_says_what_it_promises(own, reference, tmp_path):
    model = td.fit("class_gaussian", *own, reference=reference, privacy={"dial": "dp", "epsilon": 4, "axes": 10})
    assert "cohort" not in model.record  # the number of donors is not released
    model.save(tmp_path / "private")
    card = (tmp_path / "private" / CARD_FILE).read_text()
    assert "(4, 1e-05)-differentially private" in card
    assert "one donor with all of their profiles" in card
    axes = td.fit("class_gaussian", *own, reference=reference, privacy="reference_axes")
    assert axes.record["training_labels"] == [["t1", 8], ["t10", 8]]


def test_a_reference_of_the_public_function_may_have_other_names_for_genes(own, reference):
    other = make_profiles(dense(reference)[:, ::-1], reference.obs, reference.var[::-1], UNIT)
    other.var_names = [f"ENSG{i:011d}" for i in range(GENES)]
    first, second = (td.fit("class_gaussian", *own, reference=part) for part in (reference, other))
    np.testing.assert_allclose(first.means, second.means, atol=1e-5)
