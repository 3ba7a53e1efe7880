"""A simulated cohort whose structure is known and whose population can be drawn from again.

The model, for sample i of tissue t, donor d, study s, and landmark gene g, in log2 units::

    own_ig = base_g + programme_tg + signature_tkg
             + sum_m amplitude_tm a_im loading_mg + sum_f donor_df donor_loading_fg
    eta_ig = log2((1 - c_i) 2^own_ig + c_i 2^infiltrate_g) + study_sg

- ``programme``: tissue differences in all genes, and markers switched on; the last two tissues are close kin.
- ``k``: one of three hidden subtypes, each tissue with its own proportions; ``signature`` is how it looks there.
- ``a``: activities of gene modules, in the same three shapes in every tissue. *Graded* modules are Gaussian;
  *cyclic* modules come in pairs on a circle (cos, sin); *interacting* modules are the product of two
  graded ones, with a sign that depends on the subtype, cut at ±3.
- ``c``: the share of cells that every tissue is mixed with, small in most samples and large in a few.
- ``donor``: shared by all samples of a donor, whatever the tissue. ``study``: a fixed shift between two studies.

Within a tissue, profiles thus lie on curved, clustered, unevenly filled sheets: a Gaussian per tissue has the right
mean and covariance and the wrong shape.

Target genes follow the landmarks through two projections p and q of them, each standardised over the population
and saturating at ±3: ``linear`` p, ``quadratic`` p², ``product`` p q, ``threshold`` a steep sigmoid of p.

With the option ``tumours`` some samples are tumours, and tissues are of very unequal size; see ``simulated_tumours``.
The samples of a cohort without it are the same whether or not this option exists.

Counts are negative binomial (variance mu + dispersion mu²) around library size times the share of 2^eta, and are
returned as counts per million (CPM).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from transcriptome_diffusion.cohorts.options import SimulationOptions
from transcriptome_diffusion.cohorts.simulated_tumours import SUB_CLASSES, Tumours, assign_pairs
from transcriptome_diffusion.expression.landmarks import load_panel
from transcriptome_diffusion.expression.profiles import make_profiles

STUDIES = ("study_a", "study_b")
SUBTYPES = 3
GRADED, CIRCLES, INTERACTING = 2, 2, 1
DONOR_FACTORS = 2
TARGET_KINDS = ("linear", "quadratic", "product", "threshold")
TARGET_SHARES = (0.4, 0.25, 0.2, 0.15)
LANDMARKS_PER_TARGET = 6
#: squared biological coefficient of variation; the edgeR User's Guide names 0.16 for human cohorts and 0.01 for
#: genetically identical animals; donors and modules bring their own variance here, so it is at the lower end
DISPERSION = 0.03
#: smallest and largest size of a loading, in log2 per unit of activity
MODULE_LOADING, DONOR_LOADING = (0.3, 0.8), (0.3, 0.6)
RADIUS = 1.4
#: parameters of the beta distribution of the infiltrate's share: median 0.12, and over 0.4 in one sample of ten
INFILTRATE_SHARE = (0.8, 4.0)
LIBRARY_SIZE, LIBRARY_LOG_SD = 2e7, 0.35
#: how many tissues a donor of each study gives
TISSUES_PER_DONOR = {"study_a": (0.4, 0.3, 0.2, 0.1), "study_b": (0.9, 0.1)}

# draws of the cohort and of the oracle never share a random stream, whatever their seeds
_COHORT, _ORACLE, _REFERENCE = 0, 1, 2
# neither do the structure of the tumours and that of everything else
_TUMOURS = 3


@dataclass(frozen=True, eq=False)
class SimulatedCohort:
    """A population with known structure; ``draw`` gives a cohort, ``draw_oracle`` fresh donors of the same population.

    Attributes:
        options: sizes and seeds.
        tissues: names, the largest first.
        genes: the gene table, landmarks in the order of the panel, then targets ``SIM00001``...; ``kind`` is
            ``landmark`` or how a target depends on the landmarks.
        base: mean log2 expression, (n_genes,).
        programmes: (n_tissues, n_landmarks).
        signatures: (n_tissues, 3, n_landmarks).
        subtype_shares: (n_tissues, 3), rows sum to 1.
        amplitudes: (n_tissues, n_modules).
        loadings: (n_modules, n_landmarks); modules are graded, then cyclic in pairs, then interacting.
        donor_loadings: (n_factors, n_landmarks).
        infiltrate: (n_landmarks,), log2 expression of the cells that every tissue is mixed with.
        study_shifts: (2, n_landmarks).
        projections: (2 n_targets, n_landmarks), the weights of every p, then every q, on deviations from ``base``.
        target_strengths: (n_targets,), standard deviation of a target's signal over the population.
        scales: means and standard deviations of p, q and the signals over a reference draw, (3, 2, n_targets).
        tumours: None for a cohort of normal samples alone.
    """

    options: SimulationOptions
    tissues: tuple[str, ...]
    genes: pd.DataFrame
    base: np.ndarray
    programmes: np.ndarray
    signatures: np.ndarray
    subtype_shares: np.ndarray
    amplitudes: np.ndarray
    loadings: np.ndarray
    donor_loadings: np.ndarray
    infiltrate: np.ndarray
    study_shifts: np.ndarray
    projections: sparse.csr_array
    target_strengths: np.ndarray
    scales: np.ndarray
    tumours: Tumours | None

    @classmethod
    def build(cls, options: SimulationOptions) -> Self:
        """Draw the population's structure from ``options.structure_seed``."""
        rng = np.random.default_rng(options.structure_seed)
        genes = _gene_table(options, rng)
        n_landmarks = int(genes["is_landmark"].sum())
        modules = GRADED + 2 * CIRCLES + INTERACTING
        # landmarks are well expressed by construction of the panel, targets reach down to silence
        base = np.concatenate([rng.normal(6.0, 1.0, n_landmarks), 6.5 - np.abs(rng.normal(0, 5.0, options.targets))])
        population = cls(
            options=options,
            tissues=tuple(f"tissue_{i + 1}" for i in range(options.tissues)),
            genes=genes,
            base=base,
            programmes=_programmes(options.tissues, n_landmarks, rng),
            signatures=rng.normal(0, 0.25, (options.tissues, SUBTYPES, n_landmarks)),
            subtype_shares=rng.dirichlet(np.full(SUBTYPES, 4.0), options.tissues),
            amplitudes=rng.uniform(0.8, 1.2, (options.tissues, modules)),
            loadings=_loadings(rng, modules, n_landmarks, *MODULE_LOADING),
            donor_loadings=_loadings(rng, DONOR_FACTORS, n_landmarks, *DONOR_LOADING),
            infiltrate=base[:n_landmarks] + rng.normal(0, 1.5, n_landmarks),
            study_shifts=np.outer([-0.5, 0.5], rng.normal(0, 0.3, n_landmarks)),
            projections=_projections(rng, n_landmarks, options.targets),
            target_strengths=rng.uniform(0.6, 1.1, options.targets),
            scales=np.stack([np.zeros((3, options.targets)), np.ones((3, options.targets))], axis=1),
            tumours=_tumours(options, n_landmarks) if options.tumours else None,
        )
        population._standardise_targets()
        return population

    def composition(self) -> list[str]:
        """The tissue of each sample of the cohort; the largest is four times the smallest, with tumours more."""
        shares = np.linspace(4.0, 1.0, len(self.tissues)) if self.tumours is None else self.tumours.tissue_shares
        edges = np.round(np.concatenate([[0], shares.cumsum() / shares.sum()]) * self.options.samples)
        return list(np.repeat(self.tissues, np.diff(edges).astype(int)))

    def draw(self, tissues: Sequence[str] | None = None, seed: int | None = None) -> ad.AnnData:
        """Draw a cohort, one sample per entry of ``tissues``, in that order.

        Args:
            tissues: tissue of each sample; None for the cohort's own composition.
            seed: None for ``options.draw_seed``.

        Returns:
            (n_samples, n_genes), linear CPM; ``obs`` also has ``tissue``, ``sample_type`` and the hidden ``subtype``.
            Study and sample type are in proportions that depend on the tissue alone.

        Raises:
            ValueError: if a tissue is unknown.
        """
        return self._draw(tissues, seed, _COHORT)

    def draw_oracle(self, tissues: Sequence[str] | None = None, seed: int | None = None) -> ad.AnnData:
        """As ``draw``, with donors and samples that no ``draw`` has: the best any generator can do."""
        return self._draw(tissues, seed, _ORACLE)

    def _draw(self, tissues: Sequence[str] | None, seed: int | None, stream: int) -> ad.AnnData:
        tissues = self.composition() if tissues is None else [str(tissue) for tissue in tissues]
        if unknown := sorted(set(tissues) - set(self.tissues)):
            raise ValueError(f"unknown tissues {unknown}; the simulated population has {list(self.tissues)}.")
        seed = self.options.draw_seed if seed is None else seed
        rng = np.random.default_rng([self.options.structure_seed, stream, seed])
        obs = self._sample_table(tissues, rng, prefix="ORACLE" if stream == _ORACLE else "SIM")
        landmarks, obs["subtype"] = self._landmark_expression(obs, rng)
        counts = _counts(np.hstack([landmarks, self._target_expression(landmarks)]), rng)
        obs["source"] = "simulated_oracle" if stream == _ORACLE else "simulated"
        return make_profiles(counts / counts.sum(axis=1, keepdims=True) * 1e6, obs, self.genes, unit="CPM")

    def _sample_table(self, tissues: Sequence[str], rng: np.random.Generator, prefix: str) -> pd.DataFrame:
        """Donor, study and sample type of every sample, in the order of ``tissues``."""
        if self.tumours is None:
            return _assign_donors(tissues, rng, prefix)
        names = np.asarray(tissues, dtype=object)
        found = self.tumours.sub_classes(pd.Categorical(names, categories=list(self.tissues)).codes)
        study, sample_type = np.array(SUB_CLASSES, dtype=object)[found].T
        of_a, of_b = np.flatnonzero(study == "study_a"), np.flatnonzero(study == "study_b")
        donor = np.empty(len(tissues), dtype=object)
        donor[of_a] = _assign_donors(list(names[of_a]), rng, f"{prefix}-A")["donor"]
        pairs = assign_pairs(names[of_b], sample_type[of_b] == "tumor", rng)
        donor[of_b] = [f"{prefix}-B-{number + 1:05d}" for number in pairs]
        table = pd.DataFrame({"tissue": list(tissues), "donor": donor, "study": study, "sample_type": sample_type})
        return table.set_index(pd.Index(donor + "-" + names + "-" + sample_type, name="sample"))

    def _landmark_expression(self, obs: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        """Expected log2 expression of the landmarks, (n_samples, n_landmarks), and each sample's subtype."""
        tissue = pd.Categorical(obs["tissue"], categories=list(self.tissues)).codes
        study = pd.Categorical(obs["study"], categories=list(STUDIES)).codes
        donor, donors = pd.factorize(obs["donor"])
        thresholds = self.subtype_shares.cumsum(axis=1)[tissue, :-1]
        subtype = (rng.random((len(obs), 1)) > thresholds).sum(axis=1)
        activities = self.amplitudes[tissue] * _module_activities(subtype, rng)
        factors = rng.normal(size=(len(donors), DONOR_FACTORS))[donor]
        expression = (
            self.base[: self.loadings.shape[1]]
            + self.programmes[tissue]
            + self.signatures[tissue, subtype]
            + activities @ self.loadings
            + factors @ self.donor_loadings
        )
        if self.tumours is not None:
            is_tumour = (obs["sample_type"] == "tumor").to_numpy()
            expression = self.tumours.transform(expression, tissue, is_tumour, rng)
        share = rng.beta(*INFILTRATE_SHARE, (len(obs), 1))
        mixed = np.log2((1 - share) * np.exp2(expression) + share * np.exp2(self.infiltrate))
        return mixed + self.study_shifts[study], [f"subtype_{k + 1}" for k in subtype]

    def _target_expression(self, landmarks: np.ndarray) -> np.ndarray:
        """Expected log2 expression of the targets, (n_samples, n_targets), given that of the landmarks."""
        signal = _standardised(self._target_signals(landmarks), self.scales[2])
        return self.base[landmarks.shape[1] :] + self.target_strengths * signal

    def _target_signals(self, landmarks: np.ndarray) -> np.ndarray:
        p, q = (
            3 * np.tanh(_standardised(projection, scale) / 3)
            for projection, scale in zip(self._projected(landmarks), self.scales[:2], strict=True)
        )
        kind = self.genes["kind"].to_numpy()[landmarks.shape[1] :]
        shapes = {"linear": p, "quadratic": p**2, "product": p * q, "threshold": 1 / (1 + np.exp(-4 * p))}
        return np.select([kind == name for name in TARGET_KINDS], [shapes[name] for name in TARGET_KINDS])

    def _projected(self, landmarks: np.ndarray) -> np.ndarray:
        """The projections p and q before any scaling, (2, n_samples, n_targets)."""
        deviations = landmarks - self.base[: landmarks.shape[1]]
        return (self.projections @ deviations.T).T.reshape(len(landmarks), 2, -1).swapaxes(0, 1)

    def _standardise_targets(self) -> None:
        """Take the means and deviations of p, q and the signals from one large reference draw, in place."""
        rng = np.random.default_rng([self.options.structure_seed, _REFERENCE])
        obs = self._sample_table(list(np.resize(self.composition(), 1000)), rng, prefix="REFERENCE")
        landmarks, _ = self._landmark_expression(obs, rng)
        for place, projection in enumerate(self._projected(landmarks)):
            self.scales[place] = projection.mean(axis=0), projection.std(axis=0)
        signals = self._target_signals(landmarks)
        self.scales[2] = signals.mean(axis=0), signals.std(axis=0)


def read_simulated(options: SimulationOptions) -> ad.AnnData:
    """The simulated cohort; see ``SimulatedCohort.draw``."""
    return SimulatedCohort.build(options).draw()


def read_oracle(options: SimulationOptions) -> ad.AnnData:
    """Fresh donors of the simulated cohort's population, in the same composition."""
    return SimulatedCohort.build(options).draw_oracle()


def _gene_table(options: SimulationOptions, rng: np.random.Generator) -> pd.DataFrame:
    panel = load_panel().assign(is_landmark=True, kind="landmark")
    names = [f"SIM{i + 1:05d}" for i in range(options.targets)]
    kinds = rng.choice(TARGET_KINDS, options.targets, p=TARGET_SHARES)
    targets = pd.DataFrame({"symbol": names, "kind": kinds}).assign(entrez_id="", ensembl_id="", is_landmark=False)
    genes = pd.concat([panel, targets])[["symbol", "entrez_id", "ensembl_id", "is_landmark", "kind"]]
    return genes.set_index(pd.Index(genes["symbol"], name="gene"))


def _tumours(options: SimulationOptions, n_landmarks: int) -> Tumours:
    rng = np.random.default_rng([options.structure_seed, _TUMOURS])
    return Tumours.build(options.tissues, n_landmarks, rng)


def _programmes(n_tissues: int, n_genes: int, rng: np.random.Generator) -> np.ndarray:
    markers = (rng.random((n_tissues, n_genes)) < 0.05) * rng.normal(2.0, 0.5, (n_tissues, n_genes))
    programmes = markers + rng.normal(0, 0.4, (n_tissues, n_genes))
    if n_tissues > 2:
        # close kin, as colon and rectum are: classifying tissues is then not trivial
        kin = (rng.random(n_genes) < 0.1) * rng.normal(0, 0.12, n_genes)
        programmes[-1] = programmes[-2] + kin
    return programmes


def _loadings(rng: np.random.Generator, factors: int, n_genes: int, low: float, high: float) -> np.ndarray:
    """(factors, n_genes), zero for 70 % of the genes, else of either sign and between ``low`` and ``high``.

    Bounded, as a single gene that carries half the library would tie all others together.
    """
    size = (factors, n_genes)
    return (rng.random(size) < 0.3) * rng.choice([-1.0, 1.0], size) * rng.uniform(low, high, size)


def _projections(rng: np.random.Generator, n_landmarks: int, n_targets: int) -> sparse.csr_array:
    """(2 n_targets, n_landmarks): every row a projection on a handful of landmarks, first all p, then all q."""
    shape = (2 * n_targets, LANDMARKS_PER_TARGET)
    rows = np.repeat(np.arange(shape[0]), shape[1])
    # a landmark drawn twice adds its two weights up
    return sparse.coo_array(
        (rng.normal(size=rows.size), (rows, rng.integers(n_landmarks, size=rows.size))),
        shape=(shape[0], n_landmarks),
    ).tocsr()


def _module_activities(subtype: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n_samples, n_modules): graded N(0, 0.6²), cyclic on circles, interacting within ±3."""
    n = len(subtype)
    graded = rng.normal(size=(n, GRADED))
    angle = rng.uniform(0, 2 * np.pi, (n, CIRCLES))
    circles = np.stack([np.cos(angle), np.sin(angle)], axis=2).reshape(n, 2 * CIRCLES)
    sign = np.where(subtype == 0, -1.0, 1.0)[:, None]
    product = sign * graded[:, :INTERACTING] * graded[:, INTERACTING : 2 * INTERACTING]
    return np.hstack([0.6 * graded, RADIUS * circles, product.clip(-3, 3)])


def _assign_donors(tissues: Sequence[str], rng: np.random.Generator, prefix: str) -> pd.DataFrame:
    """A sample table in the order of ``tissues``; a donor gives one sample of each of one to four tissues."""
    waiting = {
        name: list(rng.permutation(np.flatnonzero(np.asarray(tissues) == name))) for name in sorted(set(tissues))
    }
    donor, study = np.empty(len(tissues), dtype=object), np.empty(len(tissues), dtype=object)
    number = 0
    while waiting:
        number += 1
        of = str(rng.choice(STUDIES, p=[0.6, 0.4]))
        gives = TISSUES_PER_DONOR[of]
        left = np.array([len(samples) for samples in waiting.values()])
        size = min(1 + rng.choice(len(gives), p=gives), len(waiting))
        for name in rng.choice(list(waiting), size, replace=False, p=left / left.sum()):
            sample = waiting[name].pop()
            donor[sample], study[sample] = f"{prefix}-{number:05d}", of
            if not waiting[name]:
                del waiting[name]
    names = pd.Index([f"{d}-{t}" for d, t in zip(donor, tissues, strict=True)], name="sample")
    return pd.DataFrame({"tissue": tissues, "donor": donor, "study": study, "sample_type": "normal"}, index=names)


def _counts(log_expression: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Negative binomial counts around each sample's library size, as a gamma mixture of Poissons."""
    share = np.exp2(log_expression)
    share /= share.sum(axis=1, keepdims=True)
    library = LIBRARY_SIZE * np.exp(rng.normal(0, LIBRARY_LOG_SD, (len(share), 1)))
    return rng.poisson(share * library * rng.gamma(1 / DISPERSION, DISPERSION, share.shape))


def _standardised(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (values - scale[0]) / scale[1]
