import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from transcriptome_diffusion.expression.covariance import ledoit_wolf


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (5, 5)])
def test_the_shrinkage_is_that_of_scikit_learn(shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape) @ rng.normal(size=(shape[1], shape[1]))
    x -= x.mean(axis=0)
    reference = LedoitWolf(assume_centered=True).fit(x)
    shrinkage, variance = ledoit_wolf(x)
    assert shrinkage == pytest.approx(reference.shrinkage_)
    assert variance == pytest.approx(np.trace(reference.covariance_) / shape[1])


def test_a_single_profile_leaves_only_the_target():
    assert ledoit_wolf(np.zeros((1, 4))) == (1.0, 0.0)
