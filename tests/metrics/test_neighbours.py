import numpy as np
import pytest

from transcriptome_diffusion.metrics import neighbours
from transcriptome_diffusion.metrics.neighbours import (
    distance_blocks,
    nearest_distances,
    neighbour_distances,
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
