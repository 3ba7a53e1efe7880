"""Whether a generator copies its training profiles, and whether its samples vary as real ones do."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from transcriptome_diffusion.metrics.neighbours import nearest_distances


def copying(synthetic: np.ndarray, train: np.ndarray, held_out: np.ndarray, percentile: float = 1.0) -> float:
    """Share of synthetic profiles nearer to a training profile than the closest held-out profiles are.

    The limit is the given percentile of the distances from held-out profiles to their nearest training
    profile, so the null value is ``percentile / 100`` = .01 and a generator of copies reaches 1; best is no more than
    the null. The idea is that of the nearest-neighbour tests in Meehan et al. (2020), arXiv:2004.05675.

    Args:
        synthetic, train, held_out: (n, n_genes) in one gene-wise standardised space.
    """
    return copied(nearest_distances(synthetic, train), nearest_distances(held_out, train), percentile)


def copied(to_train: np.ndarray, usual: np.ndarray, percentile: float = 1.0) -> float:
    """``copying`` from the distances of synthetic and of held-out profiles to their nearest training profiles."""
    return float((to_train < np.percentile(usual, percentile)).mean())


def authenticity(to_train: np.ndarray, apart: np.ndarray) -> float:
    """Share of profiles that are no nearer to their nearest training profile than that is to its own nearest.

    0 for copies, null 1/3 in one gene and rising with their number; shrunken profiles lower it as well, since they
    lie nearer to all others. Alaa et al. (2022), arXiv:2102.08921.

    Args:
        to_train: of each profile, the distance to its nearest training profile, (n,).
        apart: the distance of that training profile to its nearest other one, (n,).
    """
    return float((to_train >= apart).mean())


class Scatter(NamedTuple):
    """Variation of a set of profiles within its classes.

    Attributes:
        names, sizes: the classes, sorted, and their profiles, (n_classes,).
        squares: of the deviations from the class mean, summed over profiles and genes, (n_classes,).
    """

    names: np.ndarray
    sizes: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, labels: np.ndarray) -> Self:
        """Of profiles (n, n_genes) and their classes (n,)."""
        names, sizes = np.unique(labels, return_counts=True)
        squares = np.empty(len(names))
        for i, name in enumerate(names):
            part = values[labels == name]
            part = part - part.mean(axis=0, dtype=np.float64).astype(part.dtype)
            # differences in the precision of the values, sums in float64
            squares[i] = np.einsum("ij,ij->i", part, part).sum(dtype=np.float64)
        return cls(names, sizes, squares)

    @classmethod
    def of_pairs(cls, squares: np.ndarray, labels: np.ndarray) -> Self:
        """The same from the squared distances of all pairs, (n, n): half their mean times the number of profiles."""
        names, sizes = np.unique(labels, return_counts=True)
        of_class = [np.flatnonzero(labels == name) for name in names]
        sums = [squares[np.ix_(of, of)].sum(dtype=np.float64) for of in of_class]
        return cls(names, sizes, np.array(sums) / (2 * sizes))


def spread(real: np.ndarray, real_labels: np.ndarray, synthetic: np.ndarray, synthetic_labels: np.ndarray) -> float:
    """Within-class variance of synthetic profiles relative to real ones, summed over genes.

    Best and null 1; below 1 the samples are shrunken, which raises precision and density and lowers
    recall. Every class weighs as its degrees of freedom among the real profiles, whatever the composition
    of the synthetic set; a class with fewer than two profiles in either set is left out.

    Args:
        real, synthetic: (n, n_genes) in one gene-wise standardised space.
        real_labels, synthetic_labels: one class per row.

    Raises:
        ValueError: if no class has two profiles in both sets, or real profiles do not vary.
    """
    return spread_of(Scatter.of(real, real_labels), Scatter.of(synthetic, synthetic_labels))


def spread_of(real: Scatter, synthetic: Scatter) -> float:
    """``spread`` from the scatter of both sets."""
    _, ours, theirs = np.intersect1d(real.names, synthetic.names, return_indices=True)
    n, m = real.sizes[ours], synthetic.sizes[theirs]
    kept = np.minimum(n, m) > 1
    within_real = real.squares[ours][kept].sum()
    if not within_real:
        raise ValueError("no class has two differing real profiles and two synthetic ones; spread is undefined.")
    return float((((n - 1) / np.maximum(m - 1, 1)) * synthetic.squares[theirs])[kept].sum() / within_real)
