import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from transcriptome_diffusion.metrics import statistics
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.statistics import (
    auc,
    bootstrap_mean,
    class_means,
    jackknife,
    matched,
    pearson,
    share_interval,
    thinned_rows,
    wasserstein,
)


# ----------------------------------------------------------------------------------- areas under ROC curves
def test_the_auc_is_that_of_scikit_learn_and_ties_count_half():
    rng = np.random.default_rng(0)
    positive = rng.random(80) < 0.3
    scores = np.round(rng.normal(size=80) + positive, 1)
    assert auc(scores, positive)[0] == pytest.approx(roc_auc_score(positive, scores))
    assert auc(np.zeros(80), positive)[0] == 0.5
    assert np.isnan(auc(np.arange(3), [0, 0, 1])[1])


def test_the_variance_of_the_auc_is_that_of_repeated_samples():
    rng = np.random.default_rng(0)
    positive = np.repeat([False, True], [40, 60])
    found = np.array([auc(rng.normal(size=100) + positive, positive) for _ in range(2000)])
    assert found[:, 0].mean() == pytest.approx(scipy.stats.norm.cdf(1 / np.sqrt(2)), abs=0.005)
    assert found[:, 1].mean() == pytest.approx(found[:, 0].var(), rel=0.1)


# ------------------------------------------------------------------------- matched draws, moments, distances
def test_matched_draws_have_the_composition_of_the_scarcest_and_differ_between_draws():
    labels = np.repeat(["brain", "liver"], [30, 20])
    ours = ProfileSet(np.arange(50)[:, None], labels, donors=np.arange(50))
    theirs = ProfileSet(100 + np.arange(40)[:, None], np.repeat(["brain", "liver"], [8, 32]))
    pairs = list(matched(ours, theirs, ours, 2, 0))
    for one, other in pairs:
        for side, source in ((one, ours), (other, theirs)):
            rows = side.values[:, 0] - source.values[0, 0]
            assert len(set(rows)) == 28
            assert np.bincount(side.labels == "liver").tolist() == [8, 20]
            assert (source.labels[rows] == side.labels).all()
        assert (one.donors == one.values[:, 0]).all()
    assert set(pairs[0][0].donors) != set(pairs[1][0].donors)
    again = next(matched(ours, theirs, ours, 1, 0))
    assert (again[0].values == pairs[0][0].values).all()


@pytest.mark.parametrize("sizes", [(7, 7), (12, 5)])
def test_wasserstein_distances_and_correlations_are_scipys(sizes):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(sizes[0], 4)), 1 + 2 * rng.normal(size=(sizes[1], 4))
    expected = [scipy.stats.wasserstein_distance(*columns) for columns in zip(x.T, y.T, strict=True)]
    np.testing.assert_allclose(wasserstein(x, y), expected, rtol=1e-12)
    assert pearson(x[0], y[0]) == pytest.approx(scipy.stats.pearsonr(x[0], y[0]).statistic)
    assert pearson(x[0], np.full(4, 0.1)) == 0


def test_class_means_stand_in_the_order_of_the_classes():
    labels = np.array(["b", "a", "b"])
    assert class_means(np.array([[1.0], [5.0], [3.0]]), labels, ["b", "a"]).tolist() == [[2], [5]]


# ----------------------------------------------------------------------------------------------- intervals


def test_the_interval_of_a_mean_is_that_of_scipy():
    values = np.random.default_rng(0).exponential(size=60)
    found = bootstrap_mean([(values, np.arange(60))], draws=4000)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], abs=0.02)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for seed in range(150):
        values = np.random.default_rng(seed).normal(3, 1, 40)
        found = bootstrap_mean([(values, np.arange(40))], draws=200, level=0.9, seed=seed)
        held += found.low < 3 < found.high
    assert held / 150 == pytest.approx(0.9, abs=0.07)


def test_profiles_of_one_donor_count_once():
    """Ten copies of each donor: the interval is that of the donors, not a third of it."""
    of_donor = np.random.default_rng(0).normal(size=40)
    values, donors = np.repeat(of_donor, 10), np.repeat([f"donor {i}" for i in range(40)], 10)

    alone = bootstrap_mean([(of_donor, np.arange(40))])
    clustered, naive = bootstrap_mean([(values, donors)]), bootstrap_mean([(values, np.arange(400))])
    width = alone.high - alone.low
    assert clustered.high - clustered.low == pytest.approx(width, rel=0.1)
    assert naive.high - naive.low == pytest.approx(width / np.sqrt(10), rel=0.15)


