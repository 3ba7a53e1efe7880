"""Nodes of the low-sample experiment: train classifiers with and without synthetic profiles, then test them all."""

from __future__ import annotations

import logging
from typing import Any

from transcriptome_diffusion.experiments.options import AugmentationOptions
from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.privacy_options import PrivateModelOptions
from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame, Figure

logger = logging.getLogger(__name__)


#: methods of a generator with a reference cohort are named after what it takes of the user's cohort
WITH_REFERENCE = {"none": "{}+reference", "reference_axes": "{}+reference_axes", "dp": "{}+dp_{:g}"}


def prepare_reference(reference: AnnData, train: AnnData, evaluation: EvaluationOptions) -> AnnData:
    """The public cohort on the genes of the user's, in log2; none where the catalog names none."""
    from transcriptome_diffusion.expression.reference import prepare_reference

    return prepare_reference(reference, train.var, evaluation.label)


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
    """Trains one generator on few profiles, again and again, and classifiers on what it draws.

    With a reference cohort it does so once more for every dial that the generator knows. What is drawn is kept as well,
    and compared with held-out donors by ``evaluate``.
    """

    def __init__(self, generator: str) -> None:
        self.generator = generator
        self.__name__ = f"train_{generator}"
        spec = GENERATORS[generator]
        self.__annotations__ = {
            "options": spec.options,
            "augmentation": AugmentationOptions,
            "evaluation": EvaluationOptions,
            "privacy": PrivateModelOptions,
            "sampling": SamplingOptions,
            "sampler": SamplerOptions,
        }

    def __call__(
        self,
        train: AnnData,
        validation: AnnData,
        reference: AnnData,
        options: Any,
        augmentation: Any,
        evaluation: Any,
        privacy: Any,
        sampling: Any,
        sampler: Any = None,
    ) -> list[Any]:
        name = self.generator
        if augmentation.generators is not None and name not in augmentation.generators:
            logger.info("%s: takes no part, since `augmentation.generators` does not list it", name)
            return []

        from transcriptome_diffusion.experiments.augmentation import from_generator, train_classifiers
        from transcriptome_diffusion.experiments.learning_curves import axes_of

        how = {} if sampler is None else {"sampler": sampler}
        cls, label = GENERATORS[name].load_class(), evaluation.label
        axes = axes_of(reference, label) if reference.n_obs else None
        found: list[Any] = []
        for method, dial in self.methods(augmentation, privacy, reference.n_obs > 0).items():
            given = None if dial is None else reference
            synthesise = from_generator(cls, options, sampling.batch_size, given, dial, **how)
            # the budgets are compared by what they draw; classifiers of each would take the longest
            classify = dial is None or dial.dial != "dp"
            found += train_classifiers(
                method, synthesise, train, validation, augmentation, label, classify=classify, kept=found, axes=axes
            )
        return found

    def methods(self, augmentation: Any, privacy: Any, reference: bool) -> dict[str, Any]:
        """By name of the method, what it takes of the cohort with a reference; None: it has none."""
        name = self.generator
        found: dict[str, Any] = {name: None}
        if not reference:
            return found
        if name != "class_gaussian" and not GENERATORS[name].trained:
            return found
        for dial in augmentation.dials:
            if dial != "dp":
                found[WITH_REFERENCE[dial].format(name)] = privacy.model_copy(update={"dial": dial})
        budgets = augmentation.epsilons if "dp" in augmentation.dials else []
        for epsilon in budgets:
            found[WITH_REFERENCE["dp"].format(name, epsilon)] = privacy.model_copy(
                update={"dial": "dp", "epsilon": epsilon}
            )
        return found


def refuse_unknown(options: AugmentationOptions) -> None:
    """Stop before anything is trained if a generator is listed that does not exist.

    Raises:
        ValueError: naming it.
    """
    if unknown := sorted(set(options.generators or ()) - set(GENERATORS)):
        raise ValueError(f"`augmentation.generators` lists {unknown}; expected some of {sorted(GENERATORS)}.")


def evaluate(
    test: AnnData, evaluation: EvaluationOptions, *trained: Any
) -> tuple[DataFrame, DataFrame, DataFrame, DataFrame]:
    """Classifiers and drawn profiles against held-out donors, the one place of the experiment that reads them.

    Returns:
        The scores of the classifiers, what methods gain over real profiles alone, what synthetic profiles are worth,
        and how near they come to held-out donors and what they give away.
    """
    from transcriptome_diffusion.experiments.augmentation import as_text, gains, score
    from transcriptome_diffusion.experiments.learning_curves import Drawn, needs, quality

    found = [one for part in trained for one in part]
    table = score((one for one in found if not isinstance(one, Drawn)), test, evaluation.label)
    for metric in table["metric"].unique():
        if metric.startswith("balanced_accuracy"):
            logger.info("%s on held-out donors, by real profiles per tissue\n%s", metric, as_text(table, metric))
    metrics = [f"balanced_accuracy_{kind}" for kind in ("mlp", "logistic")]
    metric = next(name for name in metrics if name in set(table["metric"]))
    drawn = (one for one in found if isinstance(one, Drawn))
    return table, gains(table), needs(table, metric), quality(drawn, test, evaluation.label)


def plot(table: DataFrame, worth: DataFrame, quality: DataFrame) -> tuple[Figure, Figure, Figure]:
    """Balanced accuracy against synthetic profiles per real one; learning curves; what is given away for what."""
    from transcriptome_diffusion.reporting.curves import frontier_figure, learning_curves
    from transcriptome_diffusion.reporting.figures import augmentation_curves

    return augmentation_curves(table), learning_curves(worth), frontier_figure(quality)
