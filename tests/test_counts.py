"""Counts for generated profiles, on a population of known dispersions; fresh draws of it are the perfect generator."""

from __future__ import annotations

import json
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import polars as pl
import pytest
from click.testing import CliRunner
from scipy import stats

import transcriptome_diffusion as td
from transcriptome_diffusion import generation
from transcriptome_diffusion.cli import cli
from transcriptome_diffusion.counts import CountModel, dispersion_trend
from transcriptome_diffusion.expression.normalise import log2_of_counts, scale_by_train
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.expression.units import to_linear

GENES, N, READS = 300, 400, 3e5
TISSUES = np.array(["brain", "liver"])
POPULATION = np.random.default_rng(1)
#: counts per million from far below one read to thousands; half of the genes are the same in both tissues
CENTRES = np.exp(POPULATION.normal(0, 1, (2, GENES)) * 0.3 + np.linspace(-2, 8, GENES))
CENTRES[1, ::2] = CENTRES[0, ::2]
CENTRES *= 1e6 / CENTRES.sum(axis=1, keepdims=True)
#: around a trend, and in the liver twice those of the brain for every third gene
TREND = 1e6 / (CENTRES.mean(axis=0) * READS) + 0.1
DISPERSIONS = np.tile(TREND * np.exp(POPULATION.normal(0, 0.4, GENES)), (2, 1))
DISPERSIONS[1, ::3] *= 2


def draw(seed, n=N, reads=READS, tissues=None):
    """Negative binomial counts of libraries around ``reads``; the tissues take turns."""
    rng = np.random.default_rng(seed)
    classes = np.arange(n) % 2 if tissues is None else np.searchsorted(TISSUES, tissues)
    depths = np.exp(rng.normal(0, 0.4, (len(classes), 1))) * reads / 1e6
    size = 1 / DISPERSIONS[classes]
    counts = rng.poisson(rng.gamma(size) / size * CENTRES[classes] * depths)
    obs = pd.DataFrame({"tissue": TISSUES[classes]}, index=[f"{seed}-{i}" for i in range(len(classes))])
    genes = [f"G{i}" for i in range(GENES)]
    var = pd.DataFrame({"symbol": genes, "entrez_id": "", "ensembl_id": "", "is_landmark": True}, index=genes)
    return log2_of_counts(make_profiles(counts, obs, var, "counts"), "cpm")


@pytest.fixture(scope="module")
def train():
    return draw(0)


@pytest.fixture(scope="module")
def model(train):
    return CountModel.fit(train)


@pytest.fixture(scope="module")
def held_out():
    return draw(1)


@pytest.fixture(scope="module")
def drawn(model):
    return model.draw(draw(2), seed=5)


def per_million(counts, libraries):
    return counts / np.asarray(libraries)[:, None] * 1e6


# --------------------------------------------------------------------------------------------- what is fitted
def test_dispersions_are_found_and_shrinkage_brings_them_nearer(train):
    few = train[:24].copy()
    errors = {}
    known = CENTRES.min(axis=0) * READS / 1e6 > 1
    for name, model in (("few", CountModel.fit(few)), ("many", CountModel.fit(train))):
        errors[name] = np.log(model.dispersions / DISPERSIONS)[:, known]
    libraries = few.obs["library_size"]
    groups = pd.DataFrame(per_million(few.layers["counts"], libraries)).groupby(few.obs["tissue"].to_numpy())
    moments = (groups.var() - groups.mean() * 1e6 * (1 / libraries).mean()) / groups.mean() ** 2
    raw = np.log(np.clip(moments.to_numpy(), 1e-3, 30) / DISPERSIONS)[:, known]
    assert np.sqrt((errors["few"] ** 2).mean()) < 0.5 * np.sqrt((raw**2).mean())
    assert np.sqrt((errors["many"] ** 2).mean()) < 0.25
    assert abs(np.median(errors["many"])) < 0.05


def test_a_tissue_with_enough_samples_has_dispersions_of_its_own(model):
    strong = CENTRES.min(axis=0) * READS / 1e6 > 10
    ratio = np.log2(model.dispersions[1] / model.dispersions[0])
    twice, same = strong & (np.arange(GENES) % 3 == 0), strong & (np.arange(GENES) % 3 > 0)
    assert abs(np.median(ratio[twice]) - 1) < 0.25
    assert abs(np.median(ratio[same])) < 0.1


