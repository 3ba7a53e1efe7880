"""Generators that take from a public reference cohort what a small or sensitive cohort cannot give.

Axes leak, means hardly: the covariance that a generator fits to few profiles gives its training donors away, while
class means over donors tell little about one of them. So the reference lends its within-class covariance, and the
cohort gives class means, a scale per gene, a factor per class and, with ``dial: none``, a share of its own covariance.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import anndata as ad
import numpy as np

from transcriptome_diffusion.expression.covariance import ledoit_wolf, principal_axes
from transcriptome_diffusion.expression.profiles import dense, donors_of
from transcriptome_diffusion.expression.reference import (
    Within,
    divide,
    log_likelihoods,
    match_reference,
    pooled_scale,
)
from transcriptome_diffusion.generators.base import choose_lower_bound
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.classes import Classes
from transcriptome_diffusion.generators.differential_privacy import (
    PublicPrior,
    noise_multiplier,
    planned_unit,
    release,
    split_noise,
    statement,
)
from transcriptome_diffusion.generators.options import ClassGaussianOptions
from transcriptome_diffusion.generators.privacy_options import PrivacyOptions

logger = logging.getLogger(__name__)

#: with ``dp``, of the squared signal for class means, the share of their first estimate
MEAN_SHARE = 0.3
#: axes of a reference that a model keeps at most
MOST_ROWS = 256
#: folds of donors, or of the reference's classes, that choose shares
FOLDS = 3
#: shares of the identity that a covariance may be mixed with
IDENTITY_SHARES = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7)


class Prior(NamedTuple):
    """What a reference says of profiles of any class, in units of its within-class standard deviations.

    Attributes:
        cohort: the reference as class means and residuals.
        rows, noise: rowsᵀ rows + noise I is the Ledoit-Wolf covariance of residuals per unit of scale and of the square
            root of the class factor; at most ``MOST_ROWS`` axes, whose lengths are the rows, and what the others hold
            spread evenly. No profile of the reference is among them, (n_rows, n_genes).
        axes: of that covariance, (n_genes, rank). variance: along them, (rank,).
        between: variance of class means along the axes, smoothed over them, (rank,). between_rest: of each gene off
            the axes.
        identity_share: that of the identity under which the covariance of some classes explains the others best. Genes
            of another tissue vary together less than those of the reference say.
    """

    cohort: Within
    rows: np.ndarray
    noise: float
    axes: np.ndarray
    variance: np.ndarray
    between: np.ndarray
    between_rest: float
    identity_share: float

    @classmethod
    def of(cls, cohort: Within) -> Prior:
        """From the reference; with fewer than three classes, means may lie anywhere."""
        z = standard_residuals(cohort)
        shrinkage, variance = ledoit_wolf(z)
        variances, axes = principal_axes(z, MOST_ROWS)
        variances, axes = variances[:MOST_ROWS], axes[:, :MOST_ROWS]
        spread = (np.square(z).sum() / len(z) - variances.sum()) / max(z.shape[1] - len(variances), 1)
        noise = max(shrinkage * variance + (1 - shrinkage) * max(float(spread), 0.0), 1e-3)
        variances = (1 - shrinkage) * variances + shrinkage * variance
        rows = np.sqrt((variances - noise).clip(min=0))[:, None] * axes.T
        centred = divide(cohort.means - cohort.means.mean(axis=0), cohort.scale)
        degrees = len(cohort.means) - 1
        if degrees < 2:
            between, rest = np.full(len(variances), np.inf), np.inf
        else:
            squares = np.square(centred @ axes).sum(axis=0) / degrees
            ranks = np.log(np.arange(len(squares)) + 1)
            fitted = np.polynomial.Polynomial.fit(ranks, np.log(squares + 1e-9), min(2, len(squares) - 1))
            between = np.exp(fitted(ranks))
            off = np.square(centred).sum() / degrees - squares.sum()
            rest = max(off / max(centred.shape[1] - len(squares), 1), 1e-9)
        scores = sum(
            log_likelihoods(z[other], *_rows(z[fitted]), IDENTITY_SHARES).sum(axis=1)
            for fitted, other in _folds(cohort.codes)
        )
        share = IDENTITY_SHARES[int(np.argmax(scores))]
        return cls(cohort, rows, noise, axes, variances, between, rest, share)


def standard_residuals(cohort: Within) -> np.ndarray:
    """Profiles around the mean of their class, per unit of scale and of the square root of the class factor."""
    z = divide(cohort.residuals, cohort.scale) / np.sqrt(cohort.factors(cohort.scale))[cohort.codes, None]
    return divide(z, z.std(axis=0))


def fit_with_reference(
    train: ad.AnnData,
    validation: ad.AnnData,
    options: ClassGaussianOptions,
    reference: ad.AnnData,
    privacy: PrivacyOptions,
    rng: np.random.Generator | None = None,
) -> ClassGaussian:
    """A class Gaussian whose covariance comes from a reference cohort; it has no marginal map.

    Args:
        train, validation, options: as ``ClassGaussian.fit`` takes them.
        reference: as ``expression.reference.prepare_reference`` gives it.
        privacy: what is used of the cohort. With ``dp``, validation profiles are not used at all.
        rng: of the noise of ``dp``; None, as for every model that is given away: from the operating system. A seed
            would let everybody who knows it take the noise off again.

    Raises:
        ValueError: if the reference does not fit, as ``match_reference`` says; or with ``dp``, if it lacks genes or has
            another unit.
    """
    return fit_and_match(train, validation, options, reference, privacy, rng or np.random.default_rng())[0]


def fit_and_match(
    train: ad.AnnData,
    validation: ad.AnnData,
    options: ClassGaussianOptions,
    reference: ad.AnnData,
    privacy: PrivacyOptions,
    rng: np.random.Generator,
    sgd: bool = False,
) -> tuple[ClassGaussian, ad.AnnData]:
    """What ``fit_with_reference`` fits, and the profiles of the reference behind it, which no donor of ``dp`` changed.

    ``sgd`` leaves the share of DP-SGD in the budget of ``dp`` unspent.
    """
    # a marginal map holds quantiles of the training profiles
    options = options.model_copy(update={"marginal_map": False})
    model = ClassGaussian(**ClassGaussian.checked(train, validation, options))
    label = options.conditions[0]
    strata = model.conditions.strata(model.conditions.to_codes(train.obs))
    if privacy.dial == "dp":
        _fit_private(model, train, strata, reference, label, privacy, rng, sgd)
        return model, reference
    matched = match_reference(reference, train, label, other=validation, seed=options.seed)
    labels = matched.profiles.obs[label].astype(str).to_numpy()
    prior = Prior.of(Within.of(dense(matched.profiles), labels))
    own = Within.of(dense(train), strata.astype(str))
    classes, _ = Classes.sort(strata)
    order = np.argsort(own.names.astype(np.int64))  # names are sorted as text
    scale = pooled_scale(own, prior.cohort.scale)
    factors = own.factors(scale)
    shared = _shared_means(prior, own, train, label) if len(options.conditions) == 1 else {}
    off_axes = privacy.off_axes if privacy.dial == "reference_axes" else 1.0
    means = own.means.mean(axis=0) + scale * _shrunk(prior, own, scale, factors, shared, off_axes)
    share, identity, scores = 0.0, prior.identity_share, []
    z = divide(own.residuals, scale) / np.sqrt(factors)[own.codes, None]
    if privacy.dial == "none":
        found = _scores(z, donors_of(train), prior, privacy.own_shares)
        best, at = np.unravel_index(int(np.argmax(found)), found.shape)
        share, identity = privacy.own_shares[best], IDENTITY_SHARES[at]
        scores = [[a, float(row.max())] for a, row in zip(privacy.own_shares, found, strict=True)]
    rows, noise = mixture(prior, z if share else z[:0], share)
    rows, noise = np.sqrt(1 - identity) * rows, (1 - identity) * noise + identity
    _fill(model, classes, means[order], scale, factors[order], rows, noise)
    model.record = {
        "privacy": {"dial": privacy.dial, "reference": matched.facts},
        "profiles_per_class": classes.sizes.tolist(),
        "own_share": share,
        "identity_share": identity,
        "held_out_log_likelihood_per_gene": scores,
        "class_factors": factors[order].tolist(),
    }
    return model, matched.profiles


def mixture(prior: Prior, own: np.ndarray, share: float) -> tuple[np.ndarray, float]:
    """Rows and noise of the covariance (1 - share) reference + share own, each Ledoit-Wolf; rowsᵀ rows + noise I.

    Args:
        own: the cohort's residuals in units of their scale and class factor, (n, n_genes).
    """
    if not share:
        return prior.rows, prior.noise
    own_rows, own_noise = _rows(own)
    rows = np.sqrt(share) * own_rows
    if share < 1:
        rows = np.concatenate([np.sqrt(1 - share) * prior.rows, rows])
    return rows, (1 - share) * prior.noise + share * own_noise


def _rows(z: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows and noise of the Ledoit-Wolf covariance of centred z (n, n_genes): rowsᵀ rows + noise I."""
    shrinkage, variance = ledoit_wolf(z)
    return z * np.sqrt((1 - shrinkage) / len(z)), max(shrinkage * variance, 1e-3)


