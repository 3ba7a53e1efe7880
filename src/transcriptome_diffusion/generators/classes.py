"""What the class-conditional generators share: class means and shrunk within-class covariances, sampled exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import anndata as ad
import numpy as np

from transcriptome_diffusion.expression.covariance import ledoit_wolf
from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.generators.base import Conditions, Generator


@dataclass(frozen=True)
class Classes:
    """Every combination of conditions seen in training, for profiles sorted by class.

    Attributes:
        strata: the combinations' codes as ``Conditions.strata`` gives them, (n_classes,), ascending.
        starts: the first row of each class, (n_classes,).
        sizes: training profiles per class, (n_classes,).
    """

    strata: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    @classmethod
    def sort(cls, strata: np.ndarray) -> tuple[Self, np.ndarray]:
        """The classes, and the order that sorts the profiles by class."""
        order = np.argsort(strata, kind="stable")
        known, starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)
        return cls(known, starts, sizes), order

    def rows(self, index: int) -> tuple[int, int]:
        """First and last (excluded) row of a class."""
        return int(self.starts[index]), int(self.starts[index] + self.sizes[index])

    def find(self, codes: np.ndarray, conditions: Conditions) -> np.ndarray:
        """The class of each row of ``codes`` (n, n_conditions), (n,).

        Raises:
            ValueError: if a combination of conditions had no training profile.
        """
        strata = conditions.strata(codes)
        index = np.searchsorted(self.strata, strata).clip(max=len(self.strata) - 1)
        if (unseen := self.strata[index] != strata).any():
            label = {
                name: known[code]
                for (name, known), code in zip(conditions.categories.items(), codes[unseen][0], strict=True)
            }
            raise ValueError(
                f"no training profile has {label}: this generator knows only combinations of conditions that it "
                "has seen. Ask for those, or train it on fewer `conditions`."
            )
        return index

    def known(self, codes: np.ndarray, conditions: Conditions) -> np.ndarray:
        """Which rows of ``codes`` (n, n_conditions) have a combination of conditions that training has, (n,) bool."""
        return np.isin(conditions.strata(codes), self.strata)

    def pick(self, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A random row of the class given for each sample, with replacement, (n,)."""
        return self.starts[index] + rng.integers(self.sizes[index])


@dataclass(eq=False)
class ClassGenerator(Generator):
    """Class means, and Ledoit-Wolf covariances that are never formed.

    Genes are scaled by their pooled within-class standard deviation, so that the shrinkage target m I stands for
    equal relative variances. A class of fewer than ``min_samples`` profiles takes the covariance of the
    residuals of all classes. With the n residuals R (profiles minus class mean) behind a class,

        sqrt((1 - s) / n) Rᵀ w + sqrt(s m) e,    w ~ N(0, I_n), e ~ N(0, I_genes)

    has exactly the covariance (1 - s) RᵀR / n + s m I, so that 18,000 genes cost what their profiles cost.
    """

    classes: Classes = field(init=False)
    means: np.ndarray = field(init=False)  # (n_classes, n_genes)
    scale: np.ndarray = field(init=False)  # (n_genes,)
    residuals: np.ndarray = field(init=False)  # (n_train, n_genes), scaled, sorted by class
    rows: np.ndarray = field(init=False)  # (n_classes, 2): the residuals behind a class's covariance
    weights: np.ndarray = field(init=False)  # (n_classes, 2): of w and of e

    @classmethod
    def fit_model(cls, train: ad.AnnData, validation: ad.AnnData, options: Any) -> Self:
        """Take means and covariances from ``train``; ``options`` are ``ClassGaussianOptions`` or of a subclass."""
        model = cls(**cls.checked(train, validation, options))
        classes, order = Classes.sort(model.conditions.strata(model.conditions.to_codes(train.obs)))
        residuals = dense(train)[order].astype(np.float64)
        means = np.add.reduceat(residuals, classes.starts, axis=0) / classes.sizes[:, None]
        residuals -= np.repeat(means, classes.sizes, axis=0)
        scale = residuals.std(axis=0)
        scale[scale <= 1e-6 * np.abs(means).max(axis=0)] = 0.0  # constant within classes, but for rounding
        residuals *= np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
        model.classes, model.means, model.scale = classes, means.astype(np.float32), scale.astype(np.float32)
        model.residuals = residuals.astype(np.float32)
        model.rows = np.array(
            [
                classes.rows(i) if size >= options.min_samples else (0, len(residuals))
                for i, size in enumerate(classes.sizes)
            ]
        )
        shrinkage, variance = np.array([ledoit_wolf(residuals[slice(*rows)]) for rows in model.rows]).T
        n = model.rows[:, 1] - model.rows[:, 0]
        model.weights = np.sqrt(np.column_stack([(1 - shrinkage) / n, shrinkage * variance]))
        model.weights = model.weights.astype(np.float32)
        model.record = {
            "profiles_per_class": classes.sizes.tolist(),
            "classes_with_pooled_covariance": int((classes.sizes < options.min_samples).sum()),
            "shrinkage": shrinkage.tolist(),
        }
        return model

    def deviations(self, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One draw from the scaled within-class covariance of each class in ``index``, (n, n_genes) float32.

        Every draw takes the same number of random numbers, so that the batch size does not change the samples.
        """
        ranks = self.rows[:, 1] - self.rows[:, 0]
        longest, genes = int(ranks.max()), len(self.scale)
        noise = rng.standard_normal((len(index), longest + genes), dtype=np.float32)
        drawn = self.weights[index, 1, None] * noise[:, longest:]
        for c in np.unique(index):
            mine = index == c
            drawn[mine] += self.weights[c, 0] * (noise[mine, : ranks[c]] @ self.residuals[slice(*self.rows[c])])
        return drawn

    def state(self) -> dict[str, np.ndarray]:
        own = {name: getattr(self, name) for name in ("means", "scale", "residuals", "rows", "weights")}
        return own | vars(self.classes)

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        self.classes = Classes(tensors["strata"], tensors["starts"], tensors["sizes"])
        for name in ("means", "scale", "residuals", "rows", "weights"):
            setattr(self, name, tensors[name])
