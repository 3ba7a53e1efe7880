"""How near synthetic profiles come to training profiles, compared with held-out ones; and all privacy indicators.

Distances that pass prove nothing by themselves: they average over profiles, so that a few copies disappear in the
median, and a generator can give members away without coming near them. The attacks of ``membership`` look at
single profiles, and they too only show what they can find.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from transcriptome_diffusion.metrics.membership import NORMAL, Estimate, as_table, membership_inference, undefined
from transcriptome_diffusion.metrics.neighbours import distance_blocks
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.registry import METRICS, select
from transcriptome_diffusion.metrics.statistics import matched_rows
from transcriptome_diffusion.metrics.threads import one_thread_if_small

#: matched subsets that a value is averaged over; half samples its interval rests on, and subsets of each
DRAWS, HALVES, DRAWS_OF_HALF = 10, 60, 3
#: held-out profiles that distances are measured to, as all are in memory, with those to twice as many of each side
MOST_HELD_OUT = 1024
#: profiles on each side below which no number is given
MIN_PROFILES = 20


#: what ``record_distances`` gives, in its order
INDICATORS = {name: METRICS[name] for name in select("privacy:record_distances")}


def privacy(
    synthetic: np.ndarray,
    labels: np.ndarray,
    train: ProfileSet,
    held_out: ProfileSet,
    reference: ProfileSet,
    seed: int,
) -> pd.DataFrame:
    """Every privacy indicator that needs profiles only: ``record_distances`` and ``membership_inference``.

    For the row ``real`` one part of ``halves`` of the training donors stands for the synthetic profiles and the
    other for ``train``.

    Args:
        synthetic: (n, n_genes) in the gene-wise standardised space of the records. labels: a class per row.
        train: the generator's training profiles. held_out: test donors. reference: validation donors.
        seed: of subsets and bootstrap.

    Returns:
        One row per metric: ``metric``, ``value``, ``low``, ``high`` (95 %), ``null``, ``n`` (held-out profiles)
        and ``note``, which says why a value is missing.
    """
    tables = (
        record_distances(synthetic, labels, train, held_out, seed),
        membership_inference(synthetic, labels, train, held_out, reference, seed),
    )
    return pd.concat(tables, ignore_index=True)


def halves(records: ProfileSet, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two sets of other donors that share the donors of every class evenly."""
    donors, first = np.unique(records.donors, return_index=True)
    order = np.random.default_rng(seed).permutation(len(donors))
    order = order[np.argsort(records.labels[first][order], kind="stable")]
    one = np.isin(records.donors, donors[order[::2]])
    return np.flatnonzero(one), np.flatnonzero(~one)


