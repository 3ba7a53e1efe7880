"""The space in which a class-conditional Gaussian is diagonal, and its exact denoiser there.

A network that adds to the exact denoiser of a fitted Gaussian only has to learn what is not Gaussian:
untrained, it already samples the Gaussian. The idea is that of Karras et al. (2022), arXiv:2206.00364,
table 1, who precondition with one standard deviation for all data; here every direction has its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from transcriptome_diffusion.expression import covariance
from transcriptome_diffusion.generators.scaler import Scaler

FOLDS = 5
#: axes of a space whose profiles and genes both number more than twice as many; GTEx has 12,000 times 18,700
MOST_AXES = 512


class Posterior(NamedTuple):
    """What a Gaussian says of clean coordinates, given noisy ones, all (n, width).

    ``unit_mean`` is the mean over the root of the mean square that it has over all noisy coordinates.
    """

    mean: Tensor
    deviation: Tensor
    unit_mean: Tensor


class GaussianSpace(nn.Module):
    """Coordinates in which profiles of every class are, to a first approximation, one diagonal Gaussian.

    A profile is ``mean + unit * V (u * exp(slope * log_loudness / 2))``. ``mean`` is the sum of one effect
    per condition: with one condition the class means, with several an additive model, which also covers
    combinations never seen. ``unit`` is each gene's within-class deviation, V are the principal axes of what
    is left. A profile's loudness is its own mean square off the leading axes: real profiles differ in it
    several times as much as Gaussian ones could. Its logarithm (or a part of it, see ``fit``) is the first
    coordinate, in units in which it moves a profile as far as the others do; ``slope`` says how far each axis
    follows it.

    The variance along an axis is the one that *other donors* have there, since with fewer profiles than genes
    training variances are far too large on the first axes and far too small on the last. Axes along which no
    training profile varies have no coordinate but white noise, so the space grows with samples x genes, not
    with genes squared.
    """

    offsets: Tensor
    effects: Tensor
    levels: Tensor
    unit: Tensor
    directions: Tensor
    slope: Tensor
    variance: Tensor
    fitted: Tensor
    floor: Tensor
    trust: Tensor
    reach: Tensor
    leading: Tensor

    def __init__(self, categories: Sequence[int], n_genes: int, rank: int) -> None:
        super().__init__()
        total = int(sum(categories))
        self.register_buffer("offsets", torch.tensor([0, *np.cumsum(categories)[:-1]]), persistent=False)
        for name, shape in {
            "effects": (total, n_genes),  # of a category on the genes
            "levels": (total, 1),  # of a category on the logarithm of loudness
            "unit": (n_genes,),
            "directions": (n_genes, rank),
            "slope": (rank,),
            "variance": (1 + rank,),
            "fitted": (1 + rank,),  # the variance that training profiles have
            "floor": (1,),  # variance off the axes
            "trust": (1,),  # the part of a measured log loudness that counts
            "reach": (1,),  # units of the first coordinate per unit of log loudness
            "leading": (rank,),  # 1 for axes that do not count for loudness
        }.items():
            self.register_buffer(name, torch.zeros(shape))

    @classmethod
    def fit(
        cls,
        z: np.ndarray,
        codes: np.ndarray,
        categories: Sequence[int],
        donors: np.ndarray,
        loudness: float = 1.0,
    ) -> tuple[Self, Tensor]:
        """Fit on training profiles.

        Args:
            z: (n, n_genes), scaled genes.
            codes: (n, n_conditions), category codes.
            categories: number of categories per condition.
            donors: (n,), whose profiles are kept together in folds.
            loudness: the part of its logarithm that is made a coordinate; the rest is left to the network,
                which can tie it to the other axes.

        Returns:
            The space, and the training profiles' coordinates (n, width), their loudness judged from outside:
            by the axes of other donors.
        """
        z = np.asarray(z, dtype=np.float64)
        n, genes = z.shape
        design = np.zeros((n, int(sum(categories))))
        rows = codes + np.concatenate([[0], np.cumsum(categories)[:-1]]).astype(np.int64)
        np.put_along_axis(design, rows, 1.0, axis=1)
        effects, _, degrees, _ = np.linalg.lstsq(design, z, rcond=None)
        # divided by the degrees of freedom, without which small classes look too tight
        residual = design @ effects
        np.subtract(z, residual, out=residual)
        residual *= np.sqrt(n / max(n - int(degrees), 1))
        unit = residual.std(0)
        unit = np.where(unit > 1e-6 * unit.max(initial=1e-30), unit, 1.0)
        residual /= unit

        log_loudness, trust = held_out_loudness(residual, donors)
        log_loudness, trust = loudness * log_loudness, loudness * trust
        levels = np.linalg.lstsq(design, log_loudness, rcond=None)[0]
        _, directions = principal_axes(residual / np.exp(log_loudness / 2)[:, None])
        rank = directions.shape[1]
        slope, variance, floor = held_out_spectrum(residual, log_loudness, donors, rank)
        u = residual @ directions / np.exp(np.outer(log_loudness, slope) / 2)
        fitted = (u**2).mean(0)
        reach = 0.5 * np.sqrt((slope * variance).sum() + floor * (genes - rank))
        first = (log_loudness - design @ levels) * reach
        spread = max(float((first**2).mean()), 1e-6 * float(variance[0]))
        space = cls(categories, genes, rank)
        for name, value in {
            "effects": effects,
            "levels": levels[:, None],
            "unit": unit,
            "directions": directions,
            "slope": slope,
            "variance": np.append(spread, variance),
            "fitted": np.append(spread, fitted),
            "floor": np.array([floor]),
            "trust": np.array([trust]),
            "reach": np.array([reach]),
            "leading": np.arange(rank) < leading_axes(fitted),
        }.items():
            getattr(space, name).copy_(torch.from_numpy(np.ascontiguousarray(value)))
        return space, torch.from_numpy(np.column_stack([first, u])).float()

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.slope)

    @property
    def width(self) -> int:
        """The number of coordinates: the axes and the loudness."""
        return 1 + self.rank

    @property
    def weight(self) -> Tensor:
        """What a coordinate's squared unit is in squared units of the scaled genes, (width,)."""
        axes = (self.unit[:, None] * self.directions).square().sum(0)
        return torch.cat([axes.new_ones(1), axes])

    def mean(self, codes: Tensor) -> Tensor:
        """Means (n, n_genes) for codes (n, n_conditions)."""
        return self.effects[codes + self.offsets].sum(1)

    def level(self, codes: Tensor) -> Tensor:
        """Mean logarithm of loudness, (n, 1)."""
        return self.levels[codes + self.offsets].sum(1)

    def encode(self, z: Tensor, codes: Tensor) -> Tensor:
        """Coordinates (n, width) of z (n, n_genes) of other donors than those of training."""
        residual = (z - self.mean(codes)) / self.unit
        u = residual @ self.directions
        quiet, off = 1 - self.leading, len(self.unit) - self.rank
        outside = (residual - u @ self.directions.T).square().sum(1, keepdim=True)
        energy = (u.square() * quiet).sum(1, keepdim=True) + outside * (off > 0)
        expected = (self.variance[1:] * quiet).sum() + self.floor * off
        log_loudness = self.trust * torch.log(energy / expected + 1e-12)
        first = (log_loudness - self.level(codes)) * self.reach
        return torch.cat([first, u * torch.exp(-0.5 * log_loudness * self.slope)], 1)

    def decode(self, u: Tensor, codes: Tensor, noise: Tensor) -> Tensor:
        """Back to (n, n_genes); ``noise``, standard normal of that shape, fills the directions left out."""
        log_loudness = u[:, :1] / self.reach + self.level(codes)
        along = (u[:, 1:] * torch.exp(0.5 * log_loudness * self.slope)) @ self.directions.T
        outside = self.floor.sqrt() * (noise - (noise @ self.directions) @ self.directions.T)
        return self.mean(codes) + self.unit * (along + torch.exp(0.5 * log_loudness) * outside)

    def widen(self, u: Tensor, noise: Tensor) -> Tensor:
        """Give training coordinates (n, width) other donors' variance, by shrinking or by adding noise."""
        gain = (self.variance / self.fitted).clamp(max=1).sqrt()
        return gain * u + (self.variance - self.fitted).clamp(min=0).sqrt() * noise

    def denoise(self, u_t: Tensor, a: Tensor, s: Tensor) -> Posterior:
        """What is known of u_0 given u_t = a u_0 + s eps; u_t is (n, width), a and s are (n, 1)."""
        total = a**2 * self.variance + s**2
        share = self.variance / total
        # the signal a is left out of both, so that pure noise, a = 0, has its limit
        unit_mean = share * u_t / (share**2 * total).mean(1, keepdim=True).sqrt()
        return Posterior(a * share * u_t, share.sqrt() * s, unit_mean)


