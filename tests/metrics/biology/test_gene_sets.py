from __future__ import annotations

import logging

import numpy as np
import pytest
import scipy.stats

from transcriptome_diffusion.metrics.biology import summarise
from transcriptome_diffusion.metrics.biology.gene_sets import (
    gene_set_agreement,
    match_gene_sets,
    read_gmt,
    score_gene_sets,
)

GENES = [f"G{i}" for i in range(120)]


def test_a_gmt_file_is_read(tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text("\ufeffHYPOXIA\thttp://x\tG1\tG2\tG1\t\n\nUNFOLDED\t\tG3\n", encoding="utf-8")
    assert read_gmt(path) == {"HYPOXIA": ("G1", "G2"), "UNFOLDED": ("G3",)}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"HYPOXIA G1 G2\n", "line 1: expected a name, a description and genes separated by tabs"),
        (b"A\td\tG1\nB\td\n", "line 2"),
        (b"A\td\tG1\nA\td\tG2\n", "'A' stands there twice"),
        (b"\n", "holds no gene set"),
        (b"\x1f\x8b\x08\xff", "no UTF-8 text"),
    ],
)
def test_a_broken_gmt_file_is_refused_and_the_place_is_named(tmp_path, text, named):
    path = tmp_path / "sets.gmt"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=named):
        read_gmt(path)


def test_a_missing_gmt_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.gmt; expected a GMT file"):
        read_gmt(tmp_path / "nowhere.gmt")


def test_sets_are_matched_by_name_and_small_ones_are_left_out_with_a_word(caplog):
    sets = {"kept": tuple(GENES[5:20]), "small": ("G1", "G2"), "foreign": tuple(f"X{i}" for i in range(30))}
    with caplog.at_level(logging.INFO):
        found = match_gene_sets(sets, [*GENES, "G7"])
    assert list(found) == ["kept"]
    assert found["kept"].tolist() == list(range(5, 20))
    assert "1 of 3 gene sets" in caplog.text
    with pytest.raises(ValueError, match=r"'foreign' begins with \['X0', 'X1', 'X2'\], the cohort's genes with"):
        match_gene_sets({"foreign": sets["foreign"]}, GENES)


def test_the_score_has_variance_one_for_independent_genes_and_grows_with_their_correlation():
    rng = np.random.default_rng(0)
    sets = {"s": np.arange(25)}
    assert score_gene_sets(rng.normal(size=(20_000, 30)), sets).var() == pytest.approx(1, rel=0.05)
    together = np.sqrt(0.5) * (rng.normal(size=(20_000, 1)) + rng.normal(size=(20_000, 30)))
    assert score_gene_sets(together, sets).var() == pytest.approx(1 + 24 * 0.5, rel=0.05)  # sum of all covariances


# ------------------------------------------------------------------------------------------- agreement
SETS = {f"set {i}": np.arange(20 * i, 20 * i + 20) for i in range(6)}


def draw(seed, n=400):
    population = np.random.default_rng(7)
    means = np.repeat(population.normal(0, 0.5, (5, 6)), 20, axis=1)
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % 5
    activity = np.repeat(rng.normal(0, 0.7, (n, 6)), 20, axis=1)
    return means[codes] + activity + rng.normal(0, 0.7, (n, 120)), np.array([f"tissue {c}" for c in codes])


def compared(reference, candidate):
    scores = [score_gene_sets(values, SETS) for values, _ in (reference, candidate)]
    return gene_set_agreement(scores[0], reference[1], scores[1], candidate[1], list(SETS))


def faulty(fault):
    values, labels = draw(2)
    rng = np.random.default_rng(3)
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def by_class(change):
        for rows in classes:
            values[rows] = change(values[rows])
        return values, labels

    return {
        "oracle": lambda: (values, labels),
        "memoriser": lambda: draw(1),
        "shifted": lambda: (values + 1, labels),
        "collapsed": lambda: by_class(lambda x: x.mean(axis=0) + 0.5 * (x - x.mean(axis=0))),
        "genes independent": lambda: by_class(lambda x: rng.permuted(x, axis=0)),
        "shuffled labels": lambda: (values, rng.permutation(labels)),
        "gene-permuted": lambda: (values[:, rng.permutation(120)], labels),
    }[fault]()


@pytest.mark.parametrize(
    ("fault", "means", "spread", "distance"),
    [
        ("oracle", (0.97, 1), (0.85, 1.15), (0.05, 0.25)),
        ("memoriser", (1, 1), (1, 1), (0, 0)),
        ("shifted", (0.97, 1), (0.85, 1.15), (1, 99)),
        ("collapsed", (0.97, 1), (0.2, 0.3), (0.3, 0.6)),
        ("genes independent", (0.97, 1), (0, 0.2), (0.4, 99)),
        ("shuffled labels", (-0.7, 0.7), (1.2, 99), (0.4, 99)),
        ("gene-permuted", (-0.8, 0.8), (0, 0.6), (0.4, 99)),
    ],
)
def test_faults_and_what_catches_them(fault, means, spread, distance):
    found = summarise(compared(draw(1), faulty(fault)))
    limits = {"gene_set_means": means, "gene_set_spread": spread, "gene_set_distance": distance}
    for name, (low, high) in limits.items():
        assert low - 1e-9 <= found[name] <= high + 1e-9, name


def test_the_distance_is_scipys_also_for_unequal_sizes():
    a, b = draw(4, n=35), draw(5, n=60)
    table = compared(a, b).set_index("gene_set")
    for i, name in enumerate(SETS):
        x, y = (score_gene_sets(values, SETS)[:, i] for values, _ in (a, b))
        parts = [(x[a[1] == label], y[b[1] == label]) for label in np.unique(a[1])]
        within = np.average([u.var(ddof=1) for u, _ in parts], weights=[len(u) - 1 for u, _ in parts])
        expected = np.mean([scipy.stats.wasserstein_distance(u, v) for u, v in parts]) / np.sqrt(within)
        assert table.at[name, "gene_set_distance"] == pytest.approx(expected, rel=1e-9)


def test_numbers_without_a_meaning_are_missing_and_say_why():
    values, labels = draw(6)
    values[:, :20] = 1.0
    table = compared((values, labels), draw(7))
    assert table.loc[0, ["gene_set_spread", "gene_set_distance"]].isna().all()
    assert table.loc[0, "note"] == "constant within classes"
    two = np.isin(labels, ["tissue 0", "tissue 1"])
    table = compared((values[two], labels[two]), draw(7))
    assert table["gene_set_means"].isna().all()
    assert table["note"].str.contains("only 2 classes").all()
    with pytest.raises(ValueError, match="no class has 3 profiles"):
        compared((values[:10], labels[:10]), draw(7))
