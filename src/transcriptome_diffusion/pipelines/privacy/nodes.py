"""Nodes of the private model: fit it with the dial, attack what it would release, and compare the dials."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

from transcriptome_diffusion.experiments.options import AugmentationOptions
from transcriptome_diffusion.generators.differential_privacy import INSTALL
from transcriptome_diffusion.generators.options import (
    ClassGaussianOptions,
    DiffusionOptions,
    FlowMatchingOptions,
    SamplerOptions,
    SamplingOptions,
    VAEOptions,
    WGANGPOptions,
)
from transcriptome_diffusion.generators.privacy_options import PrivateModelOptions
from transcriptome_diffusion.generators.registry import GENERATORS, model_name
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.pipelines.augmentation.nodes import TrainClassifiers
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame, Figure

logger = logging.getLogger(__name__)

#: synthetic profiles per real one, of which up to 1,000 are compared
RATIO = 5


def choose(
    privacy: PrivateModelOptions,
    class_gaussian: ClassGaussianOptions,
    vae: VAEOptions,
    wgan_gp: WGANGPOptions,
    flow_matching: FlowMatchingOptions,
    denoiser: DiffusionOptions,
    ddpm: SamplerOptions,
    ddim: SamplerOptions,
) -> Any:
    """The settings of the generator that `privacy.generator` names."""
    blocks = {
        "class_gaussian": class_gaussian,
        "vae": vae,
        "wgan_gp": wgan_gp,
        "flow_matching": flow_matching,
        "denoiser": denoiser.model_copy(update={"sampler": ddpm if privacy.generator == "ddpm" else ddim}),
    }
    return blocks[model_name(privacy.generator)]


def fit(train: AnnData, validation: AnnData, reference: AnnData, options: Any, privacy: PrivateModelOptions) -> Any:
    """The generator with the reference cohort and the dial of `privacy`."""
    from transcriptome_diffusion.generators.pretrained import fit as fit_generator
    from transcriptome_diffusion.generators.runs import training_facts

    cls = GENERATORS[privacy.generator].load_class()
    model = fit_generator(cls, train, validation, options, reference, privacy)
    if privacy.dial != "dp":  # which shows noisy numbers instead
        model.record |= training_facts(model, train)
    return model


def draw(
    train: AnnData,
    validation: AnnData,
    reference: AnnData,
    options: Any,
    privacy: PrivateModelOptions,
    augmentation: AugmentationOptions,
    evaluation: EvaluationOptions,
) -> list[Any]:
    """What the generator draws with every dial and budget of `augmentation`, fitted to all training profiles."""
    from transcriptome_diffusion.experiments.augmentation import from_generator, train_classifiers
    from transcriptome_diffusion.experiments.learning_curves import axes_of

    if "dp" in augmentation.dials and find_spec("dp_accounting") is None:
        logger.warning("no budgets of `dp` are compared: %s", INSTALL)
        augmentation = augmentation.model_copy(update={"dials": [dial for dial in augmentation.dials if dial != "dp"]})
    whole = augmentation.model_copy(update={"profiles_per_label": [None], "ratios": [RATIO]})
    cls, label, known = GENERATORS[privacy.generator].load_class(), evaluation.label, reference.n_obs > 0
    axes = axes_of(reference, label) if known else None
    kept: list[Any] = []
    for method, dial in TrainClassifiers(privacy.generator).methods(whole, privacy, known).items():
        synthesise = from_generator(cls, options, reference=None if dial is None else reference, privacy=dial)
        drawing = train_classifiers(
            method, synthesise, train, validation, whole, label, classify=False, kept=kept, axes=axes
        )
        for _ in drawing:
            pass
    return kept


def report(
    model: Any,
    drawn: list[Any],
    train: AnnData,
    validation: AnnData,
    test: AnnData,
    reference: AnnData,
    sampling: SamplingOptions,
    evaluation: EvaluationOptions,
) -> tuple[DataFrame, DataFrame, DataFrame, str, DataFrame, Figure, str]:
    """What attacks find in what the model would release, and every dial; the one node that reads held-out donors."""
    from transcriptome_diffusion.experiments.learning_curves import frontier, quality
    from transcriptome_diffusion.experiments.release import privacy_report
    from transcriptome_diffusion.reporting.curves import frontier_figure, privacy_page

    found = privacy_report(model, train, validation, test, reference=reference, seed=sampling.seed)
    logger.info("%s", found.sentence)
    compared = quality(drawn, test, evaluation.label)
    table, figure = frontier(compared), frontier_figure(compared)
    tables = {"frontier": table, "attacks": found.attacks, "by_class": found.by_class, "at_risk": found.at_risk}
    page = privacy_page(found.sentence, tables, figure, {"model": model.name, "training profiles": train.n_obs})
    return *found, table, figure, page