def test_the_trend_is_found_among_outliers():
    rng = np.random.default_rng(0)
    reads = np.geomspace(0.5, 5000, 2000)
    dispersions = (2 / reads + 0.2) * np.exp(rng.normal(0, 0.3, 2000) - 0.3**2 / 2)
    dispersions[::100] = 25
    trend = dispersion_trend(reads, dispersions)
    assert trend.a1 == pytest.approx(2, rel=0.2)
    assert trend.a0 == pytest.approx(0.2, rel=0.2)


def test_a_single_class_and_genes_without_reads_are_fitted(train):
    brain = train[train.obs["tissue"] == "brain"].copy()
    brain.layers["counts"][:, 0] = brain.X[:, 0] = 0
    model = CountModel.fit(brain)
    assert model.dispersions.shape == (1, GENES)
    assert np.isfinite(model.dispersions).all()
    assert model.draw(brain, 0).X[:, 0].sum() <= 5  # of half a read in all training samples


# ---------------------------------------------------------------------------------------------- what is drawn
def test_counts_around_one_profile_are_negative_binomial_with_the_posterior_mean_and_dispersion(train, model):
    profile = draw(7, 2)[:1].copy()
    obs = pd.DataFrame({"tissue": "brain"}, index=[f"copy-{i}" for i in range(4000)])
    copies = make_profiles(np.repeat(profile.X, 4000, axis=0), obs, profile.var, "log2(CPM + 1)")
    one = CountModel.fit(train, library_size=2 * READS)
    counts = one.draw(copies, seed=1).X.astype(float)
    like = one.samples[one.samples["class"] == "brain"]
    usual = 1 / (1 / like["depth"]).mean()
    mean, prior = one.means.loc["brain"].to_numpy(), 1 / one.dispersions[0]
    size = prior + to_linear(profile).X[0] * usual
    expected = size / (prior / mean + usual) * like["drawn_depth"].iloc[0]
    assert like["drawn_depth"].iloc[0] == pytest.approx(2 * READS / 1e6, rel=1e-5)
    variance = expected + expected**2 / size
    apart = (counts.mean(axis=0) - expected) / np.sqrt(variance / 4000)
    assert np.abs(apart).max() < 4.5
    some = expected > 1
    np.testing.assert_allclose(counts.var(axis=0)[some], variance[some], rtol=0.25)
    zeros = (1 + expected / size) ** -size
    np.testing.assert_allclose((counts == 0).mean(axis=0), zeros, atol=0.04)


def test_counts_are_whole_numbers_in_a_declared_unit(drawn):
    assert drawn.uns["unit"] == "counts"
    assert (np.rint(drawn.X) == drawn.X).all()
    assert (drawn.X >= 0).all()


def test_library_sizes_are_those_of_the_class_in_training_and_counts_add_up_to_them(train, drawn):
    for tissue in TISSUES:
        ours, theirs = (part.obs.loc[part.obs["tissue"] == tissue, "library_size"] for part in (drawn, train))
        assert set(ours) <= set(theirs)
    ratio = drawn.X.sum(axis=1) / drawn.obs["library_size"]
    assert abs(ratio.mean() - 1) < 0.02


def test_zeros_of_every_gene_are_those_of_held_out_samples(held_out, drawn):
    zeros, expected = (drawn.X == 0).mean(axis=0), (held_out.layers["counts"] == 0).mean(axis=0)
    assert expected.max() > 0.2 > 0.01 > expected.min()  # genes of every kind
    assert np.abs(zeros - expected).max() < 5 * np.sqrt(0.25 / N * 2)
    assert np.corrcoef(zeros, expected)[0, 1] > 0.98


