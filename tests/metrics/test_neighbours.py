import numpy as np
import pytest

from transcriptome_diffusion.metrics import neighbours
from transcriptome_diffusion.metrics.neighbours import (
    Pair,
    Pool,
    distance_blocks,
    nearest,
    nearest_distances,
    neighbour_distances,
    own_distance_blocks,
)


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(5.0, 2.0, size=(70, 9))


def whole(a, b):
    return np.concatenate([block for _, block in distance_blocks(a, b)])


def brute(a, b):
    return np.sqrt(np.square(a[:, None] - b[None]).sum(axis=2))


@pytest.mark.parametrize("block", [1, 16, 70, 512])
def test_distances_are_those_of_the_definition_for_any_block_size(points, block, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    np.testing.assert_allclose(whole(points, points[:33]), brute(points, points[:33]), atol=1e-7)


def test_no_block_holds_all_pairs(points, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 16)
    assert max(block.shape[0] for _, block in distance_blocks(points, points)) == 16


def test_copies_are_at_distance_zero_far_from_the_origin():
    x = np.random.default_rng(1).normal(1e4, 1.0, size=(40, 5000)).astype(np.float32)
    distances = whole(x, x[::-1])
    assert (distances[np.arange(40), np.arange(40)[::-1]] == 0).all()
    assert np.sort(distances, axis=1)[:, 1].min() > 50  # sqrt(2 * 5000) = 100 is typical


def test_a_near_copy_keeps_its_small_distance():
    x = np.random.default_rng(2).normal(size=(10, 1000))
    near = x.copy()
    near[:, 0] += 1e-4
    np.testing.assert_allclose(nearest_distances(near, x), 1e-4, rtol=1e-3)


def test_the_nearest_is_found_in_any_block(points, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 16)
    distances, which = nearest(points[:33], points[33:])
    np.testing.assert_array_equal(which, brute(points[:33], points[33:]).argmin(axis=1))
    np.testing.assert_allclose(distances, brute(points[:33], points[33:]).min(axis=1))


def in_single_precision():
    """Fresh profiles, then copies, near copies and a repeated profile."""
    a = np.random.default_rng(3).normal(3, 1, size=(90, 400)).astype(np.float32)
    return a, np.concatenate([a[::2], a[::2] + np.float32(1e-3), np.repeat(a[:1], 60, axis=0), a + a[::-1]])


@pytest.mark.parametrize("many", [0.0, 0.01, 1.0], ids=["always double", "as set", "never"])
def test_single_precision_is_good_to_five_digits_however_near_profiles_lie(many, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 32)
    monkeypatch.setattr(neighbours, "MANY", many)
    a, b = in_single_precision()
    # double precision is off by some 1e-8 of the lengths themselves
    expected = brute(a.astype(float), b.astype(float))
    np.testing.assert_allclose(whole(a, b), expected, rtol=1e-5, atol=2e-6)
    assert (whole(a, b)[expected == 0] == 0).all()


def test_double_precision_profiles_and_enormous_ones_are_not_rounded_to_single(monkeypatch):
    a, b = (side.astype(float) for side in in_single_precision())
    np.testing.assert_allclose(whole(a, b), brute(a, b), rtol=1e-11, atol=2e-6)
    huge = (a * 1e17).astype(np.float32)
    np.testing.assert_allclose(whole(huge, huge[:5]), brute(huge.astype(float), huge[:5].astype(float)), rtol=1e-6)


@pytest.mark.parametrize("block", [1, 16, 512])
def test_every_pair_of_one_set_is_there_once(points, block, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    seen = np.full((70, 70), np.nan)
    for rows, distances in own_distance_blocks(points):
        assert np.isnan(seen[rows, rows.start :]).all()
        seen[rows, rows.start :] = distances
    upper = np.triu_indices(70)
    np.testing.assert_allclose(seen[upper], brute(points, points)[upper], atol=1e-7)
    np.testing.assert_allclose(neighbour_distances(points, 3), np.sort(brute(points, points))[:, 1:4], atol=1e-7)


def test_neighbour_distances_leave_the_point_itself_out_and_ascend(points):
    expected = np.sort(brute(points, points), axis=1)[:, 1:6]
    np.testing.assert_allclose(neighbour_distances(points, 5), expected, atol=1e-7)


def test_a_duplicated_point_has_a_neighbour_at_distance_zero(points):
    twice = np.concatenate([points, points[:1]])
    assert neighbour_distances(twice, 1)[[0, -1], 0].tolist() == [0, 0]
    assert (neighbour_distances(twice, 1)[1:-1] > 0).all()


@pytest.mark.parametrize("k", [0, 70, 71])
def test_k_must_be_below_the_number_of_profiles(points, k):
    with pytest.raises(ValueError, match=f"k = {k}.*found 70.*evaluation"):
        neighbour_distances(points, k)


def test_bad_arrays_are_refused(points):
    with pytest.raises(ValueError, match="equal width"):
        whole(points, points[:, :3])
    with pytest.raises(ValueError, match="empty"):
        whole(points, points[:0])
    spoilt = points.copy()
    spoilt[3, 3] = np.nan
    with pytest.raises(ValueError, match="finite"):
        whole(spoilt, points)
    with pytest.raises(ValueError, match="finite"):
        whole(points, spoilt)


@pytest.mark.parametrize("genes", [50, 2000])
def test_squares_of_a_pool_lie_within_their_errors_and_a_pool_is_made_again_from_them(genes):
    first, second = (np.random.default_rng(i).normal(3 * i, 1, (20, genes)).astype(np.float32) for i in (0, 1))
    pool = Pool(second, known=Pool(first, first[:9]))
    values = np.concatenate([first, first[:9], second]).astype(np.float64)
    exact = np.square(values[:, None] - values).sum(axis=2)
    assert (np.abs(pool.squares - exact) <= pool.errors[:, None] + pool.errors).all()
    again = Pool.measured([first, first[:9], second], pool.squares, pool.errors, pool.centre)
    ours, theirs = Pair(again, np.arange(20), np.arange(29, 49)).bounds()
    found = ours.exact(np.arange(20), theirs, np.arange(20))
    np.testing.assert_allclose(found, np.square(first.astype(np.float64) - second).sum(axis=1))
