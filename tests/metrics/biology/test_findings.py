"""Networks, significance and attributions: closed forms, nulls, and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression

from transcriptome_diffusion.metrics.biology import summarise
from transcriptome_diffusion.metrics.biology.differential import Groups, differential_expression, one_against_others
from transcriptome_diffusion.metrics.biology.findings import (
    Findings,
    attribution_overlap,
    attributions,
    compare_findings,
    edge_agreement,
    significance_agreement,
)

RNG = np.random.default_rng(0)
GENES, TISSUES, EACH = 120, 3, 20
LABELS = np.repeat(["a", "b", "c"], EACH)
CENTRES = np.repeat(RNG.normal(0, 1, (TISSUES, GENES)), EACH, axis=0)
FACTORS = np.kron(np.eye(6), np.ones(20))  # blocks of twenty genes


def draw(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(len(LABELS), 6)) @ FACTORS + rng.normal(size=(len(LABELS), GENES))
    return (CENTRES + scale * own).astype(np.float32)


def findings(values, labels=LABELS):
    return Findings.of(values, labels, np.ones(values.shape[1]))


# ---------------------------------------------------------------------------------------------- networks
def test_edges_are_counted_by_cutoff_and_sign():
    def matrix(*pairs, genes=12):
        r = np.zeros((genes, genes))
        for i, j, value in pairs:
            r[i, j] = r[j, i] = value
        return r

    real = matrix(*((0, j, 0.6) for j in range(1, 11)), (1, 2, 0.4))
    made = matrix(*((0, j, 0.6) for j in range(1, 9)), (0, 9, -0.6), (3, 4, 0.9), (4, 5, -0.35), (1, 2, 0.35))
    found = edge_agreement(real, made)
    assert found == pytest.approx({
        "edges_found_50": 8 / 10, "edges_false_50": 2 / 10, "edges_found_30": 9 / 11, "edges_false_30": 3 / 12,
    })  # fmt: skip
    few = edge_agreement(matrix((0, 1, 0.9)), made)
    assert np.isnan(few["edges_found_50"])
    assert few["edges_false_50"] == pytest.approx(0.9)


def test_edges_are_those_within_tissues():
    """Correlations of one half within the blocks; differences between tissues make no edges."""
    found = findings(draw(1)).correlation
    inside = (FACTORS.T @ FACTORS > 0) & ~np.eye(GENES, dtype=bool)
    usual = [findings(draw(seed)).correlation[inside].mean() for seed in range(20)]
    assert np.mean(usual) == pytest.approx(0.5, abs=0.03)
    assert np.abs(found[~inside]).mean() < 0.15
    residual = draw(1) - np.repeat(draw(1).reshape(TISSUES, EACH, GENES).mean(axis=1), EACH, axis=0)
    np.testing.assert_allclose(found[inside], np.corrcoef(residual.T)[inside], atol=1e-5)


def test_independent_genes_have_no_edges_to_find():
    values = np.concatenate([RNG.permuted(draw(2)[label == LABELS], axis=0) for label in "abc"])
    found = compare_findings(findings(draw(1)), findings(values))
    usual = compare_findings(findings(draw(1)), findings(draw(2)))
    assert found["edges_found_50"] < 0.02 < 0.4 < usual["edges_found_50"]
    assert found["edges_false_30"] > 0.8 > usual["edges_false_30"]


# ------------------------------------------------------------------------------------------ significance
def differences(values):
    groups = Groups.of(values, LABELS)
    return differential_expression(groups, one_against_others(groups))


def test_agreement_of_significance_is_spearmans_of_adjusted_p_values_and_jaccards_of_the_sets():
    ours, theirs = differences(draw(1)), differences(draw(2))
    table = significance_agreement(ours, theirs)
    for i in range(TISSUES):
        first, second = ours.q[i] < 0.05, theirs.q[i] < 0.05
        assert table["q_correlation"][i] == pytest.approx(spearmanr(ours.q[i], theirs.q[i]).statistic)
        assert table["significant_ratio"][i] == second.sum() / first.sum()
        assert table["significant_overlap"][i] == (first & second).sum() / (first | second).sum()
    # of all contrasts together
    ours, theirs = ours.q < 0.05, theirs.q < 0.05
    found = summarise(table)
    assert found["significant_ratio"] == pytest.approx(theirs.sum() / ours.sum())
    assert found["significant_overlap"] == pytest.approx((ours & theirs).sum() / (ours | theirs).sum())


def test_profiles_that_vary_too_little_have_too_many_significant_genes():
    real = findings(draw(1))
    usual, shrunken, half = (compare_findings(real, findings(draw(2, scale))) for scale in (1, 0.5, 2))
    assert usual["significant_ratio"] == pytest.approx(1, abs=0.15)
    assert shrunken["significant_ratio"] > 1.15
    assert half["significant_ratio"] < 0.7


def test_unrelated_differences_do_not_agree_and_few_significant_genes_have_no_ratio():
    renamed = draw(2)[:, np.random.default_rng(5).permutation(GENES)]
    found = compare_findings(findings(draw(1)), findings(renamed))
    assert abs(found["q_correlation"]) < 0.2
    assert found["significant_overlap"] < compare_findings(findings(draw(1)), findings(draw(2)))["significant_overlap"]
    nothing = differences(np.random.default_rng(6).normal(size=(len(LABELS), GENES)))
    table = significance_agreement(nothing, differences(draw(1)))
    assert table[["significant_ratio", "significant_overlap"]].isna().all(axis=None)


# ------------------------------------------------------------------------------------------ attributions
@pytest.mark.parametrize("tissues", [2, 3])
def test_attributions_are_coefficients_times_means_of_the_regression_on_genes(tissues):
    rows = np.isin(LABELS, ["a", "b", "c"][:tissues])
    values, labels = draw(1)[rows], LABELS[rows]
    found = attributions(values, labels, tol=1e-8)
    fitted = LogisticRegression(max_iter=5000, fit_intercept=True, tol=1e-8).fit(values, labels)
    weights = fitted.coef_ if tissues > 2 else np.concatenate([-fitted.coef_, fitted.coef_]) / 2
    for i, name in enumerate(fitted.classes_):
        expected = (weights[i] - weights.mean(axis=0)) * values[labels == name].mean(axis=0)
        np.testing.assert_allclose(found[name], expected, atol=1e-3 * np.abs(expected).max())


def test_a_classifier_of_other_genes_shares_those_of_chance():
    ours = attributions(draw(1), LABELS)
    assert attribution_overlap(ours, ours) == dict.fromkeys("abc", 1.0)
    rng = np.random.default_rng(7)
    shares = [
        np.mean([*attribution_overlap(ours, {k: rng.permutation(v) for k, v in ours.items()}, 30).values()])
        for _ in range(100)
    ]
    assert np.mean(shares) == pytest.approx(30 / GENES, abs=0.02)
    assert np.mean([*attribution_overlap(ours, attributions(draw(2), LABELS), 30).values()]) > 0.5
    assert attribution_overlap({k: v[:60] for k, v in ours.items()}, ours) == {}


def test_one_tissue_has_a_network_and_nothing_else():
    only = np.repeat("a", len(LABELS))
    found = compare_findings(findings(draw(1), only), findings(draw(2), only))
    assert found["edges_found_30"] > 0.3
    for name in ("q_correlation", "significant_ratio", "significant_overlap", "attribution_overlap"):
        assert np.isnan(found[name])
