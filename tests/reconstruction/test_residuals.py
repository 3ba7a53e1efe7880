import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import Ridge, RidgeCV
from toy_cohort import cohort, fitted, panel

from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.metrics.copying import spread
from transcriptome_diffusion.reconstruction import residuals
from transcriptome_diffusion.reconstruction.linear import RidgeReconstructor
from transcriptome_diffusion.reconstruction.options import ResidualOptions, RidgeOptions
from transcriptome_diffusion.reconstruction.residuals import ResidualModel, thin
from transcriptome_diffusion.reconstruction.ridge import decompose, hat_factor, leave_donors_out


def standard(n, genes, seed):
    return np.random.default_rng(seed).normal(size=(n, genes))


def model_of(values, labels, pooling=0.0, landmarks=4, shrinkage=1.0):
    """A model of held-out residuals whose landmarks say nothing of their log scale."""
    train = standard(50, landmarks, 1)
    train -= train.mean(axis=0)
    held_out = np.tile(standard(1, landmarks, 2), (len(values), 1))
    options = ResidualOptions(pooling=pooling, shrinkage=shrinkage)
    found = ResidualModel.fit(
        decompose(train), np.arange(50), np.arange(0), held_out, values.astype(np.float32), labels, options
    )
    assert found is not None
    return found[0], held_out


def draw(model, landmarks, label, n=40_000, seed=0):
    return model.draw(np.tile(landmarks[:1], (n, 1)), np.full(n, label), np.random.default_rng(seed))


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_draws_have_the_ledoit_wolf_covariance_of_the_residuals(monkeypatch, share):
    monkeypatch.setattr(residuals, "BLOCK", 5)
    values = standard(30, 12, 0) @ standard(12, 12, 3)
    model, landmarks = model_of(values, np.full(30, "liver"), shrinkage=share)
    scale = np.sqrt(np.square(values).mean(axis=0))
    shrunk = LedoitWolf(assume_centered=True).fit(values / scale).covariance_
    sample = (values / scale).T @ (values / scale) / 30
    # with share 0.5, halfway between the sample covariance and that of Ledoit and Wolf
    expected = (share * shrunk + (1 - share) * sample) * np.outer(scale, scale)
    drawn = draw(model, landmarks, "liver").astype(float)
    error = np.cov(drawn, rowvar=False) - expected
    assert np.abs(error / np.outer(scale, scale)).max() < 0.03
    assert np.abs(drawn.mean(axis=0) / scale).max() < 0.03


def test_every_label_has_its_own_correlations_and_an_unknown_one_those_of_all():
    shared, sign = standard(300, 1, 0), np.repeat([1, -1], 150)[:, None]
    values = np.hstack([shared, shared, shared, shared * sign]) + 0.3 * standard(300, 4, 3)
    labels = np.repeat(["liver", "lung"], 150)

    def correlations(model, label):
        return np.corrcoef(draw(model, landmarks, label), rowvar=False)[0, [1, 3]]

    model, landmarks = model_of(values, labels)
    for label, expected in {"liver": [0.9, 0.9], "lung": [0.9, -0.9], "spleen": [0.9, 0.0]}.items():
        assert correlations(model, label) == pytest.approx(expected, abs=0.1)
    mixed, _ = model_of(values, labels, pooling=150.0)  # as many as there are: half way to those of all
    assert correlations(mixed, "lung") == pytest.approx([0.9, -0.45], abs=0.1)


def test_residuals_are_as_large_as_the_leverage_of_the_landmarks_says():
    """Targets linear in landmarks, too few profiles: the true error of new donors, against that of the draws."""
    landmarks, targets = 40, 300
    weights = standard(landmarks, targets, 9) / np.sqrt(landmarks)

    def population(n, seed):
        x = standard(n, landmarks, seed) * np.exp(0.5 * standard(n, 1, seed + 1))
        return x, x @ weights + 0.3 * standard(n, targets, seed + 2)

    (x, y), (held_out, truth), (new, unseen) = population(30, 0), population(60, 10), population(400, 20)
    model = Ridge(alpha=1.0).fit(x, y)
    left = (truth - model.predict(held_out)).astype(np.float32)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    standardise = lambda values: (values - mean) / scale  # noqa: E731
    labels = np.full(60, "liver")
    found = ResidualModel.fit(
        decompose(standardise(x)), np.arange(30), np.arange(0), standardise(held_out), left, labels, ResidualOptions()
    )
    assert found is not None
    drawn = found[0].draw(standardise(new), np.full(400, "liver"), np.random.default_rng(0))
    real = unseen - model.predict(new)
    log_scale, drawn_log_scale = (np.log(np.square(part).mean(axis=1)) for part in (real, drawn))
    assert spearmanr(log_scale, drawn_log_scale).statistic > 0.9
    assert (drawn_log_scale - log_scale).mean() == pytest.approx(0, abs=0.1)
    assert found[1]["log_scale_sd_unexplained"] < 0.5 * found[1]["log_scale_sd"]


