"""Nodes of the private model: fit it with the dial, and attack what it would release."""

from __future__ import annotations

import logging
from typing import Any

from transcriptome_diffusion.generators.options import ClassGaussianOptions, SamplingOptions
from transcriptome_diffusion.generators.privacy_options import PrivacyOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame

logger = logging.getLogger(__name__)


def fit(
    train: AnnData, validation: AnnData, reference: AnnData, options: ClassGaussianOptions, privacy: PrivacyOptions
) -> Any:
    """A class Gaussian with the reference cohort and the dial of `privacy`."""
    from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
    from transcriptome_diffusion.generators.pretrained import fit as fit_generator
    from transcriptome_diffusion.generators.runs import training_facts

    model = fit_generator(ClassGaussian, train, validation, options, reference, privacy)
    if privacy.dial != "dp":  # which shows noisy numbers instead
        model.record |= training_facts(model, train)
    return model


def report(
    model: Any, train: AnnData, validation: AnnData, test: AnnData, reference: AnnData, sampling: SamplingOptions
) -> tuple[DataFrame, DataFrame, DataFrame, str]:
    """What attacks find in the profiles that the model would release; the one node that reads held-out donors."""
    from transcriptome_diffusion.experiments.release import privacy_report

    found = privacy_report(model, train, validation, test, reference=reference, seed=sampling.seed)
    logger.info("%s", found.sentence)
    return found
