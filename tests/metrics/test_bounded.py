import numpy as np
import pytest

from transcriptome_diffusion.metrics import bounded
from transcriptome_diffusion.metrics.bounded import BoundedDistances
from transcriptome_diffusion.metrics.fidelity import memberships, memberships_of
from transcriptome_diffusion.metrics.neighbours import Pair, Pool


def exact(a, b):
    return np.square(a[:, None].astype(float) - b[None]).sum(axis=2)


def profiles(seed, n=150, genes=60, offset=0.0):
    """Two tissues far apart, float32."""
    rng = np.random.default_rng(seed)
    centres = np.where(rng.random((n, 1)) < 0.5, 3.0, -3.0)
    return (offset + centres + rng.normal(size=(n, genes))).astype(np.float32)


@pytest.mark.parametrize("offset", [0.0, 1e4], ids=["centred", "far from the origin"])
@pytest.mark.parametrize("block", [7, 64, 512])
def test_true_distances_lie_between_the_bounds_and_bounds_are_tight(offset, block, monkeypatch):
    monkeypatch.setattr(bounded, "BLOCK", block)
    a, b = profiles(0, offset=offset), profiles(1, 90, offset=offset)
    ours, theirs = BoundedDistances(a, a.mean(axis=0)), BoundedDistances(b, a.mean(axis=0))
    rows = slice(20, 80)
    lower, truth = ours.lower(rows, theirs, 30), exact(a[rows], b[30:])
    slack = ours.slack[rows, None] + theirs.slack[30:]
    assert (lower <= truth).all()
    assert (truth <= lower + slack).all()
    assert slack.max() < 1e-4 * np.median(truth)


def test_exact_distances_tie_to_the_last_bit_for_copies():
    a = profiles(0)
    cloud = BoundedDistances(a, a.mean(axis=0))
    copy = BoundedDistances(np.concatenate([a[::-1], a]), a.mean(axis=0))
    i, j = np.repeat(np.arange(10), 5), np.tile(np.arange(30, 35), 10)
    np.testing.assert_array_equal(cloud.exact(i, cloud, j), cloud.exact(i, copy, 149 - j))
    np.testing.assert_allclose(cloud.exact(i, cloud, j), exact(a, a)[i, j], rtol=1e-13)


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("block", [13, 512])
def test_neighbours_are_those_of_all_pairs(k, block, monkeypatch):
    monkeypatch.setattr(bounded, "BLOCK", block)
    a = np.concatenate([profiles(0), profiles(0)[:20]])  # with repeats
    cloud = BoundedDistances(a, a.mean(axis=0))
    truth = exact(a, a)
    np.fill_diagonal(truth, np.inf)
    truth.sort(axis=1)
    rows = np.array([0, 3, 77, 160])
    np.testing.assert_allclose(cloud.exact_kth(rows, cloud, k), truth[rows, k - 1], rtol=1e-13)
    low = cloud.smallest_bounds(k)
    high = low + (cloud.slack + cloud.slack.max())[:, None]
    assert ((low <= truth[:, :k]) & (truth[:, :k] <= high)).all()


def memberships_of_all_pairs(real, synthetic, k):
    across = exact(real, synthetic)
    within = []
    for x in (real, synthetic):
        own = exact(x, x)
        np.fill_diagonal(own, np.inf)
        within.append(np.sort(own, axis=1)[:, :k])
    in_real = across < within[0][:, -1:]
    return (
        in_real.sum(axis=0),
        (across < within[1][:, -1]).any(axis=1),
        in_real.any(axis=1),
        across.min(axis=1) > within[0][:, 0],
        across.min(axis=0) > within[1][:, 0],
    )


def on_a_grid(seed):
    """Distances that tie everywhere: whole numbers, all sums exact."""
    return np.random.default_rng(seed).integers(0, 2, size=(120, 8)).astype(np.float32)


CASES = {
    "fresh": (profiles(0), profiles(1)),
    "copies": (profiles(0), profiles(0)[np.random.default_rng(2).integers(150, size=150)]),
    "near copies": (profiles(0), profiles(0) + np.float32(1e-3) * profiles(5)),
    "ties": (on_a_grid(0), on_a_grid(1)),
    "one point": (profiles(0), np.repeat(profiles(0)[:1], 60, axis=0)),
    "far": (profiles(0), profiles(1, offset=1e3)),
    "outlier": (np.concatenate([profiles(0), 1e4 * profiles(0)[:1]]), profiles(1)),
    "double": (profiles(0).astype(float) * np.pi, profiles(1).astype(float) * np.pi),
}


@pytest.mark.parametrize("case", CASES)
def test_no_rounding_decides_who_lies_in_whose_ball(case, monkeypatch):
    monkeypatch.setattr(bounded, "BLOCK", 50)
    real, synthetic = CASES[case]
    # a pool holds others as well, in any order
    pool, rows = Pool(np.concatenate([synthetic, CASES["fresh"][0][:20, : real.shape[1]], real])), np.arange(len(real))
    pair = Pair(pool, rows + len(synthetic) + 20, np.arange(len(synthetic)))
    expected = memberships_of_all_pairs(real, synthetic, 4)
    for found in (memberships(real, synthetic, 4), memberships_of(*pair.bounds(), 4)):
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_values_that_are_not_finite_are_refused():
    for spoilt in (np.nan, np.inf, 1e30):
        values = profiles(0)
        values[3, 3] = spoilt
        with pytest.raises(ValueError, match="finite"):
            BoundedDistances(values, np.zeros(60))
