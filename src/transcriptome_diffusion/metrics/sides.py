"""One side of a comparison, with what several metrics need of it."""

from __future__ import annotations

from copy import copy
from functools import cached_property

import numpy as np

from transcriptome_diffusion.metrics.biology.coexpression import unit_residuals
from transcriptome_diffusion.metrics.copying import Scatter
from transcriptome_diffusion.metrics.correlation import Correlations
from transcriptome_diffusion.metrics.distances import Margins
from transcriptome_diffusion.metrics.neighbours import Pool
from transcriptome_diffusion.metrics.profile_set import ProfileSet


class Side:
    """Profiles of a comparison, or some ``rows`` of them, with what several metrics need; each is found at first use.

    Attributes:
        whole: all profiles, with their values.
        pool, places: where their distances are measured.
        known: their labels, donors, coordinates and features.
        genes: columns whose correlations and distributions are compared. modules: columns of the co-expression modules.
    """

    def __init__(
        self, whole: ProfileSet, pool: Pool, places: np.ndarray, genes: np.ndarray, modules: np.ndarray | None
    ) -> None:
        self.whole, self.pool, self.places, self.genes, self.modules = whole, pool, places, genes, modules
        self.rows, self.of = np.arange(len(whole.labels)), self
        self.known = whole._replace(values=None)

    def take(self, rows: np.ndarray) -> Side:
        """The profiles ``rows``; where these are all, the same object, which keeps what was found."""
        rows = np.sort(rows)
        if len(rows) == len(self.rows):
            return self
        part = copy(self)
        for name in ("values", "_compared", "scatter", "margins", "correlations", "within", "of_modules"):
            part.__dict__.pop(name, None)
        part.rows, part.places, part.of = self.rows[rows], self.places[rows], self
        part.known = self.known.take(rows)
        return part

    @cached_property
    def values(self) -> np.ndarray:
        return self.whole.values if self.of is self else self.whole.values[self.rows]

    @cached_property
    def _compared(self) -> np.ndarray:
        if self.of is not self:
            return self.of._compared[self.rows]
        values = self.whole.values  # `take` keeps profiles together in memory, `values[:, genes]` does not
        return values if len(self.genes) == values.shape[1] else values.take(self.genes, axis=1)

    @cached_property
    def _of_modules(self) -> np.ndarray:
        return self.whole.values.take(self.modules, axis=1)

    @cached_property
    def scatter(self) -> Scatter:
        return Scatter.of_pairs(self.pool.squares[np.ix_(self.places, self.places)], self.known.labels)

    @cached_property
    def margins(self) -> Margins:
        return Margins.of(self._compared)

    @cached_property
    def correlations(self) -> Correlations:
        return Correlations(self._compared)

    @cached_property
    def within(self) -> Correlations:
        return Correlations.within(self._compared, self.known.labels)

    @cached_property
    def of_modules(self) -> np.ndarray:
        """``unit_residuals`` of the genes of the modules."""
        return unit_residuals(self.of._of_modules[self.rows], self.known.labels)
