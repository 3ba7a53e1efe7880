"""Read counts for generated profiles: a negative binomial observation layer, fitted to the counts of training samples.

Reads of a gene are Poisson around library size times expression, and expression within a class is gamma distributed
with mean m and dispersion a, so that counts are negative binomial with variance mu + a mu^2. Generated profiles vary as
*measured* ones do: they contain the counting noise already, and counts drawn around them would have it twice. So a
generated value y is taken for a measurement with c = y d reads, at the usual depth d, and counts are drawn from what
such a measurement says of the expression. Its posterior is a gamma distribution of shape 1/a + c and rate 1/(a m) + d;
new reads at depth d' are therefore negative binomial with mean d' (1/a + c) / (1/a + d m) m and dispersion
1 / (1/a + c). If generated profiles are distributed as measured ones, these counts are again negative binomial with
mean m and dispersion a, exactly. Strongly expressed genes stay where the generator has put them; a gene with few reads,
of which a profile says little, is drawn nearer to the mean of its class.

Dispersions are estimated as DESeq2 does, Love et al. (2014), doi:10.1186/s13059-014-0550-8: by the likelihood with the
adjustment of Cox and Reid, with a log-normal prior around the trend a1 / mean + a0. The likelihood is evaluated on a
grid, for all genes at once. A gene has one dispersion from all classes, and one per class with a prior around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import anndata as ad
import numpy as np
import pandas as pd
from scipy.optimize import nnls
from scipy.special import gammaln, logsumexp

from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.expression.units import COUNTS, TOTALS, linear_unit, to_linear

#: dispersions at which the likelihood is evaluated
GRID = np.geomspace(1e-3, 30, 24)
#: standard deviations of log dispersions around their prior, of which the likeliest is taken
SPREADS = np.array([0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0])
#: counts up to which logarithms of the gamma function are tabulated
TABLE = 1 << 16
#: profiles whose counts are drawn at a time
ROWS = 256


@dataclass(frozen=True, eq=False)
class CountModel:
    """How counts are drawn around profiles in log2(x + 1). Depth is reads per unit of x, such as per CPM.

    Attributes:
        genes: of the training profiles, (n_genes,).
        unit: of the profiles, such as ``log2(CPM + 1)``.
        means: linear expression by class, (n_classes, n_genes), with the classes as index.
        dispersions: of counts within a class, (n_classes, n_genes), shrunken.
        samples: a row per training sample: ``class``, ``depth`` of the measurement, ``library_size`` and
            ``drawn_depth`` of the counts that are drawn.
        conditions: columns of ``obs`` that name the class.
    """

    genes: pd.Index
    unit: str
    means: pd.DataFrame
    dispersions: np.ndarray
    samples: pd.DataFrame
    conditions: tuple[str, ...]

    @classmethod
    def fit(cls, train: ad.AnnData, conditions: Sequence[str] = ("tissue",), library_size: float | None = None) -> Self:
        """Fit to training profiles.

        Args:
            train: (n, n_genes) in log2(x + 1). With ``layers["counts"]`` and ``obs["library_size"]``, the reads of a
                sample over all genes, as the ingestion makes them of a cohort of counts, these are fitted. Without,
                profiles are taken for measurements with ``library_size`` reads each.
            conditions: columns of ``obs`` that name the class.
            library_size: reads of each generated sample, over all genes; None: those of training samples.

        Raises:
            ValueError: if there are neither counts nor a library size, or profiles are not in log2(x + 1) of a unit
                that is proportional to counts.
        """
        unit = str(train.uns.get("unit"))
        if linear_unit(unit) is None:
            raise ValueError(f"counts are drawn around profiles in log2(x + 1); these are in {unit}.")
        counted = "counts" in train.layers and "library_size" in train.obs
        if counted and linear_unit(unit) != "CPM":
            raise ValueError(
                f"counts are drawn around log2(CPM + 1), and these profiles with counts are in {unit}. Set "
                "`ingestion.normalise` to cpm, tmm or size_factors."
            )
        if not counted and library_size is None:
            raise ValueError(
                "the training profiles have no layers['counts'] with obs['library_size'], so that nothing says how "
                "many reads a sample has. Give the training profiles of a cohort that was read as `unit: counts`, or "
                "state the size: `generation.library_size`, on the command line --library-size."
            )
        keys = _classes(train.obs, conditions)
        samples = pd.DataFrame({"class": keys, "library_size": np.nan, "depth": np.nan})
        total = None if counted else TOTALS.get(str(linear_unit(unit)).upper()) or _mean_total(train)
        names, means, likelihoods = sorted(set(keys)), [], []
        for name in names:
            rows = np.flatnonzero(keys == name)
            part = train[rows]
            linear = dense(to_linear(part)).astype(np.float64)
            if counted:
                layer = part.layers["counts"]
                counts = np.asarray(layer.toarray() if hasattr(layer, "toarray") else layer, dtype=np.float64)
                libraries = part.obs["library_size"].to_numpy(dtype=float)
                # library sizes in millions, times the factors of the normalisation
                depths = counts.sum(axis=1) / linear.sum(axis=1)
            else:
                libraries = np.full(part.n_obs, float(library_size or 0))
                depths = libraries / total
                counts = linear * depths[:, None]
            # a gene without a read in a class counts as half a read in all of its samples
            means.append(np.maximum(linear.mean(axis=0), 0.5 / depths.sum()))
            likelihoods.append(_log_likelihoods(np.rint(counts).astype(np.int64), depths, means[-1]))
            drawn = libraries if library_size is None else np.full(part.n_obs, float(library_size))
            samples.loc[rows, "library_size"] = drawn
            samples.loc[rows, "depth"] = depths
            samples.loc[rows, "drawn_depth"] = depths * drawn / libraries
        table = pd.DataFrame(np.array(means), index=names)
        reads = table.to_numpy() * samples.groupby("class")["depth"].mean().to_numpy()[:, None]
        weights = samples["class"].value_counts()[names].to_numpy()
        dispersions = shrunken_dispersions(np.stack(likelihoods, axis=1), np.average(reads, axis=0, weights=weights))
        return cls(train.var_names, unit, table, dispersions, samples, tuple(conditions))

    def draw(self, profiles: ad.AnnData, seed: int) -> ad.AnnData:
        """Counts for profiles (n, n_genes) in the unit of the training profiles, with all or some of their genes.

        Library sizes, over all genes, are those of training samples of the same class, drawn with replacement, or the
        stated one: ``obs["library_size"]``.

        Raises:
            ValueError: if a gene, the unit or a class is not that of the training profiles.
        """
        columns = self.genes.get_indexer(profiles.var_names)
        if (missing := profiles.var_names[columns < 0]).size:
            raise ValueError(f"{len(missing)} genes have no training counts, for instance {missing[0]}.")
        if profiles.uns.get("unit") != self.unit:
            raise ValueError(f"counts are drawn around {self.unit}; the profiles are in {profiles.uns.get('unit')}.")
        keys = _classes(profiles.obs, self.conditions)
        if unknown := sorted(set(keys) - set(self.means.index)):
            raise ValueError(f"no training sample is of {unknown[:5]}; there are {list(self.means.index)}.")
        rng = np.random.default_rng(seed)
        counts = np.empty(profiles.shape, dtype=np.float32)
        libraries = np.empty(profiles.n_obs, dtype=np.int64)
        for name in sorted(set(keys)):
            place = np.flatnonzero(keys == name)
            like = self.samples[self.samples["class"] == name]
            usual = 1 / (1 / like["depth"]).mean()  # the depth whose counting noise is the mean of that of all samples
            mean = self.means.loc[name].to_numpy()[columns]
            prior = 1 / self.dispersions[self.means.index.get_loc(name)][columns]
            for rows in np.split(place, range(ROWS, len(place), ROWS)):
                chosen = like.iloc[rng.integers(len(like), size=len(rows))]
                shape = prior + dense(to_linear(profiles[rows])) * usual
                expression = rng.gamma(shape) / (prior / mean + usual)
                counts[rows] = rng.poisson(expression * chosen["drawn_depth"].to_numpy()[:, None])
                libraries[rows] = np.rint(chosen["library_size"])
        obs = profiles.obs.assign(library_size=libraries)
        return make_profiles(counts, obs, profiles.var, COUNTS, profiles.uns.get("generator"))


def shrunken_dispersions(likelihoods: np.ndarray, reads: np.ndarray) -> np.ndarray:
    """Dispersions of every class, with the log-normal priors of this module's first lines.

    Args:
        likelihoods: logarithms, at the dispersions of ``GRID``, (n_grid, n_classes, n_genes).
        reads: mean number of reads of a gene in a sample, (n_genes,).

    Returns:
        (n_classes, n_genes).
    """
    pooled = likelihoods.sum(axis=1)
    trend = dispersion_trend(reads, _highest(pooled))
    gene = _highest(pooled + _log_prior(pooled, trend(reads)))
    if likelihoods.shape[1] == 1:
        return gene[None]
    return _highest(likelihoods + _log_prior(likelihoods, gene))


@dataclass(frozen=True)
class _Trend:
    """a1 / reads + a0."""

    a1: float
    a0: float

    def __call__(self, reads: np.ndarray) -> np.ndarray:
        return np.clip(self.a1 / np.maximum(reads, 1e-9) + self.a0, GRID[0], GRID[-1])


def dispersion_trend(reads: np.ndarray, dispersions: np.ndarray) -> _Trend:
    """The trend a1 / reads + a0 through estimates of single genes, by gamma regression, as DESeq2 fits it.

    Estimates at the ends of the grid, and those far from the trend (a ratio below 1e-4 or above 15), are left out.

    Args:
        reads, dispersions: (n_genes,).
    """
    inside = (dispersions > GRID[0]) & (dispersions < GRID[-1]) & (reads > 0)
    if inside.sum() < 3:
        return _Trend(0.0, float(np.median(dispersions)))
    design = np.column_stack([1 / reads[inside], np.ones(inside.sum())])
    found = dispersions[inside]
    fitted = np.full(len(found), np.median(found))
    for _ in range(20):
        kept = (found / fitted > 1e-4) & (found / fitted < 15)
        (a1, a0), _ = nnls(design[kept] / fitted[kept, None], found[kept] / fitted[kept])
        before, fitted = fitted, np.maximum(design @ [a1, a0], 1e-6)
        if np.abs(np.log(fitted / before)).max() < 1e-3:
            break
    return _Trend(float(a1), float(a0))


def _log_likelihoods(counts: np.ndarray, depths: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Of negative binomial counts (n, n_genes) at every dispersion of ``GRID``, but for a constant; (n_grid, n_genes).

    With half the logarithm of the Fisher information of the mean subtracted, as Cox and Reid have it.
    """
    expected = depths[:, None] * means
    sums = counts.sum(axis=0)
    large = counts >= TABLE
    clipped = np.where(large, 0, counts)
    found = np.empty((len(GRID), counts.shape[1]))
    for place, dispersion in enumerate(GRID):
        size = 1 / dispersion
        table = np.concatenate([[0], np.log(size + np.arange(TABLE - 1)).cumsum()])
        gammas = table[clipped]
        gammas[large] = gammaln(counts[large] + size) - gammaln(size)
        scaled = dispersion * expected
        information = (expected / (1 + scaled)).sum(axis=0)
        rest = sums * np.log(dispersion) - ((counts + size) * np.log1p(scaled)).sum(axis=0)
        found[place] = gammas.sum(axis=0) + rest - np.log(information) / 2
    return found - found.max(axis=0)


