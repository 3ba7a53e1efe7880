import numpy as np
import pytest

from transcriptome_diffusion.metrics import utility
from transcriptome_diffusion.metrics.neighbours import Pool
from transcriptome_diffusion.metrics.options import ClassifierOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.span import axes_in_span, products, random_basis

RNG = np.random.default_rng(0)
VALUES = (RNG.normal(size=(90, 12)) @ RNG.normal(size=(12, 400)) + 0.1 * RNG.normal(size=(90, 400))).astype(np.float32)


def centred_on(values, others):
    return values - others.mean(axis=0)


def test_distances_give_the_inner_products_around_the_mean_of_some():
    squares = Pool(VALUES).squares
    ours, others = centred_on(VALUES, VALUES[:60])[60:], centred_on(VALUES, VALUES[:60])[:60]
    found = products(squares[60:, :60], squares[:60, :60])
    np.testing.assert_allclose(found, ours @ others.T, atol=2e-5 * np.square(others).sum(axis=1).max())


@pytest.mark.parametrize("most", [50, 12], ids=["exact", "randomised"])
def test_axes_are_the_leading_eigenvectors(most):
    centred = centred_on(VALUES, VALUES).astype(float)
    values, vectors = axes_in_span(centred @ centred.T, most)
    singular = np.linalg.svd(centred, compute_uv=False)[:most]
    np.testing.assert_allclose(values[:12], np.square(singular[:12]), rtol=1e-3)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(values)), atol=1e-8)


def test_of_equal_profiles_there_are_none():
    assert axes_in_span(np.zeros((5, 5)), 3)[1].shape == (5, 0)


def test_the_random_basis_is_a_rotation_and_always_the_same():
    basis = random_basis(30)
    np.testing.assert_allclose(basis @ basis.T, np.eye(30), atol=1e-12)
    assert random_basis(30) is basis


def test_a_pool_that_knows_another_has_the_distances_of_one_of_everything():
    known = Pool(VALUES[:20], VALUES[20:50])
    found, whole = Pool(VALUES[50:], known=known), Pool(VALUES)
    np.testing.assert_allclose(found.squares, whole.squares, rtol=1e-5)
    np.testing.assert_array_equal(found.squares[:50, :50], known.squares)
    np.testing.assert_array_equal(found.squares, found.squares.T)


def test_classifiers_see_the_same_from_distances_as_from_genes():
    rng = np.random.default_rng(1)
    centres, codes = 0.3 * rng.normal(size=(3, 2000)), rng.integers(0, 3, size=200)
    values = (centres[codes] + rng.normal(size=(200, 2000))).astype(np.float32)
    labels = np.array(["a", "b", "c"])[codes]
    parts = [ProfileSet(values[rows], labels[rows]) for rows in (slice(90), slice(90, 130), slice(130, 200))]
    squares = Pool(values).squares
    measured = [squares[rows, :90] for rows in (slice(90), slice(90, 130), slice(130, 200))]
    options = ClassifierOptions(hidden=[16], epochs=20, seeds=[0])
    _, by_genes = utility.predict(*parts, options)
    _, by_distances = utility.predict(*parts, options, measured)
    np.testing.assert_allclose(by_distances["logistic"][0], by_genes["logistic"][0], atol=2e-3)
    accuracies = [(found["mlp"][0].argmax(axis=1) == codes[130:]).mean() for found in (by_genes, by_distances)]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.08)
