"""Tumours of the simulated cohort: sub-classes of every tissue, of unequal size, as in RNAseqDB.

A sub-class is a study and a sample type: normal samples of ``study_a`` (as GTEx: a donor gives several tissues), normal
samples of ``study_b`` (as TCGA: most lie beside a tumour of the same donor), and tumours of ``study_b``. Some tissues
lack normal samples of ``study_a``, some lack tumours.

The expression of tumour i of tissue t, gene g, in log2 units, where normal_ig is what a normal sample would have::

    log2((1 - p_i) 2^normal_ig + p_i 2^(normal_ig + grade_i common_g + own_tg + sum_e switched_ie event_teg))

- ``p``: purity, the share of tumour cells.
- ``grade``: one positive, skewed number per tumour, how far it has gone along a programme that all tumours share.
- ``own``: how tumours of a tissue differ from its normal samples.
- ``event``: three alterations per tissue, each of a block of neighbouring genes and present in some tumours only, so
  that these genes have two peaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

#: study and sample type
SUB_CLASSES = (("study_a", "normal"), ("study_b", "normal"), ("study_b", "tumor"))
#: how often a tissue has samples of that sub-class at all
PRESENT = (0.6, 1.0, 0.7)
#: sizes of tissues fall as 1 / rank to this power: the largest of 20 is eleven times the smallest
SIZE_EXPONENT = 0.8
EVENTS = 3
#: neighbouring genes of an event, and its size in log2
EVENT_GENES, EVENT_SIZE = 40, (0.7, 1.4)
PURITY = (5.0, 2.0)
#: shape and scale of the gamma distribution of the grade: mean 1, skewness 1.2
GRADE = (3.0, 1 / 3)


@dataclass(frozen=True, eq=False)
class Tumours:
    """How tumours differ from normal samples, and how many samples each sub-class has.

    Attributes:
        tissue_shares: (n_tissues,), falling, sums to 1.
        shares: of the sub-classes within a tissue, (n_tissues, 3), rows sum to 1.
        common: (n_genes,).
        own: (n_tissues, n_genes).
        events: (n_tissues, EVENTS, n_genes).
        frequencies: share of a tissue's tumours that have an event, (n_tissues, EVENTS).
    """

    tissue_shares: np.ndarray
    shares: np.ndarray
    common: np.ndarray
    own: np.ndarray
    events: np.ndarray
    frequencies: np.ndarray

    @classmethod
    def build(cls, n_tissues: int, n_genes: int, rng: np.random.Generator) -> Self:
        """Draw the structure for genes in the order of the landmarks."""
        sizes = np.arange(1, n_tissues + 1) ** -SIZE_EXPONENT
        present = rng.random((n_tissues, len(SUB_CLASSES))) < PRESENT
        present[0] = True  # so that every cohort has all sub-classes
        shares = present * rng.gamma(2.0, 1.0, present.shape)
        events = np.zeros((n_tissues, EVENTS, n_genes))
        for event in events.reshape(-1, n_genes):
            start = rng.integers(n_genes)
            block = np.arange(start, start + EVENT_GENES) % n_genes
            event[block] = rng.choice([-1.0, 1.0]) * rng.uniform(*EVENT_SIZE)
        return cls(
            tissue_shares=sizes / sizes.sum(),
            shares=shares / shares.sum(axis=1, keepdims=True),
            common=(rng.random(n_genes) < 0.3) * rng.normal(0, 0.5, n_genes),
            own=rng.normal(0, 0.3, (n_tissues, n_genes)),
            events=events,
            frequencies=rng.uniform(0.2, 0.6, (n_tissues, EVENTS)),
        )

    def sub_classes(self, tissue: np.ndarray) -> np.ndarray:
        """The sub-class of each sample, (n_samples,), for tissues by number: in each tissue in its shares, in order."""
        found = np.empty(len(tissue), dtype=np.int64)
        for t in np.unique(tissue):
            rows = np.flatnonzero(tissue == t)
            edges = np.round(self.shares[t].cumsum() * len(rows)).astype(int)
            found[rows] = np.searchsorted(edges, np.arange(len(rows)), side="right")
        return found

    def transform(
        self, normal: np.ndarray, tissue: np.ndarray, is_tumour: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Expression (n_samples, n_genes) in which tumours have theirs in place of that of a normal sample."""
        rows = np.flatnonzero(is_tumour)
        of = tissue[rows]
        switched = rng.random((len(rows), EVENTS)) < self.frequencies[of]
        change = rng.gamma(*GRADE, (len(rows), 1)) * self.common + self.own[of]
        change += np.einsum("ne,neg->ng", switched.astype(float), self.events[of])
        purity = rng.beta(*PURITY, (len(rows), 1))
        found = normal.copy()
        found[rows] += np.log2(1 - purity + purity * np.exp2(change))
        return found


def assign_pairs(tissues: np.ndarray, is_tumour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A number of the donor for each sample of ``study_b``, (n_samples,).

    A normal sample lies beside a tumour of the same tissue as long as there are any, as in TCGA; other tumours have
    a donor of their own.
    """
    donor = np.arange(len(tissues))
    for name in np.unique(tissues):
        mine = tissues == name
        normal, tumour = (rng.permutation(np.flatnonzero(mine & part)) for part in (~is_tumour, is_tumour))
        pairs = min(len(normal), len(tumour))
        donor[normal[:pairs]] = tumour[:pairs]
    return donor
