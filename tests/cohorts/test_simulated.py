"""The simulated cohort has the structure it claims, and its oracle the same distribution."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression, LogisticRegression

from transcriptome_diffusion.cohorts.options import SimulationOptions
from transcriptome_diffusion.cohorts.simulated import (
    CIRCLES,
    GRADED,
    TARGET_KINDS,
    SimulatedCohort,
)
from transcriptome_diffusion.expression.landmarks import load_panel
from transcriptome_diffusion.expression.units import to_log2

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def population() -> SimulatedCohort:
    return SimulatedCohort.build(SimulationOptions(targets=400))


@pytest.fixture(scope="module")
def cohort(population):
    return to_log2(population.draw())


@pytest.fixture(scope="module")
def large(population):
    """Many samples of one tissue, so that its shape shows."""
    return to_log2(population.draw(["tissue_1"] * 1500, seed=7))


def test_the_cohort_has_the_promised_size_genes_and_tables(population, cohort):
    assert cohort.shape == (600, 978 + 400)
    assert cohort.var["is_landmark"].sum() == 978
    assert cohort.var_names[:978].tolist() == load_panel()["symbol"].tolist()
    assert cohort.var["entrez_id"][:978].tolist() == load_panel()["entrez_id"].tolist()
    assert cohort.var_names[978] == "SIM00001"
    assert {"tissue", "donor", "study", "sample_type", "source"} <= set(cohort.obs)
    sizes = cohort.obs["tissue"].value_counts()
    assert len(sizes) == 8
    assert sizes.max() / sizes.min() == pytest.approx(4, rel=0.05)
    per_donor = cohort.obs.groupby("donor")
    assert (per_donor["tissue"].nunique() == per_donor.size()).all()
    assert (per_donor.size() > 1).mean() > 0.2
    assert (per_donor["study"].nunique() == 1).all()


def test_linear_values_are_counts_per_million_with_differing_library_sizes(population):
    linear = population.draw()
    assert linear.uns["unit"] == "CPM"
    np.testing.assert_allclose(linear.X.sum(axis=1), 1e6, rtol=1e-4)
    # the smallest value above zero is one count, so its inverse tells the library size
    smallest = np.where(linear.X > 0, linear.X, np.inf).min(axis=1)
    assert np.log(smallest).std() > 0.2


def test_seeds_decide_structure_and_draw_separately(population):
    again = SimulatedCohort.build(population.options)
    np.testing.assert_array_equal(again.draw(seed=3).X, population.draw(seed=3).X)
    np.testing.assert_array_equal(again.base, population.base)
    assert not np.array_equal(population.draw(seed=3).X, population.draw(seed=4).X)
    other = SimulatedCohort.build(population.options.model_copy(update={"structure_seed": 1}))
    assert not np.allclose(other.base, population.base)


def test_labels_set_number_and_order_and_unknown_ones_are_refused(population):
    labels = pd.Series(["tissue_3", "tissue_1", "tissue_3"], dtype="category")
    assert population.draw_oracle(labels, seed=0).obs["tissue"].tolist() == list(labels)
    with pytest.raises(ValueError, match=r"unknown tissues \['spleen'\]"):
        population.draw(["spleen"])


def test_means_spreads_and_silence_are_of_realistic_size(cohort):
    landmarks = cohort.var["is_landmark"].to_numpy()
    frame = pd.DataFrame(cohort.X).groupby(cohort.obs["tissue"].to_numpy())
    within = np.sqrt(frame.var().mean())
    assert 0.5 < within[landmarks].median() < 1
    assert 0.5 < within[~landmarks].median() < 1
    assert 5 < np.median(cohort.X[:, landmarks]) < 10
    assert (cohort.X[:, landmarks] == 0).mean() < 0.001
    assert 0.005 < (cohort.X[:, ~landmarks] == 0).mean() < 0.2


def test_tissues_can_be_told_apart_but_for_the_close_kin_not_trivially(cohort):
    tissue = cohort.obs["tissue"].to_numpy()
    train = np.random.default_rng(0).random(len(tissue)) < 0.7
    x = cohort.X[:, :978]
    model = LogisticRegression(C=0.01, max_iter=200).fit(x[train], tissue[train])
    wrong = model.predict(x[~train]) != tissue[~train]
    kin = np.isin(tissue[~train], ["tissue_7", "tissue_8"])
    assert wrong[~kin].mean() < 0.02
    assert wrong.mean() < 0.1
    centroids = np.stack([x[tissue == f"tissue_{i}"].mean(axis=0) for i in (6, 7, 8)])
    assert np.linalg.norm(centroids[1] - centroids[2]) < 0.6 * np.linalg.norm(centroids[0] - centroids[1])


def test_genes_of_a_module_are_correlated_with_the_sign_of_their_loadings(population, large):
    def alignment(loading: np.ndarray) -> float:
        strong = np.argsort(-np.abs(loading))[:8]
        pairs = np.triu_indices(8, 1)
        signs = np.sign(np.outer(loading[strong], loading[strong]))
        return float((np.corrcoef(large.X[:, strong].T) * signs)[pairs].mean())

    rng = np.random.default_rng(0)
    modules = population.loadings[: GRADED + 2 * CIRCLES]
    assert min(alignment(module) for module in modules) > 0.15
    assert max(alignment(rng.permutation(module)) for module in modules) < 0.15
    assert np.mean([alignment(module) for module in modules]) > 0.3


def test_cyclic_modules_lie_on_a_circle_which_no_gaussian_does(population, large):
    # the activities by least squares on the known loadings
    centred = large.X[:, :978] - large.X[:, :978].mean(axis=0)
    activities = np.linalg.lstsq(population.loadings.T, centred.T, rcond=None)[0]
    for circle in range(CIRCLES):
        pair = activities[GRADED + 2 * circle : GRADED + 2 * circle + 2]
        radius = np.hypot(*(pair / pair.std(axis=1, keepdims=True)))
        # a Gaussian pair has a Rayleigh radius: 39 % of it below 1, and a coefficient of variation of .52
        assert radius.std() / radius.mean() < 0.25
        assert (radius < 0.5).mean() < 0.02


def test_donors_share_a_part_of_their_profile_across_tissues(cohort):
    x = pd.DataFrame(cohort.X[:, :978], index=cohort.obs_names)
    strata = [cohort.obs["tissue"], cohort.obs["study"]]
    residual = x - x.groupby(strata).transform("mean")
    residual = residual.to_numpy() / residual.to_numpy().std(axis=0)
    similarity = np.corrcoef(residual)
    donor, tissue = (cohort.obs[name].to_numpy() for name in ("donor", "tissue"))
    upper = np.triu(np.ones_like(similarity, dtype=bool), 1)
    same = (donor[:, None] == donor) & upper
    other = (donor[:, None] != donor) & (tissue[:, None] != tissue) & upper
    assert similarity[same].mean() > similarity[other].mean() + 0.05
    assert stats.mannwhitneyu(similarity[same], similarity[other], alternative="greater").pvalue < 1e-6


def test_studies_differ_by_the_known_shift(population, large):
    study = large.obs["study"].to_numpy()
    observed = large.X[study == "study_b"].mean(axis=0) - large.X[study == "study_a"].mean(axis=0)
    known = population.study_shifts[1] - population.study_shifts[0]
    assert np.corrcoef(observed[:978], known)[0, 1] > 0.95


def test_targets_follow_the_landmarks_in_the_shape_that_is_documented(population):
    values = to_log2(population.draw_oracle(np.resize(population.tissues, 1200), seed=5)).X
    fit, held_out = slice(0, 800), slice(800, 1200)
    deviations = values[:, :978] - population.base[:978]
    p, q = (population.projections @ deviations.T).reshape(2, -1, len(values))
    gain = {kind: [] for kind in TARGET_KINDS}
    for target, kind in enumerate(population.genes["kind"][978:]):
        y = values[:, 978 + target]
        if population.base[978 + target] < 2:  # too silent for its shape to show
            continue
        linear = np.column_stack([p[target], q[target]])
        quadratic = np.column_stack([linear, p[target] ** 2, q[target] ** 2, p[target] * q[target]])
        r2 = [
            LinearRegression().fit(features[fit], y[fit]).score(features[held_out], y[held_out])
            for features in (linear, quadratic)
        ]
        gain[kind].append(r2)
    linear, both = ({kind: np.median(np.array(r)[:, i]) for kind, r in gain.items()} for i in (0, 1))
    assert linear["linear"] > 0.7
    assert linear["threshold"] > 0.4
    assert abs(both["linear"] - linear["linear"]) < 0.05
    for kind in ("quadratic", "product"):
        assert linear[kind] < 0.3
        assert both[kind] > linear[kind] + 0.3


def test_the_oracle_has_the_distribution_of_the_cohort_and_other_donors(population, cohort):
    oracle = to_log2(population.draw_oracle())
    assert oracle.obs["tissue"].value_counts().equals(cohort.obs["tissue"].value_counts())
    assert not set(oracle.obs["donor"]) & set(cohort.obs["donor"])
    one_each = ~cohort.obs["donor"].duplicated().to_numpy(), ~oracle.obs["donor"].duplicated().to_numpy()
    tissue = cohort.obs["tissue"].to_numpy()
    for name in population.tissues[:4]:
        a = cohort.X[one_each[0] & (tissue == name), :978]
        b = oracle.X[one_each[1] & (oracle.obs["tissue"] == name).to_numpy(), :978]
        p_means = stats.ttest_ind(a, b, equal_var=False).pvalue
        # genes are correlated, so shares scatter widely around their null of 5 %
        assert (p_means < 0.05).mean() < 0.25
        ratio = np.log(a.std(axis=0) / b.std(axis=0))
        assert abs(ratio.mean()) < 0.1
    shifted = b + 0.5 * b.std(axis=0)
    assert (stats.ttest_ind(a, shifted, equal_var=False).pvalue < 0.05).mean() > 0.4


# ------------------------------------------------------------------------------------------------ tumours
@pytest.fixture(scope="module")
def with_tumours() -> SimulatedCohort:
    return SimulatedCohort.build(SimulationOptions(targets=50, samples=2000, tissues=6, tumours=True))


@pytest.fixture(scope="module")
def mixed(with_tumours):
    return to_log2(with_tumours.draw())


def test_the_option_changes_nothing_else_of_the_population(population):
    other = SimulatedCohort.build(population.options.model_copy(update={"tumours": True}))
    assert population.tumours is None
    for name in ("base", "programmes", "signatures", "loadings", "donor_loadings", "infiltrate", "study_shifts"):
        np.testing.assert_array_equal(getattr(other, name), getattr(population, name))


def test_tissues_and_sub_classes_are_of_unequal_size_with_donors_as_in_the_two_studies(with_tumours, mixed):
    sizes = mixed.obs["tissue"].value_counts()
    assert sizes.max() / sizes.min() == pytest.approx(6**0.8, rel=0.05)
    parts = mixed.obs.groupby(["study", "sample_type"], observed=True)
    assert set(parts.groups) == {("study_a", "normal"), ("study_b", "normal"), ("study_b", "tumor")}
    assert mixed.obs_names.is_unique
    by_donor = mixed.obs.groupby("donor")
    assert (by_donor["study"].nunique() == 1).all()
    # in study_a a donor gives several tissues, in study_b a tumour and the normal sample beside it
    tissues, types = by_donor["tissue"].nunique(), by_donor["sample_type"].nunique()
    of_a = by_donor["study"].first() == "study_a"
    assert (tissues[of_a] > 1).mean() > 0.2
    assert (tissues[~of_a] == 1).all()
    assert (types[~of_a] == 2).sum() > 50
    shares = (
        mixed.obs.groupby("tissue", observed=True)["sample_type"].value_counts(normalize=True).unstack(fill_value=0)
    )
    assert shares["tumor"].max() - shares["tumor"].min() > 0.2
    oracle = with_tumours.draw_oracle()
    keys = ["tissue", "study", "sample_type"]
    assert oracle.obs[keys].value_counts().equals(mixed.obs[keys].value_counts())
    assert not set(oracle.obs["donor"]) & set(mixed.obs["donor"])


def test_tumours_differ_by_the_known_programmes_and_their_events_have_two_peaks(with_tumours):
    truth = with_tumours.tumours
    large = to_log2(with_tumours.draw(["tissue_1"] * 3000, seed=5))
    tumour = (large.obs["sample_type"] == "tumor").to_numpy()
    beside = (large.obs["study"] == "study_b").to_numpy() & ~tumour
    x = large.X[:, : truth.events.shape[2]]
    seen = x[tumour].mean(axis=0) - x[beside].mean(axis=0)
    known = truth.common + truth.own[0] + truth.frequencies[0] @ truth.events[0]
    assert np.corrcoef(seen, known)[0, 1] > 0.9
    # without donors, modules and counts, the genes of an event lie at two places, which no Gaussian does
    alone = truth.transform(np.zeros((500, x.shape[1])), np.zeros(500, dtype=int), np.ones(500, dtype=bool), RNG)
    assert stats.kurtosis(alone[:, truth.events[0, 0] != 0].mean(axis=1)) < -0.5
    normal = np.ones((3, x.shape[1]))
    kept = truth.transform(normal, np.zeros(3, dtype=int), np.array([False, True, False]), RNG)
    assert (kept == normal).all(axis=1).tolist() == [True, False, True]