@one_thread_if_small
def record_distances(
    synthetic: np.ndarray, labels: np.ndarray, train: ProfileSet, held_out: ProfileSet, seed: int
) -> pd.DataFrame:
    """Distances of synthetic profiles to training and to held-out profiles, on sets of equal size and composition.

    - ``dcr``: median distance to the closest record, among ``train`` and among ``held_out``; ``dcr_ratio`` is the
      first over the second: null 1, towards 0 copies. ``_p05``: of 5th percentiles, where single copies show.
    - ``nndr``: median distance to the closest over that to the second closest record, in [0, 1]; low where one
      record was singled out. ``nndr_difference_p05`` is the 5th percentile for held-out less that for train;
      null 0, above it single training profiles stand out.
    - ``closer_to_train``: share of synthetic profiles nearer to a training than to a held-out profile, ties
      counting half; null .5, towards 1 copies.
    - ``privacy_loss``: adversarial accuracy against held-out less that against train; null 0, .5 for a generator
      of copies (Yale et al. 2020, doi:10.1016/j.neucom.2019.12.136).

    DCR and NNDR as in Zhao et al. (2021), arXiv:2102.08369. Each is the mean over matched draws of as many profiles
    of each class as there are held-out ones. Intervals are normal, with the deviation between half samples of
    donors and synthetic profiles (Politis & Romano 1994, doi:10.1214/aos/1176325770): under a bootstrap with
    replacement a profile would be its own neighbour.

    Args:
        synthetic, labels, train, held_out, seed: as in ``privacy``.

    Returns:
        A table as ``privacy`` gives it; NaN with a note below ``MIN_PROFILES`` matched profiles.
    """
    rng = np.random.default_rng(seed)
    if len(held_out.labels) > MOST_HELD_OUT:
        held_out = held_out.take(rng.choice(len(held_out.labels), MOST_HELD_OUT, replace=False))
    everyone = np.arange(len(synthetic)), np.arange(len(train.labels)), np.arange(len(held_out.labels))
    sizes = np.cumsum([len(synthetic), len(train.labels)])
    codes = np.unique(np.concatenate([labels, train.labels, held_out.labels]), return_inverse=True)[1]
    sets = _Sets(*np.split(codes, sizes))  # numbers, as they are compared some hundred times
    matched = len(_matched(sets, everyone, rng)[0])
    if matched < MIN_PROFILES:
        note = f"{matched} matched profiles on each side; {MIN_PROFILES} are needed"
        return as_table({name: undefined(scale.null, len(held_out.labels), note) for name, scale in INDICATORS.items()})
    # twice as many as a draw takes lose little, and bound the products of large cohorts
    s, t = (_limited(rows, part, sets.held_out, rng) for rows, part in zip(everyone[:2], sets[:2], strict=True))
    sets = _Sets(sets.synthetic[s], sets.train[t], sets.held_out)
    donors = train.donors[t]
    distances = _Distances.between(synthetic[s], train.values[t], held_out.values)
    everyone = np.arange(len(s)), np.arange(len(t)), everyone[2]

    def mean(rows: tuple[np.ndarray, ...], draws: int) -> np.ndarray:
        return np.mean([distances.statistics(*_matched(sets, rows, rng)) for _ in range(draws)], axis=0)

    def half() -> tuple[np.ndarray, ...]:
        return (
            rng.choice(len(s), len(s) // 2, replace=False),
            _half_of_donors(donors, rng),
            _half_of_donors(held_out.donors, rng),
        )

    values = mean(everyone, DRAWS)
    reach = NORMAL * np.std([mean(half(), DRAWS_OF_HALF) for _ in range(HALVES)], axis=0, ddof=1)
    estimates = {}
    for (name, scale), value, width in zip(INDICATORS.items(), values.tolist(), reach.tolist(), strict=True):
        low, high = max(value - width, scale.low), min(value + width, scale.high)
        estimates[name] = Estimate(value, low, high, scale.null, len(held_out.labels))
    return as_table(estimates)


class _Sets(NamedTuple):
    """The classes of three sets of profiles."""

    synthetic: np.ndarray
    train: np.ndarray
    held_out: np.ndarray


class _Distances(NamedTuple):
    """Distances between three sets of profiles and within them, float32; a profile is infinitely far from itself."""

    to_train: np.ndarray
    to_held_out: np.ndarray
    synthetic: np.ndarray
    train: np.ndarray
    held_out: np.ndarray

    @classmethod
    def between(cls, synthetic: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> _Distances:
        crossed = [_all_distances(synthetic, other) for other in (train, held_out)]
        within = [_all_distances(part, part) for part in (synthetic, train, held_out)]
        for part in within:
            np.fill_diagonal(part, np.inf)
        return cls(*crossed, *within)

    def statistics(self, s: np.ndarray, t: np.ndarray, h: np.ndarray) -> np.ndarray:
        """The indicators in the order of ``INDICATORS`` for these synthetic, training and held-out rows."""
        to_train, to_held_out = self.to_train[np.ix_(s, t)], self.to_held_out[np.ix_(s, h)]
        within = self.synthetic[np.ix_(s, s)].min(axis=1)
        found = []
        for crossed, real in ((to_train, self.train[np.ix_(t, t)]), (to_held_out, self.held_out[np.ix_(h, h)])):
            first, second = np.partition(crossed, 1, axis=1)[:, :2].T
            # of two copies of one record neither is singled out
            ratio = np.divide(first, second, out=np.ones_like(first), where=second > 0)
            apart = ((first > within).mean() + (crossed.min(axis=0) > real.min(axis=1)).mean()) / 2
            found.append((first, ratio, apart))
        (dcr, nndr, apart), (other_dcr, other_nndr, other_apart) = found
        *closest, first_nndr, second_nndr = np.quantile([dcr, other_dcr, nndr, other_nndr], [0.5, 0.05], axis=1).T
        singled = first_nndr, second_nndr
        ratios = np.divide(closest[0], closest[1], out=np.ones(2), where=closest[1] > 0)
        return np.array(
            [
                *(closest[0][0], closest[1][0], ratios[0]),
                *(closest[0][1], closest[1][1], ratios[1]),
                *(singled[0][0], singled[1][0], singled[0][1], singled[1][1], singled[1][1] - singled[0][1]),
                (dcr < other_dcr).mean() + (dcr == other_dcr).mean() / 2,
                other_apart - apart,
            ]
        )


def _all_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.concatenate([block.astype(np.float32) for _, block in distance_blocks(a, b)])


def _matched(sets: _Sets, rows: tuple[np.ndarray, ...], rng: np.random.Generator) -> list[np.ndarray]:
    """Of each of three sets of rows a random subset, all with the same number of every class."""
    labels = [part[of] for part, of in zip(sets, rows, strict=True)]
    counts = [np.bincount(part, minlength=1 + max(map(np.max, sets))) for part in labels]
    chosen = []
    for of, part, there in zip(rows, labels, counts, strict=True):
        order = rng.permutation(len(part))
        order = order[part[order].argsort(kind="stable")]  # by class, at random within
        place = np.arange(len(part)) - np.repeat(there.cumsum() - there, there)
        chosen.append(of[order[place < np.repeat(np.min(counts, axis=0), there)]])
    return chosen


def _limited(rows: np.ndarray, labels: np.ndarray, like: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Up to twice as many rows of every class as ``like`` has."""
    found, counts = np.unique(like, return_counts=True)
    return rows[matched_rows([labels], dict(zip(found, 2 * counts, strict=True)), rng)[0]]


def _half_of_donors(donors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    found = np.unique(donors)
    return np.flatnonzero(np.isin(donors, rng.choice(found, len(found) // 2, replace=False)))
