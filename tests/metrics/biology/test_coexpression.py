from __future__ import annotations

import numpy as np
import pytest

from transcriptome_diffusion.metrics.biology import summarise
from transcriptome_diffusion.metrics.biology.coexpression import Modules, preservation, within_correlation

SIZES = (40, 30, 20)
GENES = 200
CLASSES = 4


def draw(seed, n=240, strength=1.0):
    """Three modules with their own hubs, then lone genes; class means that would tie everything together."""
    population = np.random.default_rng(99)
    loadings = np.zeros((len(SIZES), GENES))
    start = 0
    for row, size in zip(loadings, SIZES, strict=True):
        row[start : start + size] = population.uniform(0.5, 1.6, size)
        start += size
    means = population.normal(0, 3, (CLASSES, 1)) * population.uniform(0.5, 1, GENES)
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % CLASSES
    noise = rng.normal(0, 0.5, (n, GENES))
    return means[codes] + strength * rng.normal(size=(n, len(SIZES))) @ loadings + noise, codes.astype(str)


@pytest.fixture(scope="module")
def modules():
    return Modules.fit(*draw(0))


def test_planted_modules_are_found_whatever_the_class_means(modules):
    assert [len(genes) for genes in modules.members] == list(SIZES)
    for genes, start, size in zip(modules.members, (0, 40, 70), SIZES, strict=True):
        assert set(modules.genes[genes]) == set(range(start, start + size))


def test_clustering_is_the_same_every_time(modules):
    again = Modules.fit(*draw(0))
    assert all(np.array_equal(a, b) for a, b in zip(modules.members, again.members, strict=True))


def test_only_the_most_variable_genes_are_clustered():
    values, labels = draw(0)
    chosen = Modules.fit(values, labels, max_genes=90).genes
    assert set(chosen) == set(range(90))  # lone genes vary less


def test_within_class_correlations_are_numpys_after_centring():
    values, labels = draw(1)
    centred = values.copy()
    for label in np.unique(labels):
        centred[labels == label] -= centred[labels == label].mean(axis=0)
    found = within_correlation(values, labels)
    np.testing.assert_allclose(found, np.corrcoef(centred.T), atol=1e-10)
    values[:, 5] = 1.0
    assert (within_correlation(values, labels)[5] == 0).all()


def faulty(fault):
    values, labels = draw(2)
    rng = np.random.default_rng(3)
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def independent():
        for rows in classes:
            values[rows] = rng.permuted(values[rows], axis=0)
        return values, labels

    def collapsed():
        for rows in classes:
            values[rows] = values[rows].mean(axis=0) + 0.3 * (values[rows] - values[rows].mean(axis=0))
        return values, labels

    def weak():  # half of every profile's deviation is noise of lone genes
        return values + rng.normal(0, values[:, 0].std(), values.shape), labels

    return {
        "oracle": lambda: (values, labels),
        "memoriser": lambda: draw(0),
        "shifted": lambda: (values + 2, labels),
        "collapsed": collapsed,
        "too much noise": weak,
        "genes independent": independent,
        "gene-permuted": lambda: (values[:, rng.permutation(GENES)], labels),
    }[fault]()


@pytest.mark.parametrize(
    ("fault", "density", "connectivity", "correlation", "z"),
    [
        ("oracle", (0.93, 1.07), (0.9, 1), (0.85, 1), (10, 99)),
        ("memoriser", (0.999, 1.001), (0.999, 1), (0.999, 1), (10, 99)),
        ("shifted", (0.93, 1.07), (0.9, 1), (0.85, 1), (10, 99)),  # correlations do not see it
        ("collapsed", (0.93, 1.07), (0.9, 1), (0.85, 1), (10, 99)),  # nor this
        ("too much noise", (0, 0.4), (0.4, 1), (0.2, 1), (3, 99)),
        ("genes independent", (-0.1, 0.1), (-0.5, 0.5), (-0.3, 0.3), (-2, 2)),
        ("gene-permuted", (-0.1, 0.4), (-0.5, 0.5), (-0.3, 0.3), (-2, 2)),
    ],
)
def test_faults_and_what_catches_them(modules, fault, density, connectivity, correlation, z):
    found = summarise(preservation(modules, *faulty(fault)))
    limits = {
        "module_density": density,
        "module_connectivity": connectivity,
        "module_correlation": correlation,
        "module_z": z,
    }
    for name, (low, high) in limits.items():
        assert low <= found[name] <= high + 1e-9, name


def test_random_genes_in_a_modules_place_give_z_its_null(modules):
    values, labels = draw(4)
    rng = np.random.default_rng(5)
    z = [preservation(modules, values[:, rng.permutation(GENES)], labels)["module_z"].to_numpy() for _ in range(30)]
    # three kinds of Z with one null mean; their average has a deviation below 1
    assert np.mean(z) == pytest.approx(0, abs=0.25)
    assert 0.4 < np.std(z) < 1.3


def test_density_and_connectivity_are_what_they_are_called(modules):
    values, labels = draw(6)
    row = preservation(modules, values, labels, permutations=0).iloc[0]
    genes = modules.genes[modules.members[0]]
    now, before = (within_correlation(part[:, genes], labels) for part in (values, draw(0)[0]))
    upper = np.triu_indices(len(genes), 1)
    assert row["module_density"] == pytest.approx(now[upper].mean() / before[upper].mean())
    assert row["module_correlation"] == pytest.approx(np.corrcoef(now[upper], before[upper])[0, 1])
    assert row["module_connectivity"] == pytest.approx(np.corrcoef(now.sum(axis=0), before.sum(axis=0))[0, 1])
    assert np.isnan(row["module_z"])


def test_what_cannot_be_done_is_named(modules):
    values, labels = draw(7)
    with pytest.raises(ValueError, match="no module of 10 genes"):
        Modules.fit(np.random.default_rng(0).normal(size=(200, 50)), np.repeat(["a", "b"], 100))
    with pytest.raises(ValueError, match="the profiles have 50 genes"):
        preservation(modules, values[:, :50], labels)
    with pytest.raises(ValueError, match="within a class nothing varies"):
        within_correlation(values[:3], np.array(["a", "b", "c"]))
