import numpy as np

from transcriptome_diffusion.expression import scaling
from transcriptome_diffusion.expression.scaling import GeneScaler


def test_training_profiles_get_mean_zero_and_deviation_one_and_back_again(monkeypatch):
    monkeypatch.setattr(scaling, "BLOCK", 2)
    values = np.random.default_rng(0).normal(8, [0.1, 1, 5], size=(50, 3)).astype(np.float32)
    scaler = GeneScaler.fit(values)
    standardised = scaler(values)
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(standardised.std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(scaler.undo(standardised), values, rtol=1e-5)


def test_a_gene_that_never_varies_is_centred_in_its_own_unit():
    scaler = GeneScaler.fit(np.full((7, 1), 0.1))
    np.testing.assert_allclose(scaler(np.array([[0.1], [2.1]])), [[0], [2]], atol=1e-6)