def test_variance_is_that_of_the_population_at_every_mean_and_counting_noise_is_not_added_twice(train, drawn):
    rows = drawn.obs["tissue"].to_numpy() == "brain"
    libraries = drawn.obs["library_size"].to_numpy()[rows]
    ours = per_million(drawn.X[rows], libraries).var(axis=0)
    noise = CENTRES[0] * 1e6 * (1 / libraries).mean()
    known = noise + DISPERSIONS[0] * CENTRES[0] ** 2
    for part in np.array_split(np.argsort(CENTRES[0]), 4):  # a quarter of the genes, from faint to strong
        assert abs(np.median(ours[part] / known[part]) - 1) < 0.1
    # Poisson counts around the profiles as they are have the noise of faint genes twice
    twice = np.random.default_rng(0).poisson(to_linear(draw(2)).X[rows] * libraries[:, None] / 1e6)
    faint = np.argsort(CENTRES[0])[: GENES // 4]
    assert np.median(per_million(twice, libraries).var(axis=0)[faint] / known[faint]) > 1.4


def test_strong_genes_stay_where_the_generator_puts_them(drawn):
    profiles = draw(2)
    strong = CENTRES.min(axis=0) * READS / 1e6 > 200
    there = np.log2(per_million(drawn.X, drawn.obs["library_size"]) + 1)[:, strong]
    correlations = [np.corrcoef(a, b)[0, 1] for a, b in zip(there.T, profiles.X[:, strong].T, strict=True)]
    assert np.median(correlations) > 0.95


def test_the_same_seed_gives_the_same_counts(model, drawn):
    np.testing.assert_array_equal(model.draw(draw(2), seed=5).X, drawn.X)
    assert (model.draw(draw(2), seed=6).X != drawn.X).any()


def test_some_of_the_genes_are_counted_in_libraries_of_all(train, held_out):
    some = CountModel.fit(train[:, 250:].copy()).draw(draw(2)[:, 250:].copy(), seed=5)
    np.testing.assert_allclose(some.X.mean(axis=0), held_out.layers["counts"][:, 250:].mean(axis=0), rtol=0.15)
    assert set(some.obs["library_size"]) <= set(train.obs["library_size"])


def test_libraries_with_factors_of_normalisation_give_the_same_counts(train, held_out):
    scaled = scale_by_train({"train": train[:120].copy(), "held": held_out[:120].copy()}, "tmm")
    drawn = CountModel.fit(scaled["train"]).draw(scaled["held"], seed=1)
    strong = CENTRES.min(axis=0) * READS / 1e6 > 10
    ratio = drawn.X.mean(axis=0)[strong] / held_out.layers["counts"][:120].mean(axis=0)[strong]
    assert abs(np.median(ratio) - 1) < 0.05


@pytest.mark.parametrize("ending", ["csv", "tsv.gz", "parquet", "gct"])
def test_tables_hold_whole_numbers_however_large(model, tmp_path, ending):
    few = model.draw(draw(2, 4), 0)[:, -5:].copy()
    few.X[0] = [0, 1, 1_234_567, 7_654_321, 12]
    path = generation.write([few], tmp_path / f"counts.{ending}", few.obs)
    if ending == "gct":
        found = pd.read_csv(path, sep="\t", skiprows=2, index_col=[0, 1]).T
    elif ending == "parquet":
        found = pd.DataFrame(pl.read_parquet(path).to_dict(as_series=False)).set_index("sample")
    else:
        found = pd.read_csv(path, sep="," if ending == "csv" else "\t", index_col=0)
    if ending != "gct":
        assert found.pop("library_size").tolist() == few.obs["library_size"].tolist()
        found = found.drop(columns=["tissue", "size_factor"])
    assert (found.dtypes == np.int64).all()
    np.testing.assert_array_equal(found.to_numpy(), few.X)


@pytest.mark.parametrize("unit", ["log2(TPM + 1)", "log2(FPKM + 1)"])
def test_without_counts_the_library_size_is_stated(train, unit):
    bare, fresh = train.copy(), draw(2)
    for part in (bare, fresh):
        del part.layers["counts"]
        part.uns["unit"] = unit
    drawn = CountModel.fit(bare, library_size=READS).draw(fresh, seed=5)
    assert set(drawn.obs["library_size"]) == {READS}
    assert abs(drawn.X.sum(axis=1).mean() / READS - 1) < 0.05
    rows = drawn.obs["tissue"].to_numpy() == "brain"
    expected = CENTRES[0] * READS / 1e6
    strong = expected > 10
    variance = expected + DISPERSIONS[0] * expected**2
    assert abs(np.median(drawn.X[rows].var(axis=0)[strong] / variance[strong]) - 1) < 0.1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.layers.clear(), r"no layers\['counts'\] .* state the size: `generation.library_size`"),
        (lambda p: p.uns.__setitem__("unit", "log2(TPM + 1)"), r"around log2\(CPM \+ 1\), and these"),
        (lambda p: p.uns.__setitem__("unit", "VST"), r"in log2\(x \+ 1\); these are in VST"),
    ],
)
def test_what_has_no_counts_is_refused(change, said):
    data = draw(0, 20)
    change(data)
    with pytest.raises(ValueError, match=said):
        CountModel.fit(data)


