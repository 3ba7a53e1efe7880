"""A public reference cohort brought to the genes and the scale of a user's cohort, or refused.

The reference lends its within-class covariance, so what has to fit are genes and their scale. Differences between the
two cohorts are estimated per gene: a factor of the within-class standard deviations, and a shift of the means where
both cohorts have the same classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
from scipy.special import polygamma

from transcriptome_diffusion.expression.landmarks import ID_COLUMNS, match_panel
from transcriptome_diffusion.expression.normalise import is_counts, log2_of_counts
from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.expression.units import linear_unit, to_log2

logger = logging.getLogger(__name__)

#: of the cohort's genes, the share that a reference has to have
SHARED_GENES = 0.9
#: profiles and donors below which a reference lends nothing
LEAST_PROFILES = 30
#: squared normal deviate that half of all draws stay below: the median of chi-squared with one degree of freedom
MEDIAN_CHI2 = 0.4549
#: shares of the identity in a correlation matrix that is compared with independent genes
IDENTITY_SHARES = (0.1, 0.25, 0.5, 0.75)
#: nats per gene and profile by which a reference's correlations have to explain the cohort better than none
LEAST_GAIN = 0.01


class Within(NamedTuple):
    """A cohort as class means and what varies within classes.

    Attributes:
        names: of the classes, sorted, (n_classes,). codes: the class of each profile, (n,).
        means: (n_classes, n_genes). sizes: profiles per class, (n_classes,).
        residuals: profiles less the mean of their class, times the square root of n / degrees of freedom, so that
            mean squares are unbiased variances, (n, n_genes).
        scale: within-class standard deviation of each gene, (n_genes,).
        degrees: of freedom, n - n_classes.
    """

    names: np.ndarray
    codes: np.ndarray
    means: np.ndarray
    sizes: np.ndarray
    residuals: np.ndarray
    scale: np.ndarray
    degrees: int

    @classmethod
    def of(cls, values: np.ndarray, labels: np.ndarray) -> Within:
        """From profiles (n, n_genes) and a class per row.

        Raises:
            ValueError: if no class has two profiles.
        """
        names, codes, sizes = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
        degrees = len(values) - len(names)
        if degrees < 1:
            raise ValueError(f"{len(values)} profiles of {len(names)} classes: within a class nothing varies.")
        indicator = (codes == np.arange(len(names))[:, None]) / sizes[:, None]
        residuals = np.asarray(values, dtype=np.float64)
        means = indicator @ residuals
        residuals = (residuals - means[codes]) * np.sqrt(len(values) / degrees)
        return cls(names, codes, means, sizes, residuals, residuals.std(axis=0), degrees)

    def factors(self, scale: np.ndarray) -> np.ndarray:
        """Mean square of each class's residuals in units of ``scale`` (n_genes,), relative to their mean over profiles.

        A class that varies more than the others in all genes has a factor above 1, (n_classes,); 1 for a class of one.
        """
        squares = np.square(divide(self.residuals, scale)).mean(axis=1)
        lost = np.where(self.sizes > 1, self.sizes - 1, 1) / self.sizes
        found = np.bincount(self.codes, squares) / self.sizes / lost
        found = np.where((self.sizes > 1) & (found > 0), found, np.average(found, weights=self.sizes))
        return found / max(np.average(found, weights=self.sizes), 1e-300)


class MatchedReference(NamedTuple):
    """A reference cohort in the genes and the scale of a user's cohort.

    Attributes:
        profiles: (n_reference, n_genes), genes as in the cohort.
        facts: plain JSON: how many genes and classes are shared, which were filled, how large the corrections are.
    """

    profiles: ad.AnnData
    facts: dict[str, Any]


def divide(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Values (n, n_genes) per unit of ``scale`` (n_genes,); 0 where a gene has no scale."""
    return values * np.divide(1.0, scale, out=np.zeros(len(scale)), where=scale > 0)


def pooled_scale(own: Within, reference_scale: np.ndarray) -> np.ndarray:
    """The cohort's within-class standard deviation of each gene, shrunk towards that of the reference, (n_genes,).

    Empirical Bayes on log variances: the log ratio of a gene's two variances is normal around a common value, with the
    trigamma function of half the degrees of freedom as sampling variance. Smyth (2004), doi:10.2202/1544-6115.1027,
    estimates both in the same way; here medians do, so that a few genes do not decide.
    """
    usable = (own.scale > 0) & (reference_scale > 0)
    scale = own.scale.copy()
    if not usable.any():
        return scale
    ratio = 2 * np.log(own.scale[usable] / reference_scale[usable])
    sampling = float(polygamma(1, own.degrees / 2))
    common = float(np.median(ratio))
    between = max(float(np.median(np.square(ratio - common))) / MEDIAN_CHI2 - sampling, 0.0)
    weight = between / (between + sampling)
    scale[usable] = reference_scale[usable] * np.exp((common + weight * (ratio - common)) / 2)
    return scale


