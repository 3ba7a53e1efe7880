"""Distances between two samples: Fréchet, maximum mean discrepancy, energy, and gene-by-gene marginals.

All arrays are (n, n_genes) in one gene-wise standardised space, so that lengths are in training standard deviations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.linalg

from transcriptome_diffusion.metrics.bounded import blocks
from transcriptome_diffusion.metrics.neighbours import Pair
from transcriptome_diffusion.metrics.statistics import class_means, wasserstein_of_ordered
from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: genes per block, in float64
BLOCK = 1024
#: values that are sorted at once
SORTED = 2**19
#: profiles a side beyond which the kernel tests draw a subset, as their matrices have the size of all pairs
MOST = 2048
#: the widest bandwidth of the Gaussian kernels, in median distances, and how many there are, each half the one before
WIDEST, BANDWIDTHS = 2.0, 3


@one_thread_if_small
def frechet(real: np.ndarray, synthetic: np.ndarray) -> float:
    """Squared Fréchet distance between Gaussian fits, |m - m'|² + tr(S + S' - 2 (S S')^½); the unit is squared.

    Dowson & Landau (1982), doi:10.1016/0047-259X(82)90077-X. Best 0; biased upwards when profiles are few, so
    compare with ``real`` at the same n. No root of a d x d matrix: with A, B the centred samples over √(n - 1),
    S = AᵀA and S' = BᵀB, and tr (S S')^½ is the sum of the singular values of ABᵀ, whose size is that of
    the samples. Where samples outnumber features, A and B are replaced by their d x d triangular factors. NaN without
    features, as those of a classifier are of one class.

    Raises:
        ValueError: if the widths differ, a side has fewer than two samples, or values are not finite.
    """
    _require_pair(real, synthetic, 2)
    features = real.shape[1]
    if not features:
        return np.nan
    shift = spread = 0.0
    factors = [np.empty((0, 0))] * 2
    cross = np.zeros((len(real), len(synthetic)))
    narrow = features <= max(len(real), len(synthetic))
    for genes in _blocks(features) if not narrow else [slice(0, features)]:
        sides = [values[:, genes].astype(np.float64) for values in (real, synthetic)]
        means = [side.mean(axis=0) for side in sides]
        shift += float(np.square(means[0] - means[1]).sum())
        factors = [(s - m) / np.sqrt(len(s) - 1) for s, m in zip(sides, means, strict=True)]
        spread += sum(float(np.vdot(factor, factor)) for factor in factors)
        if not narrow:
            cross += factors[0] @ factors[1].T
    if not np.isfinite(shift + spread):
        raise ValueError("the Fréchet distance needs finite values; NaN or infinities were found.")
    if narrow:
        ours, theirs = (
            scipy.linalg.qr(factor, mode="r", overwrite_a=True, check_finite=False)[0][:features] for factor in factors
        )
        cross = ours @ theirs.T
    return shift + spread - 2 * float(scipy.linalg.svdvals(cross, overwrite_a=True, check_finite=False).sum())


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """A linear map from profiles (n, n_genes) to coordinates (n, components), fixed by training profiles."""

    centre: np.ndarray  # (n_genes,)
    axes: np.ndarray  # (n_genes, components), orthonormal columns, float32

    @classmethod
    def fit(cls, train: np.ndarray, components: int) -> PrincipalAxes:
        """The leading axes, as many as asked for or as the profiles span.

        Raises:
            ValueError: if there are fewer than two profiles.
        """
        from sklearn.decomposition import PCA

        if len(train) < 2:
            raise ValueError(f"principal axes need two or more training profiles, found {len(train)}.")
        components = min(components, len(train) - 1, train.shape[1])
        fitted = PCA(components, random_state=0).fit(train)
        return cls(fitted.mean_, fitted.components_.T.astype(np.float32, order="C"))  # as when they are read again

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return values @ self.axes - self.centre @ self.axes


def kernel_tests(
    real: np.ndarray,
    synthetic: np.ndarray,
    *,
    strata: tuple[np.ndarray, np.ndarray] | None = None,
    permutations: int = 999,
    seed: int = 0,
) -> dict[str, float]:
    """Maximum mean discrepancy and energy distance, each with a permutation p-value.

    - ``mmd``: squared, unbiased (may be slightly negative), kernel the mean of Gaussians with .5, 1, 2 times the
      median pooled distance as bandwidth; best and null 0 (Gretton et al. 2012, JMLR 13:723, lemma 6).
    - ``energy``: 2 E|x - y| - E|x - x'| - E|y - y'| in training standard deviations, unbiased; best and null 0
      (Székely & Rizzo 2013, doi:10.1016/j.jspi.2013.03.018).
    - ``mmd_p``, ``energy_p``: share of relabelled samples (the observed one included) that lie as far
      apart; uniform if both samples are exchangeable. Copies of the other side make it 1, not small.

    Relabelling costs sums over the one matrix of pairs. Beyond ``MOST`` profiles a side takes part with a
    random subset. p-values assume independent profiles; several of one donor make them too small.

    Args:
        strata: classes of the rows of both sides, equally composed; labels are then permuted within a class,
            which leaves the difference between classes out of the noise. As equal compositions make both
            distances negative by chance alone, their mean over relabellings is then taken off.

    Raises:
        ValueError: if the widths differ, a side has fewer than two profiles, values are not finite, or do not vary.
    """
    _require_pair(real, synthetic, 2)
    return kernel_tests_of(Pair.of(real, synthetic), strata, permutations, seed)


@one_thread_if_small
def kernel_tests_of(
    pair: Pair, strata: tuple[np.ndarray, np.ndarray] | None = None, permutations: int = 999, seed: int = 0
) -> dict[str, float]:
    """``kernel_tests`` of two sides whose distances are measured already."""
    rng = np.random.default_rng(seed)
    kept = [_at_most(len(side), rng) for side in (pair.ours, pair.theirs)]
    n = min(len(pair.ours), MOST)
    squares = Pair(pair.pool, pair.ours[kept[0]], pair.theirs[kept[1]]).squares()
    median = _median_above_diagonal(squares)
    if not median > 0:
        raise ValueError(f"the median squared distance between profiles is {median}; they have to vary and be finite.")

    classes = (
        np.zeros(len(squares)) if strata is None else np.concatenate([s[k] for s, k in zip(strata, kept, strict=True)])
    )
    is_real = np.zeros((permutations + 1, len(squares)))
    is_real[:, :n] = 1.0
    for label in np.unique(classes):
        of = np.flatnonzero(classes == label)
        is_real[1:, of] = rng.permuted(is_real[1:, of], axis=1)
    found: dict[str, float] = {}
    distance = np.sqrt(squares, dtype=np.float64)
    energy = -_between(distance, is_real)
    for name, values in (("energy", energy), ("mmd", _between(_kernel(squares, median, distance), is_real))):
        # equal relabellings must not differ by rounding
        reached = values[1:] >= values[0] - 1e-9 * np.abs(values).max()
        expected = 0.0 if strata is None else values[1:].mean()
        found |= {name: float(values[0] - expected), f"{name}_p": float((1 + reached.sum()) / (1 + permutations))}
    return {name: found[name] for name in ("mmd", "mmd_p", "energy", "energy_p")}


def _between(pairs: np.ndarray, is_real: np.ndarray) -> np.ndarray:
    """Mean within real + mean within synthetic - 2 mean between, for each row (relabelling) of ``is_real``."""
    n = is_real[0].sum()
    m = len(pairs) - n
    with_real = is_real @ pairs
    real_real = np.einsum("ij,ij->i", with_real, is_real)
    cross = with_real.sum(axis=1) - real_real
    rest = pairs.sum() - real_real - 2 * cross
    return real_real / (n * (n - 1)) + rest / (m * (m - 1)) - 2 * cross / (n * m)


def _median_above_diagonal(pairs: np.ndarray) -> float:
    """The median over all pairs of different rows, each counted once."""
    return float(np.median(pairs[np.tri(len(pairs), k=-1, dtype=bool)]))


def _kernel(squares: np.ndarray, median: float, out: np.ndarray) -> np.ndarray:
    """The mean of Gaussian kernels for squared distances (n, n), written to ``out``; 0 on the diagonal."""
    kernel = np.exp(squares / squares.dtype.type(-2 * median * WIDEST**2))
    out[:] = kernel
    for _ in range(BANDWIDTHS - 1):  # half the bandwidth: the fourth power
        np.square(np.square(kernel, out=kernel), out=kernel)
        out += kernel
    out /= BANDWIDTHS
    np.fill_diagonal(out, 0.0)
    return out


@dataclass(frozen=True, eq=False)
class Margins:
    """Every gene's own distribution in a set of profiles.

    Attributes:
        ordered: the values of each gene, ascending, (n_genes, n).
        mean, sd: of each gene, (n_genes,); the deviation is exactly 0 for a constant gene.
    """

    ordered: np.ndarray
    mean: np.ndarray
    sd: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Margins:
        """Of profiles (n, n_genes); sums are in their precision."""
        n, genes = values.shape
        ordered = np.empty((genes, n), dtype=np.result_type(values, np.float32))
        mean, sd = np.empty((2, genes))
        for chosen in blocks(genes, size=max(1, SORTED // n)):
            part = ordered[chosen]
            part[:] = values[:, chosen].T
            part.sort(axis=1)
            mean[chosen] = part.mean(axis=1)
            centred = part - part.mean(axis=1, keepdims=True)
            sd[chosen] = np.sqrt(np.einsum("ij,ij->i", centred, centred) / (n - 1))
        sd[ordered[:, 0] == ordered[:, -1]] = 0.0
        return cls(ordered, mean, sd)


def marginals(real: np.ndarray, synthetic: np.ndarray) -> pd.DataFrame:
    """Agreement of every gene's own distribution, a row per gene in the order of the columns.

    ``wasserstein``: area between the two distribution functions, in training standard deviations; best 0, null
    about .8 / √n for a Gaussian gene at n profiles a side. ``mean_real``, ``mean_synthetic``, ``sd_real``,
    ``sd_synthetic``. The numbers of profiles may differ. Takes memory for a copy of both sets.

    Raises:
        ValueError: if the widths differ, a side has fewer than two profiles, or values are not finite.
    """
    _require_pair(real, synthetic, 2)
    return _marginals(Margins.of(real), Margins.of(synthetic))


def _marginals(real: Margins, synthetic: Margins) -> pd.DataFrame:
    found = {
        "wasserstein": wasserstein_of_ordered(real.ordered, synthetic.ordered),
        "mean_real": real.mean,
        "mean_synthetic": synthetic.mean,
        "sd_real": real.sd,
        "sd_synthetic": synthetic.sd,
    }
    if not np.isfinite(found["wasserstein"]).all():
        raise ValueError(
            f"{int((~np.isfinite(found['wasserstein'])).sum())} genes hold NaN or infinite values; marginals need "
            "finite profiles."
        )
    return pd.DataFrame(found)


def marginal_agreement(
    real: np.ndarray, real_labels: np.ndarray, synthetic: np.ndarray, synthetic_labels: np.ndarray
) -> dict[str, float]:
    """``marginals`` in five numbers, and the agreement of class means. Compare each with ``real``.

    - ``wasserstein``, ``wasserstein_q95``: mean and 95th percentile over genes; best 0.
    - ``mean_error``: mean over genes of |difference of means| in training standard deviations; best 0.
    - ``sd_ratio``: median over genes of synthetic over real standard deviation; best and null 1.
    - ``sd_error``: mean over genes of |log2 of that ratio|, at most ``log2(1e3)`` a gene; best 0. Genes constant
      among the real profiles are left out of both.
    - ``class_mean_r2``: 1 - sum of squared errors of all class means of all genes over their squared
      deviations from the gene's mean over classes; best 1, 0 for a generator that gives every class the average
      profile, and below for worse. In this standardised space it is not carried by genes that are high everywhere,
      as the R² of expression means usually printed is. NaN with fewer than two classes in both sets.
    """
    _require_pair(real, synthetic, 2)
    shared = np.intersect1d(real_labels, synthetic_labels)
    r2 = np.nan
    if len(shared) > 1:
        ours, theirs = class_means(real, real_labels, shared), class_means(synthetic, synthetic_labels, shared)
        r2 = float(1 - np.square(ours - theirs).sum() / np.square(ours - ours.mean(axis=0)).sum())
    return marginal_agreement_of(Margins.of(real), Margins.of(synthetic)) | {"class_mean_r2": r2}


def marginal_agreement_of(real: Margins, synthetic: Margins) -> dict[str, float]:
    """``marginal_agreement`` of single genes, from their distributions."""
    table = _marginals(real, synthetic)
    varies = table["sd_real"] > 0
    ratio = table["sd_synthetic"][varies] / table["sd_real"][varies]
    return {
        "wasserstein": float(table["wasserstein"].mean()),
        "wasserstein_q95": float(table["wasserstein"].quantile(0.95)),
        "mean_error": float((table["mean_real"] - table["mean_synthetic"]).abs().mean()),
        "sd_ratio": float(ratio.median()),
        "sd_error": float(np.abs(np.log2(ratio.clip(1e-3, 1e3))).mean()),
    }


@one_thread_if_small
def class_mean_r2_of(pair: Pair, strata: tuple[np.ndarray, np.ndarray]) -> float:
    """``class_mean_r2`` of ``marginal_agreement`` from the distances of the two sides and their classes.

    The squared distance of two means is the mean over pairs across, less half the means over pairs within.
    """
    shared = np.intersect1d(*strata)
    if len(shared) < 2:
        return float("nan")
    weights = [labels == shared[:, None] for labels in strata]
    shares = scipy.linalg.block_diag(*(part / part.sum(axis=1, keepdims=True) for part in weights))
    between = shares @ pair.squares() @ shares.T
    within = np.diag(between) / 2
    between -= within + within[:, None]
    n = len(shared)
    return float(1 - np.trace(between[:n, n:]) / (between[:n, :n].sum() / (2 * n)))


def _require_pair(real: np.ndarray, synthetic: np.ndarray, least: int) -> None:
    if real.ndim != 2 or synthetic.ndim != 2 or real.shape[1] != synthetic.shape[1]:
        raise ValueError(f"expected two arrays of equal width, found {real.shape} and {synthetic.shape}.")
    if min(len(real), len(synthetic)) < least:
        raise ValueError(f"expected {least} or more profiles a side, found {len(real)} and {len(synthetic)}.")


def _at_most(n: int, rng: np.random.Generator) -> np.ndarray | slice:
    return slice(n) if n <= MOST else np.sort(rng.choice(n, MOST, replace=False))


def _blocks(genes: int) -> Iterator[slice]:
    for start in range(0, genes, BLOCK):
        yield slice(start, min(start + BLOCK, genes))