def test_beyond_the_highest_leverage_seen_residuals_grow_no_further():
    model, landmarks = model_of(standard(30, 12, 0) * np.exp(standard(30, 1, 5)), np.full(30, "liver"))
    assert np.abs(draw(model, 1e6 * landmarks, "liver", n=50)).max() < 100


@pytest.mark.parametrize("n", [12, 40], ids=["fewer profiles than genes", "more"])
def test_leaving_a_donor_out_is_fitting_without_it(n):
    donors = np.repeat(np.arange(n // 2), 2)
    donors[:4] = [0, 0, 0, 1]
    x, y, penalty = standard(n, 20, 0), standard(n, 3, 1), 2.5
    x -= x.mean(axis=0)
    left, singular, _ = decompose(x)
    fit = Ridge(alpha=penalty).fit(x, y)
    root = hat_factor(left, singular**2 / (singular**2 + penalty))
    found = leave_donors_out(y - fit.predict(x), root, donors)
    for donor in np.unique(donors):
        mine = donors == donor
        expected = y[mine] - Ridge(alpha=penalty).fit(x[~mine], y[~mine]).predict(x[mine])
        np.testing.assert_allclose(found[mine], expected, atol=1e-9)
    some = np.isin(donors, [1, 3])
    np.testing.assert_allclose(leave_donors_out((y - fit.predict(x))[some], root[some], donors[some]), found[some])


@pytest.mark.parametrize("n", [15, 30, 60], ids=["fewer profiles than genes", "more", "many more"])
def test_the_decomposition_gives_back_the_centred_profiles_in_as_few_directions_as_there_are(n):
    x = standard(n, 20, 0)
    x[:, 3] = 2 * x[:, 4] + 1
    left, singular, right = decompose(x)
    assert len(singular) == min(n - 1, 19)
    np.testing.assert_allclose(singular, np.linalg.svd(x - x.mean(axis=0), compute_uv=False)[: len(singular)])
    np.testing.assert_allclose((left * singular) @ right.T, x - x.mean(axis=0), atol=1e-9)
    for vectors in (left, right):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(singular)), atol=1e-9)
    np.testing.assert_allclose(left.sum(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize("per", ["all", "target"])
def test_ridge_learns_its_noise_from_training_donors_each_left_out(per):
    train = cohort(30, tissues=("liver", "lung"))
    train.obs["donor"] = [f"d{i // 2}" for i in range(30)]
    options = RidgeOptions(penalty_per=per)
    model = fitted(RidgeReconstructor, train, options)
    targets = model.targets
    x, y = model.inputs(panel(train).X.astype(float)), model.outputs(train.X[:, targets].astype(float))
    candidates = [penalty * model.record["penalty_unit"] for penalty in options.penalties]
    penalties = RidgeCV(alphas=candidates, alpha_per_target=per == "target").fit(x, y).alpha_
    expected = []
    for donor in train.obs["donor"].unique():
        mine = (train.obs["donor"] == donor).to_numpy()
        ridge = Ridge(alpha=penalties).fit(x[~mine], y[~mine])
        expected.append(y[mine] - ridge.predict(x[mine]))
    # rows are kept divided by both scales: their direction is what is left of the residuals
    expected = np.concatenate(expected) / model.residuals.gene_scale
    found = model.residuals.samples[:30].astype(float)
    cosine = (found * expected).sum(1) / np.sqrt((found**2).sum(1) * (expected**2).sum(1))
    assert cosine.min() > 0.999
    assert model.record["residuals"]["profiles"] == {"liver": 15 + 20, "lung": 15}


def test_noisy_profiles_spread_as_real_ones_do_and_plain_ones_less():
    train, test = cohort(120), cohort(400, seed=1)
    model = fitted(RidgeReconstructor, train, RidgeOptions())
    scaler = GeneScaler.fit(train.X)
    labels = test.obs["tissue"].to_numpy()
    plain, noisy = (
        spread(scaler(test.X), labels, scaler(model.reconstruct(panel(test), seed).X), labels) for seed in (None, 0)
    )
    assert plain < 0.8
    assert noisy == pytest.approx(1, abs=0.05)


def test_a_label_keeps_at_most_so_many_profiles_spread_over_all_it_has():
    labels = np.array(["a"] * 10 + ["b"] * 2)
    assert thin(labels, 4).tolist() == [0, 3, 6, 9, 10, 11]
    assert thin(labels, 100).tolist() == list(range(12))
    assert len(thin(labels[:0], 4)) == 0
