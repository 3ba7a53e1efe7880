"""What every reconstructor promises."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from toy_cohort import cohort, fitted, panel

from transcriptome_diffusion.artefacts import ArtefactError
from transcriptome_diffusion.options import TrainingOptions
from transcriptome_diffusion.reconstruction import (
    RECONSTRUCTORS,
    base,
    fit_reconstructor,
    load_reconstructor,
    reconstruct,
)
from transcriptome_diffusion.reconstruction.options import MLPOptions, OLSOptions, RidgeOptions

TINY = TrainingOptions(max_steps=4, validate_every=2, batch_size=16, device="cpu")
OPTIONS = {"ridge": RidgeOptions(), "ols": OLSOptions(), "mlp": MLPOptions(hidden=[8, 4], training=TINY)}
every = pytest.mark.parametrize("name", RECONSTRUCTORS)


def fit(name, train, validation=None):
    return fitted(RECONSTRUCTORS[name].load_class(), train, OPTIONS[name], validation)


@every
def test_landmarks_pass_unchanged_and_genes_samples_unit_and_generator_are_kept(name):
    train, test = cohort(80), cohort(10, seed=1)
    model = fit(name, train)
    landmarks = train.var["is_landmark"].to_numpy()
    for seed in (None, 3):
        whole = model.reconstruct(panel(test), seed)
        pd.testing.assert_frame_equal(whole.var, train.var)
        pd.testing.assert_frame_equal(whole.obs, test.obs)
        np.testing.assert_array_equal(whole.X[:, landmarks], test.X[:, landmarks])
        assert whole.X.dtype == np.float32
        assert whole.uns["unit"] == "log2(FPKM + 1)"
        assert whole.uns["generator"] == {"name": "real", "seed": 1}
        assert whole.uns["reconstructor"]["name"] == name
        assert whole.uns["reconstructor"].get("noise_seed") == seed


@every
def test_a_seed_adds_the_same_noise_whatever_the_batch_size_and_without_one_there_is_none(name, monkeypatch):
    model, test = fit(name, cohort(80)), panel(cohort(10, seed=1))
    plain, noisy, other = (model.reconstruct(test, seed).X for seed in (None, 3, 4))
    np.testing.assert_array_equal(model.reconstruct(test).X, plain)
    monkeypatch.setattr(base, "BATCH", 3)
    np.testing.assert_allclose(model.reconstruct(test, 3).X, noisy, atol=1e-5)
    targets = model.targets
    assert np.abs(noisy - plain)[:, targets].min() > 0
    assert np.abs(noisy - other)[:, targets].mean() > 0.1


@every
def test_a_model_read_from_disk_reconstructs_the_same(name, tmp_path):
    train, test = cohort(80, tissues=("liver", "lung")), cohort(10, seed=1)
    model = fit(name, train)
    model.save(tmp_path / "model")
    again = load_reconstructor(tmp_path / "model")
    assert type(again) is type(model)
    for seed in (None, 3):
        np.testing.assert_array_equal(again.reconstruct(panel(test), seed).X, model.reconstruct(panel(test), seed).X)
    assert (again.record, again.settings) == (model.record, model.settings)
    pd.testing.assert_frame_equal(again.genes, model.genes)
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps(description | {"kind": "generator"}))
    with pytest.raises(ArtefactError, match=f"expected reconstructor '{model.name}'"):
        type(model).load(tmp_path / "model")


@every
def test_constant_genes_are_given_back_as_their_constant(name):
    train, validation = cohort(40), cohort(20, seed=1)
    for profiles in (train, validation):
        profiles.X[:, 1] = 0.1  # a target
        profiles.X[:, 3] = 2.7  # a landmark
    model = fit(name, train, validation)
    noisy = model.reconstruct(panel(train), 0).X
    assert np.isfinite(noisy).all()
    if name != "mlp":  # a network is only near it
        np.testing.assert_allclose(noisy[:, 1], 0.1, rtol=1e-5)


@every
def test_a_panel_that_does_not_fit_is_refused_with_the_genes_names(name):
    train, validation = cohort(40), cohort(20, seed=1)
    model, options = RECONSTRUCTORS[name].load_class(), OPTIONS[name]
    with pytest.raises(ValueError, match=r"1 of 20 landmark genes are not in.*g57"):
        model.fit(panel(train), train[:, train.var_names != "g57"].copy(), panel(validation), validation, options)
    with pytest.raises(ValueError, match=r"1 genes of the model are missing.*g57"):
        model.fit(panel(train), train, panel(validation)[:, 1:].copy(), validation, options)
    with pytest.raises(ValueError, match=r"1 genes of the model are missing.*g59"):
        model.fit(panel(train), train, panel(validation), validation[:, :-1].copy(), options)
    with pytest.raises(ValueError, match="all 20 genes of the expression profiles are landmarks"):
        model.fit(panel(train), panel(train), panel(validation), panel(validation), options)
    whole = fit(name, train, validation)
    with pytest.raises(ValueError, match=r"1 genes of the model are missing.*g57"):
        whole.reconstruct(panel(train)[:, 1:].copy())
    with pytest.raises(ValueError, match="another order"):
        whole.reconstruct(panel(train)[:, ::-1].copy())


@every
def test_samples_units_and_values_have_to_fit(name):
    train, validation = cohort(40), cohort(20, seed=1)
    model, options = RECONSTRUCTORS[name].load_class(), OPTIONS[name]
    with pytest.raises(ValueError, match="same samples in the same order"):
        model.fit(panel(train)[::-1].copy(), train, panel(validation), validation, options)
    with pytest.raises(ValueError, match=r"validation landmarks \(20 samples\)"):
        model.fit(panel(train), train, panel(validation)[::-1].copy(), validation, options)
    with pytest.raises(ValueError, match="two or more training profiles"):
        fit(name, cohort(1))
    other = panel(train)
    other.uns["unit"] = "TPM"
    with pytest.raises(ValueError, match="'TPM'"):
        model.fit(other, train, panel(validation), validation, options)
    with pytest.raises(ValueError, match="'TPM'"):
        fit(name, train).reconstruct(other)
    validation.uns["unit"] = "TPM"
    with pytest.raises(ValueError, match="validation landmarks are in 'TPM'"):
        fit(name, train, validation)
    still = cohort(40)
    still.X[:, still.var["is_landmark"].to_numpy()] = 3.0
    with pytest.raises(ValueError, match="no landmark gene varies"):
        fit(name, still)


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_the_gene(name, bad):
    train, validation = cohort(40), cohort(20, seed=1)
    model = fit(name, train)
    validation.X[3, 4] = bad
    with pytest.raises(ValueError, match=r"validation expression: 1 genes hold NaN.*'g4'"):
        fit(name, train, validation)
    train.X[3, 4] = bad
    with pytest.raises(ValueError, match=r"^expression: 1 genes hold NaN.*'g4'"):
        fit(name, train)
    train.X[3, 6] = bad
    with pytest.raises(ValueError, match=r"landmark profiles: 1 genes hold NaN.*'g6'"):
        model.reconstruct(panel(train))


def test_noise_needs_no_labels():
    model, test = fit("ridge", cohort(80, tissues=("liver", "lung"))), panel(cohort(10, seed=1))
    with_labels = model.reconstruct(test, 0).X
    test.obs = test.obs[["donor"]]
    np.testing.assert_array_equal(model.reconstruct(test, 0).X, with_labels)


@every
def test_a_given_spectrum_of_the_landmarks_changes_nothing(name):
    train, validation = cohort(80), cohort(20, seed=1)
    inputs = (panel(train), train, panel(validation), validation, OPTIONS[name])
    alone = fit_reconstructor(name, *inputs)
    shared = fit_reconstructor(name, *inputs, spectrum=base.decompose_landmarks(panel(train)))
    np.testing.assert_array_equal(*(model.reconstruct(panel(validation), 0).X for model in (alone, shared)))


def test_names_on_the_scorecard_say_which_model_and_whether_noise_is_added():
    train, test = cohort(80), panel(cohort(10, seed=1))
    # a block of parameters will do for options
    blocks = {"ridge": {}, "mlp": OPTIONS["mlp"].model_dump()}
    inputs = (panel(train), train, panel(cohort(20, seed=2)), cohort(20, seed=2))
    models = {name: fit_reconstructor(name, *inputs, block) for name, block in blocks.items()}
    for name, model in models.items():
        np.testing.assert_array_equal(reconstruct(name, models, test, seed=5).X, model.reconstruct(test).X)
        np.testing.assert_array_equal(
            reconstruct(f"{name}_noise", models, test, seed=5).X, model.reconstruct(test, 5).X
        )
    with pytest.raises(ValueError, match=r"'ols_noise' needs reconstructor 'ols', found \['mlp', 'ridge'\]"):
        reconstruct("ols_noise", models, test, seed=5)
    with pytest.raises(ValueError, match="unknown reconstructor 'lasso'; expected one of"):
        fit_reconstructor("lasso", *inputs, {})


def test_the_table_is_listed_without_heavy_imports():
    script = "import sys, transcriptome_diffusion.reconstruction; print({'torch', 'anndata', 'scipy'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert found == "set()\n"


def test_noise_asks_for_held_out_profiles(caplog):
    train = cohort(40)
    nobody = cohort(20, seed=1)[:0].copy()
    model = fit("ols", train, nobody)
    assert "too few to learn residual noise" in caplog.text
    assert model.reconstruct(panel(train)).shape == train.shape
    with pytest.raises(ValueError, match="'ols' has no residual noise"):
        model.reconstruct(panel(train), 0)
    with pytest.raises(ValueError, match="the mlp needs validation profiles"):
        fit("mlp", train, nobody)
    assert fit("ridge", train, nobody).residuals is not None  # training donors, each left out
