import logging

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from toy_cohort import cohort, fitted, panel

from transcriptome_diffusion.reconstruction import base, linear
from transcriptome_diffusion.reconstruction.linear import OLSReconstructor, RidgeReconstructor
from transcriptome_diffusion.reconstruction.options import OLSOptions, RidgeOptions
from transcriptome_diffusion.reconstruction.ridge import search_minimum

RIDGE = RidgeOptions()
OLS = OLSOptions()


def fit(train, options=RIDGE):
    return fitted(OLSReconstructor if options is OLS else RidgeReconstructor, train, options)


def standardised(train):
    targets = ~train.var["is_landmark"].to_numpy()
    x, y = panel(train).X.astype(float), train.X[:, targets].astype(float)
    return (x - x.mean(axis=0)) / x.std(axis=0), (y - y.mean(axis=0)) / y.std(axis=0), targets


def penalty_of(model):
    ((penalty, targets),) = model.record["penalties"]
    assert targets == len(model.outputs.mean)
    return penalty * model.record["penalty_unit"]


@pytest.mark.parametrize("n", [15, 30, 200], ids=["fewer profiles than landmarks", "more", "many more"])
def test_predictions_are_those_of_ridge_in_scikit_learn(n, monkeypatch):
    monkeypatch.setattr(linear, "BLOCK", 7)
    monkeypatch.setattr(base, "BATCH", 8)
    train, test = cohort(n), cohort(30, seed=1)
    model = fit(train)
    x, y, targets = standardised(train)
    reference = Ridge(alpha=penalty_of(model)).fit(x, y)
    raw, goal = panel(train).X.astype(float), train.X[:, targets].astype(float)
    unseen = (panel(test).X - raw.mean(axis=0)) / raw.std(axis=0)
    expected = reference.predict(unseen) * goal.std(axis=0) + goal.mean(axis=0)
    np.testing.assert_allclose(model.reconstruct(panel(test)).X[:, targets], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [15, 21, 30, 200], ids=["fewer profiles than landmarks", "as many", "more", "many more"])
def test_leave_one_out_errors_are_those_of_leaving_one_out(n, monkeypatch):
    monkeypatch.setattr(linear, "BLOCK", 7)
    model = fit(cohort(n), RidgeOptions(penalties=[1e-4, 0.03, 1.0, 50.0]))
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
    assert penalty_of(model) == pytest.approx(reference.alpha_)
    assert min(RIDGE.penalties) * unit < penalty_of(model) < max(RIDGE.penalties) * unit
    assert len(model.record["leave_one_out_error"]) < len(RIDGE.penalties)  # a few of them were enough


@pytest.mark.parametrize("n", [15, 40, 200], ids=["fewer profiles than landmarks", "more", "many more"])
def test_penalties_of_their_own_are_those_of_ridgecv_with_alpha_per_target(n, monkeypatch):
    monkeypatch.setattr(linear, "BLOCK", 7)
    train, test = cohort(n), cohort(30, seed=1)
    # targets that follow the landmarks closely, loosely and not at all want different penalties
    train.X[:, 1] = np.random.default_rng(5).normal(size=n)
    train.X[:, 2] = train.X[:, 0] + train.X[:, 3]
    model = fit(train, RidgeOptions(penalty_per="target"))
    x, y, targets = standardised(train)
    unit = model.record["penalty_unit"]
    reference = RidgeCV(alphas=[p * unit for p in RIDGE.penalties], alpha_per_target=True).fit(x, y)
    assert len(np.unique(reference.alpha_)) > 3
    chosen, counts = np.unique(np.round(reference.alpha_ / unit, 9), return_counts=True)
    assert model.record["penalties"] == [[pytest.approx(p), c] for p, c in zip(chosen, counts, strict=True)]
    raw, goal = panel(train).X.astype(float), train.X[:, targets].astype(float)
    unseen = (panel(test).X - raw.mean(axis=0)) / raw.std(axis=0)
    expected = reference.predict(unseen) * goal.std(axis=0) + goal.mean(axis=0)
    np.testing.assert_allclose(model.reconstruct(panel(test)).X[:, targets], expected, rtol=1e-3, atol=1e-3)
    assert model.residuals is not None


def test_one_penalty_for_each_of_alike_targets_leaves_the_same_residuals():
    one = [0.3]  # a single candidate: both ways have to end at the same model
    shared, own = (fit(cohort(40), RidgeOptions(penalties=one, penalty_per=per)) for per in ("all", "target"))
    np.testing.assert_array_equal(shared.weights, own.weights)
    np.testing.assert_array_equal(shared.residuals.samples, own.residuals.samples)
    assert own.record["leave_one_out_error"][0][1] == pytest.approx(shared.record["leave_one_out_error"][0][1])


@pytest.mark.parametrize("count", [1, 2, 5, 25])
def test_the_search_finds_the_only_minimum_wherever_it_lies(count):
    for lowest in range(count):
        tried = search_minimum(lambda i, lowest=lowest: abs(i - lowest) ** 1.5, count)
        assert min(tried, key=tried.get) == lowest
        assert len(tried) <= count / 4 + 9


def test_a_penalty_at_the_end_of_the_list_is_reported(caplog):
    with caplog.at_level(logging.WARNING):
        fit(cohort(40), RidgeOptions(penalties=[1e-6, 1e-5]))
    assert "extend the list" in caplog.text


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
    assert "20 landmarks for no more profiles" in caplog.text
    np.testing.assert_allclose(ols.reconstruct(panel(train)).X, train.X, atol=1e-3)
    errors = [np.square(m.reconstruct(panel(test)).X - test.X).mean() for m in (ols, fit(train))]
    assert errors[1] < 0.8 * errors[0]


def test_validation_profiles_move_no_weight():
    train = cohort(40)
    models = [fitted(RidgeReconstructor, train, RIDGE, cohort(20, seed=seed)) for seed in (5, 6)]
    np.testing.assert_array_equal(models[0].weights, models[1].weights)
    assert not np.array_equal(models[0].residuals.samples, models[1].residuals.samples)


def test_penalties_must_be_positive():
    with pytest.raises(ValueError, match="without a penalty is `reconstruction_ols`"):
        RidgeOptions(penalties=[0.0, 1.0])


def test_an_old_method_is_refused_with_the_name_of_the_block():
    with pytest.raises(ValueError, match=r"`method: ols` is no option .* `reconstruction_ols`"):
        RidgeOptions.model_validate({"method": "ols"})