@pytest.mark.parametrize("n_classes", [1, 4])
def test_intervals_are_those_of_rows_of_whole_donors_drawn_again_and_of_means_over_classes(n_classes):
    rng = np.random.default_rng(0)
    donors, classes = rng.integers(0, 25, size=90), rng.integers(0, n_classes, size=90)
    values = rng.exponential(1 + classes)

    def balanced(rows):
        return np.mean([values[rows][classes[rows] == c].mean() for c in np.unique(classes[rows])])

    rows_of = [np.flatnonzero(donors == d) for d in np.unique(donors)]
    units = len(rows_of)
    drawn = [balanced(np.concatenate([rows_of[i] for i in rng.integers(units, size=units)])) for _ in range(2000)]
    left_out = np.array([balanced(np.delete(np.arange(90), rows)) for rows in rows_of])
    value = balanced(np.arange(90))
    expected = statistics._bca(value, np.array(drawn), left_out.mean() - left_out, 0.95)
    found = bootstrap_mean([(values, donors)], classes=classes, draws=2000)
    assert found.value == pytest.approx(value)
    width = expected.high - expected.low
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], abs=0.08 * width)


def test_a_share_near_one_gets_a_skewed_interval_within_its_range():
    right = np.ones(60)
    right[:3] = 0
    found = bootstrap_mean([(right, np.arange(60))])
    assert found.high <= 1
    assert found.value - found.low > found.high - found.value


def test_where_no_interval_is_possible_the_reason_is_given():
    values = np.arange(30.0)
    few = bootstrap_mean([(values, values // 10)])
    assert few.value == values.mean()
    assert np.isnan(few.low)
    assert "3 independent units" in few.note
    same = bootstrap_mean([(np.ones(30), np.arange(30))])
    assert np.isnan(same.high)
    assert "same in all" in same.note
    with pytest.raises(ValueError, match="donor of each of 30 rows, found 4"):
        bootstrap_mean([(values, np.zeros(4))])


def test_two_sides_are_drawn_independently():
    """Half the sum of two means has half the sum of their variances, over two."""
    rng = np.random.default_rng(1)
    sides = [(rng.normal(size=200), np.arange(200)) for _ in range(2)]
    one, both = bootstrap_mean(sides[:1]), bootstrap_mean(sides)
    assert both.value == pytest.approx(np.mean([values.mean() for values, _ in sides]))
    assert both.high - both.low == pytest.approx((one.high - one.low) / np.sqrt(2), rel=0.12)


def test_the_fast_interval_needs_units_that_differ_on_every_side():
    many, few = (np.arange(40.0), np.arange(40)), (np.arange(9.0), np.arange(9))
    assert bootstrap_mean([many, few]).note == "9 independent units, an interval needs 10"
    assert np.isnan(bootstrap_mean([(np.ones(40), np.arange(40))]).low)
    with pytest.raises(ValueError, match="the donor of each of 40 rows, found 9"):
        bootstrap_mean([(many[0], few[1])])


def test_the_jackknife_has_the_standard_error_of_a_mean_and_of_a_difference_of_means():
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 1, 400), rng.normal(0, 3, 100)
    sides = [(np.arange(n).astype(str), np.zeros(n)) for n in (400, 100)]

    def statistics(rows, others):
        return {"mean": one[rows].mean(), "difference": one[rows].mean() - other[others].mean(), "none": np.nan}

    found = [jackknife(statistics, sides, seed=seed) for seed in range(40)]
    assert np.mean([f["mean"] for f in found]) == pytest.approx(one.std() / 20, rel=0.1)
    expected = np.hypot(one.std() / 20, other.std() / 10)
    assert np.mean([f["difference"] for f in found]) == pytest.approx(expected, rel=0.1)
    assert np.isnan(found[0]["none"])
    assert jackknife(statistics, [sides[0], (np.repeat("few", 100), np.zeros(100))]) == {}


def test_the_jackknife_keeps_the_numbers_of_every_class():
    classes = np.repeat([0, 1], [300, 100])
    values = np.random.default_rng(2).normal(size=400) + 10 * classes
    side = (np.arange(400), classes)
    found = [jackknife(lambda rows: {"mean": values[rows].mean()}, [side], seed=s)["mean"] for s in range(40)]
    assert np.mean(found) == pytest.approx((values - 10 * classes).std() / 20, rel=0.1)


def test_profiles_of_a_donor_are_left_out_together():
    values = np.repeat(np.random.default_rng(1).normal(size=50), 8)
    donors = np.repeat(np.arange(50), 8)
    found = [
        jackknife(lambda rows: {"mean": values[rows].mean()}, [(donors, np.zeros(400))], seed=s)["mean"]
        for s in range(40)
    ]
    assert np.mean(found) == pytest.approx(values.std() / np.sqrt(50), rel=0.1)


@pytest.mark.parametrize(("share", "units"), [(0, 30), (0.1, 50), (0.5, 20), (1, 7)])
def test_the_interval_of_a_share_is_wilsons(share, units):
    expected = scipy.stats.binomtest(round(share * units), units).proportion_ci(method="wilson")
    found = share_interval(share, units)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_large_sets_are_thinned_class_by_class_and_small_ones_are_whole():
    labels = np.repeat(["a", "b", "c"], [600, 390, 1])
    rows = thinned_rows(labels, 100)
    assert dict(zip(*np.unique(labels[rows], return_counts=True), strict=True)) == {"a": 60, "b": 39, "c": 1}
    assert len(np.unique(rows)) == 100
    assert thinned_rows(labels, 100).tolist() == rows.tolist()
    assert thinned_rows(labels, 991).tolist() == list(range(991))
