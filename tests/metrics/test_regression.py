import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.metrics import regression
from transcriptome_diffusion.metrics.regression import by_gene, summarise


def gene_table(n):
    names = [str(100 + i) for i in range(n)]
    return pd.DataFrame({"symbol": [f"S{i}" for i in range(n)], "entrez_id": names, "is_landmark": False}, index=names)


def profiles(genes=7):
    rng = np.random.default_rng(0)
    real = 5 + rng.normal(size=(30, genes)) * np.arange(1, genes + 1)
    scaler = GeneScaler.fit(rng.normal(size=(100, genes)) * 2)
    return real.astype(np.float32), (real + rng.normal(size=real.shape)).astype(np.float32), scaler


def test_every_gene_agrees_with_scikit_learn_and_scipy(monkeypatch):
    monkeypatch.setattr(regression, "BLOCK", 3)
    real, rebuilt, scaler = profiles()
    table = by_gene(real, rebuilt, scaler, gene_table(7))
    raw = {"multioutput": "raw_values"}
    np.testing.assert_allclose(table["r2"], r2_score(real, rebuilt, **raw), rtol=1e-5)
    np.testing.assert_allclose(table["mae"], mean_absolute_error(real, rebuilt, **raw), rtol=1e-5)
    np.testing.assert_allclose(table["rmse"], root_mean_squared_error(real, rebuilt, **raw), rtol=1e-5)
    np.testing.assert_allclose(table["pearson"], pearsonr(real, rebuilt).statistic, rtol=1e-5)
    np.testing.assert_allclose(table["mae_standardised"], table["mae"] / scaler.scale)
    np.testing.assert_allclose(table["mean"], real.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(table["sd"], real.std(axis=0), rtol=1e-5)
    assert table["symbol"].tolist() == [f"S{i}" for i in range(7)]
    assert table.index.tolist() == table["entrez_id"].tolist()
    assert (table["note"] == "").all()


def test_the_summary_is_that_of_all_values_together():
    real, rebuilt, scaler = profiles()
    found = summarise(by_gene(real, rebuilt, scaler, gene_table(7)))
    r2 = r2_score(real, rebuilt, multioutput="raw_values")
    assert found["r2_mean"] == pytest.approx(r2.mean())
    assert found["r2_median"] == pytest.approx(np.median(r2))
    assert [found["r2_q05"], found["r2_q95"]] == pytest.approx(np.quantile(r2, [0.05, 0.95]))
    assert found["mae"] == pytest.approx(mean_absolute_error(real, rebuilt))
    assert found["rmse"] == pytest.approx(np.sqrt(np.square(real - rebuilt).mean()))
    assert found["mae_standardised"] == pytest.approx(mean_absolute_error(real / scaler.scale, rebuilt / scaler.scale))
    assert found["pearson_median"] == pytest.approx(np.median(pearsonr(real, rebuilt).statistic), rel=1e-5)


def test_a_gene_that_does_not_vary_has_no_r2_and_a_reason_but_its_error_counts():
    real, rebuilt, scaler = profiles(2)
    real[:, 1], rebuilt[:, 1] = 0.1, 0.3
    table = by_gene(real, rebuilt, scaler, gene_table(2))
    assert table["note"].tolist() == ["", "constant among the real profiles"]
    assert table.loc["101", ["r2", "pearson"]].isna().all()
    assert table.at["101", "mae"] == pytest.approx(0.2)
    assert table.at["101", "sd"] == 0
    found = summarise(table)
    assert found["r2_mean"] == pytest.approx(table.at["100", "r2"])
    assert found["genes_left_out"] == 1
    with pytest.raises(ValueError, match="none of 1 target genes varies"):
        summarise(table.iloc[1:])


def test_a_gene_rebuilt_as_its_mean_explains_nothing():
    real, rebuilt, scaler = profiles(2)
    rebuilt[:, 0] = real[:, 0].mean()
    table = by_gene(real, rebuilt, scaler, gene_table(2))
    assert table.at["100", "r2"] == pytest.approx(0, abs=1e-6)
    assert table.at["100", "pearson"] == 0


def test_shapes_and_values_have_to_fit():
    real, rebuilt, scaler = profiles(3)
    with pytest.raises(ValueError, match=r"found \(30, 3\) and \(29, 3\)"):
        by_gene(real, rebuilt[1:], scaler, gene_table(3))
    with pytest.raises(ValueError, match="for 2 genes"):
        by_gene(real, rebuilt, scaler, gene_table(2))
    rebuilt[4, 2] = np.nan
    with pytest.raises(ValueError, match=r"1 genes hold NaN.*'102'"):
        by_gene(real, rebuilt, scaler, gene_table(3))
