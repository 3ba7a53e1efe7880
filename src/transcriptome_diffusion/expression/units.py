"""Linear and logarithmic units: every profile on disk is log2(x + 1) of its source's linear unit."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import anndata as ad
import numpy as np

from transcriptome_diffusion.expression.options import Negative
from transcriptome_diffusion.expression.profiles import blocks_of, dense, make_profiles

#: log2(x + 1) of any bulk profile stays below this, and its linear values reach far beyond: TPM, FPKM and CPM
#: of some twenty thousand genes average about 50, and their maxima are in the thousands
LARGEST_LOG = 50.0
#: the unit of read counts, under whatever name, and what a sample's values in other units sum to
COUNTS = "counts"
TOTALS = {"TPM": 1e6, "CPM": 1e6, "CP10K": 1e4}
KNOWN = {*TOTALS, "FPKM", "RPKM"}
#: log2(0 + 0.001), which an unexpressed gene has in the Toil recompute
TOIL_ZERO = -9.9658
#: share of negative values from which these are centred: z-scores, or logarithms less their mean; and up to which they
#: are what a correction of batches leaves
CENTRED, FEW = 0.2, 0.01

_LOG_UNIT = re.compile(r"log2\((?P<linear>.+) \+ 1\)")
_ANY_LOG = re.compile(
    r"(?P<base>log2|log10|ln)\( ?(?P<linear>.+?)(?: ?\+ ?(?P<offset>\d[\d.e-]*))? ?\)|log1p\((?P<plus_one>.+)\)",
    re.IGNORECASE,
)
_COUNTS = re.compile(r"(raw|read|expected|estimated|gene)?[ _-]?(counts?|reads)", re.IGNORECASE)
BASES = {"log2": 2.0, "log10": 10.0, "ln": math.e}


class Log(NamedTuple):
    """The logarithm in a unit's name, ``log2(TPM + 1)``."""

    base: str
    linear: str
    offset: float


def parse_log(unit: str) -> Log | None:
    """The parts of a logarithmic unit; None if the unit is not of that form."""
    found = _ANY_LOG.fullmatch(unit.strip())
    if found is None:
        return None
    if found["plus_one"]:
        return Log("ln", linear_name(found["plus_one"]), 1.0)
    return Log(found["base"].lower(), linear_name(found["linear"]), float(found["offset"] or 0))


def linear_name(unit: str) -> str:
    """The name of a linear unit as it is used here: all names of read counts are ``counts``, ``tpm`` is ``TPM``."""
    unit = unit.strip()
    return COUNTS if _COUNTS.fullmatch(unit) else unit.upper() if unit.upper() in KNOWN else unit


def log2_unit(linear: str) -> str:
    """The name of the logarithmic unit: ``FPKM`` becomes ``log2(FPKM + 1)``."""
    return f"log2({linear} + 1)"


def linear_unit(unit: str) -> str | None:
    """The linear unit inside ``log2(... + 1)``, or None if ``unit`` is not of that form."""
    found = _LOG_UNIT.fullmatch(unit)
    return found["linear"] if found else None


def detect_unit(values: np.ndarray, linear: str = "expression") -> str:
    """The unit of values whose source declares none, where the values themselves tell.

    A minimum of log2(0.001) is that of log2(x + 0.001); a maximum above 50 is no logarithm of a bulk profile.

    Args:
        values: (n_samples, n_genes), NaN where missing.
        linear: the name of the linear unit.

    Raises:
        ValueError: if the values may be either.
    """
    lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
    if abs(lowest - TOIL_ZERO) < 0.01 and highest < LARGEST_LOG:
        return f"log2({linear} + 0.001)"
    if highest > LARGEST_LOG:
        return linear
    raise ValueError(
        f"the unit cannot be told from values from {lowest:g} to {highest:g}: linear values reach beyond "
        f"{LARGEST_LOG:g}, those of log2(x + 0.001) begin at {TOIL_ZERO:g}. Declare it, for instance "
        f"`unit: TPM` or `unit: {log2_unit('TPM')}`."
    )


def undo_log(values: np.ndarray, unit: str, negative: Negative = "refuse") -> str:
    """Turn values in a declared unit into linear ones, in place, and name the linear unit.

    Args:
        values: (n_samples, n_genes) float32, NaN where missing; overwritten.
        unit: ``TPM`` (nothing is done), ``log2(TPM + 1)``, ``log2(TPM + 0.001)``, ``log10(CPM + 1)``, ``ln(CPM + 1)``.
        negative: whether values below those of an unexpressed gene are an error, become zero, or stay: a correction
            of batches leaves some.

    Returns:
        The linear unit. What rounding puts below zero becomes zero, unless such values stay.

    Raises:
        ValueError: if the values contradict the unit, as z-scores do whatever ``negative`` says, or it is a logarithm
            of another form.
    """
    log = parse_log(unit)
    if log is None:
        if "log" in unit.lower():
            raise ValueError(
                f"the unit {unit!r} is not understood; write it as log2(TPM + 1), log2(TPM + 0.001), log10(TPM + 1) "
                "or ln(TPM + 1), with the unit and the offset of your values."
            )
        return linear_name(unit)
    base = BASES[log.base]
    lowest, highest = float(np.nanmin(values)), float(np.nanmax(values))
    if highest > LARGEST_LOG / math.log2(base):
        raise ValueError(f"values are declared as {unit}, yet reach {highest:g}: they look linear already.")
    least = math.log(log.offset, base) if log.offset > 0 else -math.inf
    if lowest < least - 0.01:
        # a correction leaves many values a little below, of genes that are not expressed
        centred = np.count_nonzero(values < least - 0.5) > CENTRED * values.size
        if negative == "refuse" or centred:
            raise ValueError(
                f"values are declared as {unit}, which begins at {least:g}, yet reach down to {lowest:g}."
                + _why_below(values, lowest, least)
            )
    if base != 2:
        values *= np.float32(math.log2(base))
    np.exp2(values, out=values)
    values -= np.float32(log.offset)
    if negative != "keep":
        np.maximum(values, 0, out=values)
    return log.linear


