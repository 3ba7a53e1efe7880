from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from transcriptome_diffusion.metrics.biology import summarise
from transcriptome_diffusion.metrics.biology.differential import (
    Groups,
    agreement,
    differential_expression,
    discoveries,
    inverse_trigamma,
    joint_labels,
    largest,
    marker_recovery,
    one_against_others,
    squeeze,
    within,
)

GENES = 600


def population(seed=0, groups=5, genes=GENES):
    """Group means and within-group deviations of a gene, both known."""
    rng = np.random.default_rng(seed)
    return 5 + rng.normal(0, 1, (groups, genes)), np.sqrt(0.25 * 8 / rng.chisquare(8, genes))


def draw(seed, size=24, means=None, scale=1.0, deviations=None):
    known_means, known_deviations = population()
    means = known_means if means is None else means
    deviations = known_deviations if deviations is None else deviations
    labels = np.repeat([f"tissue {i}" for i in range(len(means))], size)
    noise = np.random.default_rng(seed).normal(size=(len(labels), means.shape[1]))
    return np.repeat(means, size, axis=0) + scale * deviations * noise, labels


def difference(groups):
    """The contrast of two groups."""
    first, second = groups.names
    return {"difference": {first: 1.0, second: -1.0}}


def compared(reference, candidate):
    a, b = Groups.of(*reference), Groups.of(*candidate)
    contrasts = one_against_others(a, b)
    tests = (differential_expression(groups, contrasts) for groups in (a, b))
    return summarise(agreement(*tests)) | summarise(marker_recovery(a, b))


# ----------------------------------------------------------------------------------------------- tests
def test_with_one_variance_for_all_genes_the_moderated_test_is_students_with_that_variance_known():
    values, labels = draw(1, size=4, means=np.zeros((2, 20_000)), deviations=np.full(20_000, 1.3))
    groups = Groups.of(values, labels)
    tests = differential_expression(groups, difference(groups))
    z = (values[labels == "tissue 0"].mean(axis=0) - values[labels == "tissue 1"].mean(axis=0)) / (1.3 * np.sqrt(0.5))
    np.testing.assert_allclose(tests.statistic[0], z, rtol=0.02)


def test_the_moderated_test_is_students_with_the_squeezed_variance():
    values, labels = draw(2, size=9)
    values = values[np.isin(labels, ["tissue 0", "tissue 1"])]
    groups = Groups.of(values, np.repeat(["a", "b"], 9))
    expected = scipy.stats.ttest_ind(values[:9], values[9:]).statistic
    variance, degrees = groups.pooled()
    posterior, _ = squeeze(variance, degrees)
    found = differential_expression(groups, difference(groups)).statistic[0]
    np.testing.assert_allclose(found, expected * np.sqrt(variance / posterior), rtol=1e-9)


def test_the_prior_is_found_again_and_moderated_p_values_are_uniform_under_the_null():
    rng = np.random.default_rng(3)
    degrees, prior, location, genes = 6, 8.0, 0.3, 40_000
    variance = location * prior / rng.chisquare(prior, genes)
    posterior, found = squeeze(variance * rng.chisquare(degrees, genes) / degrees, degrees)
    assert found == pytest.approx(prior, rel=0.1)
    assert posterior.std() < variance.std()
    values = rng.normal(size=(8, genes)) * np.sqrt(variance)
    groups = Groups.of(values, np.repeat(["a", "b"], 4))
    p = differential_expression(groups, difference(groups)).p[0]
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.001
    assert (p < 0.001).mean() == pytest.approx(0.001, abs=0.0006)


def test_inverse_trigamma_is_the_inverse():
    for value in (1e-8, 1e-3, 0.4, 3.0, 1e4, 1e9):
        assert scipy.special.polygamma(1, inverse_trigamma(value)) == pytest.approx(value, rel=1e-4)


def test_a_gene_that_never_varies_is_not_significant_and_breaks_nothing():
    values, labels = draw(5)
    values[:, 0] = 0.1
    groups = Groups.of(values, labels)
    tests = differential_expression(groups, one_against_others(groups))
    assert (tests.p[:, 0] > 0.999999).all()
    assert np.isfinite(tests.statistic).all()


