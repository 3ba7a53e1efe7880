"""A baseline: a bootstrap that mixes training profiles of one sub-class, in coordinates of a fitted Gaussian."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Self

import anndata as ad
import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.classes import Classes
from transcriptome_diffusion.generators.diffusion.precondition import Preconditioner, memory_to_fit
from transcriptome_diffusion.generators.options import ClassBootstrapOptions

logger = logging.getLogger(__name__)

#: how often profiles that lie too near to a training profile are drawn again
MOST_REDRAWS = 20
#: training profiles whose distances to other donors set the limit
MOST_MEASURED = 2000
#: arrays that are saved beside those of ``Classes`` and of the preconditioner
ARRAYS = ("means", "scales", "group", "pools", "mixed", "noise", "mixing", "train", "gene_mean", "gene_scale", "limit")


def shrunken_means(means: np.ndarray, sizes: np.ndarray, parents: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Means of sub-classes (k, n_genes) shrunk to those of their classes, gene by gene.

    The weight of a sub-class's own mean is tau^2 / (tau^2 + s^2 / n): the posterior mean under normal deviations from
    the mean of the class. tau^2 is the moment estimate of their variance (one-way analysis of variance), at least 0.

    Args:
        sizes: profiles of each sub-class, (k,). parents: the class of each, (k,).
        variance: s^2 within sub-classes, (n_genes,).
    """
    member = (parents == np.unique(parents)[:, None]).astype(np.float64)
    totals = member @ sizes
    of_class = member.T @ ((member * sizes) @ means / totals[:, None])
    between = sizes @ np.square(means - of_class)
    degrees = len(sizes) - len(totals)
    scale = sizes.sum() - (member @ np.square(sizes) / totals).sum()
    tau2 = ((between - degrees * variance) / scale).clip(min=0) if degrees else np.zeros_like(variance)
    within = variance / sizes[:, None]
    weight = np.divide(tau2, tau2 + within, out=np.zeros_like(within), where=tau2 + within > 0)
    return of_class + weight * (means - of_class)


def shrunken_variances(ratio: np.ndarray, degrees: int) -> np.ndarray:
    """Variances of one sub-class over those of all, (n_genes,), shrunk to their common value: Smyth (2004).

    Args:
        ratio: sample variances with this many ``degrees`` of freedom over the pooled ones; 0 for constant genes.
    """
    varies = ratio > 0
    if degrees < 1 or varies.sum() < 2:
        return np.ones_like(ratio)
    logs = np.log(ratio[varies]) - digamma(degrees / 2) + np.log(degrees / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, degrees / 2))
    if excess <= polygamma(1, 1e4):  # no more scatter than chance: all genes have the common value
        return np.full_like(ratio, np.exp(logs.mean()))
    half = float(brentq(lambda x: polygamma(1, x) - excess, 1e-6, 1e4))
    common = np.exp(logs.mean() + digamma(half) - np.log(half))
    return (2 * half * common + degrees * ratio) / (2 * half + degrees)


