"""Counts for generated profiles, on a population of which fresh draws are the perfect generator."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import transcriptome_diffusion as td
from transcriptome_diffusion.cli import cli
from transcriptome_diffusion.counts import CountModel
from transcriptome_diffusion.expression.normalise import log2_of_counts
from transcriptome_diffusion.expression.profiles import make_profiles

GENES, N = 300, 400
POPULATION = np.random.default_rng(1)
#: counts per million from far below one read to thousands
CENTRES = np.exp(POPULATION.normal(0, 1, (2, GENES)) * 0.3 + np.linspace(-2, 8, GENES))
CENTRES *= 1e6 / CENTRES.sum(axis=1, keepdims=True)


def draw(seed, n=N):
    """Log-normal expression with a dispersion of .15, Poisson counts of libraries around 300,000 reads."""
    rng = np.random.default_rng(seed)
    classes = np.arange(n) % 2
    share = CENTRES[classes] / 1e6 * np.exp(rng.normal(0, 0.37, (n, GENES)) - 0.37**2 / 2)
    counts = rng.poisson(share * 3e5 * np.exp(rng.normal(0, 0.4, (n, 1))))
    obs = pd.DataFrame({"tissue": np.array(["liver", "brain"])[classes]}, index=[f"{seed}-{i}" for i in range(n)])
    genes = [f"G{i}" for i in range(GENES)]
    var = pd.DataFrame({"symbol": genes, "entrez_id": "", "ensembl_id": "", "is_landmark": True}, index=genes)
    return log2_of_counts(make_profiles(counts, obs, var, "counts"), "cpm")


@pytest.fixture(scope="module")
def train():
    return draw(0)


@pytest.fixture(scope="module")
def held_out():
    return draw(1).layers["counts"]


@pytest.fixture(scope="module")
def drawn(train):
    fresh = draw(2)
    return CountModel.fit(train).draw(fresh, seed=5)


def per_million(counts, libraries):
    return counts / np.asarray(libraries)[:, None] * 1e6


def test_counts_are_whole_numbers_in_a_declared_unit(drawn):
    assert drawn.uns["unit"] == "counts"
    assert (np.rint(drawn.X) == drawn.X).all()
    assert (drawn.X >= 0).all()


def test_library_sizes_are_those_of_training_and_counts_add_up_to_them(train, drawn):
    assert set(drawn.obs["library_size"]) <= set(train.obs["library_size"])
    ratio = drawn.X.sum(axis=1) / drawn.obs["library_size"]
    assert abs(ratio.mean() - 1) < 0.02


def test_zeros_of_every_gene_are_those_of_held_out_samples(held_out, drawn):
    zeros, expected = (drawn.X == 0).mean(axis=0), (held_out == 0).mean(axis=0)
    assert expected.max() > 0.2 > 0.01 > expected.min()  # genes of every kind
    assert np.abs(zeros - expected).max() < 5 * np.sqrt(0.25 / N * 2)
    assert np.corrcoef(zeros, expected)[0, 1] > 0.97


def test_variance_is_that_of_held_out_samples_and_counting_noise_is_not_added_twice(train, held_out, drawn):
    libraries = held_out.sum(axis=1)
    rows = drawn.obs["tissue"].to_numpy() == "liver"
    real = per_million(held_out, libraries)[::2].var(axis=0)
    ours = per_million(drawn.X, drawn.obs["library_size"])[rows].var(axis=0)
    faint = np.arange(GENES) < GENES // 3  # where counting noise is most of the variance
    ratio = np.median(ours[faint] / real[faint])
    assert abs(ratio - 1) < 0.1
    assert abs(np.median(ours[~faint] / real[~faint]) - 1) < 0.1
    # without the shrinkage
    model = CountModel.fit(train)
    naive = CountModel(model.genes, model.means, np.ones(GENES), model.libraries, model.conditions)
    twice = naive.draw(draw(2), seed=5)
    theirs = per_million(twice.X, twice.obs["library_size"])[rows].var(axis=0)
    assert np.median(theirs[faint] / real[faint]) > 1.3


def test_the_same_seed_gives_the_same_counts(train, drawn):
    model = CountModel.fit(train)
    np.testing.assert_array_equal(model.draw(draw(2), seed=5).X, drawn.X)
    assert (model.draw(draw(2), seed=6).X != drawn.X).any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.layers.clear(), r"no layers\['counts'\]"),
        (lambda p: p.uns.__setitem__("unit", "log2(TPM + 1)"), r"around log2\(CPM \+ 1\)"),
    ],
)
def test_what_has_no_counts_is_refused(change, said):
    data = draw(0, 20)
    change(data)
    with pytest.raises(ValueError, match=said):
        CountModel.fit(data)


def test_profiles_that_do_not_fit_are_refused(train):
    model, other = CountModel.fit(train), draw(3, 10)
    other.obs["tissue"] = "skin"
    with pytest.raises(ValueError, match=r"no training sample is of \['skin'\]; there are \['brain', 'liver'\]"):
        model.draw(other, 0)
    other = draw(3, 10)
    other.var_names = [f"{name}.1" for name in other.var_names]
    with pytest.raises(ValueError, match=r"300 genes have no training counts, for instance G0\.1"):
        model.draw(other, 0)


def test_some_of_the_genes_are_counted_in_libraries_of_all(train):
    some = CountModel.fit(train).draw(draw(2)[:, 250:].copy(), seed=5)
    expected = draw(1).layers["counts"][:, 250:]
    np.testing.assert_allclose(some.X.mean(axis=0), expected.mean(axis=0), rtol=0.15)
    assert set(some.obs["library_size"]) <= set(train.obs["library_size"])


def test_the_command_line_draws_counts(train, tmp_path):
    train.obs["donor"] = train.obs_names
    train.write_h5ad(tmp_path / "train.h5ad")
    td.fit("class_gaussian", train, draw(1, 50)).save(tmp_path / "model" / "run_1")
    out = tmp_path / "counts.h5ad"
    arguments = ["generate", "--model", str(tmp_path / "model"), "--total", "50", "--scale", "counts"]
    run = CliRunner().invoke(cli, [*arguments, "--counts-of", str(tmp_path / "train.h5ad"), "--out", str(out)])
    assert run.exit_code == 0, run.output
    found = ad.read_h5ad(out)
    assert found.uns["unit"] == "counts"
    assert (np.rint(found.X) == found.X).all()
    assert set(found.obs["library_size"]) <= set(train.obs["library_size"])
    run = CliRunner().invoke(cli, [*arguments, "--out", str(out)])
    assert run.exit_code != 0
    assert "--counts-of" in run.output
