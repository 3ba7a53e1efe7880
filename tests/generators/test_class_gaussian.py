import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import LedoitWolf

from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.options import ClassGaussianOptions


def cohort(sizes, seed=0, genes=15):
    """Tissues with means of their own and covariances of their own, from random factors."""
    values, tissues = [], []
    for i, (tissue, n) in enumerate(sizes.items()):
        structure = np.random.default_rng(100 + i)
        factors = structure.normal(size=(3, genes))
        rng = np.random.default_rng([seed, i])
        noise = rng.normal(size=(n, 3)) @ factors + 0.5 * rng.normal(size=(n, genes))
        values.append(5 + 2 * structure.normal(size=genes) + noise)
        tissues += [tissue] * n
    obs = pd.DataFrame({"tissue": tissues}, index=[f"s{seed}-{i}" for i in range(len(tissues))])
    names = [f"g{i}" for i in range(genes)]
    order = np.random.default_rng(seed).permutation(len(obs))
    return make_profiles(np.concatenate(values)[order], obs.iloc[order], pd.DataFrame(index=names), "log2(FPKM + 1)")


def labels(tissue, n):
    return pd.DataFrame({"tissue": [tissue] * n}, index=range(n))


@pytest.mark.parametrize("size", [12, 300], ids=["fewer profiles than genes", "more"])
def test_samples_have_the_class_means_and_the_ledoit_wolf_covariance_of_scikit_learn(size):
    train = cohort({"liver": size, "lung": 40})
    model = ClassGaussian.fit(train, train, ClassGaussianOptions(marginal_map=False))
    drawn = model.sample(labels("liver", 60_000), seed=1).X.astype(np.float64)

    liver = train[train.obs["tissue"] == "liver"].X.astype(np.float64)
    lung = train[train.obs["tissue"] == "lung"].X.astype(np.float64)
    within = np.concatenate([x - x.mean(axis=0) for x in (liver, lung)])
    scale = within.std(axis=0)
    expected = LedoitWolf(assume_centered=True).fit((liver - liver.mean(axis=0)) / scale).covariance_
    expected *= np.outer(scale, scale)
    deviation = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(drawn.mean(axis=0), liver.mean(axis=0), atol=5 * deviation.max() / 60_000**0.5)
    # the error of a sampled correlation is below 1 / sqrt(60,000) = .004
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.025 * deviation.max() ** 2)


def test_a_small_class_takes_the_covariance_pooled_over_classes():
    train = cohort({"liver": 5, "lung": 80})
    model = ClassGaussian.fit(train, train, ClassGaussianOptions(marginal_map=False, min_samples=6))
    assert model.record["classes_with_pooled_covariance"] == 1
    drawn = model.sample(labels("liver", 40_000), seed=1).X.astype(np.float64)
    parts = [train[train.obs["tissue"] == t].X.astype(np.float64) for t in ("liver", "lung")]
    within = np.concatenate([x - x.mean(axis=0) for x in parts])
    scale = within.std(axis=0)
    expected = LedoitWolf(assume_centered=True).fit(within / scale).covariance_ * np.outer(scale, scale)
    np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.03 * np.diag(expected).max())
    np.testing.assert_allclose(drawn.mean(axis=0), parts[0].mean(axis=0), atol=0.1)
    own = ClassGaussian.fit(train, train, ClassGaussianOptions(marginal_map=False, min_samples=5))
    assert own.record["classes_with_pooled_covariance"] == 0


def test_a_gene_constant_within_its_class_stays_constant():
    train = cohort({"liver": 30, "lung": 30})
    train.X[:, 3] = np.where(train.obs["tissue"] == "liver", 0.1, 7.3)
    drawn = ClassGaussian.fit(train, train, ClassGaussianOptions(marginal_map=False)).sample(labels("lung", 50), seed=0)
    np.testing.assert_allclose(drawn.X[:, 3], 7.3, rtol=1e-6)


def test_the_batch_size_changes_nothing_but_memory():
    train = cohort({"liver": 30, "lung": 20, "skin": 4})
    model = ClassGaussian.fit(train, train, ClassGaussianOptions(marginal_map=False))
    many = pd.DataFrame({"tissue": ["lung", "liver", "skin"] * 30}, index=range(90))
    whole, parts = (model.sample(many, seed=3, batch_size=b).X for b in (1000, 7))
    np.testing.assert_allclose(whole, parts, rtol=1e-5)


def test_a_combination_of_conditions_without_training_profiles_is_refused_by_name():
    train = cohort({"liver": 30, "lung": 30})
    train.obs["study"] = np.where(train.obs["tissue"] == "liver", "GTEX", "TCGA")
    model = ClassGaussian.fit(train, train, ClassGaussianOptions(marginal_map=False, conditions=["tissue", "study"]))
    with pytest.raises(ValueError, match=r"\{'tissue': 'lung', 'study': 'GTEX'\}"):
        model.sample(pd.DataFrame({"tissue": ["lung"], "study": ["GTEX"]}), seed=0)


def test_eighteen_thousand_genes_need_no_covariance_matrix():
    train = cohort({"liver": 20, "lung": 20}, genes=18_000)
    model = ClassGaussian.fit(train, train, ClassGaussianOptions(marginal_map=False))
    assert max(tensor.size for tensor in model.state().values()) == 40 * 18_000
    assert model.sample(labels("liver", 5), seed=0).shape == (5, 18_000)
