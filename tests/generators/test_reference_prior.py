"""What a generator takes from a reference cohort, and what it takes from the user's own."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.expression.reference import (
    Within,
    log_likelihoods,
    match_reference,
    pooled_scale,
    prepare_reference,
)
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.options import ClassGaussianOptions
from transcriptome_diffusion.generators.privacy_options import PrivacyOptions
from transcriptome_diffusion.generators.reference_prior import Prior, fit_with_reference, mixture

GENES = 60
UNIT = "log2(FPKM + 1)"
_RNG = np.random.default_rng(7)
#: all cohorts below vary along the same few directions
LOADINGS = _RNG.normal(size=(GENES, 4)) * [1.5, 1.0, 0.8, 0.6]
MEANS = 8 + _RNG.normal(size=(20, GENES))
OPTIONS = ClassGaussianOptions()


def cohort(classes: dict[str, int], seed: int, prefix: str, scale: float | np.ndarray = 1.0, shift=0.0) -> ad.AnnData:
    """Classes named t0, t1, ..., each with its row of MEANS."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(list(classes), list(classes.values()))
    n = len(labels)
    within = rng.normal(size=(n, 4)) @ LOADINGS.T + 0.7 * rng.normal(size=(n, GENES))
    values = MEANS[[int(label[1:]) for label in labels]] + shift + scale * within
    obs = pd.DataFrame(
        {"tissue": labels, "donor": [f"{prefix}{i}" for i in range(n)], "study": "x"},
        index=[f"{prefix}-{i}" for i in range(n)],
    )
    names = [f"G{i}" for i in range(GENES)]
    var = pd.DataFrame(
        {"symbol": names, "entrez_id": [str(1000 + i) for i in range(GENES)], "ensembl_id": "", "is_landmark": True},
        index=names,
    )
    return make_profiles(values, obs, var, UNIT)


@pytest.fixture(scope="module")
def own():
    return cohort({"t10": 12, "t11": 12}, 1, "d"), cohort({"t10": 6, "t11": 6}, 2, "v")


def within_correlation(values, labels):
    residuals = Within.of(values, np.asarray(labels)).residuals
    return np.corrcoef(residuals.T)


def test_residuals_have_unbiased_variances_and_factors_say_which_class_varies_more():
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], [40, 4])
    values = rng.normal(size=(44, 3000)) * np.where(labels == "b", 2.0, 1.0)[:, None]
    found = Within.of(values, labels)
    assert np.square(found.scale).mean() == pytest.approx((39 * 1 + 3 * 4) / 42, rel=0.05)
    a, b = found.factors(np.ones(3000))
    assert b / a == pytest.approx(4, rel=0.06)
    assert (40 * a + 4 * b) / 44 == pytest.approx(1)


def test_the_log_likelihoods_are_those_of_scipy_with_fewer_and_with_more_rows_than_genes():
    rng = np.random.default_rng(1)
    for n in (0, 5, 20):
        rows, z = rng.normal(size=(n, 9)), rng.normal(size=(3, 9))
        found = log_likelihoods(z, rows, 0.3, (0.0, 0.4))
        for share, ours in zip((0.0, 0.4), found, strict=True):
            covariance = (1 - share) * (rows.T @ rows + 0.3 * np.eye(9)) + share * np.eye(9)
            exact = multivariate_normal(np.zeros(9), covariance).logpdf(z)
            np.testing.assert_allclose(ours - 4.5 * np.log(2 * np.pi), exact, rtol=1e-9)


def test_the_identity_has_a_larger_share_the_more_the_tissues_of_the_reference_differ(reference):
    prior = Prior.of(Within.of(dense(reference), reference.obs["tissue"].to_numpy()))
    assert prior.identity_share <= 0.1  # all tissues vary along the same directions
    rng = np.random.default_rng(0)
    values = dense(reference).astype(np.float64).copy()
    for tissue in np.unique(reference.obs["tissue"]):
        rows = (reference.obs["tissue"] == tissue).to_numpy()
        values[rows] += rng.normal(size=(rows.sum(), 6)) @ (1.5 * rng.normal(size=(6, GENES)))
    other = Prior.of(Within.of(values, reference.obs["tissue"].to_numpy()))
    assert other.identity_share >= 0.2


