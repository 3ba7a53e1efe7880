"""The profiles that indicators compare, real or synthetic."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np


class ProfileSet(NamedTuple):
    """Profiles with what is known of each; ``metrics.reference`` makes complete ones.

    Attributes:
        values: (n, n_genes) in a gene-wise standardised space; for ``membership.loss_attack`` whatever its loss takes.
        labels: the class of each profile, (n,).
        donors: the independent unit of each profile, (n,): its donor, or itself where it has none.
        coordinates: along the principal axes of training profiles, (n, components).
        features: of the tissue classifier's last hidden layer, (n, width).
        conditions: of a contrast, such as tumour and normal, (n,); None where profiles have none.
    """

    values: Any
    labels: np.ndarray
    donors: Any = None
    coordinates: Any = None
    features: Any = None
    conditions: np.ndarray | None = None

    def take(self, rows: np.ndarray | slice) -> Self:
        """The profiles ``rows``, with all that is known of them."""
        return self._replace(**{name: part[rows] for name, part in self._asdict().items() if part is not None})