def distinct(sizes: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Numbers below ``sizes`` (n,), different within a row as far as there are enough, (n, k) from uniform (n, k)."""
    chosen = np.empty(uniform.shape, dtype=np.int64)
    for j in range(uniform.shape[1]):
        value = (uniform[:, j] * np.maximum(sizes - j, 1)).astype(np.int64)
        for taken in np.sort(chosen[:, :j], axis=1).T:
            value += value >= taken
        chosen[:, j] = value % sizes
    return chosen


def nearest(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each row (n, n_genes) to the nearest of ``others``, (n,)."""
    from sklearn.metrics import pairwise_distances_argmin_min

    return pairwise_distances_argmin_min(values, others)[1] if len(values) else np.empty(0)


def nearest_other_donor(values: np.ndarray, donors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Distance of each of ``rows`` of values (n, n_genes) to the nearest profile of another donor."""
    from sklearn.metrics import pairwise_distances_chunked

    def reduce(distances: np.ndarray, start: int) -> np.ndarray:
        mine = donors[rows[start : start + len(distances)]]
        distances[mine[:, None] == donors] = np.inf
        return distances.min(axis=1)

    found: Iterator[np.ndarray] = pairwise_distances_chunked(values[rows], values, reduce_func=reduce)
    return np.concatenate(list(found))


@dataclass(eq=False)
class ClassBootstrap(Generator):
    """Mixtures of training profiles of one sub-class, with the variance of held-out donors.

    A sub-class is a combination of the conditions and of further columns of the sample table (``subclasses``); it is
    drawn at its training frequency. Its means are shrunk to those of the class (``shrunken_means``) and its variances
    to those of all profiles (``shrunken_variances``). The standardised profiles get the coordinates u of a
    ``Preconditioner``. A draw is, with three training profiles j of the sub-class and normal noise e,

        u = sqrt(1 - m) sd e + sqrt(m) sum_j w_j u_j,    sum_j w_j^2 = 1,

    where w is uniform on the simplex (Rubin's Bayesian bootstrap 1981, doi:10.1214/aos/1176345338) before it is scaled,
    so that the variance along every axis is that of held-out donors whatever the share m. A draw that lies nearer to a
    training profile than training profiles usually do to other donors' is drawn again.
    """

    name: ClassVar[str] = "class_bootstrap"

    classes: Classes = field(init=False)
    preconditioner: Preconditioner = field(init=False)
    means: np.ndarray = field(init=False)  # (n_subclasses, n_genes)
    scales: np.ndarray = field(init=False)  # (n_subclasses, n_genes)
    group: np.ndarray = field(init=False)  # (n_train,): the sub-class of each profile, sorted
    pools: np.ndarray = field(init=False)  # (n_subclasses, 2): first row and number of the profiles that are mixed
    mixed: np.ndarray = field(init=False)  # (n_train, width): coordinates of the training profiles, centred
    noise: np.ndarray = field(init=False)  # (width,): deviation of what is added to a mixture
    mixing: np.ndarray = field(init=False)  # (width,): root of the share m
    train: np.ndarray = field(init=False)  # (n_train, n_genes), standardised
    gene_mean: np.ndarray = field(init=False)  # (n_genes,)
    gene_scale: np.ndarray = field(init=False)  # (n_genes,)
    limit: np.ndarray = field(init=False)  # (1,): draws that are nearer to a training profile are drawn again

    @classmethod
    def fit_model(cls, train: ad.AnnData, validation: ad.AnnData, options: ClassBootstrapOptions) -> Self:
        """In closed form; validation profiles are not used.

        Raises:
            ValueError: if there is only one donor.
        """
        model = cls(**cls.checked(train, validation, options))
        strata = model.conditions.strata(model.conditions.to_codes(train.obs))
        columns = [name for name in options.subclasses if name in train.obs and name not in options.conditions]
        further = train.obs[columns].astype(str).agg("|".join, axis=1) if columns else np.full(len(strata), "")
        _, keys = np.unique(np.asarray(further, dtype=str), return_inverse=True)
        _, group = np.unique(strata * (keys.max() + 1) + keys, return_inverse=True)
        order = np.argsort(group, kind="stable")  # by sub-class, and so by class
        model.classes, model.group = Classes.sort(strata[order])[0], group[order]
        x, donors = dense(train)[order].astype(np.float64), train.obs.get("donor", train.obs_names).to_numpy()[order]
        u = model._standardise(x, strata[order], donors)
        model._prepare_mixing(u, options)
        scaler = GeneScaler.fit(dense(train))
        model.gene_mean, model.gene_scale = scaler.mean, scaler.scale
        model.train = scaler(dense(train)[order])
        rows = np.sort(np.random.default_rng(0).permutation(len(x))[:MOST_MEASURED])
        apart = nearest_other_donor(model.train, donors, rows)
        model.limit = np.array([np.percentile(apart, options.redraw_percentile)])
        model.record = {"subclasses": len(model.means), "profiles_per_subclass": np.bincount(model.group).tolist()}
        return model

    def _standardise(self, x: np.ndarray, strata: np.ndarray, donors: np.ndarray) -> np.ndarray:
        """Set means, scales and preconditioner; coordinates of the profiles (n, width), centred in each sub-class."""
        group, (_, starts, sizes) = self.group, np.unique(self.group, return_index=True, return_counts=True)
        means = np.add.reduceat(x, starts, axis=0) / sizes[:, None]
        squares = np.add.reduceat(np.square(x - means[group]), starts, axis=0)
        pooled = squares.sum(axis=0) / max(len(x) - len(sizes), 1)
        pooled[pooled <= np.square(1e-6 * np.abs(means).max(axis=0))] = 0.0  # constant, but for rounding
        ratio = np.divide(squares, pooled, out=np.zeros_like(squares), where=pooled > 0)
        ratio /= (sizes - 1).clip(min=1)[:, None]
        self.means = shrunken_means(means, sizes, strata[starts], pooled).astype(np.float32)
        variances = [shrunken_variances(one, size - 1) for one, size in zip(ratio, sizes, strict=True)]
        self.scales = np.sqrt(np.array(variances) * pooled).astype(np.float32)
        z = np.divide(x - self.means[group], self.scales[group], out=np.zeros_like(x), where=self.scales[group] > 0)
        self.preconditioner, found = Preconditioner.fit(z, np.zeros((len(x), 1), dtype=np.int64), [1], donors)
        u = found.numpy()
        centre = np.add.reduceat(u, starts, axis=0) / sizes[:, None]
        alone = sizes == 1
        centre[alone] = 0
        unbiased = np.sqrt(sizes / np.where(alone, sizes, sizes - 1))
        return ((u - centre[group]) * unbiased[group, None]).astype(np.float32)

    def _prepare_mixing(self, u: np.ndarray, options: ClassBootstrapOptions) -> None:
        """Set what ``sample_codes`` mixes, for centred coordinates u (n, width)."""
        variance = self.preconditioner.variance.numpy()
        training = np.square(u).mean(axis=0)
        kept = np.minimum(variance, training)
        self.mixed = u * np.sqrt(np.divide(kept, training, out=np.zeros_like(kept), where=training > 0))
        share = np.where(np.arange(len(variance)) <= options.leading, options.share_leading, options.share_other)
        self.mixing = np.sqrt(share).astype(np.float32)
        self.noise = np.sqrt(variance - share * kept).astype(np.float32)
        starts, sizes = np.unique(self.group, return_index=True, return_counts=True)[1:]
        pools = np.stack([starts, sizes], axis=1)
        of_class = np.searchsorted(self.classes.starts, starts, side="right") - 1
        few = sizes < options.min_samples  # these take the profiles of their class, then of all
        pools[few] = np.stack([self.classes.starts, self.classes.sizes], axis=1)[of_class[few]]
        pools[pools[:, 1] < options.min_samples] = 0, len(u)
        self.pools = pools

    @classmethod
    def memory_to_fit(cls, profiles: int, others: int, genes: int, options: ClassBootstrapOptions) -> float:
        return memory_to_fit(profiles, genes) + 40.0 * profiles * genes

    @torch.no_grad()
    def sample_codes(self, codes: np.ndarray, seed: int, batch_size: int) -> np.ndarray:
        index = self.classes.find(codes, self.conditions)
        # a stream for each kind of number, so that the size of batches does not change the draws
        picks, normal = (np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(2))
        drawn = np.empty((len(codes), len(self.genes)), dtype=np.float32)
        due = np.arange(len(codes))
        for _ in range(1 + MOST_REDRAWS):
            near = []
            for start in range(0, len(due), batch_size):
                rows = due[start : start + batch_size]
                drawn[rows] = self._mix(index[rows], picks, normal)
                values = ((self.finish(drawn[rows]) - self.gene_mean) / self.gene_scale).astype(np.float32)
                near.append(rows[nearest(values, self.train) < self.limit])
            due = np.concatenate([*near, np.empty(0, dtype=np.int64)])
            if not len(due):
                break
        return drawn

    def _mix(self, index: np.ndarray, picks: np.random.Generator, normal: np.random.Generator) -> np.ndarray:
        """One draw for each class in ``index`` (n,), (n, n_genes)."""
        options = ClassBootstrapOptions.model_validate(self.settings)
        uniform = picks.random((len(index), 1 + 2 * options.profiles))
        first = self.classes.starts[index] + (uniform[:, 0] * self.classes.sizes[index]).astype(np.int64)
        group = self.group[first]
        starts, sizes = self.pools[group].T
        rows = starts[:, None] + distinct(sizes, uniform[:, 1 : 1 + options.profiles])
        weights = -np.log1p(-uniform[:, 1 + options.profiles :])
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        # profiles drawn without replacement from a centred pool of m correlate with -1 / (m - 1)
        lost = (np.square(weights.sum(axis=1)) - 1) / np.maximum(sizes - 1, 1)
        weights /= np.sqrt((1 - lost).clip(min=0.25))[:, None]
        width, genes = self.mixed.shape[1], len(self.gene_scale)
        noise = normal.standard_normal((len(index), width + genes), dtype=np.float32)
        mixture = np.einsum("ij,ijk->ik", weights.astype(np.float32), self.mixed[rows])
        u = torch.from_numpy(self.noise * noise[:, :width] + self.mixing * mixture)
        codes = torch.zeros((len(index), 1), dtype=torch.int64)
        z = self.preconditioner.from_coordinates(u, codes, torch.from_numpy(noise[:, width:]))
        return self.means[group] + self.scales[group] * z.numpy()

    def state(self) -> dict[str, np.ndarray]:
        own = {name: getattr(self, name) for name in ARRAYS}
        axes = {f"preconditioner.{name}": part.numpy() for name, part in self.preconditioner.state_dict().items()}
        return own | vars(self.classes) | axes

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        self.classes = Classes(tensors["strata"], tensors["starts"], tensors["sizes"])
        for name in ARRAYS:
            setattr(self, name, tensors[name])
        parts = {name: value for name, value in tensors.items() if name.startswith("preconditioner.")}
        self.preconditioner = Preconditioner([1], len(self.gene_scale), len(parts["preconditioner.exponent"]))
        self.preconditioner.load_state_dict(
            {name.removeprefix("preconditioner."): torch.from_numpy(value) for name, value in parts.items()}
        )