def prepare_reference(reference: ad.AnnData, genes: Any, label: str = "tissue") -> ad.AnnData:
    """A cohort as its reader gives it, in log2(x + 1) and with the genes of the table ``genes`` that it has.

    Genes are matched by Entrez id, Ensembl id or symbol, as ``landmarks.match_panel`` does. Counts become counts per
    million. Samples without a label, and classes of one sample, are left out.

    Args:
        reference: linear or log2 profiles, or counts, with ``label`` or ``tissue`` in ``obs``.
        genes: ``var`` of the user's cohort.

    Returns:
        (n, n_found) profiles whose genes are named as in ``genes``; none for a reference without samples.

    Raises:
        ValueError: if there is no label column, or fewer than ``SHARED_GENES`` of the genes are found.
    """
    if not reference.n_obs:
        return reference
    column = label if label in reference.obs else "tissue"
    if column not in reference.obs:
        raise ValueError(
            f"the reference cohort has no column {label!r} with its classes; it has {list(reference.obs.columns)}. "
            "Set `label` of its reader in the catalog."
        )
    if reference.var_names.equals(genes.index):
        found, names = genes.index, genes.index
    else:
        matched = match_panel(reference.var, genes[ID_COLUMNS].astype(str).assign(name=genes.index))
        matched = matched[matched["found"]]
        found, names = matched["gene"], matched["name"]
    if len(found) < SHARED_GENES * len(genes):
        raise ValueError(
            f"the reference cohort has {len(found)} of the cohort's {len(genes)} genes; {SHARED_GENES:.0%} are needed. "
            f"Its genes are named like {list(reference.var_names[:2])}, the cohort's like {list(genes.index[:2])}: "
            "take a reference with the same genes, or name them alike."
        )
    obs = reference.obs.assign(**{label: reference.obs[column]})
    obs = obs[obs[label].notna()]
    sizes = obs[label].astype(str).map(obs[label].astype(str).value_counts())
    kept = reference[obs.index[sizes > 1]]
    unit = str(reference.uns.get("unit"))
    logged = kept.copy() if linear_unit(unit) is not None else log2_of_counts(kept, "cpm") if is_counts(kept) else None
    logged = to_log2(kept) if logged is None else logged
    cut = logged[:, list(found)]
    values = dense(cut)
    measured = ~np.isnan(values).any(axis=0)
    var = genes.loc[list(np.asarray(names)[measured])]
    return make_profiles(values[:, measured], obs.loc[cut.obs_names], var, str(logged.uns["unit"]))


