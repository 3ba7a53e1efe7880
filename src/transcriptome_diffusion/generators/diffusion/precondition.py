"""The class-conditional PCA preconditioner: axes on which a fitted Gaussian is diagonal, and its exact denoiser there.

A network that adds to the exact denoiser of a fitted Gaussian only has to learn what is not Gaussian. Untrained, it
already samples the Gaussian. Karras et al. (2022), arXiv:2206.00364, table 1, precondition with one standard deviation
for all data; here every axis has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from transcriptome_diffusion.expression.covariance import MOST_AXES, principal_axes
from transcriptome_diffusion.generators.options import CoordinateOptions
from transcriptome_diffusion.generators.scaler import Scaler

FOLDS = 5
#: rows of which temporary arrays are made at once
BLOCK = 4096


class Posterior(NamedTuple):
    """The distribution of x_0 given x_t under the Gaussian, by level (n, width): normal around ``skip * x_t``.

    ``gain * x_t`` is the mean divided by its root mean square over all x_t.
    """

    skip: Tensor
    gain: Tensor
    variance: Tensor


class Preconditioner(nn.Module):
    """Class-conditional PCA preconditioner: coordinates in which profiles of every class are close to N(0, diagonal).

    The model of a profile is ``mean + unit * V (u * exp(exponent * log_scale / 2))``:

    - ``mean`` is the sum of one effect per condition. With one condition these are the class means; with several the
      model is additive, and also covers combinations that training lacks.
    - ``unit`` is the within-class standard deviation of each gene.
    - V are the principal axes of the within-class residuals.
    - ``log_scale`` is the logarithm of a profile's mean square along the axes that are not leading. It varies between
      real profiles several times as much as it would between draws of a Gaussian. It is the first coordinate (all of it
      or a share, see ``fit``), in a unit in which it moves a profile as far as the others do.
    - ``exponent`` says how strongly the scatter along each axis depends on the log scale.

    The variance along an axis is that of *held-out donors*: with fewer profiles than genes the training variance is far
    too large on the first axes and far too small on the last. Directions along which no training profile varies have no
    coordinate but white noise, so memory grows with samples x genes, not with genes squared.
    """

    offsets: Tensor
    effects: Tensor
    log_scale_effects: Tensor
    unit: Tensor
    axes: Tensor
    exponent: Tensor
    variance: Tensor
    training_variance: Tensor
    noise_variance: Tensor
    shrinkage: Tensor
    log_scale_unit: Tensor
    leading: Tensor

    def __init__(self, categories: Sequence[int], n_genes: int, rank: int) -> None:
        super().__init__()
        total = int(sum(categories))
        self.register_buffer("offsets", torch.tensor([0, *np.cumsum(categories)[:-1]]), persistent=False)
        for name, shape in {
            "effects": (total, n_genes),  # of a category on the genes
            "log_scale_effects": (total, 1),  # of a category on the log scale
            "unit": (n_genes,),
            "axes": (n_genes, rank),
            "exponent": (rank,),
            "variance": (1 + rank,),  # of held-out donors
            "training_variance": (1 + rank,),
            "noise_variance": (1,),  # in directions without an axis
            "shrinkage": (1,),  # factor on a measured log scale
            "log_scale_unit": (1,),  # the first coordinate per unit of log scale
            "leading": (rank,),  # 1 for axes that are left out of the log scale
        }.items():
            self.register_buffer(name, torch.zeros(shape))
        self._weight: tuple[Any, Tensor] | None = None

    @classmethod
    def fit(
        cls,
        z: np.ndarray,
        codes: np.ndarray,
        categories: Sequence[int],
        donors: np.ndarray,
        log_scale_share: float = 1.0,
    ) -> tuple[Self, Tensor]:
        """Fit on training profiles.

        Args:
            z: (n, n_genes), scaled genes.
            codes: (n, n_conditions), category codes.
            categories: number of categories per condition.
            donors: (n,); the profiles of a donor stay together in one fold.
            log_scale_share: how much of the log scale becomes a coordinate; the rest is left to the network,
                which can relate it to the other axes.

        Returns:
            The preconditioner, and the training profiles' coordinates (n, width), whose log scales are measured on
            the axes of other donors.

        Raises:
            ValueError: if there is only one donor.
        """
        z = np.asarray(z, dtype=np.float64)
        n, genes = z.shape
        design = np.zeros((n, int(sum(categories))))
        rows = codes + np.concatenate([[0], np.cumsum(categories)[:-1]]).astype(np.int64)
        np.put_along_axis(design, rows, 1.0, axis=1)
        effects, _, degrees, _ = np.linalg.lstsq(design, z, rcond=None)
        # divided by the degrees of freedom: otherwise the variance of small classes is too small
        residual = design @ effects
        np.subtract(z, residual, out=residual)
        del z  # of a large cohort every copy counts
        residual *= np.sqrt(n / max(n - int(degrees), 1))
        unit = residual.std(0)
        unit = np.where(unit > 1e-6 * unit.max(initial=1e-30), unit, 1.0)
        residual /= unit

        log_scale, shrinkage = held_out_log_scale(residual, donors)
        log_scale, shrinkage = log_scale_share * log_scale, log_scale_share * shrinkage
        log_scale_effects = np.linalg.lstsq(design, log_scale, rcond=None)[0]
        _, axes = principal_axes(residual / np.exp(log_scale / 2)[:, None], MOST_AXES)
        rank = axes.shape[1]
        exponent, variance, noise_variance = held_out_spectrum(residual, log_scale, donors, rank)
        u, amplitude = residual @ axes, np.outer(log_scale, exponent)
        amplitude /= 2
        u /= np.exp(amplitude, out=amplitude)
        del amplitude, residual
        training_variance = (u**2).mean(0)
        log_scale_unit = 0.5 * np.sqrt((exponent * variance).sum() + noise_variance * (genes - rank))
        first = (log_scale - design @ log_scale_effects) * log_scale_unit
        first_variance = max(float((first**2).mean()), 1e-6 * float(variance[0]))
        preconditioner = cls(categories, genes, rank)
        for name, value in {
            "effects": effects,
            "log_scale_effects": log_scale_effects[:, None],
            "unit": unit,
            "axes": axes,
            "exponent": exponent,
            "variance": np.append(first_variance, variance),
            "training_variance": np.append(first_variance, training_variance),
            "noise_variance": np.array([noise_variance]),
            "shrinkage": np.array([shrinkage]),
            "log_scale_unit": np.array([log_scale_unit]),
            "leading": np.arange(rank) < leading_axes(training_variance),
        }.items():
            getattr(preconditioner, name).copy_(torch.from_numpy(np.ascontiguousarray(value)))
        return preconditioner, torch.from_numpy(np.column_stack([first, u])).float()

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.exponent)

    @property
    def width(self) -> int:
        """The number of coordinates: the log scale and the axes."""
        return 1 + self.rank

    @property
    def weight(self) -> Tensor:
        """Squared units of the scaled genes per squared unit of each coordinate, (width,); computed once."""
        state = self.unit._version, self.axes._version, self.axes.device
        if self._weight is None or self._weight[0] != state:
            axes = (self.unit[:, None] * self.axes).square().sum(0)
            self._weight = state, torch.cat([axes.new_ones(1), axes])
        return self._weight[1]

    def mean(self, codes: Tensor) -> Tensor:
        """Means (n, n_genes) for codes (n, n_conditions)."""
        return self.effects[codes + self.offsets].sum(1)

    def mean_log_scale(self, codes: Tensor) -> Tensor:
        """Mean log scale for codes (n, n_conditions), (n, 1)."""
        return self.log_scale_effects[codes + self.offsets].sum(1)

    def to_coordinates(self, z: Tensor, codes: Tensor) -> Tensor:
        """Coordinates (n, width) of scaled profiles z (n, n_genes) of other donors than those of training."""
        residual = (z - self.mean(codes)) / self.unit
        u = residual @ self.axes
        trailing, off = 1 - self.leading, len(self.unit) - self.rank
        outside = (residual - u @ self.axes.T).square().sum(1, keepdim=True)
        energy = (u.square() * trailing).sum(1, keepdim=True) + outside * (off > 0)
        expected = (self.variance[1:] * trailing).sum() + self.noise_variance * off
        log_scale = self.shrinkage * torch.log(energy / expected + 1e-12)
        first = (log_scale - self.mean_log_scale(codes)) * self.log_scale_unit
        return torch.cat([first, u * torch.exp(-0.5 * log_scale * self.exponent)], 1)

    def from_coordinates(self, u: Tensor, codes: Tensor, noise: Tensor) -> Tensor:
        """Scaled profiles (n, n_genes); ``noise``, standard normal of that shape, fills directions without an axis."""
        log_scale = u[:, :1] / self.log_scale_unit + self.mean_log_scale(codes)
        outside = self.noise_variance.sqrt() * torch.exp(0.5 * log_scale)
        along = torch.mul(0.5 * log_scale, self.exponent).exp_().mul_(u[:, 1:])
        # of the noise, what lies along the axes is taken away
        along.addcmul_(outside, noise @ self.axes, value=-1)
        scaled = torch.addmm(outside * noise, along, self.axes.T)
        return torch.addcmul(self.mean(codes), self.unit, scaled)

    def match_held_out_variance(self, u: Tensor, noise: Tensor) -> Tensor:
        """Training coordinates (n, width) with the variance of held-out donors: shrunk, or with noise added."""
        gain = (self.variance / self.training_variance).clamp(max=1).sqrt()
        return torch.addcmul(gain * u, (self.variance - self.training_variance).clamp(min=0).sqrt(), noise)

    def posterior(self, a: Tensor, s: Tensor) -> Posterior:
        """The distribution of u_0 given u_t = a u_0 + s eps; a and s are (n, 1)."""
        share = self.variance / torch.addcmul(s**2, a**2, self.variance)
        # the signal a is left out, so that the limit of pure noise, a = 0, exists
        size = (share @ self.variance / self.width).sqrt()[:, None]
        return Posterior(a * share, share / size, s**2 * share)


class FittedCoordinates(NamedTuple):
    """What a network works on: scaled genes, or coordinates of a preconditioner.

    Attributes:
        scaler: fitted on the training profiles.
        preconditioner: None for scaled genes.
        n_components: how many leading coordinates the network models (the log scale and some axes); None for all.
        u: the training profiles' coordinates, (n, width).
    """

    scaler: Scaler
    preconditioner: Preconditioner | None
    n_components: int | None
    u: Tensor


def fit_coordinates(
    x: np.ndarray, codes: np.ndarray, categories: Sequence[int], donors: np.ndarray, options: CoordinateOptions
) -> FittedCoordinates:
    """Fit scaler and preconditioner on training profiles x (n, n_genes) in their own unit.

    Args:
        codes, categories, donors: as ``Preconditioner.fit`` takes them.
        options: scaling, and whether and how to precondition.
    """
    scaler = Scaler(x.shape[1])
    scaler.fit(x, options.scaling, signed=options.lower_bound == "none")
    z = scaler(torch.from_numpy(x))
    if not options.preconditioned:
        return FittedCoordinates(scaler, None, None, z)
    preconditioner, u = Preconditioner.fit(z.numpy(), codes, categories, donors, options.log_scale_share)
    return FittedCoordinates(scaler, preconditioner, count_components(preconditioner, len(x), options), u)


def memory_to_fit(profiles: int, genes: int) -> float:
    """Bytes that ``Preconditioner.fit`` takes at its peak beside the profiles.

    As measured: four copies of the profiles in float64 (residuals, and those of a fold), and the axes twice.
    """
    rank = min(profiles, genes)
    return (33.0 * profiles + 15.0 * (rank if rank <= 2 * MOST_AXES else MOST_AXES)) * genes


def count_components(preconditioner: Preconditioner, profiles: int, options: CoordinateOptions) -> int:
    """How many leading coordinates a network models; the Gaussian keeps the others.

    They are the log scale and ``components_per_sample`` times the number of training ``profiles`` axes or, with
    ``component_variance``, as many axes as hold that share of the variance of held-out donors.
    """
    if options.component_variance is None:
        return 1 + max(round(options.components_per_sample * profiles), 1)
    explained = torch.cumsum((preconditioner.variance * preconditioner.weight)[1:].double(), 0)
    axes = 1 + int(torch.searchsorted(explained, options.component_variance * explained[-1]))
    return 1 + min(axes, preconditioner.rank)


def leading_axes(variances: np.ndarray) -> int:
    """How many axes hold the first half of the variance; the log scale is measured on the others."""
    return int(np.searchsorted(np.cumsum(variances), 0.5 * variances.sum()))


def donor_folds(residual: np.ndarray, donors: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and rows of other donors, in up to FOLDS folds.

    Raises:
        ValueError: if there is only one donor.
    """
    from sklearn.model_selection import GroupKFold

    if (found := len(np.unique(donors))) < 2:
        raise ValueError(
            f"{found} donor in {len(donors)} training profiles: the variance of held-out donors cannot be estimated. "
            "Give `obs['donor']` at least two values, or do without the preconditioner: another `prediction` than "
            "residual for a denoiser, `space: genes` for the others."
        )
    yield from GroupKFold(min(FOLDS, found)).split(residual, groups=donors)