def test_scales_are_the_cohorts_with_many_profiles_and_follow_the_reference_with_few(reference):
    scale = np.exp(np.random.default_rng(3).normal(0, 0.7, GENES))
    theirs = Within.of(dense(reference), reference.obs["tissue"].to_numpy()).scale
    for n, near in ((400, 0.12), (4, 0.6)):
        few = cohort({"t10": n, "t11": n}, 4, "d", scale)
        own = Within.of(dense(few), few.obs["tissue"].to_numpy())
        found = np.log(pooled_scale(own, theirs) / theirs)
        assert np.abs(found - np.log(scale)).mean() < near
        raw = np.abs(np.log(own.scale / theirs) - np.log(scale)).mean()
        assert np.abs(found - np.log(scale)).mean() <= raw + 1e-3
    same = cohort({"t10": 4, "t11": 4}, 5, "d", 2.0)
    own = Within.of(dense(same), same.obs["tissue"].to_numpy())
    # all genes twice as large: the common factor is taken over, the noise of single genes is not
    assert np.log(pooled_scale(own, theirs) / theirs).std() < np.log(own.scale / theirs).std() / 2


def test_a_reference_in_another_scale_and_with_a_batch_shift_is_brought_to_the_cohorts(reference):
    scale, shift = np.linspace(0.5, 2, GENES), np.linspace(-2, 3, GENES)
    train = cohort({"t0": 150, "t1": 150}, 6, "d", scale, shift)
    found = match_reference(reference, train)
    for tissue in ("t0", "t1"):
        theirs = dense(found.profiles)[(found.profiles.obs["tissue"] == tissue).to_numpy()]
        assert np.abs(theirs.mean(axis=0) - (MEANS[int(tissue[1:])] + shift)).mean() < 0.4
    ratio = (
        Within.of(dense(found.profiles), found.profiles.obs["tissue"].to_numpy()).scale
        / Within.of(dense(train), train.obs["tissue"].to_numpy()).scale
    )
    assert np.abs(np.log(ratio)).max() < 0.1
    assert found.facts["classes_shared"] == ["t0", "t1"]
    assert found.profiles.var_names.equals(train.var_names)


def test_a_reference_whose_genes_vary_together_in_another_way_is_refused(reference, own):
    mixed = np.random.default_rng(0).permutation(GENES)
    wrong = make_profiles(dense(reference)[:, mixed], reference.obs, reference.var, UNIT)
    with pytest.raises(ValueError, match="the reference cohort does not fit"):
        match_reference(wrong, own[0])
    assert match_reference(reference, own[0]).facts["likelihood_gain"] > 0.1


def test_a_reference_with_too_few_genes_or_profiles_is_refused_and_a_missing_gene_varies_on_its_own(reference, own):
    with pytest.raises(ValueError, match="has 40 of the cohort's 60 genes"):
        match_reference(reference[:, :40].copy(), own[0])
    with pytest.raises(ValueError, match="has 29 profiles; 30 are needed"):
        match_reference(reference[:29].copy(), own[0])
    found = match_reference(reference[:, 1:].copy(), own[0])
    assert found.facts["genes_filled"] == ["G0"]
    correlation = within_correlation(dense(found.profiles), found.profiles.obs["tissue"])
    assert np.abs(correlation[0, 1:]).max() < 0.3 < np.abs(correlation[1:, 1:] - np.eye(GENES - 1)).max()


def test_the_cohorts_own_donors_are_taken_out_of_the_reference(reference, own):
    both = ad.concat([reference, own[0][:5], own[1][:3]])
    both.uns["unit"] = UNIT
    assert match_reference(both, own[0], other=own[1]).profiles.n_obs == reference.n_obs
    assert match_reference(both, own[0]).profiles.n_obs == reference.n_obs + 3