def fit_coordinates(
    x: np.ndarray,
    codes: np.ndarray,
    categories: Sequence[int],
    donors: np.ndarray,
    scaling: str,
    loudness: float | None,
) -> tuple[Scaler, GaussianSpace | None, Tensor]:
    """What a network works on, fitted on training profiles x (n, n_genes) in their own unit.

    Args:
        codes, categories, donors: as ``GaussianSpace.fit`` takes them.
        scaling: as ``Scaler.fit`` takes it.
        loudness: of the Gaussian's space; None for the scaled genes without a space.

    Returns:
        The scaler, the space, and the training profiles in them, (n, width).
    """
    scaler = Scaler(x.shape[1])
    scaler.fit(x, scaling)
    z = scaler(torch.from_numpy(x))
    if loudness is None:
        return scaler, None, z
    space, u = GaussianSpace.fit(z.numpy(), codes, categories, donors, loudness)
    return scaler, space, u


def memory_to_fit(profiles: int, genes: int) -> float:
    """Bytes that ``GaussianSpace.fit`` takes at its peak beside the profiles.

    As measured: four copies of the profiles in float64 (residuals, and those of a fold), and the axes five times.
    """
    rank = min(profiles, genes)
    return (33.0 * profiles + 37.0 * (rank if rank <= 2 * MOST_AXES else MOST_AXES)) * genes