def held_out_log_scale(residual: np.ndarray, donors: np.ndarray) -> tuple[np.ndarray, float]:
    """Log scale of each profile (n,), measured off the leading axes of other donors and shrunk, and the shrinkage.

    The shrinkage factor is the share of the log scale's variance that exceeds a Gaussian's. For a Gaussian the mean
    square over axes of variance v is nearly a gamma variable of shape (sum v)^2 / (2 sum v^2), and the variance of its
    logarithm is the trigamma function of that shape.
    """
    from scipy.special import polygamma

    n, genes = residual.shape
    energy, expected = np.zeros(n), 0.0
    for fitted, other in donor_folds(residual, donors):
        values, axes = principal_axes(residual[fitted], MOST_AXES)
        leading = axes[:, : leading_axes(values)]
        rest = residual[other] - (residual[other] @ leading) @ leading.T
        energy[other] = (rest**2).sum(1) / max(genes - leading.shape[1], 1)
        trailing = values[leading.shape[1] :]
        # the variance that no axis holds is spread evenly, where there may be more axes than were computed
        left_over = max(float((residual[fitted] ** 2).sum()) / len(fitted) - values.sum(), 0.0)
        squares = (trailing**2).sum() + left_over**2 / max(min(len(fitted), genes) - len(values), 1)
        expected = max(expected, float(polygamma(1, 0.5 * (trailing.sum() + left_over) ** 2 / squares)))
    log_scale = np.log(energy.clip(min=1e-12 * energy.max(initial=1e-300)) / energy.mean())
    shrinkage = max(0.0, 1 - expected / max(float(log_scale.var()), 1e-12))
    return shrinkage * log_scale, shrinkage