def test_a_reference_is_read_by_any_id_from_counts_or_linear_values(reference):
    reference = make_profiles(dense(reference).clip(min=0), reference.obs, reference.var, UNIT)
    linear = make_profiles(np.exp2(dense(reference)) - 1, reference.obs, reference.var, "FPKM")
    linear.var_names = [f"ENSG{i:011d}" for i in range(GENES)]
    shuffled = linear[:, ::-1].copy()
    found = prepare_reference(shuffled, reference.var)
    assert found.uns["unit"] == UNIT
    np.testing.assert_allclose(found[:, reference.var_names].X, dense(reference), atol=1e-4)
    counts = make_profiles(np.round(1000 * np.exp2(dense(reference) / 2)), reference.obs, reference.var, "counts")
    found = prepare_reference(counts, reference.var)
    assert found.uns["unit"] == "log2(CPM + 1)"
    np.testing.assert_allclose((np.exp2(found.X.astype(float)) - 1).sum(axis=1), 1e6, rtol=1e-3)
    unlabelled = reference[:, :].copy()
    unlabelled.obs = unlabelled.obs.drop(columns="tissue")
    with pytest.raises(ValueError, match="no column 'organ'"):
        prepare_reference(unlabelled, reference.var, "organ")
    assert prepare_reference(ad.AnnData(), reference.var).n_obs == 0


# ------------------------------------------------------------------------------------------------ the model
def test_a_mixture_has_the_covariance_that_it_says(reference):
    prior = Prior.of(Within.of(dense(reference), reference.obs["tissue"].to_numpy()))
    own = np.random.default_rng(0).normal(size=(30, GENES))
    theirs = prior.rows.T @ prior.rows + prior.noise * np.eye(GENES)
    alone, noise = mixture(prior, own, 1.0)
    ours = alone.T @ alone + noise * np.eye(GENES)
    rows, noise = mixture(prior, own, 0.3)
    np.testing.assert_allclose(rows.T @ rows + noise * np.eye(GENES), 0.7 * theirs + 0.3 * ours, atol=1e-10)


@pytest.mark.parametrize("dial", ["none", "reference_axes"])
def test_samples_have_the_reference_correlations_and_the_cohorts_means_and_scales(reference, own, dial):
    train, validation = cohort({"t10": 12, "t11": 12}, 8, "d", 3.0), cohort({"t10": 6, "t11": 6}, 9, "v", 3.0)
    model = fit_with_reference(train, validation, OPTIONS, reference, PrivacyOptions(dial=dial))
    drawn = dense(model.sample({"t10": 3000}, seed=0)).astype(float)
    truth = LOADINGS @ LOADINGS.T + 0.49 * np.eye(GENES)
    assert np.std(drawn, axis=0).mean() == pytest.approx(3 * np.sqrt(np.diag(truth)).mean(), rel=0.15)
    expected = truth / np.sqrt(np.outer(np.diag(truth), np.diag(truth)))
    upper = np.triu_indices(GENES, 1)
    error = np.corrcoef(drawn.T)[upper] - expected[upper]
    few = within_correlation(dense(train), train.obs["tissue"])[upper] - expected[upper]
    assert np.square(error).mean() < np.square(few).mean() / 2
    mean = dense(train)[:12].mean(axis=0)
    # shrunk, but nearer to its own class than to the other
    assert np.abs(drawn.mean(axis=0) - mean).mean() < np.abs(drawn.mean(axis=0) - dense(train)[12:].mean(axis=0)).mean()


def test_reference_axes_uses_nothing_of_the_cohort_but_class_means_scales_and_factors(reference, own):
    """Cohorts with the same class means, scales and factors, but other correlations, give one and the same model."""
    train, validation = own
    rng = np.random.default_rng(0)
    values = dense(train).astype(np.float64).copy()
    other = values.copy()
    for rows in (slice(0, 12), slice(12, 24)):
        centre = values[rows].mean(axis=0)
        # a rotation of the profiles of a class keeps the sum of squares of every gene
        basis = np.linalg.qr(np.column_stack([np.ones(12), rng.normal(size=(12, 11))]))[0][:, 1:]
        turn = basis @ np.linalg.qr(rng.normal(size=(11, 11)))[0] @ basis.T
        other[rows] = centre + turn @ (values[rows] - centre)
    moved = make_profiles(other, train.obs, train.var, UNIT)
    assert np.abs(dense(moved) - dense(train)).max() > 1
    dial = PrivacyOptions(dial="reference_axes")
    first, second = (fit_with_reference(part, validation, OPTIONS, reference, dial) for part in (train, moved))
    for name, array in first.state().items():
        np.testing.assert_allclose(second.state()[name], array, atol=2e-4, err_msg=name)
    whole = [fit_with_reference(part, validation, OPTIONS, reference, PrivacyOptions()) for part in (train, moved)]
    assert np.abs(whole[0].state()["residuals"] - whole[1].state()["residuals"]).max() > 0.1