def _log_prior(likelihoods: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Of log dispersions around those of ``centres`` (n_genes,), with the standard deviation that is likeliest."""
    apart = (np.log(GRID)[:, None] - np.log(centres)) ** 2
    apart = apart.reshape(len(GRID), *[1] * (likelihoods.ndim - 2), -1)
    evidence = []
    for spread in SPREADS:
        prior = -apart / (2 * spread**2)
        evidence.append((logsumexp(likelihoods + prior, axis=0) - logsumexp(prior, axis=0)).sum())
    return -apart / (2 * SPREADS[np.argmax(evidence)] ** 2)


def _highest(values: np.ndarray) -> np.ndarray:
    """The dispersion at which ``values`` (n_grid, ...) are highest, on a parabola through neighbours of the highest."""
    best = values.argmax(axis=0)
    inner = best.clip(1, len(GRID) - 2)
    low, middle, high = (np.take_along_axis(values, (inner + step)[None], axis=0)[0] for step in (-1, 0, 1))
    curvature = low - 2 * middle + high
    shift = np.where((best == inner) & (curvature < 0), (low - high) / np.where(curvature < 0, 2 * curvature, 1), 0)
    return np.exp(np.log(GRID)[best] + shift * np.log(GRID[1] / GRID[0]))


def _mean_total(train: ad.AnnData) -> float:
    """Mean sum of a sample's linear values."""
    sums = [
        dense(to_linear(train[start : start + ROWS])).sum(dtype=np.float64) for start in range(0, train.n_obs, ROWS)
    ]
    return float(sum(sums)) / train.n_obs


def _classes(obs: pd.DataFrame, conditions: Sequence[str]) -> np.ndarray:
    """The class of each sample as one text, (n,)."""
    return obs[list(conditions)].astype(str).agg("|".join, axis=1).to_numpy()
