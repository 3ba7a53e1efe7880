import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score

from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.metrics.regression import reconstruction_quality


def test_quality_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(30, 7)) * [1, 2, 3, 4, 5, 6, 7]
    rebuilt = real + rng.normal(size=real.shape)
    scaler = GeneScaler.fit(rng.normal(size=(100, 7)) * 2)
    found = reconstruction_quality(real, rebuilt, scaler)
    r2 = r2_score(real, rebuilt, multioutput="raw_values")
    assert found["r2_mean"] == pytest.approx(r2.mean())
    assert found["r2_median"] == pytest.approx(np.median(r2))
    assert found["mae"] == pytest.approx(mean_absolute_error(real, rebuilt))
    assert found["mae_standardised"] == pytest.approx(mean_absolute_error(real / scaler.scale, rebuilt / scaler.scale))


def test_genes_that_do_not_vary_have_no_r2():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(20, 2))
    real[:, 1] = 3.0
    scaler = GeneScaler.fit(real)
    assert reconstruction_quality(real, real, scaler)["r2_mean"] == 1.0
    with pytest.raises(ValueError, match="none of 1 target genes varies"):
        reconstruction_quality(real[:, 1:], real[:, 1:], GeneScaler.fit(real[:, 1:]))