def test_held_out_donors_choose_more_of_the_own_covariance_the_less_the_reference_fits(reference):
    """The reference's four directions, against a cohort with four more of its own."""
    few = cohort({"t10": 60, "t11": 60}, 3, "d")
    rng = np.random.default_rng(1)
    more = dense(few) + rng.normal(size=(120, 4)) @ (rng.normal(size=(4, GENES)) * 2)
    shares = []
    for values in (dense(few), more):
        profiles = make_profiles(values, few.obs, few.var, UNIT)
        model = fit_with_reference(profiles, few[:20].copy(), OPTIONS, reference, PrivacyOptions())
        shares.append(model.record["own_share"])
    assert shares[0] < shares[1]


def test_class_means_are_drawn_towards_the_same_class_of_the_reference_and_less_so_with_more_profiles(reference):
    def distance(n: int, seed: int, dial: str = "reference_axes") -> tuple[float, float]:
        train = cohort({"t0": n, "t1": n, "t2": n}, seed, "d")
        model = fit_with_reference(train, train[::2].copy(), OPTIONS, reference, PrivacyOptions(dial=dial))
        raw = Within.of(dense(train), train.obs["tissue"].to_numpy()).means
        truth = MEANS[:3]
        return float(np.square(model.means - truth).mean()), float(np.square(raw - truth).mean())

    few = np.array([distance(3, seed) for seed in range(4)]).mean(axis=0)
    assert few[0] < 0.7 * few[1]
    many = np.array([distance(60, seed) for seed in range(2)]).mean(axis=0)
    assert many[0] < 1.2 * many[1]


def test_the_model_is_saved_and_loaded_as_any_class_gaussian(reference, own, tmp_path):
    model = fit_with_reference(*own, OPTIONS, reference, PrivacyOptions())
    model.save(tmp_path / "model")
    again = ClassGaussian.load(tmp_path / "model")
    np.testing.assert_array_equal(dense(again.sample({"t11": 5}, seed=3)), dense(model.sample({"t11": 5}, seed=3)))
    assert again.record["privacy"]["dial"] == "none"
    assert again.marginal_map is None
    assert not any("marginal" in name for name in model.state())


def test_one_class_is_enough(reference):
    alone, others = cohort({"t10": 8}, 1, "d"), cohort({"t10": 4}, 2, "v")
    model = fit_with_reference(alone, others, OPTIONS, reference, PrivacyOptions(dial="reference_axes"))
    np.testing.assert_allclose(model.means[0], dense(alone).mean(axis=0), atol=1e-4)


def test_with_reference_axes_a_share_is_kept_of_class_means_off_the_axes(own, reference, monkeypatch):
    """Without it a class has the mean of all classes there, where one donor counts less."""
    monkeypatch.setattr("transcriptome_diffusion.generators.reference_prior.MOST_ROWS", 5)
    apart = {}
    for share in (0.0, 0.5, 1.0):
        privacy = PrivacyOptions(dial="reference_axes", off_axes=share)
        model = fit_with_reference(*own, OPTIONS, reference, privacy)
        apart[share] = (model.means - model.means.mean(axis=0)) / model.scale
        axes = model.residuals / np.linalg.norm(model.residuals, axis=1, keepdims=True)
    off = {share: z - z @ axes.T @ axes for share, z in apart.items()}
    np.testing.assert_allclose(off[0.0], 0, atol=1e-3)
    assert np.abs(off[1.0]).max() > 0.1
    np.testing.assert_allclose(off[0.5], off[1.0] / 2, atol=1e-3)
    np.testing.assert_allclose(apart[0.0] @ axes.T, apart[1.0] @ axes.T, atol=1e-3)
