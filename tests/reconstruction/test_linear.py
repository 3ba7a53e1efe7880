import json
import logging

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from transcriptome_diffusion.artefacts import ArtefactError
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.parameters import ReconstructionOptions
from transcriptome_diffusion.reconstruction import base, linear
from transcriptome_diffusion.reconstruction.linear import LinearReconstructor

RIDGE = ReconstructionOptions()
OLS = ReconstructionOptions(method="ols")


def cohort(n, genes=60, seed=0, landmarks=20):
    """Genes driven by a few factors, with noise; every third gene is a landmark until there are enough."""
    loadings = np.random.default_rng(99).normal(size=(8, genes))
    rng = np.random.default_rng(seed)
    values = 6 + rng.normal(size=(n, 8)) @ loadings + rng.normal(size=(n, genes)) * np.linspace(0.2, 3, genes)
    names = [f"g{i}" for i in range(genes)]
    is_landmark = np.zeros(genes, dtype=bool)
    is_landmark[np.arange(0, genes, 3)[:landmarks]] = True
    var = pd.DataFrame({"symbol": names, "is_landmark": is_landmark}, index=names)
    obs = pd.DataFrame({"tissue": "liver"}, index=[f"s{seed}-{i}" for i in range(n)])
    return make_profiles(values, obs, var, "log2(FPKM + 1)", generator={"name": "real", "seed": seed})


def panel(profiles):
    """The landmarks, in an order of their own."""
    names = profiles.var_names[profiles.var["is_landmark"]][::-1]
    return profiles[:, names].copy()


def fit(train, options=RIDGE):
    return LinearReconstructor.fit(panel(train), train, options)


def standardised(train):
    targets = ~train.var["is_landmark"].to_numpy()
    x, y = panel(train).X.astype(float), train.X[:, targets].astype(float)
    return (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean(axis=0)) / y.std(axis=0), targets


@pytest.mark.parametrize("n", [15, 200], ids=["fewer profiles than landmarks", "more"])
def test_predictions_are_those_of_ridge_in_scikit_learn(n, monkeypatch):
    monkeypatch.setattr(linear, "BLOCK", 7)
    monkeypatch.setattr(base, "BATCH", 8)
    train, test = cohort(n), cohort(30, seed=1)
    model = fit(train)
    x, y, targets = standardised(train)
    reference = Ridge(alpha=model.record["penalty"] * model.record["penalty_unit"]).fit(x, y)
    raw, goal = panel(train).X.astype(float), train.X[:, targets].astype(float)
    unseen = (panel(test).X - raw.mean(axis=0)) / raw.std(axis=0)
    expected = reference.predict(unseen) * goal.std(axis=0) + goal.mean(axis=0)
    np.testing.assert_allclose(model.reconstruct(panel(test)).X[:, targets], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [15, 21, 200], ids=["fewer profiles than landmarks", "as many", "more"])
def test_leave_one_out_errors_are_those_of_leaving_one_out(n, monkeypatch):
    monkeypatch.setattr(linear, "BLOCK", 7)
    model = fit(cohort(n), ReconstructionOptions(penalties=[1e-4, 0.03, 1.0, 50.0]))
    x, y, _ = standardised(cohort(n))
    for penalty, error in model.record["leave_one_out_error"]:
        ridge = Ridge(alpha=penalty * model.record["penalty_unit"], solver="svd")
        left_out = cross_val_predict(ridge, x, y, cv=LeaveOneOut())
        assert error == pytest.approx(np.square(left_out - y).mean(), rel=1e-5), penalty


def test_the_penalty_is_that_of_ridgecv():
    train = cohort(40)
    model = fit(train)
    x, y, _ = standardised(train)
    unit = model.record["penalty_unit"]
    reference = RidgeCV(alphas=[p * unit for p in RIDGE.penalties]).fit(x, y)
    assert model.record["penalty"] * unit == pytest.approx(reference.alpha_)
    assert min(RIDGE.penalties) < model.record["penalty"] < max(RIDGE.penalties)


def test_a_penalty_at_the_end_of_the_list_is_reported(caplog):
    with caplog.at_level(logging.WARNING):
        fit(cohort(40), ReconstructionOptions(penalties=[1e-6, 1e-5]))
    assert "widen the list" in caplog.text


def test_least_squares_is_that_of_lstsq():
    train, test = cohort(200), cohort(30, seed=1)
    _, _, targets = standardised(train)
    reference = LinearRegression().fit(panel(train).X.astype(float), train.X[:, targets].astype(float))
    found = fit(train, OLS).reconstruct(panel(test)).X[:, targets]
    np.testing.assert_allclose(found, reference.predict(panel(test).X), rtol=1e-3, atol=1e-3)


