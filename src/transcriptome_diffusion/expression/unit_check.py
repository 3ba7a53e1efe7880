"""Whether values are in the unit that is declared for them: one check, for every reader, before the logarithm.

A wrong unit passes every other check and spoils everything that is learnt. What tells it: the sums of samples, whether
all values are whole numbers, which value is repeated, and whether a sample differs from all others in scale.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Literal

import anndata as ad
import numpy as np

from transcriptome_diffusion.expression.profiles import blocks_of, dense
from transcriptome_diffusion.expression.units import BASES, COUNTS, LARGEST_LOG, TOTALS, log2_unit, parse_log

logger = logging.getLogger(__name__)

#: genes from which a matrix is taken for nearly the whole transcriptome, and from which samples have one level
NEARLY_ALL, ENOUGH = 10_000, 500
#: units whose values are no whole numbers; that of a cohort that declares none is called expression
NEVER_WHOLE = {"FPKM", "RPKM", "expression"}
#: what a sample of nearly all genes in FPKM has at least
LEAST_FPKM = 1e5
#: relative tolerance of a sum that is known, and spread (as a ratio) up to which sums are called the same
TOLERANCE, SAME = 0.05, 1.03
#: share of all values that is too many to be equal by chance
PILE = 1e-3
#: factor by which a sample's level differs from the median of all
OUTLYING = 50.0
#: genes that a sample's level is taken from
LEVEL_GENES = 2000


@dataclass(frozen=True, eq=False)
class ValueSummary:
    """What is asked of values (n_samples, n_genes), missing ones left aside.

    Attributes:
        sums: per sample, (n_samples,).
        maxima: per sample, (n_samples,).
        levels: per sample, the 90th percentile of some genes, which single large values leave alone.
        whole: whether every value is a whole number.
        zeros: how many values are 0.
        ones: how many values are those that a logarithm of exactly 0 stands for.
        below_one: how many values are below 1.
        scaled: whether a sample's small values are multiples of its smallest one, as whole numbers divided by a factor
            are.
    """

    sums: np.ndarray
    maxima: np.ndarray
    levels: np.ndarray
    whole: bool
    zeros: int
    ones: int
    below_one: int
    scaled: bool

    @classmethod
    def of(cls, profiles: ad.AnnData, zero_log: float) -> ValueSummary:
        """Read ``profiles`` once, in blocks; ``zero_log`` is what a logarithm of 0 became."""
        sums, maxima, levels, whole, zeros, ones, below = [], [], [], True, 0, 0, 0
        step = -(-profiles.n_vars // LEVEL_GENES)
        for _, block in blocks_of(profiles):
            known = np.nan_to_num(block)
            sums.append(known.sum(axis=1, dtype=np.float64))
            maxima.append(known.max(axis=1, initial=0))
            levels.append(np.quantile(known[:, ::step], 0.9, axis=1))
            whole = whole and _are_whole(known, logged=not math.isnan(zero_log))
            zeros += int(np.count_nonzero(block == 0))
            ones += int(np.count_nonzero(block == np.float32(zero_log)))
            below += int(np.count_nonzero(block < 1))
        scaled = _scaled(dense(profiles[0])[0])
        return cls(
            np.concatenate(sums), np.concatenate(maxima), np.concatenate(levels), whole, zeros, ones, below, scaled
        )

    @property
    def spread(self) -> float:
        """Largest sum by smallest."""
        return float(self.sums.max() / max(self.sums.min(), 1e-9))

    def said(self) -> str:
        """The sums in words."""
        low, middle, high = (f"{value:,.6g}" for value in np.quantile(self.sums, [0, 0.5, 1]))
        return f"a sample's values sum to {middle} in the median, from {low} to {high}"


def _are_whole(values: np.ndarray, logged: bool) -> bool:
    """Whether all values are whole numbers; of undone logarithms small ones alone tell, and not to the last digit."""
    if not logged:
        return bool((values == np.rint(values)).all())
    small = values[(values > 0.1) & (values < 50)]
    return len(small) > 10 and bool((np.abs(small - np.rint(small)) < 0.005).all())


def _scaled(sample: np.ndarray) -> bool:
    """Whether small values of a sample (n_genes,) are multiples of the smallest one."""
    positive = np.unique(sample[sample > 0]).astype(np.float64)
    ratios = positive[positive < 50 * positive[:1]] / positive[:1]
    fraction = len(ratios) > 10 and abs(positive[0] - np.rint(positive[0])) > 0.01
    return fraction and bool((np.abs(ratios - np.rint(ratios)) < 0.01).all())


def check_unit(profiles: ad.AnnData, how: Literal["refuse", "warn"] = "refuse") -> None:
    """Compare linear profiles with the unit that is declared for them.

    Args:
        profiles: (n_samples, n_genes), linear; ``uns["unit"]`` the linear unit, ``uns["declared_unit"]``, where the
            source was logarithmic, that of the source.
        how: whether a contradiction is an error, or is only said in the log.

    Raises:
        ValueError: with what was seen, which units it fits, and how to declare each of them.
    """
    if not profiles.n_obs or not profiles.n_vars:
        return
    unit = str(profiles.uns.get("unit", ""))
    declared = str(profiles.uns.get("declared_unit", unit))
    log = parse_log(declared)
    values = ValueSummary.of(profiles, 1 - log.offset if log else math.nan)
    contradictions, doubts = _empty(profiles, values), []
    if not contradictions:
        contradictions = [
            *_forgotten_offset(profiles, values, declared),
            *_total(profiles, values, unit, declared),
            *_counts(values, unit),
            *_never_low(profiles, values, unit, declared),
            *_mixed_scales(profiles, values, unit),
        ]
        doubts = _doubts(profiles, values, unit, declared)
    if contradictions and how == "refuse":
        raise ValueError(
            " ".join(contradictions[:2])
            + " If the values are right all the same, set `ingestion.unit_check: warn` in conf/<env>/"
            "parameters_ingestion.yml, or `unit_check` of prepare."
        )
    for message in [*contradictions, *doubts]:
        logger.warning("%s", message)


def _declare(*units: str) -> str:
    """How to declare units."""
    named = " or ".join(f"`unit: {unit}`" for unit in units)
    return named + (" (readers gtex and rnaseqdb: `values: counts`)" if COUNTS in units else "")


def _empty(profiles: ad.AnnData, values: ValueSummary) -> list[str]:
    empty = profiles.obs_names[values.sums == 0]
    if empty.empty:
        return []
    return [
        f"{len(empty)} of {profiles.n_obs} samples have no value above zero: {', '.join(empty[:5])}. Remove them from "
        "the matrix or the sample table."
    ]


def _forgotten_offset(profiles: ad.AnnData, values: ValueSummary, declared: str) -> list[str]:
    """Many logarithms of exactly 0, although the declared offset gives another one for an unexpressed gene."""
    log = parse_log(declared)
    if log is None or log.offset == 1 or values.ones < max(2, PILE * profiles.n_obs * profiles.n_vars, values.zeros):
        return []
    right = declared[: declared.index("(")] + f"({log.linear} + 1)"
    zero = "minus infinity" if log.offset == 0 else f"{math.log(log.offset, BASES[log.base]):.4g}"
    return [
        f"{values.ones} values are exactly 0, which is {log.base}(0 + 1) of genes that are not expressed; under the "
        f"declared {declared} these would be {zero}. It fits {right}: declare {_declare(right)}."
    ]


def _total(profiles: ad.AnnData, values: ValueSummary, unit: str, declared: str) -> list[str]:
    """Sums of samples in a unit whose sum is known (TPM, CPM: a million; CP10K: ten thousand)."""
    total = TOTALS.get(unit)
    if total is None:
        return []
    seen = f"values are declared as {declared}, of which a sample has {total:,.0f} in all, yet {values.said()}."
    if (another := _other_base(profiles, declared, unit)) is not None:
        better, sum_of_it = another
        return [f"{seen} As {better} they would sum to {sum_of_it:,.0f}: declare {_declare(better)}."]
    median = float(np.median(values.sums))
    near = np.abs(values.sums / total - 1) < TOLERANCE
    if 0.5 < near.mean() < 1:
        names = profiles.obs_names[~near]
        return [
            f"{len(names)} of {profiles.n_obs} samples do not sum to {total:,.0f} as the others do: "
            f"{', '.join(names[:5])}; {names[0]!r} sums to {values.sums[~near][0]:,.6g}. They are in another unit "
            f"than {declared}, or to another base. Bring all samples into one unit, or remove these."
        ]
    same = profiles.n_obs > 2 and np.quantile(values.sums, 0.9) < SAME * np.quantile(values.sums, 0.1)
    if same and abs(median / total - 1) > TOLERANCE:
        for other, sum_of_other in TOTALS.items():
            if abs(median / sum_of_other - 1) < TOLERANCE:
                linear = {"TPM": "CPM"}.get(other, other)  # a million is either
                right = declared.replace(unit, linear)
                return [f"{seen} It fits {right}: declare {_declare(right)}, and {log2_unit(linear)} in globals.yml."]
        if median > total or profiles.n_vars < NEARLY_ALL:
            return [
                f"{seen} All samples have nearly the same sum, so they were scaled to another one, or their logarithm "
                f"has another base or offset. It fits shares of another total (declare a unit of that name, as in "
                f"{_declare('CP10K')}), {_declare(f'ln({unit} + 1)', f'log10({unit} + 1)')}, or a transformed scale as "
                "of VST or rlog (`scale: transformed`)."
            ]
    if values.sums.max() > 1.01 * total:
        kind = "whole numbers, as counts are" if values.whole else "too large for it"
        fits = _declare(COUNTS) if values.whole else _declare(COUNTS, "FPKM")
        return [
            f"{seen} They are {kind}, and come to {values.maxima.max():.4g}. It fits counts (declare {fits}; the "
            "ingestion normalises counts), or logarithms to another base."
        ]
    if values.whole and values.spread > 1.2 and values.maxima.max() > LARGEST_LOG:
        return [
            f"{seen} All of them are whole numbers and the sums differ by a factor of {values.spread:.3g}, as raw "
            f"counts do. It fits {_declare(COUNTS)} (the ingestion normalises counts), or rounded {unit} of few genes."
        ]
    return []


def _counts(values: ValueSummary, unit: str) -> list[str]:
    """Counts declared as FPKM, and what is no counts: marks, logarithms, fractions that have a known sum."""
    if unit in NEVER_WHOLE and values.whole and values.spread > 1.5 and values.maxima.max() > LARGEST_LOG:
        return [
            f"values are declared as {unit}, yet all are whole numbers, and libraries differ by a factor of "
            f"{values.spread:.3g} ({values.said()}), as raw counts do: sequencing depth would be learnt as biology. "
            f"It fits {_declare(COUNTS)}."
        ]
    if unit == COUNTS and values.maxima.max() <= 1:
        return ["values are declared as counts, yet none exceeds 1: they are marks of presence, not expression."]
    if unit != COUNTS or values.whole:
        return []
    if (highest := values.maxima.max()) < LARGEST_LOG:
        return [
            f"values are declared as counts, yet are fractions up to {highest:.4g}, as logarithms are. It fits "
            f"{_declare(log2_unit(COUNTS))} or {_declare('log2(CPM + 1)')}."
        ]
    for name, total in TOTALS.items():
        if values.spread < SAME and abs(np.median(values.sums) / total - 1) < TOLERANCE:
            linear = ["CPM", "TPM"] if total == TOTALS["TPM"] else [name]
            return [
                f"values are declared as counts, yet are fractions, and {values.said()}: they are normalised already. "
                f"It fits {_declare(*linear)}."
            ]
    return []


def _never_low(profiles: ad.AnnData, values: ValueSummary, unit: str, declared: str) -> list[str]:
    """Logarithms of a whole transcriptome in which no gene is unexpressed, as arrays, VST and rlog have them."""
    log = parse_log(declared)
    if log is None or unit == COUNTS or profiles.n_vars < NEARLY_ALL or values.below_one:
        return []
    return [
        f"values are declared as {declared}, yet none of {profiles.n_vars} genes is of less than 1 {unit} in any "
        "sample, and many genes of a transcriptome are. It fits arrays, VST or rlog, which have no zero: set "
        "`scale: transformed` and their name as `unit`."
    ]


def _other_base(profiles: ad.AnnData, declared: str, unit: str) -> tuple[str, float] | None:
    """The logarithm to another base as which samples would have a sum that is known, and this sum."""
    log = parse_log(declared)
    if log is None:
        return None
    for base, number in BASES.items():
        exponent = math.log(number) / math.log(BASES[log.base])
        if base == log.base:
            continue
        sums: list[float] = []
        for _, block in blocks_of(profiles[: min(profiles.n_obs, 200)]):
            with np.errstate(over="ignore"):
                powers = (np.nan_to_num(block).astype(np.float64) + log.offset) ** exponent - log.offset
            sums += powers.sum(axis=1).tolist()
        for name, total in sorted(TOTALS.items(), key=lambda known: known[0] != unit):
            if abs(np.median(sums) / total - 1) < TOLERANCE / 2 and np.ptp(sums) < 0.2 * total:
                return f"{base}({name} + {log.offset:g})", total
    return None


def _mixed_scales(profiles: ad.AnnData, values: ValueSummary, unit: str) -> list[str]:
    """Samples whose values are of another size than those of most samples."""
    if profiles.n_obs < 4:
        return []
    logged = (values.maxima < LARGEST_LOG) & (values.maxima > 0) & (np.median(values.maxima) > 10 * LARGEST_LOG)
    usual = np.median(values.levels)
    outlying = logged | (values.levels > OUTLYING * usual) | (values.levels < usual / OUTLYING)
    if not outlying.any() or (unit == COUNTS and not logged.any()):
        return []
    names = profiles.obs_names[outlying]
    first = int(np.argmax(outlying))
    what = "look like logarithms among linear values" if logged.any() else "are on another scale than the others"
    return [
        f"{len(names)} of {profiles.n_obs} samples {what}: {', '.join(names[:5])}; {names[0]!r} sums to "
        f"{values.sums[first]:.4g} with a maximum of {values.maxima[first]:.4g}, most samples to "
        f"{np.median(values.sums):.4g}. Bring all samples into one unit, or remove these."
    ]


def _doubts(profiles: ad.AnnData, values: ValueSummary, unit: str, declared: str) -> list[str]:
    """What is odd but may be right."""
    doubts = []
    log = parse_log(declared)
    if log and log.offset < 1 and (below := values.below_one / (profiles.n_obs * profiles.n_vars)) < 0.01:
        doubts.append(
            f"The values are declared as {declared}, yet a share of only {below:.2g} of them is of less than 1 {unit}, "
            "and most genes of a transcriptome are. If an offset of 1 was added, declare "
            f"{_declare(f'{log.base}({log.linear} + 1)')}, with `negative: zero` where a correction of batches left "
            "negative values."
        )
    total = TOTALS.get(unit)
    median = float(np.median(values.sums))
    if total and profiles.n_vars >= NEARLY_ALL and median < total / 2:
        doubts.append(
            f"A sample in {unit} has {total:,.0f} in all, of which these {profiles.n_vars} genes hold {median:,.4g} in "
            f"the median ({values.said()}): were genes removed, or is this another unit, such as FPKM or counts?"
        )
    if unit in ("FPKM", "RPKM") and log and profiles.n_vars >= NEARLY_ALL and median < LEAST_FPKM:
        doubts.append(
            f"{values.said().capitalize()}, and several hundred thousand are usual of {unit}: is the logarithm to "
            f"another base, as in {_declare(f'ln({unit} + 1)')}?"
        )
    if unit == COUNTS:
        if profiles.n_obs > 2 and values.spread < SAME:
            doubts.append(
                f"The values are declared as counts, yet all samples have nearly the same sum ({values.said()}): they "
                "may be normalised already."
            )
        elif not values.whole and values.scaled:
            doubts.append(
                "The values are declared as counts, yet those of a sample are multiples of one fraction, as counts "
                "divided by a size factor are (DESeq2's normalised counts). Give the counts before that, or declare "
                "another name, such as `unit: normalised counts`, to keep these values."
            )
    elif total is None and values.whole and values.spread > 1.5 and values.maxima.max() > LARGEST_LOG:
        doubts.append(
            f"The values are declared as {unit}, yet all are whole numbers, and libraries differ by a factor of "
            f"{values.spread:.3g} ({values.said()}), as raw counts do: sequencing depth would be learnt as biology. If "
            f"they are counts, declare {_declare(COUNTS)}."
        )
    elif profiles.n_vars >= ENOUGH and (spread := float(values.levels.max() / max(values.levels.min(), 1e-9))) > 5:
        doubts.append(
            f"The 90th percentiles of samples differ by a factor of {spread:.3g} ({values.said()}), which normalised "
            f"values of {profiles.n_vars} genes seldom do. If these are counts, declare {_declare(COUNTS)}."
        )
    return doubts
