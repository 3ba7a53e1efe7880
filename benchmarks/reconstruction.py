"""Linear reconstruction with its penalty search: ours, and scikit-learn with and without one.

Usage: python benchmarks/reconstruction.py [PROFILES] [TARGETS] [REPEATS]

The profiles are simulated: 978 landmarks, all genes driven by 200 factors. scikit-learn gets the standardised arrays
for nothing; ours starts from the log unit, standardises, searches 25 penalties by leave-one-out, and learns residual
noise from a few or from thousands of profiles. Peaks are what each call allocates beside the data.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable

import anndata as ad
import numpy as np
import pandas as pd
from _timing import in_turn, show
from sklearn.linear_model import LinearRegression, Ridge

from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.reconstruction.linear import LinearReconstructor
from transcriptome_diffusion.reconstruction.options import ReconstructionOptions, ResidualOptions

LANDMARKS, FACTORS, TISSUES = 978, 200, 26


def simulate(profiles: int, targets: int, seed: int) -> tuple[ad.AnnData, ad.AnnData]:
    """Landmarks and whole transcriptomes of ``profiles`` donors."""
    genes = LANDMARKS + targets
    # gene by gene, so that landmarks are the same whatever the number of targets
    loadings = np.random.default_rng(0).normal(size=(genes, FACTORS)).T.astype(np.float32)
    rng = np.random.default_rng([1, seed])
    values = rng.normal(size=(profiles, FACTORS)).astype(np.float32) @ loadings / np.float32(FACTORS**0.5)
    values += rng.standard_normal(values.shape, dtype=np.float32)
    names = [f"g{i}" for i in range(genes)]
    index = [f"s{seed}-{i}" for i in range(profiles)]
    obs = pd.DataFrame({"tissue": [f"t{i % TISSUES}" for i in range(profiles)], "donor": index}, index=index)
    whole = make_profiles(values + 5, obs, pd.DataFrame({"symbol": names}, index=names), "log2(FPKM + 1)")
    return whole[:, :LANDMARKS].copy(), whole


def peak(call: Callable[[], object]) -> float:
    """GB that ``call`` allocates at most."""
    tracemalloc.start()
    call()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found / 1e9


def main(profiles: int = 4000, targets: int = 17_000, repeats: int = 1) -> None:
    train, validation = simulate(profiles, targets, 0), simulate(500, targets, 1)
    x, y = train[0].X, train[1].X[:, LANDMARKS:]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    few = ReconstructionOptions(residuals=ResidualOptions(profiles_per_label=2))  # next to nothing
    calls = {
        "ours: ridge, 25 penalties": lambda: LinearReconstructor.fit(*train, *validation, few),
        "ours: the same, and residual noise": lambda: LinearReconstructor.fit(
            *train, *validation, ReconstructionOptions()
        ),
        "Ridge(solver='cholesky'), float32, 1 penalty": lambda: Ridge(solver="cholesky").fit(x, y),
        "LinearRegression, float32": lambda: LinearRegression().fit(x, y),
        "LinearRegression, float64": lambda: LinearRegression().fit(x.astype(float), y.astype(float)),
    }
    print(f"{profiles} x {LANDMARKS} -> {targets}; the data take {(x.nbytes + y.nbytes) / 1e9:.2f} GB")
    show(in_turn(calls, repeats))
    for name, call in calls.items():
        print(f"{name:<44} {peak(call):9.2f} GB beside the data")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