def test_least_squares_interpolates_few_profiles_and_says_so_and_ridge_does_better(caplog):
    train, test = cohort(15), cohort(200, seed=1)
    with caplog.at_level(logging.WARNING):
        ols = fit(train, OLS)
    assert "15 profiles for 20 landmarks" in caplog.text
    np.testing.assert_allclose(ols.reconstruct(panel(train)).X, train.X, atol=1e-3)
    errors = [np.square(m.reconstruct(panel(test)).X - test.X).mean() for m in (ols, fit(train))]
    assert errors[1] < 0.8 * errors[0]


def test_landmarks_pass_unchanged_and_genes_samples_unit_and_generator_are_kept():
    train, test = cohort(80), cohort(10, seed=1)
    whole = fit(train).reconstruct(panel(test))
    assert whole.var_names.tolist() == train.var_names.tolist()
    pd.testing.assert_frame_equal(whole.var, train.var)
    pd.testing.assert_frame_equal(whole.obs, test.obs)
    landmarks = train.var["is_landmark"].to_numpy()
    np.testing.assert_array_equal(whole.X[:, landmarks], test.X[:, landmarks])
    assert whole.X.dtype == np.float32
    assert whole.uns["unit"] == "log2(FPKM + 1)"
    assert whole.uns["generator"] == {"name": "real", "seed": 1}
    assert whole.uns["reconstructor"]["name"] == "linear"


def test_a_model_read_from_disk_reconstructs_the_same(tmp_path):
    train, test = cohort(80), cohort(10, seed=1)
    model = fit(train)
    model.save(tmp_path / "linear")
    again = LinearReconstructor.load(tmp_path / "linear")
    np.testing.assert_array_equal(again.reconstruct(panel(test)).X, model.reconstruct(panel(test)).X)
    assert (again.record, again.settings) == (model.record, model.settings)
    pd.testing.assert_frame_equal(again.genes, model.genes)
    description = json.loads((tmp_path / "linear" / "model.json").read_text())
    (tmp_path / "linear" / "model.json").write_text(json.dumps(description | {"kind": "generator"}))
    with pytest.raises(ArtefactError, match="expected reconstructor 'linear'"):
        LinearReconstructor.load(tmp_path / "linear")


def test_constant_genes_are_given_back_as_their_constant():
    train = cohort(40)
    train.X[:, 1] = 0.1  # a target
    train.X[:, 3] = 2.7  # a landmark
    whole = fit(train).reconstruct(panel(train))
    np.testing.assert_allclose(whole.X[:, 1], 0.1, rtol=1e-5)
    assert np.isfinite(whole.X).all()


def test_a_panel_that_does_not_fit_is_refused_with_the_genes_names():
    train = cohort(40)
    with pytest.raises(ValueError, match=r"1 of 20 landmark genes are not in.*g57"):
        LinearReconstructor.fit(panel(train), train[:, train.var_names != "g57"].copy(), RIDGE)
    model = fit(train)
    with pytest.raises(ValueError, match=r"1 genes of the model are missing.*g57"):
        model.reconstruct(panel(train)[:, 1:].copy())
    with pytest.raises(ValueError, match="another order"):
        model.reconstruct(panel(train)[:, ::-1].copy())


def test_samples_units_and_values_have_to_fit():
    train = cohort(40)
    with pytest.raises(ValueError, match="same samples in the same order"):
        LinearReconstructor.fit(panel(train)[::-1].copy(), train, RIDGE)
    with pytest.raises(ValueError, match="two or more training profiles"):
        fit(cohort(1))
    other = panel(train)
    other.uns["unit"] = "TPM"
    with pytest.raises(ValueError, match="'TPM'"):
        LinearReconstructor.fit(other, train, RIDGE)
    with pytest.raises(ValueError, match="'TPM'"):
        fit(train).reconstruct(other)
    still = cohort(40)
    still.X[:, still.var["is_landmark"].to_numpy()] = 3.0
    with pytest.raises(ValueError, match="no landmark gene varies"):
        fit(still)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_the_gene(bad):
    train = cohort(40)
    model = fit(train)
    train.X[3, 4] = bad
    with pytest.raises(ValueError, match=r"expression: 1 genes hold NaN.*'g4'"):
        fit(train)
    train.X[3, 6] = bad
    with pytest.raises(ValueError, match=r"landmark profiles: 1 genes hold NaN.*'g6'"):
        model.reconstruct(panel(train))


def test_penalties_must_be_positive():
    with pytest.raises(ValueError, match='set method to "ols"'):
        ReconstructionOptions(penalties=[0.0, 1.0])
