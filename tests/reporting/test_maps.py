"""Profiles as points."""

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from transcriptome_diffusion.reporting.maps import pca_comparison, trajectory, umap_comparison
from transcriptome_diffusion.reporting.style import MOST_POINTS, picked, rounded


def clusters(n, seed, apart=8.0):
    """Two tissues in 30 genes."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(["liver", "lung"], n)
    return rng.normal(size=(2 * n, 30)) + apart * (labels == "lung")[:, None] * (np.arange(30) < 5), labels


def drawn(figure, panel):
    """Points and labels of a panel, the backdrop left out."""
    axis = "x" if panel == 0 else f"x{panel + 1}"
    traces = [t for t in figure.data if (t.xaxis or "x") == axis and t.name != "held-out donors"]
    points = np.concatenate([np.column_stack([t.x, t.y]) for t in traces]).astype(float)
    return points, np.concatenate([[t.name] * len(t.x) for t in traces])


def test_principal_components_come_from_train_alone():
    rng = np.random.default_rng(2)
    train = rng.normal(size=(200, 3)) * [10, 1, 0.1]
    held_out = rng.normal(size=(20, 3)) * [0.1, 0.1, 50]  # would turn the axes if it took part
    figure = pca_comparison(train, held_out, np.repeat("a", 20), {})
    assert np.abs(np.asarray(figure.data[0].x, dtype=float)).max() < 10
    share = train.var(axis=0)[0] / train.var(axis=0).sum()
    assert figure.layout.xaxis.title.text == f"PC1 ({share:.0%})"


def test_every_panel_lies_on_the_held_out_donors_and_names_a_tissue_once():
    train, held_out, fake = clusters(60, 0), clusters(20, 1), clusters(30, 2)
    figure = pca_comparison(train[0], *held_out, {"ddpm": fake, "vae": fake})
    assert [note.text for note in figure.layout.annotations] == ["held-out donors", "ddpm", "vae"]
    assert [t.name for t in figure.data if t.showlegend] == ["liver", "lung"]
    for backdrop in [t for t in figure.data if t.name == "held-out donors"]:
        assert len(backdrop.x) == 40
    points, labels = drawn(figure, 1)
    assert points.shape == (60, 2)
    assert silhouette_score(points, labels) > 0.5


@pytest.fixture(scope="module")
def umap():
    """The same three panels twice; a new embedding takes seconds, as UMAP compiles for its process."""
    train, held_out, fake = clusters(60, 0), clusters(20, 1), clusters(30, 2)
    mixed = fake[0], np.random.default_rng(3).permutation(fake[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NUMBA_OPT", "0")  # compiling takes most of the time, and these data are few
        # Numba would set the threads of torch as well, for all tests that come after
        patch.setenv("NUMBA_NUM_THREADS", "1")
        umap = pytest.importorskip("umap.umap_")
        for name in ("fast_knn_indices", "smooth_knn_dist", "compute_membership_strengths", "submatrix"):
            patch.setattr(umap, name, getattr(umap, name).py_func)
        return [umap_comparison(train[0], *held_out, {"ddpm": fake, "mixed": mixed}) for _ in range(2)]


@pytest.mark.slow
def test_umap_keeps_tissues_apart_and_a_shuffled_generator_shows_mixed_ones(umap):
    first, again = umap
    points, labels = drawn(first, 1)
    assert silhouette_score(points, labels) > 0.5
    assert silhouette_score(*drawn(first, 2)) < 0.2
    np.testing.assert_array_equal(points, drawn(again, 1)[0])


def test_the_trajectory_has_a_panel_per_state_on_the_axes_of_train():
    train, labels = clusters(60, 0)
    noise = np.random.default_rng(1).normal(size=train.shape)
    figure = trajectory(train, {"t = 1000": (noise, labels), "t = 0": (train, labels)})
    assert [note.text for note in figure.layout.annotations] == ["t = 1000", "t = 0"]
    assert silhouette_score(*drawn(figure, 0)) < 0.1
    points, tissues = drawn(figure, 1)
    assert silhouette_score(points, tissues) > 0.5
    assert figure.layout.xaxis2.matches is None  # noise would be a dot on the axes of profiles


def test_large_sets_are_thinned_and_small_ones_are_whole():
    assert picked(10).tolist() == list(range(10))
    rows = picked(10 * MOST_POINTS)
    assert len(set(rows.tolist())) == MOST_POINTS
    assert rows.max() > 9 * MOST_POINTS


def test_numbers_are_rounded_and_gaps_are_gaps():
    assert rounded([0.12345, np.nan, 2]) == [0.123, None, 2.0]


def test_arrays_are_written_as_plain_lists(umap):
    train, held_out = clusters(30, 0), clusters(10, 1)
    for figure in (umap[0], pca_comparison(train[0], *held_out, {"ddpm": held_out})):
        assert "bdata" not in figure.to_json()
