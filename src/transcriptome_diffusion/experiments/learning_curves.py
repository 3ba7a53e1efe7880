"""How good synthetic profiles are, and what they give away, as a function of how many real ones there were.

``train_classifiers`` keeps what its generators drew (``Drawn``); ``quality`` compares it with held-out donors.
``needs`` fits learning curves: how many real profiles the synthetic ones are worth, and what more of them would give.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.expression.reference import Within, divide
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.metrics.biology.coexpression import within_correlation
from transcriptome_diffusion.metrics.fidelity import fidelity
from transcriptome_diffusion.metrics.membership import auc, gaussian_ratio, known_axes_ratio, true_positive_rate
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.statistics import matched
from transcriptome_diffusion.metrics.utility import classification_scores

logger = logging.getLogger(__name__)

COLUMNS = ["method", "n_per_tissue", "seed", "metric", "value", "real_profiles", "note"]
#: matched draws that adversarial accuracy is averaged over
DRAWS = 10
#: draws of members behind the deviation of an AUC without a leak
PERMUTATIONS = 100
#: correlation from which two genes are an edge of the co-expression network
EDGE = 0.5
#: neighbours that ``fidelity`` counts; its adversarial accuracy needs one
NEIGHBOURS = 1
#: replicates behind the bands of a learning curve, and the sizes it is extended to, in multiples of the largest
REPLICATES, FURTHER = 200, (2, 4)
#: rates of decay that a learning curve may have, from slow to 1 / n
RATES = np.linspace(0.1, 1.5, 29)


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a generator drew from few profiles, with what an attacker may hold beside it.

    Attributes:
        method, n_per_tissue, seed: its place in the experiment; ``real_profiles`` is their number in all.
        scaler: of the few profiles. members: these, standardised. others: validation profiles, standardised.
        synthetic: drawn profiles, standardised.
        axes: within-class residuals of the public reference, per unit of their scale, (n, n_genes); None without one.
    """

    method: str
    n_per_tissue: str
    seed: int
    real_profiles: int
    scaler: GeneScaler
    members: ProfileSet
    others: ProfileSet
    synthetic: ProfileSet
    axes: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        place: tuple[str, str, int],
        few: ad.AnnData,
        others: ad.AnnData,
        synthetic: np.ndarray,
        labels: np.ndarray,
        label: str,
        axes: np.ndarray | None = None,
    ) -> Drawn:
        """From profiles in the log unit; ``synthetic`` (n, n_genes) has the classes ``labels`` (n,)."""
        scaler = GeneScaler.fit(dense(few))
        drawn = ProfileSet(scaler(synthetic), np.asarray(labels).astype(str))
        known = others[others.obs[label].astype(str).isin(few.obs[label].astype(str)).to_numpy()]
        members, rest = (profile_set(part, scaler, label) for part in (few, known))
        return cls(*place, few.n_obs, scaler, members, rest, drawn, axes)


def profile_set(profiles: ad.AnnData, scaler: GeneScaler, label: str) -> ProfileSet:
    """Profiles in the space of ``scaler``, with their classes and donors."""
    donors = profiles.obs.get("donor", profiles.obs_names.to_series()).astype(str).to_numpy()
    return ProfileSet(scaler(dense(profiles)), profiles.obs[label].astype(str).to_numpy(), donors)


def axes_of(reference: ad.AnnData, label: str) -> np.ndarray:
    """Within-class residuals of a reference per unit of their scale, as ``Drawn`` keeps them; float32."""
    within = Within.of(dense(reference), reference.obs[label].astype(str).to_numpy())
    return divide(within.residuals, within.scale).astype(np.float32)


