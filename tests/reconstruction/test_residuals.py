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
from transcriptome_diffusion.reconstruction.residuals import ResidualModel, spread_evenly
from transcriptome_diffusion.reconstruction.ridge import decompose, hat_factor, leave_donors_out


def standard(n, genes, seed):
    return np.random.default_rng(seed).normal(size=(n, genes))


def model_of(values, landmarks=4, shrinkage=1.0):
    """A model of held-out residuals whose landmarks say nothing of their log scale."""
    train = standard(50, landmarks, 1)
    train -= train.mean(axis=0)
    held_out = np.tile(standard(1, landmarks, 2), (len(values), 1))
    options = ResidualOptions(shrinkage=shrinkage)
    found = ResidualModel.fit(
        decompose(train), np.arange(50), np.arange(0), held_out, values.astype(np.float32), options
    )
    assert found is not None
    return found[0], held_out


def draw(model, landmarks, n=40_000, seed=0):
    return model.draw(np.tile(landmarks[:1], (n, 1)), np.random.default_rng(seed))


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_draws_have_the_covariance_of_the_residuals_shrunk_to_its_blocks(share):
    values = standard(30, 12, 0) @ standard(12, 12, 3)
    values -= values.mean(axis=0)
    model, landmarks = model_of(values, shrinkage=share)
    scale = np.sqrt(np.square(values).mean(axis=0))
    shrinkage = share * LedoitWolf(assume_centered=True).fit(values / scale).shrinkage_
    across = model.blocks != model.blocks[:, None]
    assert shrinkage > 0.03
    assert 0.2 < across.mean() < 0.95
    sample = (values / scale).T @ (values / scale) / 30
    expected = np.where(across, (1 - shrinkage) * sample, sample) * np.outer(scale, scale)
    drawn = draw(model, landmarks).astype(float)
    error = np.cov(drawn, rowvar=False) - expected
    assert np.abs(error / np.outer(scale, scale)).max() < 0.03
    assert np.abs(drawn.mean(axis=0) / scale).max() < 0.03


def test_targets_that_vary_together_are_one_block_and_those_that_vary_oppositely_two():
    factors = standard(200, 3, 0) * [3, 2, 1]
    signs = np.array([1, 1, -1, -1])
    values = np.concatenate([factors[:, [i]] * signs for i in range(3)], axis=1) + 0.1 * standard(200, 12, 1)
    blocks = residuals.blocks_of((values - values.mean(axis=0)).astype(np.float32))
    assert len(np.unique(blocks)) == 6
    assert (blocks[::2] == blocks[1::2]).all()
    assert (residuals.blocks_of(np.zeros((5, 4), dtype=np.float32)) == 0).all()


def test_draws_have_the_shapes_of_the_residuals():
    """Two-peaked residuals in one direction: normal draws of the same covariance would have a kurtosis of 3."""
    values = np.sign(standard(300, 1, 0)) * np.ones(4) + 0.1 * standard(300, 4, 3)
    model, landmarks = model_of(values, shrinkage=0.0)
    drawn = draw(model, landmarks)[:, 0].astype(float)
    assert (drawn**4).mean() / (drawn**2).mean() ** 2 < 2.3


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
    found = ResidualModel.fit(
        decompose(standardise(x)), np.arange(30), np.arange(0), standardise(held_out), left, ResidualOptions()
    )
    assert found is not None
    drawn = found[0].draw(standardise(new), np.random.default_rng(0))
    real = unseen - model.predict(new)
    log_scale, drawn_log_scale = (np.log(np.square(part).mean(axis=1)) for part in (real, drawn))
    assert spearmanr(log_scale, drawn_log_scale).statistic > 0.9
    assert (drawn_log_scale - log_scale).mean() == pytest.approx(0, abs=0.1)
    assert found[1]["log_scale_sd_unexplained"] < 0.5 * found[1]["log_scale_sd"]


def test_beyond_the_highest_leverage_seen_residuals_grow_no_further():
    model, landmarks = model_of(standard(30, 12, 0) * np.exp(standard(30, 1, 5)))
    assert np.abs(draw(model, 1e6 * landmarks, n=50)).max() < 100


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
    # rows are kept divided by both scales and centred together with those of validation: each is a multiple of its
    # residual, less a mean that all share
    expected = np.concatenate(expected) / model.residuals.gene_scale
    samples = np.empty_like(model.residuals.samples)
    samples[:, np.argsort(model.residuals.blocks, kind="stable")] = model.residuals.samples
    found = samples[:30].astype(float)
    design = np.concatenate(
        [np.eye(30)[:, None] * expected[..., None], np.tile(np.eye(len(expected.T)), (30, 1, 1))], 2
    )
    design = design.reshape(found.size, -1)
    error = found.ravel() - design @ np.linalg.lstsq(design, found.ravel())[0]
    assert np.abs(error).max() < 2e-3 < 0.1 < np.abs(found).mean()
    assert model.record["residuals"]["profiles"] == 30 + 20


def test_noisy_profiles_spread_as_real_ones_do_and_plain_ones_less():
    train, test = cohort(120), cohort(400, seed=1)
    model = fitted(RidgeReconstructor, train, RidgeOptions())
    scaler = GeneScaler.fit(train.X)
    labels = test.obs["tissue"].to_numpy()
    plain, *noisy = (
        spread(scaler(test.X), labels, scaler(model.reconstruct(panel(test), seed).X), labels)
        for seed in (None, 0, 1, 2, 3)
    )
    assert plain < 0.8
    assert np.mean(noisy) == pytest.approx(1, abs=0.05)


def test_at_most_so_many_profiles_are_kept_spread_over_all():
    assert spread_evenly(10, 4).tolist() == [0, 3, 6, 9]
    assert spread_evenly(12, 100).tolist() == list(range(12))
    assert len(spread_evenly(0, 4)) == 0