def test_profiles_that_do_not_fit_are_refused(model):
    other = draw(3, 10)
    other.obs["tissue"] = "skin"
    with pytest.raises(ValueError, match=r"no training sample is of \['skin'\]; there are \['brain', 'liver'\]"):
        model.draw(other, 0)
    other = draw(3, 10)
    other.var_names = [f"{name}.1" for name in other.var_names]
    with pytest.raises(ValueError, match=r"300 genes have no training counts, for instance G0\.1"):
        model.draw(other, 0)
    other = draw(3, 10)
    other.uns["unit"] = "log2(TPM + 1)"
    with pytest.raises(ValueError, match=r"around log2\(CPM \+ 1\); the profiles are in log2\(TPM \+ 1\)"):
        model.draw(other, 0)


# ------------------------------------------------------------------------------------ differential expression
def differential(counts, groups):
    """DESeq2's table between two groups of samples, by pydeseq2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pydeseq2.dds import DeseqDataSet
        from pydeseq2.ds import DeseqStats

        names = [f"s{i}" for i in range(len(counts))]
        table = pd.DataFrame(counts.astype(int), index=names, columns=[f"G{i}" for i in range(counts.shape[1])])
        samples = pd.DataFrame({"group": groups}, index=names)
        data = DeseqDataSet(counts=table, metadata=samples, design="~group", quiet=True, n_cpus=1, refit_cooks=False)
        data.deseq2()
        found = DeseqStats(data, contrast=["group", *sorted(set(groups))], quiet=True, n_cpus=1, cooks_filter=False)
        found.summary()
        return found.results_df


@pytest.mark.slow
def test_deseq2_finds_in_synthetic_counts_what_it_finds_in_held_out_counts(model):
    genes = CENTRES.min(axis=0) * READS / 1e6 > 5
    tissues = TISSUES[np.arange(24) % 2]
    held_out, profiles = draw(11, tissues=tissues), draw(12, tissues=tissues)
    real = differential(held_out.layers["counts"][:, genes], tissues)
    ours = differential(model.draw(profiles, 0).X[:, genes], tissues)
    truth = np.log2(CENTRES[0] / CENTRES[1])[genes]
    agreement = np.corrcoef(real["log2FoldChange"], truth)[0, 1]  # of a fresh cohort of this size
    assert np.corrcoef(ours["log2FoldChange"], truth)[0, 1] > agreement - 0.1
    assert np.corrcoef(ours["log2FoldChange"], real["log2FoldChange"])[0, 1] > 0.5
    shares = [(table["padj"] < 0.05).mean() for table in (ours, real)]
    assert abs(shares[0] - shares[1]) < 0.1
    # two halves of one tissue: p-values are as uniform as those of measured counts
    brains = np.repeat("brain", 24)
    null = differential(model.draw(draw(13, tissues=brains), 1).X[:, genes], np.tile(["a", "b"], 12))["pvalue"]
    assert 0.02 < (null < 0.05).mean() < 0.1
    assert stats.kstest(null, "uniform").statistic < 0.15


def test_the_notebook_that_generates_profiles_runs(project):
    cells = json.loads((project / "notebooks" / "04_generate_profiles.ipynb").read_text())["cells"]
    found: dict = {}
    exec("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"), found)
    assert found["some"].obs["tissue"].value_counts().to_dict() == {"tissue_1": 50, "tissue_3": 10}
    assert set(found["counts"].obs["library_size"]) == {2_000_000}
    variance, mean = found["moments"]["variance"], found["moments"]["mean"]
    assert np.median(variance / mean) > 2  # counts are overdispersed


def test_the_command_line_draws_counts(train, tmp_path):
    train = train.copy()
    train.obs["donor"] = train.obs_names
    train.write_h5ad(tmp_path / "train.h5ad")
    td.fit("class_gaussian", train, draw(1, 50)).save(tmp_path / "model" / "run_1")
    out = tmp_path / "counts.h5ad"
    arguments = ["generate", "--model", str(tmp_path / "model"), "--total", "50", "--scale", "counts"]
    of = ["--counts-of", str(tmp_path / "train.h5ad"), "--out", str(out)]
    run = CliRunner().invoke(cli, [*arguments, *of])
    assert run.exit_code == 0, run.output
    found = ad.read_h5ad(out)
    assert found.uns["unit"] == "counts"
    assert (np.rint(found.X) == found.X).all()
    assert set(found.obs["library_size"]) <= set(train.obs["library_size"])
    run = CliRunner().invoke(cli, [*arguments, *of, "--library-size", "100000"])
    assert run.exit_code == 0, run.output
    assert set(ad.read_h5ad(out).obs["library_size"]) == {100_000}
    run = CliRunner().invoke(cli, [*arguments, "--out", str(out)])
    assert run.exit_code != 0
    assert "--counts-of" in run.output