def test_the_others_weigh_alike_whatever_their_sizes():
    values, labels = draw(6)
    fewer = np.concatenate([np.flatnonzero(labels != "tissue 1"), np.flatnonzero(labels == "tissue 1")[:5]])
    values[labels == "tissue 1"] = values[labels == "tissue 1"][0]  # so that its mean stays
    effects = []
    for rows in (np.arange(len(labels)), fewer):
        groups = Groups.of(values[rows], labels[rows])
        effects.append(differential_expression(groups, one_against_others(groups)).effect[0])
    np.testing.assert_allclose(*effects, rtol=1e-9)


def test_tumours_are_compared_with_normals_inside_each_tissue_that_has_both():
    rng = np.random.default_rng(7)
    tissue = np.repeat(["kidney", "lung", "liver"], 20)
    kind = np.where(np.arange(60) % 2, "tumor", "normal")
    kind[tissue == "lung"] = "normal"
    values = rng.normal(5, 0.3, (60, 400)) + 1.5 * (kind == "tumor")[:, None] * (np.arange(400) < 100)
    groups = Groups.of(values, joint_labels(tissue, kind))
    contrasts = within("tumor", "normal", groups)
    assert list(contrasts) == ["kidney", "liver"]
    tests = differential_expression(groups, contrasts)
    assert tests.effect[:, :100].mean() == pytest.approx(1.5, abs=0.05)
    assert (tests.q[:, :100] < 0.05).all()
    assert (tests.q[:, 100:] < 0.05).mean() < 0.05
    normals = Groups.of(values[kind == "normal"], joint_labels(tissue, kind)[kind == "normal"])
    nothing = within("tumor", "normal", normals)
    assert not nothing
    tests = differential_expression(normals, nothing)
    assert agreement(tests, tests).empty


def test_blocks_of_genes_do_not_show(monkeypatch):
    values, labels = draw(8)
    whole = Groups.of(values, labels)
    monkeypatch.setattr("transcriptome_diffusion.metrics.biology.differential.BLOCK", 7)
    for name in ("mean", "variance"):
        np.testing.assert_allclose(getattr(Groups.of(values, labels), name), getattr(whole, name), rtol=1e-12)


# ------------------------------------------------------------------------------------------- agreement
def faulty(fault):
    values, labels = draw(20)
    rng = np.random.default_rng(21)
    centre = np.repeat(population()[0], 24, axis=0)
    return {
        "oracle": lambda: (values, labels),
        "memoriser": lambda: draw(10),
        "shifted": lambda: (values + 1, labels),
        "collapsed": lambda: (centre + 0.5 * (values - centre), labels),
        "half the differences": lambda: (values - 0.5 * (centre - centre.mean(axis=0)), labels),
        "shuffled labels": lambda: (values, rng.permutation(labels)),
        "gene-permuted": lambda: (values[:, rng.permutation(GENES)], labels),
    }[fault]()


@pytest.mark.parametrize(
    ("fault", "lfc_slope", "lfc_correlation", "effect_size_slope", "sign", "top", "markers"),
    [
        ("oracle", 1, (0.95, 1), 1, (0.98, 1), (0.8, 1), (0.75, 1)),
        ("memoriser", None, (0.999, 1), None, (1, 1), (1, 1), (1, 1)),  # the reference's own profiles
        ("shifted", 1, (0.95, 1), 1, (0.98, 1), (0.8, 1), (0.75, 1)),  # differences do not see it
        ("collapsed", 1, (0.95, 1), 2, (0.98, 1), (0.8, 1), (0.75, 1)),
        ("half the differences", 0.5, (0.9, 1), 0.5, (0.95, 1), (0.7, 1), (0.5, 1)),
        ("shuffled labels", 0, (-0.3, 0.3), 0, (0.3, 0.7), (0, 0.3), (0, 0.35)),
        ("gene-permuted", 0, (-0.15, 0.15), 0, (0.4, 0.6), (0.05, 0.3), (0, 0.3)),
    ],
)
def test_faults_and_what_catches_them(fault, lfc_slope, lfc_correlation, effect_size_slope, sign, top, markers):
    found = compared(draw(10), faulty(fault))
    for name, expected in (("lfc_slope", lfc_slope), ("effect_size_slope", effect_size_slope)):
        if expected is not None:
            assert found[name] == pytest.approx(expected, abs=0.12), name
    for name, (low, high) in {
        "lfc_correlation": lfc_correlation,
        "sign_agreement": sign,
        "top_overlap": top,
        "markers_recovered": markers,
    }.items():
        assert low <= found[name] <= high, name


