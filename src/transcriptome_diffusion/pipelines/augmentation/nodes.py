"""Nodes of the low-sample experiment: train classifiers with and without synthetic profiles, then test them all."""

from __future__ import annotations

import logging
from typing import Any

from transcriptome_diffusion.experiments.options import AugmentationOptions
from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame, Figure

logger = logging.getLogger(__name__)


def train_references(
    train: AnnData, validation: AnnData, options: AugmentationOptions, evaluation: EvaluationOptions
) -> list[Any]:
    """Classifiers of real profiles alone, of copies and of mixtures of them."""
    refuse_unknown(options)

    from transcriptome_diffusion.experiments.augmentation import references, train_classifiers

    return [
        classifier
        for method, synthesise in references(options, evaluation.label).items()
        for classifier in train_classifiers(method, synthesise, train, validation, options, evaluation.label)
    ]


class TrainClassifiers:
    """Trains one generator on few profiles, again and again, and classifiers on what it draws."""

    def __init__(self, generator: str) -> None:
        self.generator = generator
        self.__name__ = f"train_{generator}"
        spec = GENERATORS[generator]
        self.__annotations__ = {
            "options": spec.options,
            "augmentation": AugmentationOptions,
            "evaluation": EvaluationOptions,
            "sampling": SamplingOptions,
            "sampler": SamplerOptions,
        }

    def __call__(
        self,
        train: AnnData,
        validation: AnnData,
        options: Any,
        augmentation: Any,
        evaluation: Any,
        sampling: Any,
        sampler: Any = None,
    ) -> list[Any]:
        name = self.generator
        if augmentation.generators is not None and name not in augmentation.generators:
            logger.info("%s: takes no part, since `augmentation.generators` does not list it", name)
            return []

        from transcriptome_diffusion.experiments.augmentation import from_generator, train_classifiers

        how = {} if sampler is None else {"sampler": sampler}
        synthesise = from_generator(GENERATORS[name].load_class(), options, sampling.batch_size, **how)
        return list(train_classifiers(name, synthesise, train, validation, augmentation, evaluation.label))


def refuse_unknown(options: AugmentationOptions) -> None:
    """Stop before anything is trained if a generator is listed that does not exist.

    Raises:
        ValueError: naming it.
    """
    if unknown := sorted(set(options.generators or ()) - set(GENERATORS)):
        raise ValueError(f"`augmentation.generators` lists {unknown}; expected some of {sorted(GENERATORS)}.")


def evaluate(test: AnnData, evaluation: EvaluationOptions, *classifiers: Any) -> tuple[DataFrame, DataFrame]:
    """Every classifier on held-out donors, the one place of the experiment that reads them; and what methods gain."""
    from transcriptome_diffusion.experiments.augmentation import as_text, gains, score

    table = score((one for part in classifiers for one in part), test, evaluation.label)
    for metric in table["metric"].unique():
        if metric.startswith("balanced_accuracy"):
            logger.info("%s on held-out donors, by real profiles per tissue\n%s", metric, as_text(table, metric))
    return table, gains(table)


def plot(table: DataFrame) -> Figure:
    """Balanced accuracy against synthetic profiles per real one."""
    from transcriptome_diffusion.reporting.figures import augmentation_curves

    return augmentation_curves(table)