def held_out_spectrum(
    residual: np.ndarray, log_scale: np.ndarray, donors: np.ndarray, rank: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Variance of held-out donors along the axes and off them, averaged over folds of donors by the axes' rank.

    Returns:
        Exponents of the scale (rank,), rising within [0, 1]; variances at log scale 0 (rank,), falling; and the
        variance in each direction without an axis.
    """
    from sklearn.isotonic import IsotonicRegression

    n, genes = residual.shape
    amplitude = np.exp(log_scale / 2)
    squares, outside = np.full((n, rank), np.nan), np.zeros(n)
    for fitted, other in donor_folds(residual, donors):
        _, axes = principal_axes(residual[fitted] / amplitude[fitted, None], MOST_AXES)
        along = (residual[other] @ axes) ** 2
        off = ((residual[other] ** 2).sum(1) - along.sum(1)).clip(min=0)
        outside[other] = off / max(genes - axes.shape[1], 1)
        squares[other, : min(rank, axes.shape[1])] = along[:, :rank]
    # a fold has fewer axes than all donors together: the variance off its axes stands for the axes it lacks
    np.copyto(squares, outside[:, None], where=np.isnan(squares))
    centred = log_scale - log_scale.mean()
    blocks = [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]
    exponents = np.ones(rank)
    if (scatter := float(centred @ centred)) > 0:
        least = 1e-12 * squares.max()
        exponents = sum(centred[rows] @ np.log(squares[rows] + least) for rows in blocks) / scatter
    order = np.arange(rank + 1)
    exponents = IsotonicRegression(y_min=0, y_max=1).fit_transform(order[:-1], exponents)
    variances = sum((squares[rows] / np.exp(np.outer(log_scale[rows], exponents))).sum(0) for rows in blocks) / n
    falling = IsotonicRegression(increasing=False).fit_transform(
        order,
        np.append(variances, (outside / amplitude**2).mean()),
        sample_weight=np.append(np.ones(rank), max(genes - rank, 1e-9)),
    )
    return exponents, falling[:-1].clip(min=1e-6 * falling[0]), max(float(falling[-1]), 0.0)