def settle_negative(profiles: ad.AnnData, negative: Negative) -> ad.AnnData:
    """Linear profiles with their negative values as a reader's option ``negative`` says; the same object.

    Values that stay are marked in ``uns["negative"]``, and ``to_log2`` lets them pass.
    """
    if negative == "zero":
        np.maximum(profiles.X, 0, out=profiles.X)
    elif negative == "keep":
        profiles.uns["negative"] = negative
    return profiles


def _why_below(values: np.ndarray, lowest: float, least: float) -> str:
    """Which units values below those of an unexpressed gene fit."""
    if abs(lowest - TOIL_ZERO) < 0.01:
        return " log2(x + 0.001) begins there: declare `unit: log2(TPM + 0.001)`, with your linear unit."
    below = int(np.count_nonzero(values < least))
    if (share := below / values.size) > CENTRED:
        return (
            f" {share:.0%} of the values are below: they fit z-scores or centred logarithms, which have no way back "
            "to expression. Give the values before they were centred."
        )
    return (
        f" {below} of {values.size} values are below, as a correction of batches leaves some: set `negative: zero` in "
        "the options of the cohort to take these for zero, or `keep`. Or, if another offset was added, declare the "
        "unit with it" + (": voom's and edgeR's logarithms are `unit: log2(CPM)`." if share > FEW else ".")
    )


def to_log2(profiles: ad.AnnData) -> ad.AnnData:
    """log2(x + 1) of linear profiles, as new AnnData with the unit renamed.

    Args:
        profiles: (n_samples, n_genes), linear and non-negative (or above -1, where a reader kept such values),
            ``uns["unit"]`` its unit, for instance ``FPKM``; NaN, where a value is missing, stays.

    Raises:
        ValueError: if no unit is declared, the unit is already logarithmic, a value is negative, or no value
            exceeds 50, which linear values of a transcriptome do and logarithms do not.
    """
    unit = _declared_unit(profiles)
    if "log" in unit.lower():
        raise ValueError(f"the profiles are already in {unit}; a second logarithm would flatten them.")
    extremes = [(np.nanmin(block), np.nanmax(block)) for _, block in blocks_of(profiles)]
    lowest, highest = float(np.nanmin(extremes)), float(np.nanmax(extremes))
    if lowest < 0 and (profiles.uns.get("negative") != "keep" or lowest <= -1):
        share = float((dense(profiles) < 0).mean())
        hint = (
            " This minimum is log2(0.001): the values look like log2(x + 0.001) of the Toil recompute."
            if abs(lowest - TOIL_ZERO) < 0.01
            else f" {share:.0%} of the values are negative: they fit z-scores or centred logarithms, not {unit}."
            if share > CENTRED
            else f" The largest value is {highest:g}: they look like logarithms. If so, declare {log2_unit(unit)}."
            if highest < LARGEST_LOG
            else " If a correction of batches left it, set `negative: zero` in the options of the cohort."
            + (" `keep` needs values above -1, of which log2(x + 1) exists." if lowest <= -1 else "")
        )
        values = dense(profiles)
        row, column = np.unravel_index(np.nanargmin(values), values.shape)
        raise ValueError(
            f"profiles in {unit} must not be negative, found {lowest:g} in sample "
            f"{profiles.obs_names[row]!r}, gene {profiles.var_names[column]!r}.{hint} Mend the cohort's values or unit."
        )
    if highest < LARGEST_LOG:
        if parse_log(declared := str(profiles.uns.get("declared_unit", unit))) is not None:
            raise ValueError(
                f"values are declared as {declared}, yet the largest is only {highest:g} {unit}: was the logarithm "
                "taken twice, or are these z-scores? Give values in a unit of expression, or keep these with "
                "`scale: transformed` and their name as `unit`."
            )
        raise ValueError(
            f"profiles are declared linear ({unit}), yet their largest value is {highest:g}: they look like "
            f"logarithms. If so, declare the unit as {log2_unit(unit)!r} where the cohort is read."
        )
    logged = np.empty(profiles.shape, dtype=np.float32)
    for rows, block in blocks_of(profiles):
        np.log1p(block, out=logged[rows], casting="same_kind")
        logged[rows] /= np.float32(np.log(2))
    return _with_values(profiles, logged, log2_unit(unit))


def keep_transformed(profiles: ad.AnnData) -> ad.AnnData:
    """Profiles in a transformed scale (VST, rlog, voom, corrected logarithms), as they are.

    Raises:
        ValueError: if no unit is declared, or values are too large for a logarithmic scale.
    """
    unit = _declared_unit(profiles)
    values = dense(profiles)
    if (highest := float(np.nanmax(values))) > LARGEST_LOG:
        raise ValueError(
            f"values are declared as transformed ({unit}), yet reach {highest:g}: they look linear. If they are, "
            "remove `scale: transformed` of the cohort and declare their unit, such as `unit: TPM` or `unit: counts`."
        )
    return _with_values(profiles, np.array(values, dtype=np.float32), unit)


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
    return make_profiles(values, profiles.obs, profiles.var, unit, profiles.uns.get("generator"), missing=True)
