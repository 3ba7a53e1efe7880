"""The indicators of Lacan et al. (2026) as their code takes them: against training profiles, on linear values.

doi:10.1186/s12859-026-06470-8. These are beside the scorecard and never mixed with it: a generator that copies its
training profiles wins here. ``docs/paper.md`` compares both protocols.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import anndata as ad
import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from torch import nn

from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.expression.units import linear_unit
from transcriptome_diffusion.generators.base import Generator, join
from transcriptome_diffusion.generators.options import SamplingOptions
from transcriptome_diffusion.metrics.correlation import correlation_score
from transcriptome_diffusion.metrics.distances import frechet
from transcriptome_diffusion.metrics.fidelity import fidelity
from transcriptome_diffusion.metrics.options import PaperProtocolOptions
from transcriptome_diffusion.metrics.paper_classifier import accuracy, features, train_classifier

logger = logging.getLogger(__name__)

COLUMNS = ["generator", "space", "reference", "protocol", "metric", "mean", "sd", "runs", "n"]
#: of the profiles that a classifier is trained with, those that it stops on
HELD_OUT_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class PaperSpace:
    """Linear values scaled by training profiles: the space that a generator's indicators are taken in.

    Attributes:
        kind: ``max_abs`` (diffusion) or ``standard`` (VAE, WGAN-GP and generators of other scalings).
        centre, width: of every gene, (n_genes,).
    """

    kind: Literal["max_abs", "standard"]
    centre: np.ndarray
    width: np.ndarray

    @classmethod
    def fit(cls, linear: np.ndarray, kind: Literal["max_abs", "standard"]) -> PaperSpace:
        """From linear training values (n, n_genes); genes without variation keep their unit."""
        if kind == "standard":
            scaler = GeneScaler.fit(linear)
            return cls(kind, scaler.mean, scaler.scale)
        width = np.abs(linear).max(axis=0)
        return cls(kind, np.zeros_like(width), np.where(width > 0, width, np.float32(1)))

    def __call__(self, linear: np.ndarray) -> np.ndarray:
        """Scaled values, (n, n_genes)."""
        return (linear - self.centre) / self.width


def to_linear(values: np.ndarray) -> np.ndarray:
    """Linear values (n, n_genes) under log2(x + 1), and under -log2(1 - x) for negative ones."""
    return np.copysign(np.exp2(np.abs(values)) - 1, values).astype(np.float32)


def paper_protocol(
    name: str,
    model: Generator,
    train: ad.AnnData,
    validation: ad.AnnData,
    test: ad.AnnData,
    options: PaperProtocolOptions,
    sampling: SamplingOptions,
    sampler: Any = None,
) -> pd.DataFrame:
    """Indicators of one training of a generator, drawn several times, one profile per training row and label.

    ``train`` and ``validation`` together are the paper's training file, on which its final models are trained.
    ``accuracy`` is reverse validation: classifiers trained on drawn profiles and tested on the real ``test``, scaled as
    in the paper (by the drawn profiles for ``max_abs``, by the real ones for ``standard``).

    Args:
        name: of the row. model: one training. sampler: as ``model.sample`` takes it, where it does.
        train, validation, test: real landmark profiles (n, n_genes) in log2(x + 1).

    Returns:
        A row per metric, ``COLUMNS``: mean and standard deviation (with n in the denominator) over ``runs`` drawings.

    Raises:
        ValueError: if the unit is no log2(x + 1), which linear values could be taken from.
    """
    if linear_unit(str(train.uns["unit"])) is None:
        raise ValueError(
            f"the paper's protocol needs linear values, and the profiles are in {train.uns['unit']!r}; expected "
            "log2(... + 1). Run it on a cohort of TPM, FPKM or RSEM values."
        )
    both = join(train, validation)
    classes = np.unique(_labels(both, options.label))
    codes, test_codes = (
        # an unknown class is -1, which is never predicted
        pd.Categorical(_labels(part, options.label), categories=classes).codes.astype(np.int64)
        for part in (both, test)
    )
    linear, test_linear = to_linear(dense(both)), to_linear(dense(test))
    scaling = model.settings.get("scaling", "")
    space = PaperSpace.fit(linear, "max_abs" if scaling == "linear_max_abs" else "standard")
    real = space(linear)
    standard = PaperSpace.fit(linear, "standard")
    how = {} if sampler is None else {"sampler": sampler}
    classifier = _real_classifier(linear, codes, len(classes), options)
    found: dict[str, list[float]] = {}
    for run in range(max(options.drawings, options.classifiers)):
        drawn = model.sample(both.obs, sampling.seed + run, sampling.batch_size, **how)
        synthetic = to_linear(dense(drawn))
        if run < options.drawings:
            indicators = _indicators(real, space(synthetic), options, space.kind)
            sides = [features(classifier, standard(part)) for part in (linear, synthetic)]
            indicators["frechet_classifier"] = frechet(*sides)
            for metric, value in indicators.items():
                found.setdefault(metric, []).append(value)
        if run < options.classifiers:
            found.setdefault("accuracy", []).append(
                _reverse(synthetic, codes, (test_linear, test_codes), standard, space.kind, options, run)
            )
        logger.info("%s: the paper's protocol, drawing %d", name, run + 1)
    rows = []
    for metric, values in found.items():
        reference = "test" if metric == "accuracy" else "train"
        mean, sd = float(np.mean(values)), float(np.std(values))
        rows.append((name, "landmarks", reference, "paper", metric, mean, sd, len(values), len(real)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _labels(profiles: ad.AnnData, label: str) -> np.ndarray:
    return profiles.obs[label].astype(str).to_numpy()


def _indicators(
    real: np.ndarray, synthetic: np.ndarray, options: PaperProtocolOptions, kind: Literal["max_abs", "standard"]
) -> dict[str, float]:
    """Those of neighbours and of correlation, in the generator's own space."""
    found = fidelity(real, synthetic, options.neighbours)
    rows = np.random.default_rng(options.seed).permutation(len(real))[: options.most_apart[kind]]
    # the same rows on both sides, so that labels match
    found["adversarial_accuracy"] = fidelity(real[rows], synthetic[rows], 1)["adversarial_accuracy"]
    return found | {"correlation": correlation_score(real, synthetic)}


