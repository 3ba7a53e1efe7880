"""What the catalog promises about a dataset, checked when it is loaded and saved (``validator:`` in the catalog)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from transcriptome_diffusion.expression.profiles import GENE_COLUMNS, dense, find_unsound

if TYPE_CHECKING:
    from anndata import AnnData


class ExpressionContract:
    """Finite float32 profiles in one unit, with the sample and gene columns every stage relies on.

    Args:
        unit: what ``uns["unit"]`` has to say.
        obs: columns the sample table needs.
        missing: whether NaN may stand for values that were not measured.
    """

    def __init__(self, unit: str, obs: Sequence[str] = ("tissue",), missing: bool = False) -> None:
        self.unit = unit
        self.obs = tuple(obs)
        self.missing = missing

    def validate(self, data: Any) -> Any:
        """Return profiles as they are; of functions by name that make or load profiles, check each when it is called.

        Raises:
            ValueError: with what was found, what was expected and where to mend it.
        """
        if isinstance(data, Mapping):
            return {name: partial(self._called, part) for name, part in data.items()}
        return self._profiles(data)

    def _called(self, part: Any) -> AnnData:
        return self._profiles(part() if callable(part) else part)

    def _profiles(self, data: AnnData) -> AnnData:
        import numpy as np

        values = dense(data)
        if (found := data.uns.get("unit")) != self.unit:
            extent = f"values from {values.min():.4g} to {values.max():.4g}" if values.size else "no values"
            raise ValueError(
                f"expected expression in {self.unit}, found {found!r} with {extent}. Set uns['unit'] where the "
                "profiles are made, or `unit` in conf/<env>/globals.yml if this cohort has another unit (counts become "
                "log2(CPM + 1))."
            )
        if values.dtype != np.float32:
            raise ValueError(f"expected float32 values, found {values.dtype}; cast where the profiles are made.")
        if unsound := find_unsound(values, self.missing):
            raise ValueError(f"{unsound[0]} values are NaN or infinite; drop or impute them.")
        for what, columns, table in (("obs", self.obs, data.obs), ("var", GENE_COLUMNS, data.var)):
            if missing := [column for column in columns if column not in table]:
                raise ValueError(f"{what} lacks {missing}; it has {list(table.columns)}.")
        return data
