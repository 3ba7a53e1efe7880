"""A small cohort whose genes follow a few factors; the tests of this room share it."""

import numpy as np
import pandas as pd

from transcriptome_diffusion.expression.profiles import make_profiles


def cohort(n, genes=60, seed=0, landmarks=20, tissues=("liver",)):
    """Genes driven by a few factors, with noise; every third gene is a landmark until there are enough."""
    loadings = np.random.default_rng(99).normal(size=(8, genes))
    rng = np.random.default_rng(seed)
    values = 6 + rng.normal(size=(n, 8)) @ loadings + rng.normal(size=(n, genes)) * np.linspace(0.2, 3, genes)
    names = [f"g{i}" for i in range(genes)]
    is_landmark = np.zeros(genes, dtype=bool)
    is_landmark[np.arange(0, genes, 3)[:landmarks]] = True
    var = pd.DataFrame({"symbol": names, "is_landmark": is_landmark}, index=names)
    index = [f"s{seed}-{i}" for i in range(n)]
    obs = pd.DataFrame({"tissue": [tissues[i % len(tissues)] for i in range(n)], "donor": index}, index=index)
    return make_profiles(values, obs, var, "log2(FPKM + 1)", generator={"name": "real", "seed": seed})


def panel(profiles):
    """The landmarks, in an order of their own."""
    names = profiles.var_names[profiles.var["is_landmark"]][::-1]
    return profiles[:, names].copy()


def fitted(model, train, options, validation=None):
    """``model`` on ``train``; other donors of the same population are held out."""
    if validation is None:
        validation = cohort(20, genes=train.n_vars, seed=77, landmarks=int(train.var["is_landmark"].sum()))
    return model.fit(panel(train), train, panel(validation), validation, options)