def _scores(z: np.ndarray, donors: np.ndarray, prior: Prior, shares: list[float]) -> np.ndarray:
    """Mean log likelihood of other donors per gene, for every share of own covariance and of the identity."""
    found = np.zeros((len(shares), len(IDENTITY_SHARES)))
    for fitted, other in _folds(donors):
        for place, share in enumerate(shares):
            found[place] += log_likelihoods(z[other], *mixture(prior, z[fitted], share), IDENTITY_SHARES).sum(axis=1)
    return found / z.size


def _folds(groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of some groups, donors or classes, and of the others; of a single group, rows by turns."""
    from sklearn.model_selection import GroupKFold

    if len(np.unique(groups)) < 2:
        groups = np.arange(len(groups)) % FOLDS
    yield from GroupKFold(min(FOLDS, len(np.unique(groups)))).split(groups, groups=groups)


def _shared_means(prior: Prior, own: Within, train: ad.AnnData, label: str) -> dict[int, np.ndarray]:
    """By class of the cohort, the mean of the same class in the reference, shifted by the *other* shared classes.

    With its own class in the shift, the two means would agree by construction; so two shared classes are needed.
    """
    labels = train.obs[label].astype(str).to_numpy()
    names = {int(c): labels[np.flatnonzero(own.codes == c)[0]] for c in range(len(own.names))}
    pairs = {
        c: int(np.searchsorted(prior.cohort.names, name)) for c, name in names.items() if name in prior.cohort.names
    }
    found: dict[int, np.ndarray] = {}
    for c, theirs in pairs.items():
        others = [other for other in pairs if other != c]
        if others:
            shift = np.mean([own.means[o] - prior.cohort.means[pairs[o]] for o in others], axis=0)
            found[c] = prior.cohort.means[theirs] + shift
    return found


def _shrunk(
    prior: Prior,
    own: Within,
    scale: np.ndarray,
    factors: np.ndarray,
    shared: dict[int, np.ndarray],
    off_axes: float = 1.0,
) -> np.ndarray:
    """Class means around the mean of all classes, per unit of scale, shrunk along the reference's axes.

    ``off_axes`` multiplies what lies off them: these many directions tell less of a class than the axes do, and more of
    who was in it.

    Empirical Bayes: a class is a draw from the spread of the reference's classes around the mean of the cohort's. A
    class that the reference has as well (``shared``) is drawn around the reference's mean instead; how far the means of
    such classes lie apart is estimated from all of them together, as a multiple of the variance within classes.
    """
    centre = own.means.mean(axis=0)
    deviation = divide(own.means - centre, scale)
    prior_mean = np.zeros_like(deviation)
    ratio = 0.0
    if shared:
        excess = []
        for c, mean in shared.items():
            prior_mean[c] = divide((mean - centre)[None], scale)[0]
            along = np.square((deviation[c] - prior_mean[c]) @ prior.axes) / prior.variance
            excess.append(float(np.mean(along)) - factors[c] / own.sizes[c])
        ratio = max(float(np.mean(excess)), 0.0)
    found = np.empty_like(deviation)
    for c in range(len(deviation)):
        between, rest = prior.between, prior.between_rest
        if c in shared:
            between, rest = ratio * prior.variance, ratio * prior.noise
        error = factors[c] / own.sizes[c]
        away = deviation[c] - prior_mean[c]
        along = away @ prior.axes
        weights, weight = _weight(between, error * prior.variance), _weight(np.array([rest]), error * prior.noise)
        off = away - prior.axes @ along
        found[c] = prior_mean[c] + prior.axes @ (weights * along) + off_axes * weight * off
    return found


def _weight(between: np.ndarray, error: Any) -> np.ndarray:
    """Posterior weight of a measured mean; 1 where nothing is known of the spread between classes."""
    return np.where(np.isinf(between), 1.0, 1 / (1 + error / np.maximum(between, 1e-300)))


def _directions(prior: Prior, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions along which ``dp`` releases class means, and the variance within and between classes along each.

    The first ``count`` axes of the reference; with a ``count`` of at least the genes also all directions off its axes,
    by a basis that does not matter, since variance is even there. Means of classes that the reference lacks lie off its
    axes as well, and a model that leaves them at the reference's centre there is far from every real profile.

    Returns:
        (n_genes, n), (n,), (n,).
    """
    genes, rank = prior.axes.shape
    axes, variance, between = prior.axes[:, :count], prior.variance[:count], prior.between[:count]
    if count >= genes > rank:
        more = np.random.default_rng(0).standard_normal((genes, genes - rank))
        basis, _ = np.linalg.qr(np.concatenate([axes, more], axis=1))
        axes = np.concatenate([axes, basis[:, rank:]], axis=1)
        variance = np.concatenate([variance, np.full(genes - rank, prior.noise)])
        between = np.concatenate([between, np.full(genes - rank, prior.between_rest)])
    return axes, variance, np.where(np.isinf(between), variance, between)


def _fit_private(
    model: ClassGaussian,
    train: ad.AnnData,
    strata: np.ndarray,
    reference: ad.AnnData,
    label: str,
    privacy: PrivacyOptions,
    rng: np.random.Generator,
    sgd: bool,
) -> None:
    """Fill the model from the reference and from ``release``; nothing else of the cohort goes in."""
    if not reference.var_names.equals(train.var_names) or reference.uns["unit"] != train.uns["unit"]:
        raise ValueError(
            f"`privacy.dial: dp` takes scales from the reference alone, which has to have every gene of the cohort and "
            f"its unit: it has {int(train.var_names.isin(reference.var_names).sum())} of {train.n_vars} genes, in "
            f"{reference.uns['unit']}; the cohort is in {train.uns['unit']}."
        )
    cohort = Within.of(dense(reference), reference.obs[label].astype(str).to_numpy())
    prior = Prior.of(cohort)
    axes, variance, between = _directions(prior, privacy.axes)
    centre = cohort.means.mean(axis=0)

    def along(values: np.ndarray) -> np.ndarray:
        return divide(values - centre, cohort.scale) @ axes

    factors = cohort.factors(cohort.scale)
    known = np.arange(int(np.prod(model.conditions.sizes)))  # every combination: which ones occur is not public
    multiplier = noise_multiplier(privacy.epsilon, privacy.delta)
    rest = 1 - privacy.dp_sgd.share if sgd else 1.0
    shares = np.array([MEAN_SHARE, 1 - MEAN_SHARE, 0]) * (1 - privacy.factor_share) + [0, 0, privacy.factor_share]
    multipliers = split_noise(multiplier, *(rest * shares))
    length = np.linalg.norm(along(dense(reference)) / planned_unit(variance, between, multipliers[0], 1.0), axis=1)
    clip = float(np.quantile(length, privacy.clip_quantile))
    found = release(
        along(dense(train)),
        strata,
        donors_of(train),
        len(known),
        PublicPrior(variance, between, clip, float(factors.var(ddof=1)) if len(factors) > 1 else 0.0),
        multipliers,
        rng,
    )
    means = centre + cohort.scale * (found.means @ axes.T)
    counts = np.maximum(np.round(found.counts), 1).astype(np.int64)
    classes = Classes(known, np.concatenate([[0], np.cumsum(counts)[:-1]]), counts)
    identity = prior.identity_share
    rows, noise = np.sqrt(1 - identity) * prior.rows, (1 - identity) * prior.noise + identity
    _fill(model, classes, means, cohort.scale, found.factors, rows, noise)
    if model.settings["lower_bound"] == "data":
        model.lower_bound = choose_lower_bound(dense(reference))
    names = list(model.conditions.names)
    labels = np.array(np.unravel_index(known, model.conditions.sizes)).T
    model.record = {
        "privacy": {"dial": "dp", **statement(privacy.epsilon, privacy.delta)},
        "training_labels": [
            [*(model.conditions.categories[name][code] for name, code in zip(names, row, strict=True)), int(count)]
            for row, count in zip(labels, counts, strict=True)
        ],
        "class_factors": found.factors.tolist(),
        "identity_share": identity,
        "noise_multipliers": list(multipliers),
        "clip": clip,
        "axes": len(variance),
    }


def _fill(
    model: ClassGaussian,
    classes: Classes,
    means: np.ndarray,
    scale: np.ndarray,
    factors: np.ndarray,
    rows: np.ndarray,
    noise: float,
) -> None:
    """The arrays of a class Gaussian with the covariance scale² factor (rowsᵀ rows + noise I) in every class."""
    model.classes, model.means, model.scale = classes, means.astype(np.float32), scale.astype(np.float32)
    model.residuals = rows.astype(np.float32)
    model.rows = np.tile([0, len(rows)], (len(means), 1))
    model.weights = np.sqrt(np.outer(factors, [1.0, noise])).astype(np.float32)