def test_the_slope_is_one_for_fresh_draws_however_small_the_reference():
    found = [compared(draw(30 + i, size=4), draw(60 + i, size=24)) for i in range(8)]
    assert np.mean([f["lfc_slope"] for f in found]) == pytest.approx(1, abs=0.02)
    assert np.mean([f["lfc_correlation"] for f in found]) < 0.97  # which noise lowers


def test_a_candidate_with_the_references_own_noise_exceeds_a_slope_of_one():
    small = draw(10, size=4)
    assert compared(small, small)["lfc_slope"] > 1.03


def test_small_groups_and_groups_without_signal_are_left_empty_with_a_reason():
    values, labels = draw(11)
    few = np.concatenate([np.flatnonzero(labels != "tissue 4"), np.flatnonzero(labels == "tissue 4")[:2]])
    whole, part = Groups.of(values, labels), Groups.of(values[few], labels[few])
    assert "tissue 4" not in one_against_others(whole, part)
    same = np.zeros((5, GENES))
    a, b = (Groups.of(*draw(seed, means=same)) for seed in (12, 13))
    contrasts = one_against_others(a, b)
    table = agreement(differential_expression(a, contrasts), differential_expression(b, contrasts), top=400)
    assert table[["lfc_slope", "sign_agreement", "top_overlap"]].isna().all(axis=None)
    assert table["note"].str.contains("sampling noise").all()
    assert table["note"].str.contains("too few for an overlap of the top 400").all()
    markers = marker_recovery(a, b)
    assert markers["markers_recovered"].isna().all()
    assert markers["note"].str.contains("only 0 markers").all()
    assert np.isnan(summarise(markers)["markers_recovered"])


def test_markers_are_higher_than_in_every_other_group():
    values, labels = draw(14, means=np.zeros((4, GENES)), deviations=np.full(GENES, 0.3))
    values[np.isin(labels, ["tissue 0", "tissue 1"]), :40] += 2  # of two groups: markers of neither
    values[labels == "tissue 0", 40:60] += 2
    groups = Groups.of(values, labels)
    table = marker_recovery(groups, groups).set_index("group")
    assert 20 <= table.at["tissue 0", "markers"] <= 22
    assert table.at["tissue 0", "markers_recovered"] == 1
    assert table.at["tissue 1", "markers"] < 10


@pytest.mark.parametrize("sides", [1, 2])
def test_discoveries_are_those_of_benjamini_and_hochberg(sides):
    t = np.random.default_rng(0).normal(size=(3, 400)) + np.array([0, 1, 5])[:, None] * (np.arange(400) < 150)
    t[2, :5] = t[2, 5]  # ties
    p = sides * scipy.stats.t.sf(np.abs(t) if sides == 2 else t, 12.5)
    found = discoveries(np.abs(t) if sides == 2 else t, 12.5, 0.05, sides)
    assert (found == (scipy.stats.false_discovery_control(p, axis=1) < 0.05)).all()
    assert found[2].sum() > 50


def test_the_largest_are_those_of_a_stable_order():
    values = np.random.default_rng(0).integers(20, size=300).astype(float)
    for top in (1, 17, 300):
        assert largest(values, top).tolist() == np.argsort(-values, kind="stable")[:top].tolist()


def test_wrong_input_is_named():
    values, labels = draw(15)
    groups = Groups.of(values, labels)
    with pytest.raises(ValueError, match="one label per profile"):
        Groups.of(values, labels[1:])
    with pytest.raises(ValueError, match="1 genes hold NaN"):
        Groups.of(np.where(np.arange(GENES) == 3, np.nan, values), labels)
    with pytest.raises(ValueError, match="names \\['skin'\\]"):
        differential_expression(groups, {"c": {"skin": 1, "tissue 0": -1}})
    with pytest.raises(ValueError, match="sum to 1, expected 0"):
        differential_expression(groups, {"c": {"tissue 0": 1}})
    with pytest.raises(ValueError, match="two groups with 3 profiles"):
        one_against_others(Groups.of(values[:30], labels[:30]), Groups.of(values[:20], labels[:20]))
    with pytest.raises(ValueError, match="no group has two profiles"):
        differential_expression(Groups.of(values[::24], labels[::24]), {})
    some = differential_expression(groups, {"c": {"tissue 0": 1, "tissue 1": -1}})
    with pytest.raises(ValueError, match="the same contrasts"):
        agreement(some, differential_expression(groups, one_against_others(groups)))