def quality(drawn: Iterable[Drawn], test: ad.AnnData, label: str, logistic_c: float = 0.01) -> pd.DataFrame:
    """Synthetic profiles against held-out donors, a row per set and metric with the columns ``COLUMNS``.

    ``adversarial_accuracy`` of matched subsets (null .5). ``tstr_balanced_accuracy``: a logistic regression trained on
    synthetic profiles alone names the class of held-out donors. ``attack_auc`` and ``attack_tpr_10``: the Gaussian
    density-ratio attack, with held-out donors as its null and validation donors as what the attacker holds;
    ``known_axes_auc``, ``known_axes_tpr_10``: the same by an attacker who also holds the public reference.
    ``attack_null_sd`` and ``known_axes_null_sd``: ``null_deviation`` of either AUC.
    ``edges_found``: of the pairs of genes that correlate above ``EDGE`` within classes of held-out donors, those that
    do in synthetic profiles; ``edges_false``: of the latter, those that do not in held-out donors.
    """
    rows: list[tuple[Any, ...]] = []
    edges: dict[tuple[str, ...], np.ndarray] = {}
    for one in drawn:
        known = test.obs[label].astype(str).isin(one.members.labels).to_numpy()
        held_out = profile_set(test[known], one.scaler, label)
        found: dict[str, tuple[float, str]] = {}
        pairs = matched(held_out, one.synthetic, held_out, DRAWS, one.seed)
        apart = [fidelity(a.values, b.values, NEIGHBOURS)["adversarial_accuracy"] for a, b in pairs]
        found["adversarial_accuracy"] = float(np.mean(apart)), ""
        found["tstr_balanced_accuracy"] = _tstr(one.synthetic, held_out, logistic_c), ""
        scores = {"attack": gaussian_ratio(one.synthetic.values, one.synthetic.labels, one.others)}
        if one.axes is not None:
            scores["known_axes"] = known_axes_ratio(one.synthetic.values, one.synthetic.labels, one.others, one.axes)
        for name, score in scores.items():
            ours, theirs = (score(part.values, part.labels) for part in (one.members, held_out))
            sides = ours, one.members, theirs, held_out
            for metric, estimate in (
                (f"{name}_auc", auc(*sides)),
                (f"{name}_tpr_10", true_positive_rate(*sides, 0.1, one.seed, replicates=1)),
            ):
                found[metric] = estimate.value, estimate.note
            found[f"{name}_null_sd"] = null_deviation(*sides, one.seed), ""
        classes = tuple(np.unique(held_out.labels))
        if classes not in edges:
            edges[classes] = _edges(held_out)
        real, synthetic = edges[classes], _edges(one.synthetic)
        both = int(np.count_nonzero(real & synthetic))
        found["edges_found"] = both / max(int(np.count_nonzero(real)), 1), ""
        found["edges_false"] = 1 - both / max(int(np.count_nonzero(synthetic)), 1), ""
        place = (one.method, one.n_per_tissue, one.seed)
        rows += [(*place, metric, value, one.real_profiles, note) for metric, (value, note) in found.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def null_deviation(
    ours: np.ndarray, members: ProfileSet, theirs: np.ndarray, non_members: ProfileSet, seed: int
) -> float:
    """How far an AUC of ``membership.auc`` lies from .5 by chance: its deviation when donors change sides at random.

    Donors of a class, with all of their profiles, are drawn anew as members, as many as there are. An attack that finds
    nothing has an AUC within two such deviations of .5 for 95 of 100 draws of the donors.
    """
    scores = np.concatenate([ours, theirs])
    both = ProfileSet(
        scores[:, None],
        np.concatenate([members.labels, non_members.labels]),
        np.concatenate([members.donors, non_members.donors]),
    )
    donors, first, donor = np.unique(both.donors, return_index=True, return_inverse=True)
    kinds, ours_too = both.labels[first], np.isin(donors, members.donors)
    rng, found = np.random.default_rng(seed), []
    for _ in range(PERMUTATIONS):
        drawn = ours_too.copy()
        for kind in np.unique(kinds):
            drawn[kinds == kind] = rng.permutation(drawn[kinds == kind])
        rows = drawn[donor]
        found.append(auc(scores[rows], both.take(rows), scores[~rows], both.take(~rows)).value)
    return float(np.std(found))


def _tstr(synthetic: ProfileSet, test: ProfileSet, c: float) -> float:
    from sklearn.linear_model import LogisticRegression

    if len(classes := np.unique(synthetic.labels)) < 2:
        return float("nan")
    model = LogisticRegression(C=c, max_iter=500).fit(synthetic.values, synthetic.labels)
    return classification_scores(model.predict_proba(test.values), classes, test.labels)["balanced_accuracy"]


def _edges(profiles: ProfileSet) -> np.ndarray:
    r = within_correlation(profiles.values, profiles.labels)
    return np.abs(r[np.triu_indices(len(r), 1)]) > EDGE


# ------------------------------------------------------------------------------------------ learning curves
@dataclass(frozen=True)
class InversePower:
    """accuracy(n) = limit - loss n^-rate: Figueroa et al. (2012), doi:10.1186/1472-6947-12-8."""

    limit: float
    loss: float
    rate: float

    @classmethod
    def fit(cls, n: np.ndarray, accuracy: np.ndarray) -> InversePower:
        """Weighted least squares with weights n, as there; the limit is at most 1 and the loss at least 0.

        For a given rate the curve is linear in the other two, which are solved for; the rate is the best of ``RATES``.

        Args:
            n, accuracy: at least two different n, (k,).
        """
        weights = n / n.sum()
        powers = np.power(n, -RATES[:, None])  # (n_rates, k)
        mean_power, mean = powers @ weights, float(accuracy @ weights)
        centred = powers - mean_power[:, None]
        slope = -(centred * weights) @ (accuracy - mean) / (np.square(centred) @ weights)
        loss = slope.clip(min=0)
        limit = mean + loss * mean_power
        # where the limit would exceed 1, the best curve towards 1
        steep = limit > 1
        towards_one = (powers * weights) @ (1 - accuracy) / (np.square(powers) @ weights)
        loss, limit = np.where(steep, towards_one.clip(min=0), loss), np.where(steep, 1.0, limit)
        errors = np.square(accuracy - limit[:, None] + loss[:, None] * powers) @ weights
        best = int(errors.argmin())
        return cls(float(limit[best]), float(loss[best]), float(RATES[best]))

    def __call__(self, n: np.ndarray | float) -> np.ndarray:
        """The accuracy with n profiles of a class."""
        return self.limit - self.loss * np.power(np.asarray(n, dtype=np.float64), -self.rate)

    def profiles_for(self, accuracy: float) -> float:
        """The n of an accuracy; infinite where the curve never reaches it."""
        if accuracy >= self.limit or self.loss <= 0:
            return np.inf
        return float((self.loss / (self.limit - accuracy)) ** (1 / self.rate))


def needs(scores: pd.DataFrame, metric: str = "balanced_accuracy_logistic", seed: int = 0) -> pd.DataFrame:
    """What synthetic profiles are worth, and what more real ones would give, from the scores of the experiment.

    A curve is fitted to the accuracies of real profiles alone, over the mean number of profiles of a class. Bands of
    95 % are quantiles over ``REPLICATES`` draws of seeds with replacement.

    Args:
        scores: what ``augmentation.score`` returns, with two sizes or more.

    Returns:
        A row per method, n_per_tissue and ratio: ``n``, the mean number of real profiles of a class; ``accuracy``;
        ``worth`` with ``worth_low`` and ``worth_high``: how many *more* real profiles of a class would give the same
        accuracy, infinite beyond what the curve reaches. Rows of the method ``none`` have ``curve``, ``curve_low`` and
        ``curve_high`` instead, also for ``FURTHER`` multiples of the largest n, as ``n_per_tissue`` "(predicted)".
        Without two sizes, no row.
    """
    part = scores[scores["metric"].eq(metric) & scores["value"].notna()]
    alone = part[part["method"] == "none"]
    classes = _classes(alone)
    sizes = (alone.groupby("n_per_tissue", sort=False)["real_profiles"].mean() / classes).rename("n")
    columns = ["method", "n_per_tissue", "ratio", "n", "accuracy", *_bands("worth"), *_bands("curve")]
    if len(sizes) < 2:
        return pd.DataFrame(columns=columns)
    rng = np.random.default_rng(seed)
    by_seed = part.pivot_table(index=["method", "n_per_tissue", "ratio"], columns="seed", values="value", sort=False)
    values, seeds = by_seed.to_numpy(), by_seed.shape[1]
    ours = np.flatnonzero(by_seed.index.get_level_values("method") == "none")
    n_alone = sizes[by_seed.index.get_level_values("n_per_tissue")[ours]].to_numpy()
    replicates = REPLICATES if seeds > 1 else 0
    drawn = [np.arange(seeds), *rng.integers(seeds, size=(replicates, seeds))]
    means = [values[:, chosen].mean(axis=1) for chosen in drawn]
    curves = [InversePower.fit(n_alone, mean[ours]) for mean in means]
    rows = []
    for place, (method, size, ratio) in enumerate(by_seed.index):
        n = float(sizes[size])
        row = {"method": method, "n_per_tissue": size, "ratio": ratio, "n": n, "accuracy": means[0][place]}
        if method == "none":
            rows.append(row | _interval("curve", [float(curve(n)) for curve in curves]))
        else:
            worth = [curve.profiles_for(mean[place]) - n for curve, mean in zip(curves, means, strict=True)]
            rows.append(row | _interval("worth", worth))
    largest = float(sizes.max())
    for factor in FURTHER:
        row = {"method": "none", "n_per_tissue": "(predicted)", "ratio": 0, "n": factor * largest, "accuracy": np.nan}
        rows.append(row | _interval("curve", [float(curve(factor * largest)) for curve in curves]))
    return pd.DataFrame(rows, columns=columns)


def _classes(alone: pd.DataFrame) -> float:
    """The number of classes, from a size that every class reaches: profiles over profiles per class."""
    numbers = alone[alone["n_per_tissue"] != "all"]
    if numbers.empty:
        return 1.0
    smallest = numbers.iloc[int(np.argmin(numbers["n_per_tissue"].astype(int)))]
    return max(float(smallest["real_profiles"]) / float(smallest["n_per_tissue"]), 1.0)


def _bands(name: str) -> list[str]:
    return [name, f"{name}_low", f"{name}_high"]


def _interval(name: str, values: list[float]) -> dict[str, float]:
    """The first value, and quantiles of all that may be infinite."""
    low, high = np.quantile(values, [0.025, 0.975], method="nearest")
    return dict(zip(_bands(name), (values[0], float(low), float(high)), strict=True))


def frontier(found: pd.DataFrame) -> pd.DataFrame:
    """``quality`` as a table to read: a row per n_per_tissue and method, a column per metric, mean over seeds.

    Columns ``{metric}_sd`` give the deviation between seeds.
    """
    by = found.groupby(["n_per_tissue", "method", "metric"], sort=False)["value"]
    table = by.mean().unstack("metric", sort=False)
    spread = by.std().unstack("metric", sort=False).add_suffix("_sd")
    return pd.concat([table, spread], axis=1).rename_axis(columns=None).reset_index()
