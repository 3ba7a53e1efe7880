"""Linear and logarithmic units: every profile on disk is log2(x + 1) of its source's linear unit."""

from __future__ import annotations

import re

import anndata as ad
import numpy as np

from transcriptome_diffusion.expression.profiles import dense, make_profiles

#: log2(x + 1) of any bulk profile stays below this, and its linear values reach far beyond: TPM, FPKM and CPM
#: of some twenty thousand genes average about 50, and their maxima are in the thousands
LARGEST_LOG = 50.0
#: log2(0 + 0.001), which an unexpressed gene has in the Toil recompute
TOIL_ZERO = -9.9658

_LOG_UNIT = re.compile(r"log2\((?P<linear>.+) \+ 1\)")


def log2_unit(linear: str) -> str:
    """The name of the logarithmic unit: ``FPKM`` becomes ``log2(FPKM + 1)``."""
    return f"log2({linear} + 1)"


def linear_unit(unit: str) -> str | None:
    """The linear unit inside ``log2(... + 1)``, or None if ``unit`` is not of that form."""
    found = _LOG_UNIT.fullmatch(unit)
    return found["linear"] if found else None


def to_log2(profiles: ad.AnnData) -> ad.AnnData:
    """log2(x + 1) of linear profiles, as new AnnData with the unit renamed.

    Args:
        profiles: (n_samples, n_genes), linear and non-negative, ``uns["unit"]`` its unit, for instance ``FPKM``.

    Raises:
        ValueError: if no unit is declared, the unit is already logarithmic, a value is negative, or no value
            exceeds 50, which linear values of a transcriptome do and logarithms do not.
    """
    unit = _declared_unit(profiles)
    if "log" in unit.lower():
        raise ValueError(f"the profiles are already in {unit}; a second logarithm would flatten them.")
    values = dense(profiles)
    lowest, highest = float(values.min()), float(values.max())
    if lowest < 0:
        hint = (
            " This minimum is log2(0.001): the values look like log2(x + 0.001) of the Toil recompute."
            if abs(lowest - TOIL_ZERO) < 0.01
            else ""
        )
        row, column = np.unravel_index(values.argmin(), values.shape)
        raise ValueError(
            f"profiles in {unit} must not be negative, found {lowest:g} in sample "
            f"{profiles.obs_names[row]!r}, gene {profiles.var_names[column]!r}.{hint} Mend the cohort's values or unit."
        )
    if highest < LARGEST_LOG:
        raise ValueError(
            f"profiles are declared linear ({unit}), yet their largest value is {highest:g}: they look like "
            f"logarithms. If so, declare the unit as {log2_unit(unit)!r} where the cohort is read."
        )
    logged = np.log1p(values, dtype=np.float32) / np.float32(np.log(2))
    return _with_values(profiles, logged, log2_unit(unit))


def to_linear(profiles: ad.AnnData) -> ad.AnnData:
    """2^y - 1 of profiles in log2(x + 1), as new AnnData in the linear unit; below zero is cut to zero.

    Generated profiles may lie a little below zero, which no linear value can.

    Raises:
        ValueError: if the declared unit is not ``log2(... + 1)``, or a value is too large for a logarithm.
    """
    unit = _declared_unit(profiles)
    linear = linear_unit(unit)
    if linear is None:
        raise ValueError(f"expected profiles in log2(... + 1), found {unit!r}.")
    values = dense(profiles)
    if (highest := float(values.max())) > LARGEST_LOG:
        raise ValueError(f"profiles are declared as {unit}, yet reach {highest:g}: they look linear already.")
    return _with_values(profiles, np.exp2(values.clip(min=0)) - 1, linear)


def _declared_unit(profiles: ad.AnnData) -> str:
    unit = profiles.uns.get("unit")
    if not unit:
        raise ValueError('the profiles declare no unit; set uns["unit"], for instance "FPKM", where they are made.')
    return str(unit)


def _with_values(profiles: ad.AnnData, values: np.ndarray, unit: str) -> ad.AnnData:
    return make_profiles(values, profiles.obs, profiles.var, unit, profiles.uns.get("generator"))
