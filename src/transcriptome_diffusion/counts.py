"""Read counts for generated profiles: what a sequencer would have counted, with library sizes as in training.

Profiles that a generator draws vary as measured profiles do, and those contain the counting noise of sequencing.
Counts drawn around them would have it twice. So the deviation of a profile from the mean of its class is shrunken
first, by the share of the variance within classes that is not Poisson; then counts are Poisson around it. Marginally
these counts are overdispersed, as negative binomial ones are: the dispersion is the variance that the generator has
learnt, with its correlations between genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.expression.units import COUNTS, log2_unit, to_linear

#: counts are drawn around counts per million
UNIT = log2_unit("CPM")
MILLION = 1e6


@dataclass(frozen=True, eq=False)
class CountModel:
    """How counts are drawn around profiles in log2(CPM + 1).

    Attributes:
        genes: of the profiles, (n_genes,).
        means: of counts per million by class, (n_classes, n_genes), with the classes as index.
        shares: standard deviation of expression over that of measured counts per million, (n_genes,), from 0 to 1.
        libraries: reads of the training samples, (n_samples,).
        conditions: columns of ``obs`` that name the class.
    """

    genes: pd.Index
    means: pd.DataFrame
    shares: np.ndarray
    libraries: np.ndarray
    conditions: tuple[str, ...]

    @classmethod
    def fit(cls, train: ad.AnnData, conditions: Sequence[str] = ("tissue",)) -> Self:
        """Fit to training profiles.

        Args:
            train: (n, n_genes) in log2(CPM + 1), with ``layers["counts"]`` and ``obs["library_size"]``, the reads of a
                sample over all genes, as the ingestion makes them of a cohort of counts.
            conditions: columns of ``obs`` that name the class.

        Raises:
            ValueError: if counts or library sizes are missing, or the unit is another one.
        """
        if "counts" not in train.layers or "library_size" not in train.obs:
            raise ValueError(
                "counts are drawn as the training samples were counted, and these profiles have no layers['counts'] "
                "with obs['library_size']. Give the training profiles of a cohort that was read as `unit: counts`."
            )
        if train.uns.get("unit") != UNIT:
            raise ValueError(f"counts are drawn around {UNIT}; the profiles are in {train.uns.get('unit')}.")
        libraries = train.obs["library_size"].to_numpy(dtype=float)
        layer = train.layers["counts"]
        counts = np.asarray(layer.toarray() if hasattr(layer, "toarray") else layer, dtype=float)
        measured = pd.DataFrame(counts / libraries[:, None] * MILLION, columns=train.var_names)
        keys = _classes(train.obs, conditions)
        groups = measured.groupby(keys)
        weights = groups.size().to_numpy(dtype=float)[:, None] - 1
        # of counts per million that are Poisson around the mean of their class
        poisson = groups.mean().to_numpy() * MILLION * pd.Series(1 / libraries).groupby(keys).mean().to_numpy()[:, None]
        within = (weights * groups.var().fillna(0).to_numpy()).sum(axis=0)
        noise = (weights * poisson).sum(axis=0)
        shares = np.sqrt(np.clip(1 - noise / np.where(within > 0, within, np.inf), 0, 1))
        shares[within == 0] = 0
        return cls(train.var_names, groups.mean(), shares, libraries, tuple(conditions))

    def draw(self, profiles: ad.AnnData, seed: int) -> ad.AnnData:
        """Counts for profiles (n, n_genes) in log2(CPM + 1), whose genes may be some of those of the training profiles.

        Library sizes, over all genes, are those of training samples, drawn with replacement; ``obs["library_size"]``.

        Raises:
            ValueError: if a gene, the unit or a class is not that of the training profiles.
        """
        columns = self.genes.get_indexer(profiles.var_names)
        if (missing := profiles.var_names[columns < 0]).size:
            raise ValueError(f"{len(missing)} genes have no training counts, for instance {missing[0]}.")
        if profiles.uns.get("unit") != UNIT:
            raise ValueError(f"counts are drawn around {UNIT}; the profiles are in {profiles.uns.get('unit')}.")
        keys = _classes(profiles.obs, self.conditions)
        if unknown := sorted(set(keys) - set(self.means.index)):
            raise ValueError(f"no training sample is of {unknown[:5]}; there are {list(self.means.index)}.")
        rng = np.random.default_rng(seed)
        means = self.means.loc[keys].to_numpy()[:, columns]
        expected = np.maximum(means + self.shares[columns] * (dense(to_linear(profiles)) - means), 0)
        libraries = rng.choice(self.libraries, profiles.n_obs)
        counts = rng.poisson(expected * libraries[:, None] / MILLION)
        obs = profiles.obs.assign(library_size=libraries)
        return make_profiles(counts, obs, profiles.var, COUNTS, profiles.uns.get("generator"))


def _classes(obs: pd.DataFrame, conditions: Sequence[str]) -> np.ndarray:
    """The class of each sample as one text, (n,)."""
    return obs[list(conditions)].astype(str).agg("|".join, axis=1).to_numpy()