def _real_classifier(
    linear: np.ndarray, codes: np.ndarray, n_classes: int, options: PaperProtocolOptions
) -> nn.Sequential:
    """A classifier of real profiles, standardised by those that it was fitted to."""
    fitted, seen = _split(codes, options.seed, stratified=False)
    space = PaperSpace.fit(linear[fitted], "standard")
    parts = [(space(linear[rows]), codes[rows]) for rows in (fitted, seen)]
    return train_classifier(parts[0], parts[1], n_classes, options.classifier, options.seed)


def _reverse(
    synthetic: np.ndarray,
    codes: np.ndarray,
    test: tuple[np.ndarray, np.ndarray],
    standard: PaperSpace,
    kind: str,
    options: PaperProtocolOptions,
    run: int,
) -> float:
    """Accuracy on real test profiles of a classifier that saw drawn profiles alone, to stop as well."""
    fitted, seen = _split(codes, options.seed, stratified=kind == "standard")
    space = standard if kind == "standard" else PaperSpace.fit(synthetic[fitted], "standard")
    parts = [(space(synthetic[rows]), codes[rows]) for rows in (fitted, seen)]
    network = train_classifier(parts[0], parts[1], int(codes.max()) + 1, options.classifier, options.seed + run)
    return accuracy(network, torch.from_numpy(space(test[0])), torch.from_numpy(test[1]))


def _split(codes: np.ndarray, seed: int, stratified: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit and to stop on, 80 to 20."""
    rows = np.arange(len(codes))
    strata = codes if stratified else None
    fitted, seen = train_test_split(rows, test_size=HELD_OUT_SHARE, random_state=seed, stratify=strata)
    return fitted, seen