def learnt_coordinates(
    space: GaussianSpace, profiles: int, axes_per_profile: float, variance_share: float | None = None
) -> int:
    """How many leading coordinates a network learns: loudness, and some axes; the Gaussian keeps the others.

    Args:
        profiles: the number of training profiles.
        axes_per_profile: axes in proportion to them.
        variance_share: if given, instead as many axes as hold this share of what other donors vary along all.
    """
    if variance_share is None:
        return 1 + max(round(axes_per_profile * profiles), 1)
    held = torch.cumsum((space.variance * space.weight)[1:].double(), 0)
    return 2 + int(torch.searchsorted(held, variance_share * held[-1]).clamp(max=space.rank - 1))


def principal_axes(residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances (rank,), falling, and axes (n_genes, rank) of centred residuals (n, n_genes).

    Where profiles and genes are both many, only the first ``MOST_AXES``, by a randomised decomposition: a full one
    takes hours there, and the last axes are hardly better than white noise.
    """
    n, genes = residual.shape
    if min(n, genes) > 2 * MOST_AXES:
        squares, directions = covariance.leading_axes(residual, MOST_AXES, iterations=2)
        return squares / n, directions.astype(np.float64)
    # the eigenvectors of the smaller of the two products give those of the larger
    if n >= genes:
        values, directions = np.linalg.eigh(residual.T @ residual)
    else:
        values, left = np.linalg.eigh(residual @ residual.T)
        directions = residual.T @ (left / np.sqrt(values.clip(min=np.finfo(float).tiny)))
    kept = np.flatnonzero(values > 1e-9 * values.max(initial=np.finfo(float).tiny))[::-1]
    return values[kept] / n, directions[:, kept]


def leading_axes(variances: np.ndarray) -> int:
    """How many axes carry the first half of the variance; loudness is judged by the others."""
    return int(np.searchsorted(np.cumsum(variances), 0.5 * variances.sum()))


def donor_folds(residual: np.ndarray, donors: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows to fit on and rows of other donors, in up to FOLDS folds.

    Raises:
        ValueError: if there is only one donor.
    """
    from sklearn.model_selection import GroupKFold

    if (found := len(np.unique(donors))) < 2:
        raise ValueError(
            f"{found} donor in {len(donors)} training profiles: how other donors scatter cannot be judged. "
            "Give `obs['donor']` at least two values, or choose another `prediction` than residual."
        )
    yield from GroupKFold(min(FOLDS, found)).split(residual, groups=donors)


def held_out_loudness(residual: np.ndarray, donors: np.ndarray) -> tuple[np.ndarray, float]:
    """Logarithm of each profile's mean square (n,) off the leading axes of other donors, and the trust in it.

    Trust is the share of its variance that is more than a Gaussian's: there the mean square over axes of
    variance v is nearly a gamma variable of shape (sum v)^2 / (2 sum v^2), and the variance of its logarithm
    the trigamma function of that shape. The logarithm is shrunk by it.
    """
    from scipy.special import polygamma

    n, genes = residual.shape
    energy, expected = np.zeros(n), 0.0
    for fitted, other in donor_folds(residual, donors):
        values, axes = principal_axes(residual[fitted])
        leading = axes[:, : leading_axes(values)]
        rest = residual[other] - (residual[other] @ leading) @ leading.T
        energy[other] = (rest**2).sum(1) / max(genes - leading.shape[1], 1)
        quiet = values[leading.shape[1] :]
        # what no axis holds is shared out evenly, where there may be more axes than were looked for
        left_over = max(float((residual[fitted] ** 2).sum()) / len(fitted) - values.sum(), 0.0)
        squares = (quiet**2).sum() + left_over**2 / max(min(len(fitted), genes) - len(values), 1)
        expected = max(expected, float(polygamma(1, 0.5 * (quiet.sum() + left_over) ** 2 / squares)))
    log_loudness = np.log(energy.clip(min=1e-12 * energy.max(initial=1e-300)) / energy.mean())
    trust = max(0.0, 1 - expected / max(float(log_loudness.var()), 1e-12))
    return trust * log_loudness, trust


def held_out_spectrum(
    residual: np.ndarray, log_loudness: np.ndarray, donors: np.ndarray, rank: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """How other donors scatter along the axes and off them, averaged by the axes' rank over folds of donors.

    Returns:
        Slopes on loudness (rank,), rising within [0, 1]; variances at loudness 1 (rank,), falling; and the
        variance off the axes.
    """
    from sklearn.isotonic import IsotonicRegression

    n, genes = residual.shape
    amplitude = np.exp(log_loudness / 2)
    squares, outside = np.full((n, rank), np.nan), np.zeros(n)
    for fitted, other in donor_folds(residual, donors):
        _, axes = principal_axes(residual[fitted] / amplitude[fitted, None])
        along = (residual[other] @ axes) ** 2
        off = ((residual[other] ** 2).sum(1) - along.sum(1)).clip(min=0)
        outside[other] = off / max(genes - axes.shape[1], 1)
        squares[other, : min(rank, axes.shape[1])] = along[:, :rank]
    # folds have fewer axes than all donors together: what lies off theirs stands for the axes they lack
    squares = np.where(np.isnan(squares), outside[:, None], squares)
    centred = log_loudness - log_loudness.mean()
    slopes = np.ones(rank)
    if (scatter := float(centred @ centred)) > 0:
        slopes = centred @ np.log(squares + 1e-12 * squares.max()) / scatter
    order = np.arange(rank + 1)
    slopes = IsotonicRegression(y_min=0, y_max=1).fit_transform(order[:-1], slopes)
    variances = (squares / np.exp(np.outer(log_loudness, slopes))).mean(0)
    falling = IsotonicRegression(increasing=False).fit_transform(
        order,
        np.append(variances, (outside / amplitude**2).mean()),
        sample_weight=np.append(np.ones(rank), max(genes - rank, 1e-9)),
    )
    return slopes, falling[:-1].clip(min=1e-6 * falling[0]), max(float(falling[-1]), 0.0)
