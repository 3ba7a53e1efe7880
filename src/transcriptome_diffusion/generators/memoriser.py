"""The memoriser: copies of training profiles, a reference that shows which metrics do not detect copying."""

from __future__ import annotations

from collections.abc import Sequence

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.generators.base import Conditions
from transcriptome_diffusion.generators.classes import Classes


def memorise(train: ad.AnnData, labels: pd.DataFrame, conditions: Sequence[str], seed: int) -> ad.AnnData:
    """A training profile with the same conditions for each row of ``labels``, drawn with replacement.

    Returns:
        (len(labels), n_genes), in the unit of ``train``; ``uns["generator"]`` names the memoriser.

    Raises:
        ValueError: if a label, or a combination of labels, has no training profile.
    """
    known = Conditions.of(train.obs, conditions)
    classes, order = Classes.sort(known.strata(known.to_codes(train.obs)))
    index = classes.find(known.to_codes(labels), known)
    picked = classes.pick(index, np.random.default_rng(seed))
    obs = labels[list(known.names)].astype(str)
    obs.index = pd.Index([f"memoriser-{i}" for i in range(len(obs))], name="sample")
    return make_profiles(
        dense(train)[order[picked]],
        obs,
        train.var,
        str(train.uns["unit"]),
        generator={"name": "memoriser", "seed": seed, "settings": {"conditions": list(known.names)}},
    )
