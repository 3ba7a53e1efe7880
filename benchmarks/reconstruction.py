"""Ridge with its penalty search and least squares, beside scikit-learn's.

Profiles are simulated: 978 landmarks, all genes driven by 200 factors. scikit-learn gets the standardised arrays for
nothing; ours starts from the log unit and standardises. Residual noise is learnt from next to no profiles, for
scikit-learn has none. `RidgeCV` takes the same candidates and finds the same penalties (a test compares them).
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from benchmarks.measure import Row, measure

LANDMARKS, FACTORS, TISSUES = 978, 200, 26
#: training profiles and targets: a small cohort, where landmarks outnumber profiles, and a larger one
SIZES = ((600, 8000), (2500, 4000))


def simulate(profiles: int, targets: int, seed: int) -> tuple[ad.AnnData, ad.AnnData]:
    """Landmarks and whole transcriptomes of ``profiles`` donors."""
    from transcriptome_diffusion.expression.profiles import make_profiles

    genes = LANDMARKS + targets
    loadings = np.random.default_rng(0).normal(size=(FACTORS, genes)).astype(np.float32)
    rng = np.random.default_rng([1, seed])
    values = rng.normal(size=(profiles, FACTORS)).astype(np.float32) @ loadings / np.float32(FACTORS**0.5)
    values += rng.standard_normal(values.shape, dtype=np.float32)
    names = [f"g{i}" for i in range(genes)]
    index = [f"s{seed}-{i}" for i in range(profiles)]
    obs = pd.DataFrame({"tissue": [f"t{i % TISSUES}" for i in range(profiles)], "donor": index}, index=index)
    whole = make_profiles(values + 5, obs, pd.DataFrame({"symbol": names}, index=names), "log2(FPKM + 1)")
    return whole[:, :LANDMARKS].copy(), whole


def rows(device: str) -> list[Row]:
    from sklearn.linear_model import LinearRegression, RidgeCV

    from transcriptome_diffusion.reconstruction import fit_reconstructor
    from transcriptome_diffusion.reconstruction.options import RidgeOptions

    found = []
    few = {"residuals": {"profiles": 30}}
    for profiles, targets in SIZES:
        pairs = (*simulate(profiles, targets, 0), *simulate(100, targets, 1))
        x, y = pairs[0].X, pairs[1].X[:, LANDMARKS:]
        x, y = ((part - part.mean(axis=0)) / part.std(axis=0) for part in (x, y))
        penalties = [p * float(np.square(x).sum() / min(profiles - 1, LANDMARKS)) for p in RidgeOptions().penalties]
        calls = {
            "ridge, one penalty": lambda pairs=pairs: fit_reconstructor("ridge", *pairs, few),
            "RidgeCV": lambda x=x, y=y, p=penalties: RidgeCV(alphas=p).fit(x, y),
            "ridge, a penalty per target": lambda pairs=pairs: fit_reconstructor(
                "ridge", *pairs, {**few, "penalty_per": "target"}
            ),
            "RidgeCV(alpha_per_target=True)": lambda x=x, y=y, p=penalties: RidgeCV(
                alphas=p, alpha_per_target=True
            ).fit(x, y),
            "least squares": lambda pairs=pairs: fit_reconstructor("ols", *pairs, few),
            "LinearRegression": lambda x=x, y=y: LinearRegression().fit(x, y),
        }
        costs = measure(calls, 1)
        for ours, rival in zip(*[iter(calls)] * 2, strict=True):
            name = f"{ours}, {profiles:,} x {LANDMARKS} to {targets:,} targets"
            found.append(Row(name, costs[ours], f"`{rival}`", costs[rival]))
    return found