def match_reference(
    reference: ad.AnnData, train: ad.AnnData, label: str = "tissue", *, other: ad.AnnData | None = None, seed: int = 0
) -> MatchedReference:
    """Bring a reference cohort to the scale of the training profiles, gene by gene.

    A profile x of class r becomes ``mean_r + shift + factor (x - mean_r)``. The factor is the ratio of within-class
    standard deviations (``pooled_scale``). The shift is the mean difference of the classes that both cohorts have,
    0 without any: it is needed only to compare class means. A gene that the reference lacks is filled with
    independent noise around the cohort's mean.

    Args:
        reference: as ``prepare_reference`` gives it. train: the user's training profiles, (n, n_genes) in log2 units.
        label: column of ``obs`` with the classes of both.
        other: further profiles of the user, such as validation donors; donors of either are taken out of the
            reference.
        seed: of the noise of genes that are filled.

    Raises:
        ValueError: if genes are too few, the reference is too small, or its genes vary together in another way than
            the cohort's: then its correlations explain the cohort's profiles hardly better than independent genes.
    """
    taken = {str(donor) for part in (train, other) if part is not None for donor in part.obs.get("donor", [])}
    if "donor" in reference.obs and (same := reference.obs["donor"].astype(str).isin(taken).to_numpy()).any():
        logger.warning("%d profiles of the reference are of the cohort's own donors and are left out", same.sum())
        reference = reference[~same]
    if reference.n_obs < LEAST_PROFILES:
        raise ValueError(f"the reference cohort has {reference.n_obs} profiles; {LEAST_PROFILES} are needed.")
    genes = train.var_names
    present = genes.isin(reference.var_names)
    if present.sum() < SHARED_GENES * len(genes):
        raise ValueError(
            f"the reference cohort has {int(present.sum())} of the cohort's {len(genes)} genes; {SHARED_GENES:.0%} are "
            "needed. Take a reference with the same genes, or name them alike."
        )
    labels = reference.obs[label].astype(str).to_numpy()
    theirs = Within.of(dense(reference[:, genes[present]]), labels)
    own = Within.of(dense(train), train.obs[label].astype(str).to_numpy())
    reference_scale = np.zeros(len(genes))
    reference_scale[present] = theirs.scale
    scale = pooled_scale(own, reference_scale)
    factor = np.divide(scale[present], theirs.scale, out=np.zeros(len(theirs.scale)), where=theirs.scale > 0)
    shared = np.intersect1d(own.names, theirs.names)
    shift = np.zeros(len(genes))
    if len(shared):
        ours, others = np.searchsorted(own.names, shared), np.searchsorted(theirs.names, shared)
        weights = 1 / (1 / own.sizes[ours] + 1 / theirs.sizes[others])
        shift[present] = np.average(own.means[ours][:, present] - theirs.means[others], axis=0, weights=weights)
    values = np.empty((len(labels), len(genes)), dtype=np.float32)
    deviations = theirs.residuals * np.sqrt(theirs.degrees / len(labels)) * factor
    values[:, present] = theirs.means[theirs.codes] + shift[present] + deviations
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((len(labels), int((~present).sum())))
    values[:, ~present] = own.means[:, ~present].mean(axis=0) + noise * own.scale[~present]
    gain = likelihood_gain(own, Within.of(values, labels), scale)
    if gain < LEAST_GAIN:
        raise ValueError(
            "the reference cohort does not fit: genes that vary together as in the reference explain the cohort's "
            f"profiles hardly better than independent genes ({gain:.3g} nats per gene and profile; {LEAST_GAIN} are "
            "needed). Take a reference of the same kind of samples, and see that both cohorts are in the unit that "
            "they declare."
        )
    facts = {
        "profiles": len(labels),
        "classes": len(theirs.names),
        "classes_shared": shared.tolist(),
        "genes_filled": genes[~present].tolist(),
        "unit": str(reference.uns.get("unit")),
        "median_absolute_shift": float(np.median(np.abs(shift))) if len(shared) else None,
        "median_factor": float(np.median(factor)),
        "likelihood_gain": gain,
    }
    logger.info(
        "The reference has %d profiles of %d classes, %d of them the cohort's; median factor of scale %.2f",
        *(len(labels), len(theirs.names), len(shared), facts["median_factor"]),
    )
    obs = reference.obs.copy()
    return MatchedReference(make_profiles(values, obs, train.var, str(train.uns["unit"])), facts)


def likelihood_gain(own: Within, reference: Within, scale: np.ndarray) -> float:
    """Mean log likelihood of the cohort's residuals, per gene, with the reference's correlations less without any.

    Both models give every gene the variance ``scale`` squared times the class's factor. The reference's correlations
    are mixed with the identity, by that of ``IDENTITY_SHARES`` which explains most: also a good reference is too sure
    of directions in which its own few profiles hardly vary.
    """
    z = divide(own.residuals, scale) / np.sqrt(own.factors(scale))[own.codes, None]
    rows = divide(reference.residuals, reference.scale) / np.sqrt(len(reference.residuals))
    found = log_likelihoods(z, rows, 0.0, IDENTITY_SHARES).mean(axis=1)
    return float(found.max() - log_likelihoods(z, rows[:0], 1.0, (0.0,)).mean()) / z.shape[1]


def log_likelihoods(z: np.ndarray, rows: np.ndarray, noise: float, shares: Sequence[float]) -> np.ndarray:
    """Log densities of z (n, n_genes), without their constant, under covariances that are mixed with the identity.

    For each share a of the identity the covariance is (1 - a) (rowsᵀ rows + noise I) + a I. By the smaller product of
    ``rows`` (n_rows, n_genes), so that no matrix of genes by genes is formed where profiles are fewer.

    Returns:
        (n_shares, n).
    """
    genes, squares = z.shape[1], np.square(z).sum(axis=1)
    values, axes = np.empty(0), np.empty((genes, 0))
    if len(rows) > genes:
        values, axes = np.linalg.eigh(rows.T @ rows)
    elif len(rows):
        values, left = np.linalg.eigh(rows @ rows.T)
        axes = rows.T @ (left / np.sqrt(values.clip(min=1e-12 * values.max())))
    kept = values > 1e-9 * values.max(initial=0)
    values, along = values[kept], np.square(z @ axes[:, kept])
    found = []
    for share in shares:
        rest = max((1 - share) * noise + share, 1e-3)
        variances = (1 - share) * values + rest
        quadratic = squares / rest - along @ (1 / rest - 1 / variances)
        found.append(-(quadratic + genes * np.log(rest) + np.log(variances / rest).sum()) / 2)
    return np.array(found)
