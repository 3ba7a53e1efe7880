import numpy as np
import pytest
from threadpoolctl import threadpool_info

from transcriptome_diffusion.metrics import threads
from transcriptome_diffusion.metrics.profile_set import ProfileSet


@threads.one_thread_if_small
def blas_threads(*_, **__):
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_small_arrays_get_one_thread_and_large_ones_all(monkeypatch):
    monkeypatch.setattr(threads, "SMALL", 100)
    before = blas_threads(np.zeros(101))
    if before == {1}:
        pytest.skip("one core")
    assert blas_threads(np.zeros(100), 3) == {1}
    assert blas_threads(profiles=ProfileSet(np.zeros((101, 1)), np.zeros(101))) == before
    assert blas_threads(np.zeros(101)) == before
